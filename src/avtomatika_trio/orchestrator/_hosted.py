"""An orchestrator inside a server that is not ours: `hypercorn -k trio module:app`.

`avtomatika serve` promises more (see `_server`): there, a broken connection harms no other,
idle ones end, and shutdown ends.  Here the same routes and loops run under whatever serves
the ASGI app; the loops live in the lifespan, so one worker process only.
"""

import logging
import os
import signal
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import trio

from avtomatika_trio._config import (
    OrchestratorSettings,
    find_settings_file,
    load_orchestrator_settings,
)
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio.errors import AvtomatikaError, ConfigError
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._build import create_context, open_blobs
from avtomatika_trio.orchestrator._context import SystemChance
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._file_sweeper import run_file_sweeper
from avtomatika_trio.orchestrator._http import AsgiApp, HttpProblem, send_problem
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.orchestrator._observed import observed
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.orchestrator._tls import refuse_tls
from avtomatika_trio.storage import open_storage

logger = logging.getLogger(__name__)

_NOT_RUNNING = HttpProblem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "not_running",
    "the orchestrator is not running; the server's log says why",
)


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    await send_problem(send, _NOT_RUNNING)


#: A process that does not run has no metrics.
_REFUSING = observed(_refuse, new_id=SystemChance().request_id, count=lambda *_: None)


class Orchestrator:
    """An orchestrator as an ASGI app.

    ::

        app = Orchestrator([blueprint]).asgi_app

    Args:
        blueprints: Whose jobs it runs; each is checked.
        settings: None reads `avtomatika.toml` and *environ*.
        environ: None is the process's.

    Raises:
        BlueprintError: a blueprint is not usable.
        ConfigError: a setting is wrong, or is about TLS, which the server speaks or not; or
            a token is missing: where the server listens is not known here, so none are made.
    """

    def __init__(
        self,
        blueprints: Iterable[Blueprint],
        settings: OrchestratorSettings | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if settings is None:
            environ = os.environ if environ is None else environ
            loaded = load_orchestrator_settings(
                environ=environ, file=find_settings_file(environ), overrides={}
            )
            for warning in loaded.warnings:
                logger.warning("%s", warning)
            settings = loaded.settings
        refuse_tls(settings)
        if settings.client_token is None or settings.worker_token is None:
            raise ConfigError(("set CLIENT_TOKEN and WORKER_TOKEN (or their _FILE variants)",))
        self._settings = settings
        self._client_token = settings.client_token.reveal()
        self._worker_token = settings.worker_token.reveal()
        self._blueprints = Blueprints(blueprints)
        self._app: AsgiApp | None = None

    async def asgi_app(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI callable; 503 for every request while the loops do not run."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _REFUSING(scope, receive, send)

    async def _live(self, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        logger.warning(
            "served by a server of its own: what `avtomatika serve` promises of connections and"
            " of shutdown does not hold here"
        )
        try:
            async with (
                open_storage(
                    self._settings.storage_url, partitions=self._settings.storage_partitions
                ) as storage,
                open_blobs(self._settings) as blobs,
            ):
                context = create_context(
                    self._settings,
                    storage,
                    self._blueprints,
                    blobs=blobs,
                    client_token=self._client_token,
                    worker_token=self._worker_token,
                )
                await context.access.open()
                async with trio.open_nursery() as loops:
                    loops.start_soon(run_engine, context)
                    loops.start_soon(context.access.run, context.rules)
                    loops.start_soon(run_janitor, context)
                    loops.start_soon(run_file_sweeper, context)
                    self._app = create_app(context)
                    await send({"type": "lifespan.startup.complete"})
                    await receive()
                    context.draining.set()
                    loops.cancel_scope.cancel()
        except AvtomatikaError as exc:
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            return
        except BaseException:
            if self._app is not None:  # a loop has crashed: the process should not live on
                logger.exception("the orchestrator has crashed")
                os.kill(os.getpid(), signal.SIGTERM)
            raise
        finally:
            self._app = None
        await send({"type": "lifespan.shutdown.complete"})
