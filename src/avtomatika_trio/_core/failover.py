"""Which of several orchestrators a worker should ask for work now.

Pure: it is told what happened and at what time, and is asked what to do.  The loops that do
the talking are in `avtomatika_trio.worker`; the picture in the docs is drawn from `TRANSITIONS`.

What keeps it from switching to and fro:

* One that has failed rests.  Each failure doubles the rest, and only a minute without any
  makes it forget them.
* Back again, it has to answer for a while, a heartbeat among its answers, before it is
  preferred to one that has been up all the time.  Nobody waits for that while there is no
  other: then the first that answers at all is asked.
"""

import enum
import math
from collections.abc import Collection, Mapping
from typing import Self

import attrs

from avtomatika_trio._core.retry import Backoff


class Standing(enum.StrEnum):
    """How an orchestrator is doing, as its worker sees it."""

    UP = "up"
    """Nothing is known against it."""
    DOWN = "down"
    """It does not answer, or says that it cannot work; it rests."""
    PROVING = "proving"
    """It answers again, and has to go on doing so."""
    REFUSED = "refused"
    """It answers, and does not let this worker in; a person has to put that right."""


class Event(enum.StrEnum):
    """What can happen to an orchestrator's standing."""

    ANSWERED = "answered"
    """It has answered a probe, a poll or a result."""
    RENEWED = "renewed"
    """It has answered a heartbeat: it knows the worker, and its storage works."""
    FAILED = "failed"
    """It refused the connection, broke it, was silent for too long, or answered with 5xx."""
    REFUSED = "refused"
    """It has answered 401, 403, or that it knows no such route."""
    STABLE = "stable"
    """It has proved itself for long enough."""


_U, _D, _P, _R = Standing.UP, Standing.DOWN, Standing.PROVING, Standing.REFUSED

TRANSITIONS: Mapping[Standing, Mapping[Event, Standing]] = {
    _U: {Event.FAILED: _D, Event.REFUSED: _R},
    _D: {Event.ANSWERED: _P, Event.RENEWED: _P, Event.REFUSED: _R},
    _P: {Event.FAILED: _D, Event.REFUSED: _R, Event.STABLE: _U},
    _R: {Event.RENEWED: _P, Event.FAILED: _D},
}
"""The changes of standing; an event that is not listed changes none."""

#: Quick enough to be back within a second of a restart, slow enough not to be in its way.
REST = Backoff(base_seconds=0.5, cap_seconds=15.0, jitter=0.2)

#: A credential is put right by a person, not by trying.
REFUSED_SECONDS = 15.0

#: One that goes down again soon after it came back proves itself for twice as long each time, but
#: never for longer than this.
MOST_STABLE_SECONDS = 300.0

#: For so long it has to be up without a failure before its earlier ones are forgotten.
FORGET_SECONDS = 60.0

#: How often an active one is probed while nothing else would show that it is silent, and how
#: long each probe may take.  Two in a row without an answer are a failure: 9 s at most.
PROBE_SECONDS = 3.0
PROBE_MISSES = 2

#: How often one that answers again is probed.
PROVING_PROBE_SECONDS = 1.0


@attrs.frozen(kw_only=True)
class Health:
    """What is known of one orchestrator; all times are the caller's."""

    standing: Standing = Standing.UP
    since: float = -math.inf
    """When `standing` last changed."""
    reason: str | None = None
    """Why it is down or refused."""
    failures: int = 0
    """In a row, never up for `FORGET_SECONDS` between two of them."""
    retry_at: float = -math.inf
    """It rests until then."""
    relapses: int = 0
    """How often, in a row, it has gone down soon after it was up again."""
    good_since: float = -math.inf
    """Since when it has answered without a failure."""
    renewed: bool = False
    """Whether a heartbeat was among the answers since then."""


