"""A worker's connection to one orchestrator, as its activities share it.

Registration and heartbeats, polling, delivery: each of them fails for itself, and the first
that works again tells the others to try at once.  What they share besides is what the
orchestrator announced, and one voice in the log: a line when the first of them fails, a line
when the last of them works again.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator

import attrs
import trio

from avtomatika_trio._core.retry import Backoff
from avtomatika_trio.errors import AvtomatikaError, OrchestratorUnavailable, Refused
from avtomatika_trio.worker._api import ConnectionDropped, Http, Overloaded
from avtomatika_trio.worker._requests import Terms

logger = logging.getLogger(__name__)

Noise = Callable[[], float]
"""Draws a number in [-1, 1)."""

#: What ends a request without an answer that could be used.
LinkError = OrchestratorUnavailable | Refused

#: Quick enough to be back within a second of a restart, slow enough not to be in its way.
_BACKOFF = Backoff(base_seconds=0.5, cap_seconds=15.0, jitter=0.2)

#: A credential is put right by a person, not by trying.
_REFUSED_SECONDS = 15.0

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
    delay = _BACKOFF.delay_seconds(attempt=failures, noise=noise)
    if isinstance(exc, Overloaded):
        return max(delay, exc.retry_after_seconds)
    return _REFUSED_SECONDS if is_unauthorized(exc) else delay


class Link:
    """One orchestrator.  Belongs to the loop; other threads leave it alone."""

    def __init__(self, http: Http) -> None:
        self.http = http
        self.terms: Terms | None = None
        self.heard_at: float | None = None
        """When it last answered a poll or a heartbeat, by `trio.current_time`."""
        self._registered = trio.lowlevel.ParkingLot()
        self._recovered = trio.lowlevel.ParkingLot()
        self._polls: set[trio.CancelScope] = set()
        self._failing: set[str] = set()
        self._refused = False

    @property
    def url(self) -> str:
        """Its base URL."""
        return self.http.url

    def registered(self, terms: Terms) -> None:
        """The orchestrator knows the worker; *terms* are what it announced."""
        self.terms = terms
        self._registered.unpark_all()
        for scope in self._polls:
            scope.cancel()

    async def until_registered(self, after: Terms | None = None) -> Terms:
        """Return what was announced last, as soon as that is something and not *after*."""
        while self.terms is None or self.terms is after:
            await self._registered.park()
        return self.terms

    @contextlib.contextmanager
    def until_next_registration(self) -> Iterator[None]:
        """Cancel the block when the worker registers again.

        For polls: one that waits since before the server knew the worker (again) waits in vain.
        """
        with trio.CancelScope() as scope:
            self._polls.add(scope)
            try:
                yield
            finally:
                self._polls.discard(scope)

    def failed(self, activity: str, exc: LinkError) -> None:
        """Note that *activity* does not work."""
        was_up = not self._failing
        self._failing.add(activity)
        if is_unauthorized(exc):
            if not self._refused:
                self._refused = True
                logger.error("%s; check WORKER_TOKEN and WORKER_ID (%s)", exc, activity)
        elif was_up:
            logger.warning("link down: %s (%s)", exc, activity)

    def succeeded(self, activity: str) -> None:
        """Note that *activity* works."""
        self.heard_at = trio.current_time()
        if activity not in self._failing:
            return
        self._failing.remove(activity)
        self._recovered.unpark_all()
        if not self._failing:
            self._refused = False
            logger.info("link up: %s", self.url)

    async def until_something_recovers(self) -> None:
        """Return when an activity that failed works again."""
        await self._recovered.park()


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
