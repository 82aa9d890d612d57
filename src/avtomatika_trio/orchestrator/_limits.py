"""How often somebody may ask: limits of this process, for each credential.

They are there for loops that have gone wild, not to shape work: what does work (a poll that
brought tasks, a result that counts) is not counted at all.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus

import attrs

from avtomatika_trio._config import OrchestratorSettings
from avtomatika_trio.orchestrator._http import HttpProblem

#: Callers that are remembered; who has been silent for longest is forgotten first.
_MOST_KEYS = 50_000

#: Kind of request -> the setting of its limit.
_SETTINGS = {
    "register": "RATE_LIMIT_LIMIT",
    "return": "RATE_LIMIT_LIMIT",
    "token": "RATE_LIMIT_LIMIT",
    "result": "RATE_LIMIT_LIMIT",
    "heartbeat": "RATE_LIMIT_HEARTBEAT_LIMIT",
    "poll": "RATE_LIMIT_POLL_LIMIT",
    "event": "RATE_LIMIT_EVENT_LIMIT",
    "client": "RATE_LIMIT_CLIENT_LIMIT",
}


@attrs.define
class _Window:
    """Requests in the present period, and in the one before."""

    period: int
    now: int = 0
    before: int = 0


class RateLimits:
    """Counts requests in a window that slides.

    The window is that of two counters: the requests of the last period count as far as it still
    overlaps with the window, as if they had come evenly (nginx and Cloudflare count alike).  A
    refused request is not counted.

    Args:
        period_seconds: The length of the window.
        limits: Kind -> how many requests of one key; kinds without one have no limit.
        clock: Seconds.
        most_keys: How many callers are remembered.
    """

    def __init__(
        self,
        period_seconds: float,
        limits: Mapping[str, int],
        clock: Callable[[], float],
        most_keys: int = _MOST_KEYS,
    ) -> None:
        self._period_seconds = period_seconds
        self._limits = dict(limits)
        self._clock = clock
        self._most_keys = most_keys
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    @classmethod
    def off(cls) -> "RateLimits":
        """Without any limit."""
        return cls(1.0, {}, lambda: 0.0)

    def take(self, kind: str, key: str) -> None:
        """Count a request of *kind*.

        Args:
            kind: One of those that have limits, or another.
            key: Who asks.

        Raises:
            HttpProblem: 429; it is one too many, and was not counted.
        """
        self.check(kind, key)
        self.count(kind, key)

    def check(self, kind: str, key: str) -> None:
        """Make sure that one more request of *kind* is within the limit; counts nothing.

        Raises:
            HttpProblem: 429, with the time after which one will be.
        """
        limit = self._limits.get(kind)
        if limit is None:
            return
        window = self._windows.get((kind, key))
        if window is None:
            return
        at = self._clock() / self._period_seconds
        self._slide(window, int(at))
        share = at - int(at)
        if window.before * (1 - share) + window.now + 1 <= limit:
            return
        seconds = max(1, math.ceil(self._wait(window, share, limit)))
        detail = (
            f"more than {limit} requests of this kind ({kind}) in {self._period_seconds:g} s"
            f" ({_SETTINGS.get(kind, kind)}); try again in {seconds} s"
        )
        raise HttpProblem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "rate_limited",
            detail,
            headers={"retry-after": str(seconds)},
        )

    def count(self, kind: str, key: str) -> None:
        """Count a request of *kind* that was let through."""
        if kind not in self._limits:
            return
        period = int(self._clock() / self._period_seconds)
        window = self._windows.get((kind, key))
        if window is None:
            window = self._windows[kind, key] = _Window(period)
            while len(self._windows) > self._most_keys:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end((kind, key))
            self._slide(window, period)
        window.now += 1

    @staticmethod
    def _slide(window: _Window, period: int) -> None:
        if window.period != period:
            window.before = window.now if window.period == period - 1 else 0
            window.now = 0
            window.period = period

    def _wait(self, window: _Window, share: float, limit: int) -> float:
        """After how many seconds a request will be within *limit*."""
        room = limit - 1 - window.now
        if room >= 0 and window.before:  # when enough of the last period has slid out
            return (1 - room / window.before - share) * self._period_seconds
        # when, in the next period, enough of this one has slid out
        ahead = max(0.0, 1 - (limit - 1) / window.now)
        return (1 - share + ahead) * self._period_seconds


def create_limits(settings: OrchestratorSettings, clock: Callable[[], float]) -> RateLimits:
    """The limits that *settings* ask for.

    Args:
        settings: Of the orchestrator.
        clock: Seconds, which must not jump.
    """
    if not settings.rate_limiting:
        return RateLimits.off()
    numbers = {
        "RATE_LIMIT_LIMIT": settings.rate_limit,
        "RATE_LIMIT_HEARTBEAT_LIMIT": settings.rate_limit_heartbeats,
        "RATE_LIMIT_POLL_LIMIT": settings.rate_limit_polls,
        "RATE_LIMIT_EVENT_LIMIT": settings.rate_limit_events,
        "RATE_LIMIT_CLIENT_LIMIT": settings.rate_limit_clients,
    }
    limits = {kind: numbers[name] for kind, name in _SETTINGS.items()}
    return RateLimits(settings.rate_limit_period_seconds, limits, clock)
