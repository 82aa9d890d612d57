"""Earlier processes of this worker, until every orchestrator knows that they are dead (rule L6)."""

import logging
from collections.abc import Iterable
from typing import NoReturn

import trio

from avtomatika_trio.errors import SpoolError
from avtomatika_trio.worker._spool import Spool

logger = logging.getLogger(__name__)


class Predecessors:
    """The instances that were found in the spool.

    Each orchestrator is told of all of them, since each may have given them work.  One is
    forgotten when all have acknowledged it: what one of them has not heard yet, the next process
    would have to tell it if this one died now.

    Args:
        spool: Where they are recorded.
        urls: Of all orchestrators.
    """

    def __init__(self, spool: Spool, urls: Iterable[str]) -> None:
        self._spool = spool
        self.instances = spool.recovered.instances
        self._not_told = {instance: set(urls) for instance in self.instances}
        self._forgettable: list[str] = []
        self._changed = trio.lowlevel.ParkingLot()

    def acknowledged(self, url: str, instances: Iterable[str]) -> None:
        """The orchestrator at *url* knows that *instances* are dead."""
        for instance in instances:
            waiting = self._not_told.get(instance)
            if waiting is None:
                continue
            waiting.discard(url)
            if not waiting:
                del self._not_told[instance]
                self._forgettable.append(instance)
                self._changed.unpark_all()

    async def run(self) -> NoReturn:
        """Take those out of the record that all have acknowledged, until cancelled."""
        while True:
            while not self._forgettable:
                await self._changed.park()
            instances, self._forgettable = self._forgettable, []
            await self.forget(instances)

    async def forget(self, instances: list[str]) -> None:
        """Take *instances* out of the record; if the disk refuses, they are announced again."""
        try:
            await self._spool.forget_instances(instances)
        except SpoolError as exc:
            logger.warning("earlier instances will be announced once more: %s", exc)
