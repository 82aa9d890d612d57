"""Slots: the rights to run one attempt each.

A slot is taken before work is asked for, so that nothing is leased that could not begin at
once.  How slots move so that none is idle while there is work:

* A poll takes all slots that are free (up to `MOST_PER_POLL`) and waits at the orchestrator.
  One parked poll is enough: it returns with the first task that arrives, and the next poll
  takes whatever is free by then.
* The slot of an attempt that has finished travels with its result into the next post of
  results, which asks for as many tasks as it brings back slots.  A busy worker so needs one
  request for a batch, not two.  What that answer does not fill becomes free: there was no
  more work a moment ago, and the parked poll hears of new work first.
* If results cannot be posted now, their slots are free at once: polling may still work.
"""

from collections.abc import Callable

import trio

#: The most tasks asked for at a time: what one lost answer may delay, and what one worker
#: takes away from the others in one go.
MOST_PER_POLL = 100


class Slots:
    """A number of slots, *total* of them.

    Who takes slots gives them back with `release`, or hands them on to who does.

    Args:
        total: How many there are.
        on_free: Called when some have become free.
    """

    def __init__(self, total: int, on_free: Callable[[], None] = lambda: None) -> None:
        self.total = total
        self.free = total
        self._on_free = on_free
        self._freed = trio.lowlevel.ParkingLot()

    def take(self, most: int) -> int:
        """Take up to *most* of the free ones; returns how many, which may be 0."""
        taken = min(self.free, most)
        self.free -= taken
        return taken

    def release(self, count: int) -> None:
        """Give back *count* slots."""
        self.free += count
        assert self.free <= self.total, "a slot was released twice"
        if count:
            self._freed.unpark_all()
            self._on_free()

    async def wait_for_free(self) -> None:
        """Return as soon as one is free; it may be gone again when this is noticed."""
        while not self.free:
            await self._freed.park()
