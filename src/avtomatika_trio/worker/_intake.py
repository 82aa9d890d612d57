"""Where tasks come in: with the answer to a poll, or to a post of results.

Each request that can carry tasks is opened here before it is sent, with the slots that were
taken for it, and closed here when its answer has been read or will never be.  In between its
slots may be lent to others, if the answer is long in coming: then it gets what is free when it
comes, and what is too much is given back at once (rule H6).
"""

import logging
from collections.abc import Callable, Sequence

import attrs
import trio

from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._requests import Ask, Terms
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._snapshot import Holdings

logger = logging.getLogger(__name__)

Begin = Callable[[TaskPayload, Home, Terms], None]
"""Starts an attempt, which now owns a slot; returns at once."""


@attrs.define
class _Open:
    """A request that waits for its answer."""

    home: Home
    slots: int
    """Those that are kept for it."""


class Intake:
    """Turns answers into attempts.

    Args:
        holdings: Told of every request and every attempt.
        slots: Where those that an answer does not fill go back to.
        begin: Starts an attempt.
    """

    def __init__(self, *, holdings: Holdings, slots: Slots, begin: Begin) -> None:
        self._holdings = holdings
        self._slots = slots
        self._begin = begin
        self._open: dict[int, _Open] = {}
        self.is_open = True

    def stop(self) -> None:
        """Take nothing more in: what is still on its way is given back (rule L10)."""
        self.is_open = False

    def open(self, home: Home, slots: int) -> Ask:
        """Begin a request to *home* for as many tasks as slots were taken for it."""
        return self._opened(home, slots, most=slots)

    def open_without_slots(self, home: Home, most: int) -> Ask:
        """Begin a request for up to *most* tasks, which get the slots that are free by then."""
        return self._opened(home, 0, most=most)

    def lend(self, ask: Ask) -> None:
        """Let others have the slots that were taken for *ask*, if it is still open."""
        if ask.poll in self._open:
            self._let_go(self._open[ask.poll])

    def lend_all(self, home: Home) -> None:
        """Let others have the slots that wait for answers of *home*."""
        for request in self._open.values():
            if request.home is home:
                self._let_go(request)

    def close(self, ask: Ask, terms: Terms, tasks: Sequence[TaskPayload] = ()) -> int:
        """End a request, begin *tasks* and release the slots that they do not need.

        Returns:
            How many were begun.
        """
        request = self._open.pop(ask.poll)
        begun, surplus = self._sort(ask, request, terms, tasks)
        # One assignment closes the poll and names its attempts (rule L2).
        self._holdings.close_poll(ask.poll, [task.task_id for task in begun], terms.cluster_id)
        self._slots.release(request.slots - len(begun))
        for task in begun:
            self._begin(task, request.home, terms)
        if surplus:
            request.home.returns.give_back([task.task_id for task in surplus])
        return len(begun)

    def _opened(self, home: Home, slots: int, *, most: int) -> Ask:
        number = self._holdings.open_poll()
        self._open[number] = _Open(home, slots)
        return Ask(poll=number, most=most, sent_at=trio.current_time())

    def _let_go(self, request: _Open) -> None:
        lent, request.slots = request.slots, 0
        self._slots.release(lent)

    def _sort(
        self, ask: Ask, request: _Open, terms: Terms, tasks: Sequence[TaskPayload]
    ) -> tuple[Sequence[TaskPayload], Sequence[TaskPayload]]:
        """Those to begin, and those to give back (rule H6); takes the slots that they need."""
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
        if not self.is_open:
            return (), new
        request.slots += self._slots.take(max(0, len(new) - request.slots))
        return new[: request.slots], new[request.slots :]
