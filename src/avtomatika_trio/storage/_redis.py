"""The storage for several orchestrators: one Redis (or Valkey), alone, with Sentinel or a Cluster.

An operation runs here, over what this process knows, and is committed by one script that makes
sure that what it has read still holds; where others were faster it runs again.  So the rules are
the same functions as on SQLite, and no orchestrator leads.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import msgspec
import trio

from avtomatika_trio._core.access import AccessSet
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Instance, Ledger, Progress
from avtomatika_trio._core.task import Attempt, Lane, Task
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._base import JobQuery, NumberedAuditRow, NumberedRow
from avtomatika_trio.storage._clock import Clock
from avtomatika_trio.storage._partitions import AlwaysAtHome
from avtomatika_trio.storage._redis_bridge import RedisBridge, open_bridge
from avtomatika_trio.storage._redis_claims import Claims
from avtomatika_trio.storage._redis_clock import PartitionClock
from avtomatika_trio.storage._redis_commits import Commits
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_news import open_news
from avtomatika_trio.storage._redis_reads import RedisReads
from avtomatika_trio.storage._redis_scripts import OPEN
from avtomatika_trio.storage._redis_url import RedisAddress
from avtomatika_trio.storage._redis_wire import ScriptCall
from avtomatika_trio.storage._signals import JobWaiter, News, QueueWaiter, Signals

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Grows with every change of the keys.
SCHEMA_VERSION = 1

#: The one partition of this version; see `Keys`.
_PARTITION = "p00"


@asynccontextmanager
async def open_redis(
    address: RedisAddress, instead: Clock | None = None
) -> AsyncIterator["RedisStorage"]:
    """Open the storage at *address*, making it if Redis is empty.

    Args:
        address: Where Redis is.
        instead: A clock to go by instead of Redis' own; for tests.

    Raises:
        StorageUnavailable: Redis cannot be reached, or what it holds cannot be used.
    """
    keys = Keys(_PARTITION)
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(open_bridge(address))
        facts = await _facts(bridge, keys)
        storage = RedisStorage(bridge, keys, facts, instead)
        await stack.enter_async_context(storage.follow_news(address))
        yield storage


async def _facts(bridge: RedisBridge, keys: Keys) -> tuple[str, float, float]:
    """The cluster id of the storage, its time and the latest one that was told."""
    call = ScriptCall(OPEN, (keys.meta, keys.clock), (SCHEMA_VERSION, secrets.token_hex(8)))
    [reply] = await bridge.call(call, key=keys.tag)
    if isinstance(reply, Exception):
        raise StorageUnavailable(f"Redis cannot be used: {reply}") from reply
    schema, cluster_id, time, latest = reply
    if int(schema) > SCHEMA_VERSION:
        raise StorageUnavailable(
            f"what Redis holds was written by a newer version (its schema is {int(schema)}, this"
            f" program knows {SCHEMA_VERSION}); upgrade avtomatika-trio"
        )
    return cluster_id.decode(), float(time), float(latest)


class RedisStorage(AlwaysAtHome):
    """A `Storage` in Redis; made by `open_redis`."""

    is_shared = True

    def __init__(
        self,
        bridge: RedisBridge,
        keys: Keys,
        facts: tuple[str, float, float],
        instead: Clock | None,
    ) -> None:
        self.cluster_id, time, latest = facts
        self._bridge = bridge
        self._keys = keys
        self._clock = PartitionClock(instead, latest)
        self._clock.heard(time)
        self._signals = Signals()
        self._reads = RedisReads(bridge, keys)
        self._commits = Commits(bridge, keys, self._clock, self.cluster_id, self._tell)
        released = msgspec.json.encode({"token": "", "ready": True})
        self._claims = Claims(bridge, keys, self._clock, self._commits.fresh_token, released)

    @property
    def fault(self) -> str | None:
        """Why it cannot be reached at present; None if it could, last time."""
        return self._bridge.fault

    def now(self) -> float:
        return self._clock.now()

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        del partition  # there is one
        answer: T = await self._commits.commit(operation)
        return answer

    # Reading.

    async def job(self, job_id: str) -> Job | None:
        return await self._reads.job(job_id)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        return await self._reads.jobs(query)

    async def job_counts(self) -> Mapping[JobStatus, int]:
        return await self._reads.job_counts()

    async def tasks(self, job_id: str, dispatch: int | None = None) -> Sequence[Task]:
        return await self._reads.tasks(job_id, dispatch)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        return await self._reads.attempts(job_id)

    async def history(
        self, job_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[NumberedRow]:
        return await self._reads.history(job_id, after, limit)

    async def progress(self, job_id: str) -> Sequence[Progress]:
        return await self._reads.progress(job_id)

    async def instance(self, instance_id: str) -> Instance | None:
        return await self._reads.instance(instance_id)

    async def instances(self) -> Sequence[Instance]:
        return await self._reads.instances()

    async def access(self) -> AccessSet | None:
        return await self._reads.access()

    async def audit(self, *, after: int = 0, limit: int = 1000) -> Sequence[NumberedAuditRow]:
        return await self._reads.audit(after, limit)

    # Waiting.

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        return await self._claims.claim(owner, most=most, lease_seconds=lease_seconds)

    def renew_claims(self, owner: str, *, lease_seconds: float) -> None:
        """As promised; whoever does so regularly also sees to it that no queue is forgotten."""
        self._claims.renew(owner, lease_seconds=lease_seconds)
        self._measure_queues(self._signals.queues.skills())

    def settle_claim(self, job: Job) -> None:
        self._claims.settle(job)

    def release_claim(self, job: Job) -> None:
        self._claims.release(job)

    def leave_claim(self, job: Job, owner: str) -> None:
        self._claims.leave(job, owner)

    def partitions_with(self, skills: Sequence[str]) -> Sequence[str]:
        """Always: what others have queued may not have been heard of yet."""
        return self.partitions if skills else ()

    def queue_news(self, skills: Sequence[str]) -> AbstractContextManager[QueueWaiter]:
        return self._signals.queue_news(skills)

    def job_news(self, job_id: str) -> AbstractContextManager[JobWaiter]:
        return self._signals.job_news(job_id)

    # News.

    @asynccontextmanager
    async def follow_news(self, address: RedisAddress) -> AsyncIterator[None]:
        """Hear what other processes commit, until the block ends."""
        heard = trio.Event()

        def may_have_missed_some() -> None:
            self._look_everywhere()
            heard.set()

        async with open_news(address, self._keys.news, self._heard, may_have_missed_some):
            await heard.wait()
            self._measure_queues(await self._reads.skills())
            try:
                yield
            finally:
                self._claims.release_all()

    def _tell(self, news: News) -> None:
        """Of a commit of this process."""
        for job in news.jobs.values():
            self._claims.void(job)
        if any(job.is_ready for job in news.jobs.values()):
            self._claims.look_again()
        self._wake(list(news.changed), news.lengths, news.queued)

    def _heard(self, message: bytes) -> None:
        """Of a commit of any process."""
        told: dict[str, Any] = msgspec.json.decode(message)
        if self._commits.was_told(told["token"]):
            return
        if told.get("ready"):
            self._claims.look_again()
        self._wake(told.get("changed", []), told.get("lengths", {}), told.get("queued", {}))

    def _wake(
        self, changed: Sequence[str], lengths: Mapping[str, int], queued: Mapping[str, int]
    ) -> None:
        for job_id in changed:
            self._signals.job_changed(job_id)
        for skill, by in lengths.items():
            self._signals.queues.changed(skill, by)
        for skill, count in queued.items():
            self._signals.queues.news(skill, count)

    def _look_everywhere(self) -> None:
        """Wake everyone who waits: they may have been told nothing of what there is."""
        self._claims.look_again()
        self._signals.wake_all()

    def _measure_queues(self, skills: Sequence[str]) -> None:
        """Find out how many tasks are queued; who waits although there are some looks again."""
        lanes = list(Lane)
        names = [self._keys.queue(skill, lane) for skill in skills for lane in lanes]

        def measured(lengths: list[Any] | StorageUnavailable) -> None:
            if isinstance(lengths, StorageUnavailable):
                return  # there is a next time
            for at, skill in enumerate(skills):
                counts = lengths[at * len(lanes) : (at + 1) * len(lanes)]
                self._signals.queues.measured(skill, sum(it for it in counts if type(it) is int))

        self._bridge.submit([("ZCARD", name) for name in names], measured, key=self._keys.tag)
