"""The time of a storage: the host's, but never going back."""

import threading
from collections.abc import Callable

Clock = Callable[[], float]


class RisingClock:
    """Follows the host's clock forwards; where that is set back, goes on from where it was.

    It does not stand still until the host has caught up: no timer is stuck for an hour
    because a host was corrected by an hour.

    Args:
        host: The host's time, as Unix seconds; it may jump.
        at_least: What was told before, perhaps by an earlier process.

    May be asked from any thread.
    """

    def __init__(self, host: Clock, at_least: float = 0.0) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._ahead = 0.0
        self._latest = at_least

    def now(self) -> float:
        """The time, as Unix seconds."""
        with self._lock:
            host = self._host()
            if host + self._ahead < self._latest:
                self._ahead = self._latest - host
            self._latest = max(self._latest, host + self._ahead)
            return self._latest

    def go_on_from(self, time: float) -> None:
        """Never tell less than *time* from now on."""
        with self._lock:
            self._latest = max(self._latest, time)
