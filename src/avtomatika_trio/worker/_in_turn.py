"""Asking several orchestrators in turn: the modes `ROUND_ROBIN` and `WATERFALL`.

While slots are free, the orchestrators are asked one after the other, without waiting, until
each of them has said that it has no more: a sweep.  Then one poll is parked at each, all at the
same time, so that work at one never waits for the long poll of another.  Parked polls keep no
slots: the first answer gets those that are free, and what is too much is given back at once.

Where groups of skills have limits, a skill may get room after the polls were parked.  Then one
more is parked at each that was not asked for it.

An orchestrator that nothing can be given back to, as the original, is an exception: a poll there
keeps its slot until it is answered.

One that does not answer holds up nobody.  After a little more than it usually takes, its slots
are lent to the next one, and it is not asked again before it has answered or failed.  If what it
brings then has to go back, its next question keeps its slots: slow as it is, it gets its share.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

import attrs
import trio

from avtomatika_trio._core.turns import Turns
from avtomatika_trio.worker._intake import Intake
from avtomatika_trio.worker._polling import MOST_AT_A_TIME, Poller
from avtomatika_trio.worker._requests import Ask, Terms
from avtomatika_trio.worker._slots import MOST_PER_POLL, Slots
from avtomatika_trio.worker._switchboard import Switchboard

#: An answer may take this many times as long as usual before its slots are lent; within bounds.
#: Usual is a mean in which each answer counts an eighth, as in RFC 6298 for TCP.
_PATIENCE = 4.0
_LEAST_PATIENCE_SECONDS, _MOST_PATIENCE_SECONDS = 0.05, 2.0
_FIRST_PATIENCE_SECONDS = 0.2
_SHARE_OF_NEW = 1 / 8


@attrs.define(eq=False)
class _Seat:
    """One orchestrator at the round table."""

    poller: Poller
    is_asked: bool = False
    """Whether it owes an answer."""
    is_drained: bool = False
    """Whether it has said, in this sweep, that it has no more."""
    usual_seconds: float | None = None
    keeps_slots: bool = False
    """Whether what it brought was too late for its slots: until it is quicker, they wait for it."""

    @property
    def url(self) -> str:
        return self.poller.link.url

    @property
    def patience_seconds(self) -> float:
        """How long the others wait for its answer."""
        if self.usual_seconds is None:
            return _FIRST_PATIENCE_SECONDS
        wanted = _PATIENCE * self.usual_seconds
        return min(max(wanted, _LEAST_PATIENCE_SECONDS), _MOST_PATIENCE_SECONDS)

    def took(self, seconds: float) -> None:
        """Note how long an answer to a question without waiting has taken."""
        usual = seconds if self.usual_seconds is None else self.usual_seconds
        self.usual_seconds = usual + _SHARE_OF_NEW * (seconds - usual)

    def ready_at(self) -> float:
        """When it may be asked, as far as time decides."""
        return self.poller.ready_at()


class InTurn:
    """Polls all links, each in its turn.

    Args:
        pollers: Of all links, the preferred one first.
        turns: Whose turn it is.
        slots: The worker's; who gives one back has to nudge *board*.
        intake: Where tasks go.
        board: How the orchestrators are doing.
        is_full: Whether the spool has no room for results of a cluster (rule R6).
    """

    def __init__(
        self,
        pollers: Sequence[Poller],
        *,
        turns: Turns,
        slots: Slots,
        intake: Intake,
        board: Switchboard,
        is_full: Callable[[str], bool],
    ) -> None:
        self._seats = {poller.link.url: _Seat(poller) for poller in pollers}
        self._turns = turns
        self._slots = slots
        self._intake = intake
        self._board = board
        self._is_full = is_full

    async def run(self) -> NoReturn:
        """Poll until cancelled."""
        async with trio.open_nursery() as asking:
            while True:
                can_begin = self._slots.free and self._intake.groups.are_available()
                askable = self._askable() if can_begin else []
                more = [seat for seat in askable if not seat.is_drained]
                if more:
                    await self._take_turn(more, asking)
                    continue
                if askable:
                    self._turns = self._turns.rested()
                for seat in askable:
                    self._park(seat, asking)
                if can_begin:
                    self._park_beside(asking)
                # Nothing has happened since it was looked at: there was no checkpoint.
                with trio.move_on_at(self._next_ready_at()):
                    await self._board.changed()
                self._begin_sweep()
        raise AssertionError  # it does not end

    def _begin_sweep(self) -> None:
        for seat in self._seats.values():
            seat.is_drained = False

    def _usable(self) -> list[_Seat]:
        return [seat for seat in self._seats.values() if seat.poller.link.is_usable]

    def _askable(self) -> list[_Seat]:
        now = trio.current_time()
        return [
            seat
            for seat in self._usable()
            if not seat.is_asked and seat.ready_at() <= now and not self._is_full(_cluster(seat))
        ]

    def _next_ready_at(self) -> float:
        now = trio.current_time()
        waiting = [seat.ready_at() for seat in self._usable()]
        return min((at for at in waiting if at > now), default=float("inf"))

    async def _take_turn(self, seats: Sequence[_Seat], asking: trio.Nursery) -> None:
        """Ask the next of *seats*, and wait for its answer as long as it usually takes."""
        seat = self._seats[self._turns.next_of([seat.url for seat in seats])]
        terms = _terms(seat)
        taken = self._slots.take(MOST_PER_POLL if terms.batch else 1)
        self._charge(seat, taken)
        ask = seat.poller.open(taken)
        answered = trio.Event()
        seat.is_asked = True
        asking.start_soon(partial(self._ask, seat, terms, ask, answered, is_parked=False))
        with trio.move_on_after(seat.patience_seconds):
            await answered.wait()
        if terms.gives_back and not seat.keeps_slots:
            self._intake.lend(ask)

    def _charge(self, seat: _Seat, slots: int) -> None:
        usable = [it.url for it in self._usable()]
        if seat.url in usable:
            self._turns = self._turns.taken(seat.url, slots, usable)

    def _park(self, seat: _Seat, asking: trio.Nursery) -> None:
        """Leave a poll at *seat* that is answered when there is work."""
        terms = _terms(seat)
        if terms.gives_back:
            most = min(self._slots.free, MOST_PER_POLL) if terms.batch else 1
            ask = self._intake.open_without_slots(seat.poller.home, most)
        elif self._slots.free:
            ask = seat.poller.open(self._slots.take(1))
        else:
            return
        seat.is_asked = True
        asking.start_soon(partial(self._ask, seat, terms, ask, trio.Event(), is_parked=True))

    def _park_beside(self, asking: trio.Nursery) -> None:
        """Where a poll is parked, leave another one for the skills that were not asked for."""
        now = trio.current_time()
        for seat in self._usable():
            poller, terms = seat.poller, _terms(seat)
            skills = self._intake.unasked(poller.home)
            if (
                not skills
                or seat.ready_at() > now
                or not 0 < poller.asked < MOST_AT_A_TIME
                or self._is_full(terms.cluster_id)
            ):
                continue
            if terms.gives_back:
                most = min(self._slots.free, MOST_PER_POLL) if terms.batch else 1
                ask = self._intake.open_without_slots(poller.home, most, skills)
            elif self._slots.free:
                ask = self._intake.open_beside(poller.home, self._slots.take(1), skills)
            else:
                continue
            asking.start_soon(self._ask_beside, seat, terms, ask)

    async def _ask_beside(self, seat: _Seat, terms: Terms, ask: Ask) -> None:
        got = await seat.poller.ask(terms, ask)
        if got.begun:
            self._charge(seat, got.begun)
        self._board.nudge()

    async def _ask(
        self, seat: _Seat, terms: Terms, ask: Ask, answered: trio.Event, *, is_parked: bool
    ) -> None:
        waits = is_parked or not terms.sweeps
        got = await seat.poller.ask(terms, ask, waits=waits)
        if is_parked and got.begun:
            self._charge(seat, got.begun)
        if not is_parked:
            was_late = trio.current_time() - ask.sent_at > seat.patience_seconds
            seat.keeps_slots = got.surplus > 0 or (seat.keeps_slots and was_late)
        if not waits and not seat.poller.outage.failures:
            seat.took(trio.current_time() - ask.sent_at)
        seat.is_asked = False
        seat.is_drained = got.begun + got.surplus < ask.most
        answered.set()
        self._board.nudge()


def _terms(seat: _Seat) -> Terms:
    terms = seat.poller.link.terms
    assert terms is not None, "a link that is usable is registered"
    return terms


def _cluster(seat: _Seat) -> str:
    return _terms(seat).cluster_id
