"""Calls in threads that end when they are cancelled.

A thread that waits for a socket cannot be told to stop; its socket can.  Each call has a
*line* that knows the socket its thread uses just now; cancelling shuts that down, which wakes
the thread at once, also on a link that has stalled.  A thread that works on files looks at
its line now and then.
"""

import contextvars
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import trio

T = TypeVar("T")

_line: "contextvars.ContextVar[Line | None]" = contextvars.ContextVar("line", default=None)


class Line:
    """What one call in a thread is connected to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.is_cut = False

    def watch(self, descriptor: int) -> None:
        """The thread uses this socket from now on.

        Raises:
            ConnectionAbortedError: the line is cut; begin nothing more.
        """
        # A descriptor of our own: that of the connection may be closed, or wrapped by TLS.
        mine = socket.socket(fileno=socket.dup(descriptor))
        with self._lock:
            before, self._socket = self._socket, mine
            if self.is_cut:
                _shut_down(mine)
        if before is not None:
            before.close()
        self.check()

    def check(self) -> None:
        """Raise ConnectionAbortedError if the line is cut."""
        if self.is_cut:
            raise ConnectionAbortedError("the transfer was cancelled")

    def cut(self) -> None:
        """Wake the thread; every further use of the network fails."""
        with self._lock:
            self.is_cut = True
            if self._socket is not None:
                _shut_down(self._socket)

    def run(self, work: Callable[[], T]) -> T:
        """Run *work* in this thread, connected to this line."""
        _line.set(self)  # of a context that belongs to this call alone
        try:
            return work()
        finally:
            with self._lock:
                mine, self._socket = self._socket, None
            if mine is not None:
                mine.close()


def _shut_down(one: socket.socket) -> None:
    with suppress(OSError):  # it was not connected any more
        one.shutdown(socket.SHUT_RDWR)


def current_line() -> Line | None:
    """The line of the call that runs in this thread."""
    return _line.get()


async def call_in_thread(
    work: Callable[[], T], limiter: trio.CapacityLimiter, *, grace: float = 0.0
) -> T:
    """Run *work*, which heeds its line, in a thread; when this returns or raises, it has ended.

    Args:
        work: What to run.
        limiter: For the thread.
        grace: How many seconds it may go on when it is cancelled, before its line is cut.
    """
    line, has_ended = Line(), trio.Event()
    failure: Exception | None = None
    value: list[T] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cut_when_cancelled, line, has_ended, grace)
        try:
            run = partial(line.run, work)
            value.append(await trio.to_thread.run_sync(run, limiter=limiter))
        except Exception as exc:  # noqa: BLE001 - as it is, not in the nursery's group
            failure = exc
        finally:
            has_ended.set()
        nursery.cancel_scope.cancel()
    if failure is not None:
        await trio.lowlevel.checkpoint_if_cancelled()  # then it failed because of that
        raise failure
    return value[0]


def check_line() -> None:
    """Raise ConnectionAbortedError if the call that runs in this thread was cancelled."""
    if (line := _line.get()) is not None:
        line.check()


async def _cut_when_cancelled(line: Line, has_ended: trio.Event, grace: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + grace):
            await has_ended.wait()
        line.cut()
