"""Asking one orchestrator for tasks."""

from collections.abc import Awaitable, Callable
from typing import NoReturn

import attrs
import trio

from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._intake import Intake
from avtomatika_trio.worker._link import POLLING, Noise, Outage, knows_us_not
from avtomatika_trio.worker._requests import Ask, Identity, Terms
from avtomatika_trio.worker._slots import MOST_PER_POLL, Slots

#: A server that does not hold polls open is asked again no sooner than this.
_EMPTY_POLL_SECONDS = 0.5

#: How many polls may be parked at one orchestrator: connections are not without end.
MOST_AT_A_TIME = 6


@attrs.frozen
class Got:
    """What a poll has brought."""

    begun: int = 0
    """Attempts that have begun."""
    surplus: int = 0
    """Tasks that there was no slot for any more."""


class Poller:
    """The polls of one link.

    Args:
        home: Whom to ask.
        identity: Who asks.
        intake: Where tasks go; knows what to ask for.
        wanted_hold_seconds: How long a poll should be held open while there is no work.
        register_again: Called when the orchestrator says that it does not know the worker.
        beat_soon: Called with the cluster when nobody knows what became of a poll there: what it
            may have brought comes back with the next heartbeat.
        noise: For the jitter of delays.
    """

    def __init__(
        self,
        *,
        home: Home,
        identity: Identity,
        intake: Intake,
        wanted_hold_seconds: float,
        register_again: Callable[[], None],
        beat_soon: Callable[[str], None],
        noise: Noise,
    ) -> None:
        self.home = home
        self.link = home.link
        self.outage = Outage(home.link, POLLING, noise)
        self.not_before = float("-inf")
        """When it may be asked again, by `trio.current_time`."""
        self.asked = 0
        """How many questions wait for their answers."""
        self._identity = identity
        self.intake = intake
        self._wanted_hold_seconds = wanted_hold_seconds
        self._register_again = register_again
        self._beat_soon = beat_soon

    def ready_at(self) -> float:
        """When it may be asked, as far as time decides."""
        return max(self.not_before, self.outage.retry_at)

    def open(self, slots: int) -> Ask:
        """Begin a poll with the *slots* that were taken for it."""
        return self.intake.open(self.home, slots)

    async def ask(self, terms: Terms, ask: Ask, *, waits: bool = True) -> Got:
        """Ask once.

        Args:
            terms: Of the orchestrator.
            ask: Just opened at the intake; closed on return.
            waits: Whether the orchestrator should hold the poll while it has no work.

        Returns:
            What it has brought; nothing, if the orchestrator has gone meanwhile.
        """
        tasks: list[TaskPayload] = []
        is_answered = False
        begun = 0
        if terms is not self.link.terms or not self.link.is_usable:
            self.intake.close(ask, terms)
            return Got()
        self.asked += 1
        try:
            with self.link.polling():
                tasks = await self._exchange(terms, ask, waits=waits)
                is_answered = True
        except (OrchestratorUnavailable, Refused) as exc:
            self.outage.failed(exc)
            if knows_us_not(exc):
                self._register_again()
        finally:
            self.asked -= 1
            begun = self.intake.close(ask, terms, tasks)
        if is_answered:
            self.outage.succeeded()
        else:
            self._beat_soon(terms.cluster_id)
        if is_answered and waits and not begun:
            self.not_before = ask.sent_at + _EMPTY_POLL_SECONDS
        return Got(begun, len(tasks) - begun)

    async def _exchange(self, terms: Terms, ask: Ask, *, waits: bool) -> list[TaskPayload]:
        hold = _requests.hold_seconds(terms, self._wanted_hold_seconds) if waits else 0.0
        request = _requests.poll(self._identity, terms, ask, hold)
        within = _requests.answer_seconds(terms, hold)
        reply = await self.link.http.send(request, within_seconds=within)
        return _requests.read_tasks(self.link.url, reply, terms, self._identity.seal)


async def poll_while_active(
    poller: Poller, slots: Slots, wait_for_room: Callable[[str], Awaitable[None]]
) -> NoReturn:
    """Ask *poller*'s orchestrator, whenever it is the active one, for what there is room for.

    The mode `FAILOVER`.  A slot is taken before asking, so a poll that is parked at the one that
    was active until now is allowed to end before the next one is asked.

    An orchestrator that does not answer is an ordinary event; any other error is a bug and is
    let out.

    Args:
        poller: Of one link; there is such a loop for each.
        slots: The worker's.
        wait_for_room: Returns when the spool has room for the results of a cluster (rule R6).
    """
    while True:
        terms = await _until_ready(poller, slots, wait_for_room)
        taken = slots.take(MOST_PER_POLL if terms.batch else 1)
        await poller.ask(terms, poller.open(taken))
        await trio.sleep_until(poller.not_before)


async def _until_ready(
    poller: Poller, slots: Slots, wait_for_room: Callable[[str], Awaitable[None]]
) -> Terms:
    """Return when everything that a poll needs is there at the same time."""
    link, groups = poller.link, poller.intake.groups
    while True:
        await link.board.until_active(link.url)
        await poller.outage.over()
        terms = await link.until_registered()
        await slots.wait_for_free()
        await groups.until_available()
        await wait_for_room(terms.cluster_id)
        is_still_active = link.board.policy.active == link.url
        is_room = slots.free and groups.are_free()
        if is_still_active and terms is link.terms and is_room:
            return terms


async def poll_beside(poller: Poller, slots: Slots, is_full: Callable[[str], bool]) -> NoReturn:
    """While a poll of `poll_while_active` is parked, ask for skills that it does not name.

    There was no room for them when it was sent.  They must not wait for its end, so another poll
    is parked beside it.  It gets slots that are free, or one that another keeps.

    Args:
        poller: Of one link, as there.
        slots: The worker's; who gives one back nudges the switchboard.
        is_full: Whether the spool has no room for results of a cluster (rule R6).
    """
    board = poller.link.board
    async with trio.open_nursery() as asking:
        while True:
            now, ready_at = trio.current_time(), poller.ready_at()
            opened = _open_beside(poller, slots, is_full) if ready_at <= now else None
            if opened is not None:
                asking.start_soon(poller.ask, *opened)
                await trio.lowlevel.checkpoint()  # it counts from now on
                continue
            with trio.move_on_at(ready_at if ready_at > now else float("inf")):
                await board.changed()
    raise AssertionError  # it does not end


def _open_beside(
    poller: Poller, slots: Slots, is_full: Callable[[str], bool]
) -> tuple[Terms, Ask] | None:
    """Begin a poll for what no other asks for, if one is parked; None if there is no need."""
    link, intake, terms = poller.link, poller.intake, poller.link.terms
    if (
        terms is None
        or not 0 < poller.asked < MOST_AT_A_TIME
        or link.board.policy.active != link.url
        or is_full(terms.cluster_id)
    ):
        return None
    skills = intake.unasked(poller.home)
    if not skills:
        return None
    if not slots.free and terms.gives_back:
        intake.lend_one(poller.home)
    wanted = intake.groups.room_for(skills, MOST_PER_POLL) if terms.batch else 1
    taken = slots.take(wanted)
    return (terms, intake.open_beside(poller.home, taken, skills)) if taken else None
