"""A worker's connection to one orchestrator, as its activities share it.

Registration and heartbeats, polling, delivery: each of them fails for itself, and the first
that works again tells the others to try at once.  What they share besides is what the
orchestrator announced, and what the switchboard makes of its successes and failures.
"""

import contextlib
from collections.abc import Callable, Iterator

import attrs
import trio

from avtomatika_trio._core.failover import REFUSED_SECONDS, REST
from avtomatika_trio.errors import AvtomatikaError, OrchestratorUnavailable, Refused
from avtomatika_trio.worker._api import (
    ANSWER_SECONDS,
    ConnectionDropped,
    Http,
    Overloaded,
    Silent,
)
from avtomatika_trio.worker._requests import Terms
from avtomatika_trio.worker._switchboard import Noise, Switchboard

__all__ = ["Link", "LinkError", "Noise", "Outage", "is_unauthorized", "knows_us_not"]

#: What ends a request without an answer that could be used.
LinkError = OrchestratorUnavailable | Refused

HEARTBEAT, POLLING, DELIVERY = "heartbeat", "polling", "delivery"

_UNAUTHORIZED = frozenset({401, 403})

#: As long as it has not said how long its leases are.
_LEASE_SECONDS = 30.0

#: So many polls in a row must not be answered that the worker is unknown, though it registers.
_MOST_UNKNOWN_POLLS = 2


def is_unauthorized(exc: AvtomatikaError) -> bool:
    """Whether *exc* says that the token or the worker id is not accepted."""
    return isinstance(exc, Refused) and exc.status in _UNAUTHORIZED


def knows_us_not(exc: AvtomatikaError) -> bool:
    """Whether *exc* says that the worker has to register (again)."""
    return isinstance(exc, Refused) and (exc.status == 404 or "not found" in exc.detail.lower())


def retry_seconds(exc: LinkError, failures: int, noise: float) -> float:
    """How long to wait after failure number *failures* in a row, which was *exc*."""
    if isinstance(exc, ConnectionDropped) and failures == 1:
        return 0.0
    delay = REST.delay_seconds(attempt=failures, noise=noise)
    if isinstance(exc, Overloaded):
        return max(delay, exc.retry_after_seconds)
    return REFUSED_SECONDS if is_unauthorized(exc) else delay


