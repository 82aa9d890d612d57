"""The bridge from Trio's tasks to Redis: one server, the master of sentinels, or a cluster."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import outcome
import trio

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_link import CONNECT_SECONDS
from avtomatika_trio.storage._redis_request import Request
from avtomatika_trio.storage._redis_routes import Routes, routes_for
from avtomatika_trio.storage._redis_url import RedisAddress
from avtomatika_trio.storage._redis_wire import Command, ScriptCall

__all__ = ["RedisBridge", "open_bridge"]

#: At the end so long for what was submitted before; then connections are cut.
CLOSE_SECONDS = 1.0


class _Submitted(Request):
    """Of `submit`."""

    __slots__ = ("_told",)

    def __init__(
        self,
        commands: Sequence[Command | ScriptCall],
        told: Callable[[list[Any] | StorageUnavailable], None],
    ) -> None:
        super().__init__(commands)
        self._told = told

    def tell(self) -> None:
        self._told(self.replies if self.error is None else self.error)


class _Called(Request):
    """Of `call`: a task waits for it."""

    __slots__ = ("_task",)

    def __init__(self, commands: Sequence[Command | ScriptCall]) -> None:
        super().__init__(commands)
        self._task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    def tell(self) -> None:
        if self._task is not None:
            error = self.error
            answer = outcome.Value(self.replies) if error is None else outcome.Error(error)
            trio.lowlevel.reschedule(self._task, answer)

    def abandon(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class RedisBridge:
    """Commands of all tasks, sent as batches; each caller gets its own replies.

    Whatever is sent must be safe to repeat: a batch without an answer is sent again.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._closed = False

    @property
    def fault(self) -> str | None:
        """Why the storage cannot be used at present, for people; None: it could, last time."""
        return self._routes.fault()

    @property
    def batches(self) -> int:
        """How many have been sent so far."""
        return sum(node.batches for node in self._routes.nodes())

    def submit(
        self,
        commands: Sequence[Command | ScriptCall],
        told: Callable[[list[Any] | StorageUnavailable], None],
        *,
        key: str,
    ) -> None:
        """Have the commands carried out; never blocks.

        Args:
            commands: In this order, though not as a transaction.
            told: Run on Trio's thread, once: with a reply for each command, where a
                `redis.exceptions.ResponseError` is the error of that command only.
            key: Any key of the commands: decides which node of a cluster it is.

        Raises:
            TypeError: a command has an argument that Redis can't take.
        """
        self._submit(_Submitted(commands, told), key)

    def _submit(self, request: Request, key: str) -> None:
        if self._closed:
            request.error = StorageUnavailable("the storage is closed")
        if self._closed or not request.length:
            trio.lowlevel.current_trio_token().run_sync_soon(request.tell)
        else:
            self._routes.submit(request, key)

    async def call(self, *commands: Command | ScriptCall, key: str) -> list[Any]:
        """The replies to the commands, as `submit` has them.

        Cancelling stops the waiting; the commands are carried out all the same.

        Raises:
            StorageUnavailable: nobody answered in time, or the server refuses.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        called = _Called(commands)
        self._submit(called, key)
        replies: list[Any] = await trio.lowlevel.wait_task_rescheduled(called.abandon)
        return replies

    async def close(self) -> None:
        """End all threads, after what was submitted before if that is soon."""
        self._closed = True
        nodes = self._routes.close()
        for node in nodes:
            node.finish()
        with trio.CancelScope(shield=True):
            with trio.move_on_after(CLOSE_SECONDS):
                for node in nodes:
                    await node.ended.wait()
            for node in nodes:
                node.stop()
            # Only a connection that is being made can't be cut, and that is given up in time.
            with trio.move_on_after(3 * CONNECT_SECONDS):
                for node in nodes:
                    await node.ended.wait()
                    node.thread.join()
        for node in nodes:
            node.refuse_all()


@asynccontextmanager
async def open_bridge(address: RedisAddress) -> AsyncIterator[RedisBridge]:
    """A bridge until the block ends; connects when it is needed first."""
    bridge = RedisBridge(routes_for(address, trio.lowlevel.current_trio_token()))
    try:
        yield bridge
    finally:
        await bridge.close()
