"""From a handler's outcome to the spool, and from there to whoever posts it.

A finished result goes to the spool, then home: to the orchestrator that issued the task.  While
that one cannot be reached, any other of its cluster takes it, since they share a storage.
Results for other clusters wait for those and hold up nobody.

`Delivery` is the worker's, and knows what waits for whom; a `Poster` is a link's, and sends it.
It goes in batches that form by themselves: what finishes while the spool syncs is its next
batch, what is spooled while posts are under way is the next post.
"""

import logging
import operator
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NoReturn, Protocol

import trio

from avtomatika_trio._core.retry import Backoff
from avtomatika_trio._wire.messages import MOST_PER_REQUEST
from avtomatika_trio.errors import SpoolError
from avtomatika_trio.worker._link import Noise
from avtomatika_trio.worker._requests import Terms
from avtomatika_trio.worker._routes import Routes
from avtomatika_trio.worker._settling import PATIENCE_SECONDS, Settling
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._spool import Spool
from avtomatika_trio.worker._spool_entry import FinishedResult, SpoolEntry

logger = logging.getLogger(__name__)

#: Half of what a server of ours reads by default, for there are headers and proxies.
_MOST_BYTES = 512 * 1024

#: How often to look whether results have waited too long for somebody who does not come.
_LOOK_SECONDS = 3600.0

_DISK_BACKOFF = Backoff(base_seconds=0.5, cap_seconds=15.0)

Queue = tuple[str, str]
"""What waits for one orchestrator: its cluster, and its base URL."""


class Desk(Protocol):
    """What delivery asks of a link's poster."""

    @property
    def is_able(self) -> bool:
        """Whether it can post now."""

    def keep_slot(self, cluster_id: str) -> bool:
        """Take over the slot of a result for that cluster, if it will be posted here and that
        post may ask for the next tasks; returns whether it did.
        """

    def free_slots(self) -> None:
        """Let others have them."""


