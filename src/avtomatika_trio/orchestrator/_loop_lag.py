"""How late the event loop is: by how much those who slept are woken too late.

A handler that never waits, or a process that is given no CPU, delays everything else as much.
"""

from collections.abc import Iterator
from math import inf

from prometheus_client.core import GaugeMetricFamily, Metric

from avtomatika_trio.orchestrator._metric_families import gauge

#: For how long the longest delay is remembered, at least; twice that at most.
WINDOW_SECONDS = 30.0


_LAG = gauge(
    "event_loop_lag_seconds",
    "By how much the event loop was late at most in the last"
    f" {WINDOW_SECONDS:g} to {2 * WINDOW_SECONDS:g} s.",
)


class LoopLag:
    """The longest delay of late; a collector."""

    families = (_LAG,)

    def __init__(self) -> None:
        self._since = -inf
        """When the present window began."""
        self._longest: float | None = None
        self._before = 0.0
        """The longest delay of the window before it."""

    def woke(self, *, due: float, now: float) -> None:
        """Take note that who slept until *due* was woken at *now* (both of Trio's clock)."""
        over = now - self._since
        if over >= WINDOW_SECONDS:
            self._before = (self._longest or 0.0) if over < 2 * WINDOW_SECONDS else 0.0
            self._longest, self._since = 0.0, now
        self._longest = max(self._longest or 0.0, now - due)

    def describe(self) -> Iterator[Metric]:
        """The family that there may be."""
        yield _LAG.metric()

    def collect(self) -> Iterator[Metric]:
        """The longest delay; nothing if nobody has slept yet."""
        if self._longest is not None:
            longest = max(self._longest, self._before)
            yield GaugeMetricFamily(_LAG.full_name, _LAG.help, value=longest)
