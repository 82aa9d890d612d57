"""Where tasks come in: with the answer to a poll, or to a post of results.

Each request that can carry tasks is opened here before it is sent, with the slots that were
taken for it, and closed here when its answer has been read or will never be.  In between its
slots may be lent to others, if the answer is long in coming: then it gets what is free when it
comes, and what is too much is given back at once (rule H6).  With its room in groups of skills
it is the same.
"""

import logging
from collections.abc import Callable, Sequence

import attrs
import trio

from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio.worker._groups import Groups, Share
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
    share: Share
    """What it offers."""


class Intake:
    """Turns answers into attempts.

    Args:
        holdings: Told of every request and every attempt.
        slots: Where those that an answer does not fill go back to.
        groups: Likewise for room in groups.
        begin: Starts an attempt.
    """

    def __init__(self, *, holdings: Holdings, slots: Slots, groups: Groups, begin: Begin) -> None:
        self._holdings = holdings
        self._slots = slots
        self.groups = groups
        self._begin = begin
        self._open: dict[int, _Open] = {}
        self.is_open = True

    def stop(self) -> None:
        """Take nothing more in: what is still on its way is given back (rule L10)."""
        self.is_open = False

    def open(self, home: Home, slots: int) -> Ask:
        """Begin a request to *home* for as many tasks as slots were taken for it.

        Where groups have less room and *home* cannot be told so, it is for fewer.
        """
        return self._opened(home, slots, self.groups.share(slots, keeps=True), most=slots)

    def open_beside(self, home: Home, slots: int, skills: Sequence[str]) -> Ask:
        """As `open`, for *skills* only: those that no open request to *home* asks for."""
        share = self.groups.share(slots, keeps=True, within=skills)
        return self._opened(home, slots, share, most=slots)

    def open_without_slots(self, home: Home, most: int, skills: Sequence[str] | None = None) -> Ask:
        """Begin a request for up to *most* tasks, which get the slots that are free by then.

        Args:
            home: Whom to ask.
            most: For how many.
            skills: The only ones to ask for; None = any.
        """
        share = self.groups.share(most, keeps=False, within=skills)
        return self._opened(home, 0, share, most=most)

    def unasked(self, home: Home) -> tuple[str, ...]:
        """The skills that there is room for, and that no open request to *home* asks for."""
        asked = {
            it
            for request in self._open.values()
            if request.home is home
            for it in request.share.skills
        }
        return tuple(it for it in self.groups.available() if it not in asked)

    def lend(self, ask: Ask) -> None:
        """Let others have the slots that were taken for *ask*, if it is still open."""
        if ask.poll in self._open:
            self._let_go(self._open[ask.poll])

    def lend_one(self, home: Home) -> None:
        """Let others have one of the slots that wait for answers of *home*, if there is one."""
        asked = [it for it in self._open.values() if it.home is home and it.slots]
        if asked:
            most = max(asked, key=lambda it: it.slots)
            most.slots -= 1
            self._slots.release(1)

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
        self.groups.release(request.share)
        self._slots.release(request.slots - len(begun))
        for task in begun:
            self._begin(task, request.home, terms)
        if surplus:
            request.home.returns.give_back([task.task_id for task in surplus])
        return len(begun)

    def _opened(self, home: Home, slots: int, share: Share, *, most: int) -> Ask:
        number = self._holdings.open_poll()
        request = self._open[number] = _Open(home, slots, share)
        terms = home.link.terms
        if share.room and terms is not None and not terms.room:
            most = min(most, *share.room.values())
            self._slots.release(max(0, request.slots - most))
            request.slots = min(request.slots, most)
        return Ask(
            poll=number,
            most=most,
            sent_at=trio.current_time(),
            skills=share.skills,
            room=self.groups.room_of(share),
        )

    def _let_go(self, request: _Open) -> None:
        self.groups.release(request.share)
        lent, request.slots = request.slots, 0
        self._slots.release(lent)

    def _sort(
        self, ask: Ask, request: _Open, terms: Terms, tasks: Sequence[TaskPayload]
    ) -> tuple[Sequence[TaskPayload], Sequence[TaskPayload]]:
        """Those to begin, and those to give back (rule H6); takes what they need."""
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
        fits = [self.groups.begin(task.type, request.share) for task in new]
        fitting = [task for task, it_fits in zip(new, fits, strict=True) if it_fits]
        surplus = [task for task, it_fits in zip(new, fits, strict=True) if not it_fits]
        request.slots += self._slots.take(max(0, len(fitting) - request.slots))
        begun, late = fitting[: request.slots], fitting[request.slots :]
        for task in late:
            self.groups.end(task.type)
        return begun, [*late, *surplus]
