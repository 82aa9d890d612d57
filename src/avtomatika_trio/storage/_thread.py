"""The bridge from Trio to one thread that may block.

Calls of all Trio tasks queue up; the thread takes everything that waits as one batch and
hands the answers back together.  So a thousand calls cost a few hops between threads and
not a thousand.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
import outcome
import trio

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
"""Carries out the calls and sets the `answer` of each; must not raise."""


class BlockingThread:
    """One thread and the queue in front of it.

    Args:
        name: Of the thread, for debuggers.
        run_batch: What the thread does with a batch.

    Starts at once; `close` waits for everything that was submitted before it.
    """

    def __init__(self, name: str, run_batch: RunBatch) -> None:
        self._run_batch = run_batch
        self._token = trio.lowlevel.current_trio_token()
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._ended = trio.Event()

    async def call(self, function: Callable[..., T]) -> T:
        """Have *function* carried out.

        Cancelling stops the waiting; the call itself is carried out all the same.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        call = Call(function, trio.lowlevel.current_task())

        def abandon(_: object) -> trio.lowlevel.Abort:
            call.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._calls.put(call)
        answer: T = await trio.lowlevel.wait_task_rescheduled(abandon)
        return answer

    async def close(self) -> None:
        """End the thread, after everything that was submitted."""
        self._calls.put(None)
        with trio.CancelScope(shield=True):
            await self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            first = self._calls.get()
            if first is None:
                break
            batch = [first]
            while len(batch) < MOST_PER_BATCH and not self._calls.empty():
                call = self._calls.get()
                if call is None:
                    closing = True
                    break
                batch.append(call)
            self._run_batch(batch)
            self._token.run_sync_soon(_answer, batch)
        self._token.run_sync_soon(self._ended.set)


def _answer(batch: Sequence[Call]) -> None:
    for call in batch:
        if call.told is not None:
            call.told()
    for call in batch:
        if call.task is not None:
            assert call.answer is not None
            trio.lowlevel.reschedule(call.task, call.answer)
