"""Lets a clock that jumps stand still while threads are at work.

Trio's clock for tests jumps when no task can run, and does not see that one waits for a thread:
it would let every timeout pass at once.  This is not for code whose threads wait for virtual time.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs
import trio
from trio.testing import MockClock, active_thread_count

#: In real time.  Long for what is done with files of tests, also on a machine that is busy; a
#: thread that waits for virtual time, or never ends, must not keep a test from ending.
_PATIENCE_SECONDS = 2.0

#: For those that are waited for no longer: one that has waited for virtual time may go on.
_GRACE_SECONDS = 0.005


@attrs.define(eq=False)
class _Brake(trio.abc.Instrument):
    """Sets how long nothing must happen before *clock* jumps."""

    clock: MockClock
    usual: float
    token: trio.lowlevel.TrioToken
    users: int = 0
    """The blocks that want it; they need not end in the order in which they have begun."""
    _count: int = 0
    """The threads that were at work when it was last asked."""
    _since: float = 0.0
    """When another number of them was."""
    _left: int = 0
    """Those that are waited for no longer."""

    def before_io_wait(self, timeout: float, /) -> None:
        del timeout
        wanted = self._wanted()
        if self.clock.autojump_threshold != wanted:
            self.clock.autojump_threshold = wanted
            # How long this wait lasts is settled already: end it, and go by the new one.
            self.token.run_sync_soon(_nothing)

    def _wanted(self) -> float:
        """For how long nothing must happen, in real time."""
        count = active_thread_count()
        if count != self._count:
            self._count, self._since = count, time.monotonic()
        if count > self._left and time.monotonic() - self._since >= _PATIENCE_SECONDS:
            self._left = count
        self._left = min(self._left, count)
        if count > self._left:
            return _PATIENCE_SECONDS
        return max(self.usual, _GRACE_SECONDS) if count else self.usual


_brakes: trio.lowlevel.RunVar[_Brake | None] = trio.lowlevel.RunVar("avtomatika_brake")


def _nothing() -> None: ...


@contextmanager
def threads_heeded(clock: MockClock) -> Iterator[None]:
    """Within the block *clock* stands still while a thread of Trio is at work.

    When no thread has begun or ended for some seconds of real time, those that are at work are
    heeded no longer.
    """
    brake = _brakes.get(None)
    if brake is None or not brake.users:
        usual = clock.autojump_threshold
        brake = _Brake(clock, usual, trio.lowlevel.current_trio_token())
        trio.lowlevel.add_instrument(brake)
        _brakes.set(brake)
    brake.users += 1
    try:
        yield
    finally:
        brake.users -= 1
        if not brake.users:
            with suppress(KeyError):  # Trio itself removes one in which a signal has raised
                trio.lowlevel.remove_instrument(brake)
            clock.autojump_threshold = brake.usual
