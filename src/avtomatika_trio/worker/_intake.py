"""Where tasks come in: with the answer to a poll, or to a post of results.

Each request that can carry tasks is opened here before it is sent, with the slots that were
taken for it, and closed here when its answer has been read or will never be.
"""

import logging
from collections.abc import Callable, Sequence

import trio

from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio.worker._requests import Ask, Terms
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._snapshot import Holdings

logger = logging.getLogger(__name__)


class Intake:
    """Turns answers into attempts.

    Args:
        holdings: Told of every request and every attempt.
        slots: Where those that an answer does not fill go back to.
        begin: Starts an attempt, which now owns a slot; returns at once.
        give_back: Sends back, by their wire ids, tasks that were not begun.
    """

    def __init__(
        self,
        *,
        holdings: Holdings,
        slots: Slots,
        begin: Callable[[TaskPayload, Terms], None],
        give_back: Callable[[Sequence[str]], None],
    ) -> None:
        self._holdings = holdings
        self._slots = slots
        self._begin = begin
        self._give_back = give_back
        self.is_open = True

    def stop(self) -> None:
        """Take nothing more in: what is still on its way is given back (rule L10)."""
        self.is_open = False

    def open(self, slots: int) -> Ask:
        """Begin a request for as many tasks as slots were taken for it."""
        number = self._holdings.open_poll()
        return Ask(poll=number, most=slots, sent_at=trio.current_time())

    def close(self, ask: Ask, terms: Terms, tasks: Sequence[TaskPayload] = ()) -> int:
        """End a request, begin *tasks* and release the slots that they do not need.

        Returns:
            How many were begun.
        """
        begun, surplus = self._sort(ask, terms, tasks)
        # One assignment closes the poll and names its attempts (rule L2).
        self._holdings.close_poll(ask.poll, [task.task_id for task in begun])
        self._slots.release(ask.most - len(begun))
        for task in begun:
            self._begin(task, terms)
        if surplus:
            self._give_back([task.task_id for task in surplus])
        return len(begun)

    def _sort(
        self, ask: Ask, terms: Terms, tasks: Sequence[TaskPayload]
    ) -> tuple[Sequence[TaskPayload], Sequence[TaskPayload]]:
        """Those to begin, and those to give back (rule H6)."""
        waited = trio.current_time() - ask.sent_at
        if tasks and waited > terms.lease_seconds:
            # Rule H5: their leases may have ended, and others may have them by now.
            logger.warning(
                "%d tasks were dropped: their answer was read %.1f s after it was asked for,"
                " later than one lease",
                len(tasks),
                waited,
            )
            return (), ()
        held = self._holdings.current.held
        new = list({task.task_id: task for task in tasks if task.task_id not in held}.values())
        room = ask.most if self.is_open else 0
        return new[:room], new[room:]
