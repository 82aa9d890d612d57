"""One orchestrator, running: the nurseries and the order of shutdown."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import trio

from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._file_sweeper import run_file_sweeper
from avtomatika_trio.orchestrator._http import AsgiApp
from avtomatika_trio.orchestrator._janitor import run_janitor


class Serve(Protocol):
    """A server: `partial(serve, settings=...)`, or a network of a test's."""

    def __call__(
        self,
        app: AsgiApp,
        *,
        shutdown: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[Any],
    ) -> Awaitable[None]:
        """Serve *app* until *shutdown* returns and the requests under way have ended."""
        ...


async def run_orchestrator(
    context: Context,
    serve: Serve,
    *,
    stop: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until *stop* returns.  When this returns, nothing of it runs on.

    The nurseries nest in the order in which things must stop:

        engine      advances jobs; ends last, so that what requests bring still moves on;
                    beside it whoever keeps the credentials in step
          serving   the janitor, which ends first: whose worker cannot reach us must not
                    lose its leases to us; beside it whoever removes files; and the
                    server, which drains

    A loop that crashes ends everything, with its traceback.

    Args:
        context: Its storage is open, and outlives this call.
        serve: Listens and drains.
        stop: An async function; the moment it returns, the end begins.
        task_status: Started with what *serve* starts with: the bound URLs.

    Raises:
        ConfigError: a file of credentials is malformed; nothing was started.
        ExceptionGroup: of an OSError if the address cannot be had (nothing has been changed
            then), or of whatever a loop has crashed with.
    """
    await context.access.open()
    async with trio.open_nursery() as engine:
        async with trio.open_nursery() as serving:
            accepting = trio.CancelScope()

            async def shutdown() -> None:
                await stop()
                accepting.cancel()
                context.draining.set()

            urls = await serving.start(partial(serve, create_app(context), shutdown=shutdown))
            engine.start_soon(run_engine, context)
            engine.start_soon(context.access.run, context.rules, context.pause)
            serving.start_soon(_run_janitors_in, accepting, context)
            task_status.started(urls)
        engine.cancel_scope.cancel()


async def _run_janitors_in(accepting: trio.CancelScope, context: Context) -> None:
    with accepting:
        async with trio.open_nursery() as janitors:
            janitors.start_soon(run_janitor, context)
            janitors.start_soon(run_file_sweeper, context)