class Delivery:
    """The results of one worker.

    Args:
        routes: The links.
        spool: Where results wait.
        settling: Decides what is done with entries that waited too long.
        slots: The worker's.
        nudge: Called when the spool has taken or got rid of something; calls `look_again`.
        noise: For the jitter of delays.
        wall_clock: Unix time, to tell how old a result is.
    """

    def __init__(
        self,
        *,
        routes: Routes,
        spool: Spool,
        settling: Settling,
        slots: Slots,
        nudge: Callable[[], None],
        noise: Noise,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.desks: Mapping[str, Desk] = {}
        """The posters by their URLs; set before it runs."""
        self.disk_fault: str | None = None
        """Why the disk takes no results now; to be read by any thread."""
        self._routes = routes
        self._spool = spool
        self._settling = settling
        self._slots = slots
        self._nudge = nudge
        self._noise = noise
        self._wall_clock = wall_clock
        self._finished: list[FinishedResult] = []
        self._ready: dict[Queue, deque[SpoolEntry]] = {}
        self._for_home: dict[Queue, list[SpoolEntry]] = {}
        """Results of which another orchestrator of the cluster has said that it knows no such
        task: only home may say so, for a day (rule R5)."""
        self._in_hand = 0
        """Results that are being posted."""
        self._changed = trio.lowlevel.ParkingLot()
        for entry in spool.recovered.entries:
            self._queue(entry).append(entry)

    def add(self, result: FinishedResult) -> None:
        """Deliver *result*, the slot of whose attempt is still taken."""
        self._finished.append(result)
        self.look_again()

    async def run(self) -> None:
        """Write to the spool, and look after what waits, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_spooling)
            nursery.start_soon(self._keep_looking)

    def look_again(self) -> None:
        """Something has changed: who can be reached, or what there is to do."""
        self._changed.unpark_all()

    async def changed(self) -> None:
        """Return when there may be something to post."""
        await self._changed.park()

    async def all_delivered(self) -> None:
        """Return when nothing is left that anybody could take now."""
        while self._finished or self._in_hand or self._is_anything_deliverable():
            await self._changed.park()

    @property
    def unwritten(self) -> int:
        """How many results are not on the disk yet."""
        return len(self._finished)

    def is_full(self, cluster_id: str) -> bool:
        """Whether more results of that cluster could not be kept now (rule R6)."""
        return self.disk_fault is not None or self._spool.is_full(cluster_id)

    async def wait_for_room(self, cluster_id: str) -> None:
        """Return when more results of that cluster can be kept."""
        while self.is_full(cluster_id):
            await self._changed.park()

    # For the posters.

    def take(self, url: str, terms: Terms) -> list[SpoolEntry]:
        """The next results for the link to *url* to post: of one worker id, home's own first.

        Whoever takes them says `put_back` or `settled`.
        """
        for queue in self._queues_for(url, terms.cluster_id):
            batch = _batch(self._ready[queue], many=terms.batch)
            if batch:
                self._in_hand += len(batch)
                return batch
        return []

    def put_back(self, batch: Sequence[SpoolEntry]) -> None:
        """They could not be posted now."""
        self._in_hand -= len(batch)
        for entry in reversed(batch):
            self._queue(entry).appendleft(entry)
        self.look_again()

    def settled(
        self,
        batch: Sequence[SpoolEntry],
        *,
        instead: Sequence[SpoolEntry] = (),
        for_home: Sequence[SpoolEntry] = (),
    ) -> None:
        """Something was said about them.

        Args:
            batch: What was taken.
            instead: What is to be delivered in their place.
            for_home: Those of them that only their home may settle.
        """
        self._in_hand -= len(batch)
        for entry in instead:
            self._queue(entry).append(entry)
        for entry in for_home:
            self._for_home.setdefault(_queue_of(entry), []).append(entry)
        self._nudge()

    # Its own loops.

    async def _keep_spooling(self) -> NoReturn:
        failures = 0
        most = MOST_PER_REQUEST
        while True:
            while not self._finished:
                await self._changed.park()
            batch = self._finished[:most]
            try:
                entries = await self._spool.append_many(batch)
            except SpoolError as exc:
                # Their slots stay taken: a worker that cannot keep results takes no tasks.
                failures += 1
                most = max(1, len(batch) // 2)  # there may be room for some of them
                self.disk_fault = str(exc)
                logger.warning("results wait for the disk (%d): %s", self.unwritten, exc)
                await trio.sleep(_DISK_BACKOFF.delay_seconds(attempt=failures, noise=self._noise()))
                continue
            failures, most = 0, min(2 * most, MOST_PER_REQUEST)
            del self._finished[: len(batch)]
            if not self._finished and self.disk_fault is not None:
                logger.warning("the disk takes results again")
                self.disk_fault = None
            for entry in entries:
                self._queue(entry).append(entry)
                desk = self.desks.get(entry.orchestrator)
                if desk is None or not desk.keep_slot(entry.cluster_id):
                    self._slots.release(1)
            self._nudge()

    async def _keep_looking(self) -> NoReturn:
        """See to what waits for somebody who may never come: at each registration, and hourly."""
        seen: tuple[Terms | None, ...] = ()
        look_at = trio.current_time()
        while True:
            terms = tuple(link.terms for link in self._routes.links)
            is_known = len(seen) == len(terms) and all(map(operator.is_, terms, seen))
            if not is_known or look_at <= trio.current_time():
                seen, look_at = terms, trio.current_time() + _LOOK_SECONDS
                await self._look_after_the_old()
                continue
            with trio.move_on_at(look_at):
                await self._changed.park()

    async def _look_after_the_old(self) -> None:
        now = self._wall_clock()
        for queue, entries in list(self._for_home.items()):
            old = [it for it in entries if now - it.finished_at >= PATIENCE_SECONDS]
            # From now on what any orchestrator of the cluster says is final.
            self._ready.setdefault(queue, deque()).extend(old)
            self._for_home[queue] = [it for it in entries if it not in old]
        if not self._routes.all_registered:
            return  # one of those who have said nothing yet may be whom they wait for
        for queue in [one for one in self._ready if not self._routes.are_there_any(one[0])]:
            before = tuple(self._ready[queue])
            kept = {entry.id for entry in await self._settling.keep_for_later(before, now)}
            gone = {entry.id for entry in before} - kept
            # Others may have come meanwhile.
            self._ready[queue] = deque(it for it in self._ready[queue] if it.id not in gone)

    # Who may take what.

    def _queue(self, entry: SpoolEntry) -> deque[SpoolEntry]:
        return self._ready.setdefault(_queue_of(entry), deque())

    def _queues_for(self, url: str, cluster_id: str) -> Iterator[Queue]:
        own = (cluster_id, url)
        if self._for_home.get(own):
            self._ready.setdefault(own, deque()).extend(self._for_home.pop(own))
        if own in self._ready:
            yield own
        for queue in self._ready:
            if queue[0] == cluster_id and queue[1] != url and not self._is_home_able(queue):
                yield queue

    def _is_home_able(self, queue: Queue) -> bool:
        cluster_id, url = queue
        link, desk = self._routes.home(url), self.desks.get(url)
        if link is None or desk is None:
            return False
        if link.serves(cluster_id) and desk.is_able:
            return True
        desk.free_slots()  # its results go another way
        return False

    def _is_anything_deliverable(self) -> bool:
        return any(
            waiting and any(link.is_usable and link.serves(queue[0]) for link in self._routes.links)
            for queue, waiting in self._ready.items()
        )


def _queue_of(entry: SpoolEntry) -> Queue:
    return entry.cluster_id, entry.orchestrator.rstrip("/")


def _batch(waiting: deque[SpoolEntry], *, many: bool) -> list[SpoolEntry]:
    """Take the results off that fit into one post."""
    if not waiting:
        return []
    first = waiting[0]
    room = _MOST_BYTES
    batch: list[SpoolEntry] = []
    for entry in takewhile(lambda it: it.worker_id == first.worker_id, waiting):
        room -= len(bytes(entry.body)) + 1
        if batch and (room < 0 or len(batch) >= MOST_PER_REQUEST or not many):
            break
        batch.append(entry)
    for _ in batch:
        waiting.popleft()
    return batch
