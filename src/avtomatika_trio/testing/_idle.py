"""How a cluster waits in virtual time while nothing is due.

An orchestrator looks several times a second for what is due.  On a virtual clock each look costs
real time, and a day has half a million: so here the loops wait until there is something.
"""

import trio

from avtomatika_trio.storage import MemoryStorage

#: The longest pause, in seconds of virtual time.  Shorter than the outage of a storage, see
#: `Rules.outage_seconds`, which a pause must not look like.
MOST_SECONDS = 600.0

#: Clocks count from 1970 and have a resolution: a bit later, so that it is not a bit too early.
_MARGIN_SECONDS = 1e-5


class Idle:
    """Pauses that last until something in *storage* is due.

    Args:
        storage: Who changes it calls `changed`.
    """

    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self._changes = trio.lowlevel.ParkingLot()

    def changed(self) -> None:
        """Something else may be due first now."""
        self._changes.unpark_all()

    async def pause(self, seconds: float) -> None:
        """Wait so many *seconds*, and then until something is due, at most `MOST_SECONDS`."""
        await trio.sleep(seconds)
        with trio.move_on_after(MOST_SECONDS - seconds):
            while (left := self._storage.next_due() - self._storage.now()) > 0:
                with trio.move_on_after(left + _MARGIN_SECONDS):
                    await self._changes.park()
