"""The storage for several orchestrators: one Redis (or Valkey), alone, with Sentinel or a Cluster.

An operation runs here, over what this process knows, and is committed by one script that makes
sure that what it has read still holds; where others were faster it runs again.  So the rules are
the same functions as on SQLite, and no orchestrator leads.

All that one commit may touch is in one partition, which is one hash slot of a cluster.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import trio

from avtomatika_trio._core.access import AccessSet
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Instance, Ledger, Progress, TimerKind
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._backlog import Backlog, queues_told_of
from avtomatika_trio.storage._base import JobQuery, NumberedAuditRow, NumberedRow
from avtomatika_trio.storage._clock import Clock
from avtomatika_trio.storage._partitions import Partitioned
from avtomatika_trio.storage._records import StorageFacts, StoredRecord, facts_of
from avtomatika_trio.storage._redis_advice import advice, read_settings
from avtomatika_trio.storage._redis_backlog import backlog
from avtomatika_trio.storage._redis_bridge import RedisBridge, open_bridge
from avtomatika_trio.storage._redis_clock import PartitionClock
from avtomatika_trio.storage._redis_export import (
    RestoringRedisLedger,
    by_partition,
    export,
    restore,
)
from avtomatika_trio.storage._redis_faults import tells_remedy
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_news import open_news
from avtomatika_trio.storage._redis_partition import RedisPartition
from avtomatika_trio.storage._redis_places import Places
from avtomatika_trio.storage._redis_reads import RedisReads
from avtomatika_trio.storage._redis_schema import Opened, open_others, open_partition
from avtomatika_trio.storage._redis_signals import RedisSignals
from avtomatika_trio.storage._redis_url import RedisAddress
from avtomatika_trio.storage._redis_wire import Command
from avtomatika_trio.storage._signals import JobWaiter, QueueWaiter

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The root's, which is there however many there are.
_ROOT = Keys("p00")

#: How often whoever serves notes that a partition is served (rule O1).
_NOTE_SECONDS = 1.0

#: How long the first subscription to news may take.
_LISTEN_SECONDS = 5.0

#: What is known to be held where is forgotten after a day: no lease lasts that long.
_HOLDING_SECONDS = 86_400


@asynccontextmanager
async def open_redis(
    address: RedisAddress, instead: Clock | None = None, partitions: int = 1
) -> AsyncIterator["RedisStorage"]:
    """Open the storage at *address*, making it if Redis is empty.

    Args:
        address: Where Redis is.
        instead: A clock to go by instead of Redis' own; for tests.
        partitions: How many a new storage gets; one that is there keeps those that it has.

    Raises:
        StorageUnavailable: Redis cannot be reached, or what it holds cannot be used.
    """
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(open_bridge(address))
        try:
            root = await open_partition(bridge, _ROOT, partitions=partitions)
        except StorageUnavailable as exc:
            if bridge.fault is None or tells_remedy(exc.reason):
                raise  # it has answered: what it holds is wrong, or it does not let us
            remedy = "start it there, or name another one with --storage or STORAGE_URL"
            raise StorageUnavailable(f"{exc.reason}; {remedy}") from exc
        if root.partitions != partitions:
            logger.info(
                "the storage has %d partitions, as it was made (STORAGE_PARTITIONS is %d)",
                root.partitions,
                partitions,
            )
        places = Places(root.partitions)
        opened = await open_others(bridge, places, root)
        told = advice(await read_settings(bridge, _ROOT.tag))
        if told:
            logger.warning("of the Redis that jobs are kept in: %s", "; also, ".join(told))
        storage = RedisStorage(bridge, places, opened, instead)
        await stack.enter_async_context(storage.follow_news(address))
        yield storage


class RedisStorage(Partitioned):
    """A `Storage` in Redis; made by `open_redis`."""

    is_shared = True

    def __init__(
        self,
        bridge: RedisBridge,
        places: Places,
        opened: Mapping[str, Opened],
        instead: Clock | None,
    ) -> None:
        self._bridge = bridge
        self._places = places
        self._schema = opened[places.partitions[0]].schema
        self._reads = RedisReads(bridge, places)
        self._signals = RedisSignals(bridge, places)
        self._partitions = {
            name: RedisPartition(
                bridge,
                keys,
                opened[name],
                instead,
                channel=places.root.news,
                tell=self._signals.tell,
                look_again=self._signals.look_again,
                elsewhere=partial(self._elsewhere, name),
            )
            for name, keys in places.keys.items()
        }
        self._signals.partitions = self._partitions
        self._root = self._partitions[places.partitions[0]]
        self.partitions = places.partitions

    def _elsewhere(self, here: str, instance_id: str) -> tuple[Keys, PartitionClock] | None:
        home = self._places.home_of(instance_id)
        if home == here:
            return None
        partition = self._partitions[home]
        return partition.keys, partition.clock

    @property
    def cluster_id(self) -> str:
        return self._root.commits.cluster_id

    @property
    def fault(self) -> str | None:
        faults = (it.commits.fault for it in self._partitions.values())
        return self._bridge.fault or next((it for it in faults if it is not None), None)

    def now(self) -> float:
        return self._root.clock.now()

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        place = self._root if partition is None else self._partitions[partition]
        answer: T = await place.commits.commit(operation)
        return answer

    # Reading.

    @property
    def _looks(self) -> RedisReads:
        """The reads; what is found in another storage is no answer to anybody."""
        for partition in self._partitions.values():
            if partition.commits.stranger is not None:
                raise StorageUnavailable(partition.commits.stranger)
        return self._reads

    async def job(self, job_id: str) -> Job | None:
        return await self._looks.job(job_id)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        return await self._looks.jobs(query)

    async def job_counts(self) -> Mapping[JobStatus, int]:
        return await self._looks.job_counts()

    async def tasks(self, job_id: str, dispatch: int | None = None) -> Sequence[Task]:
        return await self._looks.tasks(job_id, dispatch)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        return await self._looks.attempts(job_id)

    async def history(
        self, job_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[NumberedRow]:
        return await self._looks.history(job_id, after, limit)

    async def progress(self, job_id: str) -> Sequence[Progress]:
        return await self._looks.progress(job_id)

    async def instance(self, instance_id: str) -> Instance | None:
        return await self._looks.instance(instance_id)

    async def instances(self, worker_id: str | None = None) -> Sequence[Instance]:
        return await self._looks.instances(worker_id)

    async def lease_counts(self, instances: Sequence[Instance]) -> Mapping[str, int]:
        return await self._looks.lease_counts(instances)

    async def backlog(self, skills: Sequence[str]) -> Backlog:
        told_of = queues_told_of(skills, self._signals.queues.lengths())
        return await backlog(self._looks, self._partitions.values(), told_of)

    async def access(self) -> AccessSet | None:
        return await self._looks.access()

    async def audit(self, *, after: int = 0, limit: int = 1000) -> Sequence[NumberedAuditRow]:
        return await self._looks.audit(after, limit)

    # Moving.

    def export(self) -> AsyncIterator[Sequence[StoredRecord]]:
        facts = StorageFacts(cluster_id=self.cluster_id, latest=self.now(), schema=self._schema)
        return export(facts, self._reads, self._places.keys.values())

    async def restore(self, records: Sequence[StoredRecord]) -> None:
        facts = facts_of(records)
        for name, some in by_partition(records, self._places).items():
            partition = self._partitions[name]
            if facts is not None:
                partition.clock.go_on_from(facts.latest)
            await partition.commits.commit(
                partial(restore, records=some),
                RestoringRedisLedger,
                becomes=None if facts is None else facts.cluster_id,
            )

    # Where there is something to do.

    def partitions_with(self, skills: Sequence[str]) -> Sequence[str]:
        if self._signals.lengths.unknown(skills):
            return self.partitions
        return self._signals.lengths.partitions_with(skills)

    async def due_partitions(self) -> Sequence[str]:
        """Those with timers or leases that are due, and each once a second (rule O1)."""
        if len(self._partitions) == 1:
            return self.partitions
        quiet: list[RedisPartition] = []
        due: dict[str, float] = {}
        for name, partition in self._partitions.items():
            now = partition.clock.now()
            if now - partition.ticked_at >= _NOTE_SECONDS:
                due[name] = now
            else:
                quiet.append(partition)
        due |= await self._with_due(quiet)
        for name, now in due.items():
            self._partitions[name].ticked_at = now
        return list(due)

    async def _with_due(self, partitions: Sequence[RedisPartition]) -> dict[str, float]:
        """Which of *partitions* have something that is due, and since when by their time.

        All are asked together; one that does not answer has nothing that could be done.
        """
        found: dict[str, float] = {}
        waiting = {it.name for it in partitions}
        answered = trio.Event()

        def told(at: RedisPartition, firsts: list[Any] | StorageUnavailable) -> None:
            waiting.discard(at.name)
            if not isinstance(firsts, StorageUnavailable):
                now = at.clock.now()
                if any(isinstance(it, list) and it and float(it[1]) <= now for it in firsts):
                    found[at.name] = now
            if not waiting:
                answered.set()

        for it in partitions:
            indexes = (it.keys.timers(TimerKind.RETRY), it.keys.due_instances)
            looks = [("ZRANGE", index, 0, 0, "WITHSCORES") for index in indexes]
            self._bridge.submit(looks, partial(told, it), key=it.keys.tag)
        if partitions:
            await answered.wait()
        return found

    async def holdings(self, instance_id: str) -> Sequence[str]:
        return await self._reads.holdings(instance_id)

    def note_holding(self, instance_id: str, partition: str) -> None:
        keys = self._places.home(instance_id)
        name = keys.holdings(instance_id)
        noted: Command = ("SADD", name, partition)
        kept: Command = ("EXPIRE", name, _HOLDING_SECONDS)
        self._bridge.submit([noted, kept], lambda _: None, key=keys.tag)

    def drop_holding(self, instance_id: str, partition: str) -> None:
        keys = self._places.home(instance_id)
        command = ("SREM", keys.holdings(instance_id), partition)
        self._bridge.submit([command], lambda _: None, key=keys.tag)

    # Waiting.

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        return await self._signals.claim_ready(owner, most=most, lease_seconds=lease_seconds)

    def renew_claims(self, owner: str, *, lease_seconds: float) -> None:
        """As promised; whoever does so regularly also sees to it that no queue is forgotten."""
        for partition in self._partitions.values():
            partition.claims.renew(owner, lease_seconds=lease_seconds)
        self._signals.measure_queues(self._signals.lengths.skills())

    def settle_claim(self, job: Job) -> None:
        self._partitions[self.partition_of(job.id)].claims.settle(job)

    def release_claim(self, job: Job) -> None:
        self._partitions[self.partition_of(job.id)].claims.release(job)

    def leave_claim(self, job: Job, owner: str) -> None:
        for partition in self._partitions.values():
            partition.claims.leave(job, owner)

    def queue_news(self, skills: Sequence[str]) -> AbstractContextManager[QueueWaiter]:
        unknown = self._signals.lengths.unknown(skills)
        if unknown:
            self._signals.measure_queues(unknown)
        return self._signals.queue_news(skills)

    def job_news(self, job_id: str) -> AbstractContextManager[JobWaiter]:
        return self._signals.job_news(job_id)

    @asynccontextmanager
    async def follow_news(self, address: RedisAddress) -> AsyncIterator[None]:
        """Hear what other processes commit, until the block ends."""
        events = self._signals
        opening = open_news(address, events.channel, events.heard, events.missed_some)
        async with opening as news:
            with trio.move_on_after(_LISTEN_SECONDS):
                await events.listening.wait()
            if not events.listening.is_set():
                reason = news.fault or "there was no answer"
                raise StorageUnavailable(f"news of Redis cannot be heard: {reason}")
            events.measure_queues(await self._reads.skills())
            try:
                yield
            finally:
                for partition in self._partitions.values():
                    partition.claims.release_all()