@attrs.frozen(kw_only=True)
class Failover:
    """The orchestrators in order of preference, how each is doing, and which one is active.

    A lone orchestrator is always active: there is none to switch to, and the back-off of each
    request is all the patience that it needs.
    """

    urls: tuple[str, ...] = attrs.field(validator=attrs.validators.min_len(1))
    """The preferred one first."""
    stable_seconds: float = 5.0
    """How long one that was down must answer before it is up."""
    full: frozenset[str] = frozenset()
    """Those that should be given no more to do: the results for them wait already."""
    active: str | None = attrs.field()
    """The one to ask for work; None while none of them can be asked."""
    _health: Mapping[str, Health] = attrs.field()

    @active.default
    def _first(self) -> str:
        return self.urls[0]

    @_health.default
    def _all_up(self) -> Mapping[str, Health]:
        return {url: Health() for url in self.urls}

    def health(self, url: str) -> Health:
        """What is known of *url*."""
        return self._health[url]

    def is_usable(self, url: str) -> bool:
        """Whether it makes sense to send *url* anything but probes and heartbeats."""
        health = self._health[url]
        return (
            len(self.urls) == 1
            or health.standing is Standing.UP
            or (health.standing is Standing.PROVING and health.renewed)
        )

    def answered(self, url: str, *, now: float) -> Self:
        """*url* has answered a request that was no heartbeat."""
        return self._happen(url, Event.ANSWERED, now, self._health[url])

    def renewed(self, url: str, *, now: float) -> Self:
        """*url* has answered a heartbeat."""
        return self._happen(url, Event.RENEWED, now, attrs.evolve(self._health[url], renewed=True))

    def failed(self, url: str, *, now: float, reason: str, noise: float = 0.0) -> Self:
        """*url* does not answer, or not as it should.

        Args:
            url: One of `urls`.
            now: The time.
            reason: Why, for people.
            noise: A number in [-1, 1), for the jitter of its rest.
        """
        old = self._health[url]
        if old.standing is Standing.DOWN and now < old.retry_at:
            return self  # it rests: others only notice what is known
        is_old_story = old.standing is Standing.UP and now - old.since >= FORGET_SECONDS
        failures = 1 if is_old_story else old.failures + 1
        is_relapse = old.standing is Standing.UP and old.failures > 0 and not is_old_story
        was_up = old.standing is Standing.UP
        facts = attrs.evolve(
            old,
            failures=failures,
            relapses=old.relapses + is_relapse if is_relapse or not was_up else 0,
            retry_at=now + REST.delay_seconds(attempt=failures, noise=noise),
            reason=reason,
            renewed=False,
        )
        return self._happen(url, Event.FAILED, now, facts)

    def refused(self, url: str, *, now: float, reason: str) -> Self:
        """*url* does not let the worker in, for *reason*."""
        retry_at = now + REFUSED_SECONDS
        facts = attrs.evolve(self._health[url], retry_at=retry_at, reason=reason, renewed=False)
        return self._happen(url, Event.REFUSED, now, facts)

    def without_room_for(self, urls: Collection[str]) -> Self:
        """Work shall be asked for at none of *urls*, whose results cannot be got rid of."""
        if self.full == frozenset(urls):
            return self
        moved = attrs.evolve(self, full=frozenset(urls))
        return attrs.evolve(moved, active=_choose(moved))

    def at(self, now: float) -> Self:
        """As it is when time has passed until *now*."""
        settled = self
        for url in self.urls:
            if self._stable_at(url) <= now:
                facts = attrs.evolve(settled._health[url], reason=None)
                settled = settled._happen(url, Event.STABLE, now, facts)
        return settled

    def changes_at(self) -> float:
        """When `at` would change something by the passing of time alone."""
        return min(self._stable_at(url) for url in self.urls)

    def _stable_at(self, url: str) -> float:
        health = self._health[url]
        if health.standing is not Standing.PROVING or not health.renewed:
            return math.inf
        patience = self.stable_seconds * 2.0 ** min(health.relapses, 16)
        most = max(self.stable_seconds, MOST_STABLE_SECONDS)
        return max(health.good_since + min(patience, most), health.retry_at)

    def _happen(self, url: str, event: Event, now: float, facts: Health) -> Self:
        """Let *event* happen to *url*, of which *facts* are known now."""
        old = self._health[url]
        standing = TRANSITIONS[old.standing].get(event, old.standing)
        new = attrs.evolve(facts, standing=standing)
        if standing is not old.standing:
            new = attrs.evolve(new, since=now)
        is_first_answer = standing is Standing.UP and new.good_since == -math.inf
        if is_first_answer or (standing is Standing.PROVING and standing is not old.standing):
            new = attrs.evolve(new, good_since=now)
        if new == old:
            return self
        moved = attrs.evolve(self, health={**self._health, url: new})
        return attrs.evolve(moved, active=_choose(moved))


def _choose(policy: Failover) -> str | None:
    """The one to ask: the best that is up; in need, one that answers at all.

    One that was chosen in need stays until a better one is up.
    """
    if len(policy.urls) == 1:
        return policy.urls[0]
    usable = [url for url in policy.urls if policy.is_usable(url) and url not in policy.full]
    for url in usable:
        if url == policy.active or policy.health(url).standing is Standing.UP:
            return url
    return usable[0] if usable else None


def probe_at(health: Health, *, is_watched: bool, probed_at: float, heard_at: float) -> float:
    """When an orchestrator should be probed next.

    Args:
        health: What is known of it.
        is_watched: Whether its silence would go unnoticed otherwise: a poll is parked there, or
            the worker is not registered yet.
        probed_at: When the last probe was sent; minus infinity for never.
        heard_at: When it last answered anything.

    Returns:
        Infinity if there is no need, or a heartbeat alone can tell.
    """
    match health.standing:
        case Standing.DOWN:
            return health.retry_at
        case Standing.PROVING:
            return probed_at + PROVING_PROBE_SECONDS
        case Standing.UP if is_watched:
            return max(probed_at, heard_at) + PROBE_SECONDS
        case _:
            return math.inf
