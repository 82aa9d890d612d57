"""How often a worker or a client may ask: the limits that one process keeps, in memory.

A limit is so many requests in a period.  They are counted with two numbers per key, those of
the period that runs and those of the one before, which weighs less the longer it is past.
A key's periods begin with its first request.  What that promises:

- requests that come evenly, more slowly than the limit, are never refused;
- in each of a key's periods at most the limit passes, so on average as well; a burst at the
  end of one and a busy next one can bring nearly twice the limit into a stretch as long as a
  period;
- a refused request is not counted, and one that is sent when `Retry-After` says passes, if
  none was counted meanwhile.

Each process counts for itself.  Keys that have not been heard of for longest are forgotten
when there are too many, and start again from nothing.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus

import attrs

from avtomatika_trio._config._setting import setting_of
from avtomatika_trio._config._settings_orchestrator import OrchestratorSettings
from avtomatika_trio.orchestrator._http import HttpProblem

#: Which setting limits each kind of request.
_FIELDS = {
    "register": "rate_limit",
    "return": "rate_limit",
    "token": "rate_limit",
    "result": "rate_limit",
    "heartbeat": "rate_limit_heartbeats",
    "poll": "rate_limit_polls",
    "event": "rate_limit_events",
    "client": "rate_limit_clients",
}

#: Added to a wait, so that rounding cannot make it end a moment too early.
_MARGIN_SECONDS = 0.001


def create_limits(settings: OrchestratorSettings, clock: Callable[[], float]) -> "RateLimits":
    """The limits that *settings* ask for; *clock* is one that runs evenly, in seconds."""
    if not settings.rate_limiting:
        return RateLimits.off()
    fields = attrs.fields_dict(OrchestratorSettings)
    return RateLimits(
        settings.rate_limit_period_seconds,
        {kind: getattr(settings, name) for kind, name in _FIELDS.items()},
        clock,
        variables={kind: setting_of(fields[name]).names[0] for kind, name in _FIELDS.items()},
    )


@attrs.define(eq=False)
class _Window:
    """What is known of one key."""

    start: float
    """When the period began that runs."""
    previous: int = 0
    """How many were counted in the period before."""
    current: int = 0
    """How many were counted in the one that runs."""

    def move_to(self, now: float, period: float) -> None:
        """Begin the period that *now* is in, if that is another one."""
        age = now - self.start
        if period <= age < 2 * period:
            self.start += period
            self.previous = self.current
        else:
            # Long ago; or the clock was put back, which must not lock anyone out.
            self.start = now
            self.previous = 0
        self.current = 0

    def seconds_until_below(self, limit: int, now: float, period: float) -> float:
        """How long it takes until a full window has room for one more."""
        left = self.start + period - now
        if self.current >= limit:
            return left + period * (1 - limit / self.current)
        return left - period * (limit - self.current) / self.previous


@attrs.define(eq=False)
class RateLimits:
    """Counts requests by kind and key, and refuses those above the limit of their kind.

    Limits are whole numbers from 1; a kind that has none is a mistake of the caller
    (`KeyError`).  *variables* names the settings that the limits come from, for the answer.
    """

    _period_seconds: float
    _limits: Mapping[str, int]
    _clock: Callable[[], float]
    _most_keys: int = 50_000
    _variables: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    _windows: OrderedDict[tuple[str, str], _Window] = attrs.field(factory=OrderedDict, init=False)

    @staticmethod
    def off() -> "RateLimits":
        """Limits that count nothing and let everything pass."""
        return _NoLimits(1.0, {}, float)

    def check(self, kind: str, key: str) -> None:
        """Refuse a request that would be above the limit; counts nothing.

        Raises:
            HttpProblem: 429 `rate_limited`, with `Retry-After`.
        """
        now = self._clock()
        self._refuse_if_full(kind, self._window(kind, key, now), now)

    def count(self, kind: str, key: str) -> None:
        """Count one request, whether or not it is above the limit."""
        self._window(kind, key, self._clock()).current += 1

    def take(self, kind: str, key: str) -> None:
        """Count one request unless it is above the limit.

        Raises:
            HttpProblem: 429 `rate_limited`, with `Retry-After`; it was not counted.
        """
        now = self._clock()
        window = self._window(kind, key, now)
        self._refuse_if_full(kind, window, now)
        window.current += 1

    def _window(self, kind: str, key: str, now: float) -> _Window:
        place = (kind, key)
        window = self._windows.get(place)
        if window is None:
            window = self._windows[place] = _Window(now)
            if len(self._windows) > self._most_keys:
                self._windows.popitem(last=False)
            return window
        # A refused request counts as use, too: hammering must not make us forget the key.
        self._windows.move_to_end(place)
        if not 0 <= now - window.start < self._period_seconds:
            window.move_to(now, self._period_seconds)
        return window

    def _refuse_if_full(self, kind: str, window: _Window, now: float) -> None:
        limit = self._limits[kind]
        weight = 1 - (now - window.start) / self._period_seconds
        if window.previous * weight + window.current < limit:
            return
        wait = window.seconds_until_below(limit, now, self._period_seconds)
        seconds = math.ceil(wait + _MARGIN_SECONDS)
        variable = f" ({self._variables[kind]})" if kind in self._variables else ""
        raise HttpProblem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "rate_limited",
            f"the limit `{kind}` is {limit} requests in {self._period_seconds:g} s{variable}; "
            f"come again in {seconds} s",
            headers={"retry-after": str(seconds)},
        )


@attrs.define(eq=False)
class _NoLimits(RateLimits):
    """Rate limiting that is switched off."""

    def check(self, kind: str, key: str) -> None:
        """Let it pass."""

    def count(self, kind: str, key: str) -> None:
        """Count nothing."""

    def take(self, kind: str, key: str) -> None:
        """Let it pass."""