class Link:
    """One orchestrator.  Belongs to the loop; other threads leave it alone.

    Args:
        http: How to reach it.
        board: Told how it goes.
    """

    def __init__(self, http: Http, board: Switchboard) -> None:
        self.http = http
        self.board = board
        self.terms: Terms | None = None
        self.polled_at: float | None = None
        """When it last answered a poll, by `trio.current_time`."""
        self.renewed_at: float | None = None
        """When it last answered a heartbeat."""
        self.heard_at = float("-inf")
        """When it last answered anything."""
        self.on_down: list[Callable[[], None]] = []
        """Called when it goes down and another may take its place."""
        self.on_answering: list[Callable[[], None]] = []
        """Called when it answers again, though no heartbeat yet."""
        self._registered = trio.lowlevel.ParkingLot()
        self._recovered = trio.lowlevel.ParkingLot()
        self._polls: set[trio.CancelScope] = set()
        self._posts: set[trio.CancelScope] = set()
        self._failing: set[str] = set()
        self._unknown_polls = 0
        board.subscribe(self.url, self)

    @property
    def url(self) -> str:
        """Its base URL."""
        return self.http.url

    @property
    def is_usable(self) -> bool:
        """Whether it makes sense to send it anything but probes and heartbeats."""
        return self.terms is not None and self.board.policy.is_usable(self.url)

    @property
    def is_waited_for(self) -> bool:
        """Whether a poll or a post waits for its answer."""
        return bool(self._polls or self._posts)

    def serves(self, cluster_id: str) -> bool:
        """Whether it belongs to that cluster, as far as it has said."""
        return self.terms is not None and self.terms.cluster_id == cluster_id

    def registered(self, terms: Terms) -> None:
        """The orchestrator knows the worker; *terms* are what it announced."""
        self.terms = terms
        self._registered.unpark_all()
        _cancel_all(self._polls)
        self.board.nudge()

    async def until_registered(self, after: Terms | None = None) -> Terms:
        """Return what was announced last, as soon as that is something and not *after*."""
        while self.terms is None or self.terms is after:
            await self._registered.park()
        return self.terms

    @contextlib.contextmanager
    def polling(self) -> Iterator[None]:
        """Cancel the block, which is a poll, when it is in vain.

        That is when the worker registers again, since a poll from before the server knew the
        worker (again) waits for nothing; and when the orchestrator is down.
        """
        with _scope_in(self._polls):
            yield

    @contextlib.contextmanager
    def posting(self) -> Iterator[None]:
        """Cancel the block, which is a post, when the orchestrator is down.

        Others may take what it brings; that it arrives twice does no harm (rule R3).
        """
        with _scope_in(self._posts):
            yield

    def failed(self, activity: str, exc: LinkError) -> None:
        """Note that *activity* does not work.

        Being asked to come again later is no failure, but for heartbeats it becomes one when a
        lease has passed.  Deliveries do not count: one result that an orchestrator chokes on must
        not keep the worker from its other work.
        """
        self._failing.add(activity)
        if activity == DELIVERY or self._is_forgiven(activity, exc):
            return
        if isinstance(exc, OrchestratorUnavailable):
            self.board.failed(self.url, f"{exc.reason} ({activity})")
        else:
            self.board.refused(self.url, f"{exc.status}: {exc.detail} ({activity})")

    def _is_forgiven(self, activity: str, exc: LinkError) -> bool:
        if activity == POLLING:
            if knows_us_not(exc):  # it registers again first
                self._unknown_polls += 1
                return self._unknown_polls < _MOST_UNKNOWN_POLLS
            return isinstance(exc, Overloaded)
        now = trio.current_time()
        is_alive = isinstance(exc, Overloaded) or (
            isinstance(exc, Silent) and self.heard_at > now - ANSWER_SECONDS
        )
        lease = _LEASE_SECONDS if self.terms is None else self.terms.lease_seconds
        known_at = self.board.started_at if self.renewed_at is None else self.renewed_at
        return is_alive and now - known_at < lease

    def succeeded(self, activity: str) -> None:
        """Note that *activity* works."""
        if activity == HEARTBEAT:
            self.renewed_at = self.heard_at = trio.current_time()
            self.board.renewed(self.url)
        else:
            self.heard()
        if activity == POLLING:
            self.polled_at = self.heard_at
            self._unknown_polls = 0
        if activity in self._failing:
            self._failing.remove(activity)
            self._recovered.unpark_all()

    def heard(self) -> None:
        """It has answered something that was no heartbeat."""
        self.heard_at = trio.current_time()
        self.board.answered(self.url)

    async def until_something_recovers(self) -> None:
        """Return when an activity that failed works again."""
        await self._recovered.park()

    def went_down(self) -> None:
        """See `Subscriber`: whoever waits for an answer may wait in vain."""
        if self.board.is_alone:
            return
        _cancel_all(self._polls | self._posts)
        for react in self.on_down:
            react()

    def came_back(self) -> None:
        """See `Subscriber`."""
        for react in self.on_answering:
            react()


@contextlib.contextmanager
def _scope_in(scopes: set[trio.CancelScope]) -> Iterator[None]:
    """A cancel scope that is among *scopes* as long as it is open."""
    with trio.CancelScope() as scope:
        scopes.add(scope)
        try:
            yield
        finally:
            scopes.discard(scope)


def _cancel_all(scopes: set[trio.CancelScope]) -> None:
    for scope in scopes:
        scope.cancel()


@attrs.define
class Outage:
    """How one activity of a link fares: when it may be tried again."""

    link: Link
    activity: str
    noise: Noise
    failures: int = 0
    retry_at: float = float("-inf")

    def succeeded(self) -> None:
        """It worked."""
        self.failures = 0
        self.link.succeeded(self.activity)

    def failed(self, exc: LinkError) -> None:
        """It did not."""
        self.failures += 1
        delay = retry_seconds(exc, self.failures, self.noise())
        self.retry_at = trio.current_time() + delay
        if delay > 0:
            self.link.failed(self.activity, exc)

    @property
    def is_on(self) -> bool:
        """Whether it is too early to try again."""
        return trio.current_time() < self.retry_at

    async def over(self) -> None:
        """Return when it may be tried again: after its delay, or with the first that works."""
        while self.is_on:
            with trio.move_on_at(self.retry_at):
                await self.link.until_something_recovers()
                self.retry_at = trio.current_time()
