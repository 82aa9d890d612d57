"""The bridge from Trio to one thread that may block.

Calls of all Trio tasks queue up; the thread takes everything that waits as one batch and
hands the answers back together.  So a thousand calls cost a few hops between threads and
not a thousand.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import attrs
import outcome
import trio

from avtomatika_trio.errors import StorageUnavailable

T = TypeVar("T")

#: At most so many calls make a batch: bounds how long the first one of it waits.
MOST_PER_BATCH = 500


@attrs.define(eq=False)
class Call:
    """Something for the thread to do, and who waits for it."""

    function: Callable[..., Any]
    task: trio.lowlevel.Task | None
    """None once its caller was cancelled: it is carried out, but nobody is told."""
    answer: outcome.Outcome[Any] | None = None
    told: Callable[[], None] | None = None
    """Run on Trio's thread before the answers of the batch are given."""


RunBatch = Callable[[Sequence[Call]], None]
"""Carries out the calls and sets the `answer` of each, once it is final."""


class BlockingThread:
    """One thread and the queue in front of it.

    Args:
        name: Of the thread, for debuggers.
        run_batch: What the thread does with a batch.  If it raises, whatever it raises, the
            calls that have no answer yet get `StorageUnavailable` and the thread goes on.

    Starts at once; `close` waits for everything that was submitted before it.
    """

    def __init__(self, name: str, run_batch: RunBatch) -> None:
        self._run_batch = run_batch
        self._token = trio.lowlevel.current_trio_token()
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._closed = False
        self._ended = trio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[..., T]) -> T:
        """Have *function* carried out.

        Cancelling stops the waiting; the call itself is carried out all the same.

        Raises:
            StorageUnavailable: it was closed, or could not carry anything out.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise StorageUnavailable("the storage is closed")
        call = Call(function, trio.lowlevel.current_task())

        def abandon(_: object) -> trio.lowlevel.Abort:
            call.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._calls.put(call)
        answer: T = await trio.lowlevel.wait_task_rescheduled(abandon)
        return answer

    async def close(self) -> None:
        """End the thread, after everything that was submitted; what comes later is refused."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        with suppress(trio.RunFinishedError):  # then nobody is left to be told
            closing = False
            while not closing:
                batch, closing = self._next_batch()
                self._carry_out(batch)
                self._token.run_sync_soon(_answer, batch)
            self._token.run_sync_soon(self._ended.set)

    def _next_batch(self) -> tuple[list[Call], bool]:
        """Wait for calls; returns them, and whether they are the last ones."""
        call = self._calls.get()
        batch: list[Call] = []
        while call is not None:
            batch.append(call)
            if len(batch) == MOST_PER_BATCH or self._calls.empty():
                return batch, False
            call = self._calls.get()
        return batch, True

    def _carry_out(self, batch: Sequence[Call]) -> None:
        try:
            self._run_batch(batch)
        except BaseException as exc:  # noqa: BLE001 - in a thread nobody else would hear of it
            for call in batch:
                if call.answer is None:
                    error = StorageUnavailable(f"the storage failed: {exc!r}")
                    error.__cause__ = exc
                    call.answer = outcome.Error(error)


def _answer(batch: Sequence[Call]) -> None:
    for call in batch:
        if call.told is not None:
            call.told()
    for call in batch:
        if call.task is not None:
            assert call.answer is not None
            trio.lowlevel.reschedule(call.task, call.answer)
