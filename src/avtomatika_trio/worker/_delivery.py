"""From a handler's outcome to an orchestrator that has accepted it.

A finished result goes to the spool, then home, again and again until it is answered.  All of
it goes in batches that form by themselves: what finishes while the spool syncs is its next
batch, what is spooled while two posts are under way is the next post.

`_Answers` says what an answer means for a result; `Delivery` moves results and slots.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile

import trio

from avtomatika_trio._core.retry import Backoff
from avtomatika_trio._wire.messages import MOST_PER_REQUEST, ResultsAnswer, TaskPayload
from avtomatika_trio.errors import OrchestratorUnavailable, Refused, SpoolError
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._intake import Intake
from avtomatika_trio.worker._link import Link, Noise, Outage, is_unauthorized, knows_us_not
from avtomatika_trio.worker._requests import Ask, Identity, Terms
from avtomatika_trio.worker._settling import Settling
from avtomatika_trio.worker._slots import MOST_PER_POLL, Slots
from avtomatika_trio.worker._spool import Spool
from avtomatika_trio.worker._spool_entry import FinishedResult, SpoolEntry

logger = logging.getLogger(__name__)

#: One is on its way while the next forms; more would only make the batches smaller.
_POSTS_AT_A_TIME = 2

#: Half of what a server of ours reads by default, for there are headers and proxies.
_MOST_BYTES = 512 * 1024

_FINAL_REFUSALS = frozenset({400, 413, 422})

_DISK_BACKOFF = Backoff(base_seconds=0.5, cap_seconds=15.0)


class Delivery:
    """The results of one link.

    Args:
        link: Where they go.
        identity: Who did the work.
        skills: What the next tasks may be that come with an answer.
        spool: Where results wait.
        settling: Decides what is done with an entry that was answered.
        slots: The worker's.
        register_again: Called when the orchestrator says that it does not know the worker.
        noise: For the jitter of delays.
        wall_clock: Unix time, to tell how old a result is.
    """

    def __init__(
        self,
        *,
        link: Link,
        identity: Identity,
        skills: Sequence[str],
        spool: Spool,
        settling: Settling,
        slots: Slots,
        register_again: Callable[[], None],
        noise: Noise,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._link = link
        self._identity = identity
        self._skills = skills
        self._spool = spool
        self._settling = settling
        self._slots = slots
        self._register_again = register_again
        self._noise = noise
        self._wall_clock = wall_clock
        self._outage = Outage(link, "delivery", noise)
        self._finished: list[FinishedResult] = []
        self._ready: deque[SpoolEntry] = deque()
        self._unclaimed: list[SpoolEntry] = list(spool.recovered.entries)
        self._in_hand = 0
        """Results that are being written or posted."""
        self._slots_along = 0
        """Slots that travel with the results that are ready."""
        self._changed = trio.lowlevel.ParkingLot()

    def add(self, result: FinishedResult) -> None:
        """Deliver *result*, the slot of whose attempt travels with it."""
        self._finished.append(result)
        self._changed.unpark_all()

    async def run(self, intake: Intake) -> None:
        """Deliver until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_spooling)
            nursery.start_soon(self._keep_claiming)
            for _ in range(_POSTS_AT_A_TIME):
                nursery.start_soon(self._keep_posting, intake)

    async def all_delivered(self) -> None:
        """Return when nothing is left that could be delivered here."""
        while self._finished or self._ready or self._in_hand:
            await self._changed.park()

    async def all_spooled(self) -> None:
        """Return when every result is on disk."""
        while self._finished:
            await self._changed.park()

    async def wait_for_room(self, cluster_id: str) -> None:
        """Return when the spool has room for more results of that cluster (rule R6)."""
        while self._spool.is_full(cluster_id):
            await self._changed.park()

    async def _keep_spooling(self) -> None:
        failures = 0
        while True:
            while not self._finished:
                await self._changed.park()
            batch = self._finished[:MOST_PER_REQUEST]
            try:
                entries = await self._spool.append_many(batch)
            except SpoolError as exc:
                # Their slots stay taken: a worker that cannot keep results takes no tasks.
                failures += 1
                logger.warning("%d results wait for the disk: %s", len(self._finished), exc)
                await trio.sleep(_DISK_BACKOFF.delay_seconds(attempt=failures, noise=self._noise()))
                continue
            failures = 0
            del self._finished[: len(batch)]
            self._ready.extend(entries)
            self._slots_along += len(entries)
            if self._outage.is_on:
                self._free_slots()
            self._changed.unpark_all()

    async def _keep_claiming(self) -> None:
        """Take up what was left in the spool, when it is known who is there."""
        terms = await self._link.until_registered()
        while True:
            left, self._unclaimed = self._unclaimed, []
            mine = [entry for entry in left if entry.cluster_id == terms.cluster_id]
            others = [entry for entry in left if entry.cluster_id != terms.cluster_id]
            self._ready.extendleft(reversed(mine))
            self._changed.unpark_all()
            self._unclaimed += await self._settling.keep_for_later(others, self._wall_clock())
            terms = await self._link.until_registered(after=terms)

    async def _keep_posting(self, intake: Intake) -> None:
        while True:
            await self._outage.over()
            terms = await self._link.until_registered()
            batch = self._take(terms)
            if not batch:
                await self._changed.park()
                continue
            self._in_hand += len(batch)
            try:
                await self._post(batch, terms, intake)
            finally:
                self._in_hand -= len(batch)
                self._changed.unpark_all()

    def _take(self, terms: Terms) -> list[SpoolEntry]:
        """The next results to post: of one worker id, and for those who are there now."""
        while self._ready and self._ready[0].cluster_id != terms.cluster_id:
            self._unclaimed.append(self._ready.popleft())
        if not self._ready or self._outage.is_on:
            return []
        first = self._ready[0]
        room = _MOST_BYTES
        batch: list[SpoolEntry] = []
        for entry in takewhile(lambda it: _go_together(it, first), self._ready):
            room -= len(bytes(entry.body)) + 1
            if batch and (room < 0 or len(batch) >= MOST_PER_REQUEST or not terms.batch):
                break
            batch.append(entry)
        for _ in batch:
            self._ready.popleft()
        return batch

    async def _post(self, batch: Sequence[SpoolEntry], terms: Terms, intake: Intake) -> None:
        try:
            answers = await self._exchange(batch, terms, intake)
        except Refused as exc:
            if exc.status in _FINAL_REFUSALS:
                await self._refused(batch, terms, intake, exc)
                return
            if is_unauthorized(exc) and batch[0].worker_id != self._identity.worker_id:
                await self._settling.set_aside(batch, f"no credential for its worker id: {exc}")
                return
            if knows_us_not(exc):
                self._register_again()
            self._put_back(batch, exc)
        except OrchestratorUnavailable as exc:
            self._put_back(batch, exc)
        else:
            self._outage.succeeded()
            later = await self._settling.settle(
                batch, answers.results, self._link.url, self._wall_clock()
            )
            self._unclaimed += later

    async def _exchange(
        self, batch: Sequence[SpoolEntry], terms: Terms, intake: Intake
    ) -> ResultsAnswer:
        """Post once, and let the tasks in that come with the answer."""
        ask = self._ask(batch, terms, intake)
        tasks: list[TaskPayload] = []
        bodies = [bytes(entry.body) for entry in batch]
        request = _requests.post_results(
            self._identity, batch[0].worker_id, bodies, terms, ask, self._skills
        )
        try:
            reply = await self._link.http.send(request)
            answers = _requests.read_answers(self._link.url, reply, terms, len(batch))
            tasks = answers.tasks
        finally:
            # Begun before the results are settled: at no moment does the snapshot name less
            # than what is held.
            if ask is not None:
                intake.close(ask, terms, tasks)
        return answers

    def _ask(self, batch: Sequence[SpoolEntry], terms: Terms, intake: Intake) -> Ask | None:
        """Ask for as many tasks as slots came along, and others that happen to be free."""
        self._free_slots()
        if (
            not terms.batch
            or not intake.is_open
            or batch[0].worker_id != self._identity.worker_id
            or self._spool.is_full(terms.cluster_id)
        ):
            return None
        # Nobody else runs between freeing the slots and taking them.
        slots = self._slots.take(MOST_PER_POLL)
        return intake.open(slots) if slots else None

    def _free_slots(self) -> None:
        self._slots.release(self._slots_along)
        self._slots_along = 0

    def _put_back(
        self, batch: Sequence[SpoolEntry], exc: OrchestratorUnavailable | Refused
    ) -> None:
        self._ready.extendleft(reversed(batch))
        self._outage.failed(exc)
        self._free_slots()

    async def _refused(
        self, batch: Sequence[SpoolEntry], terms: Terms, intake: Intake, exc: Refused
    ) -> None:
        """Something in *batch* will never be accepted: find it, and tell that instead (R7)."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._post(batch[:middle], terms, intake)
            await self._post(batch[middle:], terms, intake)
            return
        try:
            replacement = await self._settling.replace(batch[0], exc)
        except SpoolError as fault:
            logger.warning("a result that was refused stays as it is: %s", fault)
            self._put_back(batch, exc)
            return
        self._ready.extend(replacement)


def _go_together(one: SpoolEntry, other: SpoolEntry) -> bool:
    return one.worker_id == other.worker_id and one.cluster_id == other.cluster_id
