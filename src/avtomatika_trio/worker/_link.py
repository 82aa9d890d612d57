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
from avtomatika_trio.worker._api import ConnectionDropped, Http, Overloaded
from avtomatika_trio.worker._requests import Terms
from avtomatika_trio.worker._switchboard import Noise, Switchboard

__all__ = ["Link", "LinkError", "Noise", "Outage", "is_unauthorized", "knows_us_not"]

#: What ends a request without an answer that could be used.
LinkError = OrchestratorUnavailable | Refused

HEARTBEAT, POLLING, DELIVERY = "heartbeat", "polling", "delivery"

_UNAUTHORIZED = frozenset({401, 403})


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
    def is_polled(self) -> bool:
        """Whether a poll waits for its answer."""
        return bool(self._polls)

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

        Being asked to come again later is no failure.  Nor do deliveries count: one result that
        an orchestrator chokes on must not keep the worker from its other work.
        """
        self._failing.add(activity)
        if activity == DELIVERY or isinstance(exc, Overloaded):
            return
        if isinstance(exc, OrchestratorUnavailable):
            self.board.failed(self.url, f"{exc.reason} ({activity})")
        elif activity == HEARTBEAT or not knows_us_not(exc):  # else it registers again first
            self.board.refused(self.url, f"{exc.status}: {exc.detail} ({activity})")

    def succeeded(self, activity: str) -> None:
        """Note that *activity* works."""
        if activity == HEARTBEAT:
            self.renewed_at = self.heard_at = trio.current_time()
            self.board.renewed(self.url)
        else:
            self.heard()
        if activity == POLLING:
            self.polled_at = self.heard_at
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
