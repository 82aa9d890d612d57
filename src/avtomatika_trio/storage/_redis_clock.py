"""A partition's time, as a process knows it between two answers of its server."""

import time
from math import inf

from avtomatika_trio.storage._clock import Clock, RisingClock

#: A step that was run longer ago than this is not committed but run again: its process was
#: stopped, or it waited for its turn for too long.
SLACK_SECONDS = 2.0

#: An answer tells a time that is past by as long as it was on its way, so of all answers of
#: the last one or two such spans the one that was quickest is believed.
_SPAN_SECONDS = 30.0

#: Who is ahead of the partition by more than this is wrong, not the partition (`commit.lua`).
_MOST_AHEAD_SECONDS = 600.0


class PartitionClock:
    """The partition's time, reckoned from what its server has told by the monotonic clock.

    How the host's own clock is set matters to nobody (rule O3).

    Args:
        instead: A clock to go by instead, for tests that move it.
        at_least: The latest time that anybody was told.
    """

    def __init__(self, instead: Clock | None = None, at_least: float = 0.0) -> None:
        self._instead = None if instead is None else RisingClock(instead, at_least)
        self._before, self._lately = -inf, -inf
        """How far the partition's time is ahead of the monotonic clock."""
        self._span_ends = 0.0
        self._latest = at_least

    @property
    def slack(self) -> str:
        """How far a step's time may be from the partition's; empty = this clock is right."""
        return "" if self._instead is not None else repr(SLACK_SECONDS)

    def heard(self, told: float, *, anew: bool = False) -> None:
        """The partition's time was *told*, a moment ago.

        Args:
            told: The time.
            anew: What was believed until now was wrong.
        """
        here = time.monotonic()
        ahead = told - here
        if anew:
            self._before = self._lately = ahead
            if self._latest > told + _MOST_AHEAD_SECONDS:
                self._latest = told
        elif here > self._span_ends:
            self._before, self._lately = self._lately, ahead
            self._span_ends = here + _SPAN_SECONDS
        else:
            self._lately = max(self._lately, ahead)

    def go_on_from(self, time: float) -> None:
        """A clock that is gone by instead never tells less than *time* from now on.

        The partition's own is raised by a commit, and heard of.
        """
        if self._instead is not None:
            self._instead.go_on_from(time)

    def now(self) -> float:
        """The time, as Unix seconds; never going back."""
        if self._instead is not None:
            return self._instead.now()
        ahead = max(self._before, self._lately)
        self._latest = max(self._latest, time.monotonic() + ahead)
        return self._latest
