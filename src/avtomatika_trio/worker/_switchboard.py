"""How the orchestrators are doing, as all parts of a worker share it.

What follows from what has happened is decided by `Failover`; this keeps its last word, lets
time pass for it, wakes those who have to know, and writes the log: one line for each switch and
each orchestrator that goes down or comes back, none for a poll.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn, Protocol

import trio

from avtomatika_trio._core.failover import Failover, Health, Standing

logger = logging.getLogger(__name__)

Noise = Callable[[], float]
"""Draws a number in [-1, 1)."""


class Subscriber(Protocol):
    """Who is told of one orchestrator's fate, in the loop."""

    def went_down(self) -> None:
        """It is down, or has refused the worker."""

    def came_back(self) -> None:
        """It answers again, though no heartbeat yet."""


class Switchboard:
    """The failover policy, shared.  Belongs to the loop.

    Args:
        urls: The orchestrators, the preferred one first.
        stable_seconds: See `Failover`.
        switches: Whether only the active one is asked for work, so that a change of it is news.
        noise: For the jitter of rests.
    """

    def __init__(
        self, urls: Sequence[str], *, stable_seconds: float, switches: bool, noise: Noise
    ) -> None:
        self.policy = Failover(urls=tuple(urls), stable_seconds=stable_seconds)
        self.started_at = trio.current_time()
        self._switches = switches and len(urls) > 1
        self._noise = noise
        self.on_change: list[Callable[[], None]] = []
        """Called at each change."""
        self._subscribers: dict[str, Subscriber] = {}
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def is_alone(self) -> bool:
        """Whether there is only one orchestrator."""
        return len(self.policy.urls) == 1

    def subscribe(self, url: str, subscriber: Subscriber) -> None:
        """Tell *subscriber* of the fate of *url*."""
        self._subscribers[url] = subscriber

    async def run(self) -> NoReturn:
        """Let time pass, until cancelled."""
        while True:
            with trio.move_on_at(self.policy.changes_at()):
                await self._changed.park()
            self._become(self.policy.at(trio.current_time()))

    async def changed(self) -> None:
        """Return when anything has changed."""
        await self._changed.park()

    def nudge(self) -> None:
        """Something has changed that those who wait for a change should look at."""
        self._changed.unpark_all()
        for look in self.on_change:
            look()

    async def until_active(self, url: str) -> None:
        """Return as soon as *url* is the one to ask for work."""
        while self.policy.active != url:
            await self._changed.park()

    async def until_usable(self, url: str) -> None:
        """Return as soon as it makes sense to send *url* anything."""
        while not self.policy.is_usable(url):
            await self._changed.park()

    def answered(self, url: str) -> None:
        """*url* has answered something else than a heartbeat."""
        self._become(self.policy.answered(url, now=trio.current_time()))

    def renewed(self, url: str) -> None:
        """*url* has answered a heartbeat."""
        self._become(self.policy.renewed(url, now=trio.current_time()))

    def failed(self, url: str, reason: str) -> None:
        """*url* does not work, for *reason*."""
        now, noise = trio.current_time(), self._noise()
        self._become(self.policy.failed(url, now=now, reason=reason, noise=noise))

    def refused(self, url: str, reason: str) -> None:
        """*url* does not let the worker in, for *reason*."""
        self._become(self.policy.refused(url, now=trio.current_time(), reason=reason))

    def without_room_for(self, urls: Collection[str]) -> None:
        """The spool is full of results for *urls* (rule R6)."""
        self._become(self.policy.without_room_for(urls))

    def _become(self, new: Failover) -> None:
        old, self.policy = self.policy, new
        if new is old or new == old:
            return
        moved = [url for url in new.urls if _standing(old, url) is not _standing(new, url)]
        has_switched = self._switches and old.active != new.active
        if has_switched:
            logger.warning("%s", _switch_line(old, new))
        for url in moved:
            is_told = has_switched and url in (old.active, new.active)
            self._log(url, old.health(url), new.health(url), is_told=is_told)
            self._tell(url, new.health(url))
        self.nudge()

    def _log(self, url: str, old: Health, new: Health, *, is_told: bool) -> None:
        """One line when it is no longer up, one when it is again, none for tries in between."""
        match new.standing:
            case Standing.REFUSED if new.reason != old.reason:
                logger.error(
                    "link refused: %s: %s; check WORKER_TOKEN, WORKER_ID and the address",
                    url,
                    new.reason,
                )
            case Standing.DOWN if not is_told and old.standing is not Standing.PROVING:
                logger.warning("link down: %s: %s", url, new.reason)
            case Standing.UP if not is_told:
                logger.info("link up: %s", url)

    def _tell(self, url: str, health: Health) -> None:
        subscriber = self._subscribers.get(url)
        if subscriber is None:
            return
        if health.standing in (Standing.DOWN, Standing.REFUSED):
            subscriber.went_down()
        elif health.standing is Standing.PROVING and not health.renewed:
            subscriber.came_back()


def _standing(policy: Failover, url: str) -> Standing:
    return policy.health(url).standing


def _switch_line(old: Failover, new: Failover) -> str:
    before, after = old.active, new.active
    if before is None:
        why = "takes results" if after in old.full else "answers"
        return f"asking {after} for work: it {why} again"
    health = new.health(before)
    if before in new.full and after is None:
        return f"asking nobody for work: the spool is full of results for {before}"
    if before in new.full:
        return f"switched from {before} to {after}: the spool is full of results for {before}"
    if after in old.full and after not in new.full:
        return f"switched back from {before} to {after}, which takes results again"
    if health.standing in (Standing.UP, Standing.PROVING):
        stable = new.stable_seconds
        return f"switched back from {before} to {after}, which has answered for {stable:g} s"
    why = "refused" if health.standing is Standing.REFUSED else f"down ({health.reason})"
    if after is None:
        return f"asking nobody for work: {before} is {why}, and no other answers"
    return f"switched from {before} to {after}: {before} is {why}"
