"""What one process sees of a storage that outlives it."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import attrs
import trio

from avtomatika_trio._core.access import AccessSet
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Instance, Ledger, Progress
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage import MemoryStorage
from avtomatika_trio.storage._base import Backlog, JobQuery, NumberedAuditRow, NumberedRow, Waiter
from avtomatika_trio.storage._records import StoredRecord

T = TypeVar("T")


@attrs.define(eq=False, kw_only=True)
class MortalStorage:
    """A `Storage` on a shared `MemoryStorage`, for one process that may die at any moment.

    Once it is dead nothing of the process reaches the storage, whatever its `finally` blocks
    try: cancelling tasks alone is a gentler death than `kill -9`.
    """

    shared: MemoryStorage
    chance: random.Random
    commit_seconds: float = 0.0
    """How long a commit or a read takes at most; who is cancelled in a commit learns nothing,
    though the step is whole."""
    on_commit: Callable[[int], None] = lambda _: None
    """Called with the number of each commit (from 1), before its caller learns of it."""
    is_dead: bool = False
    commits: int = 0

    @property
    def cluster_id(self) -> str:
        return self.shared.cluster_id

    @property
    def is_shared(self) -> bool:
        return self.shared.is_shared

    @property
    def fault(self) -> str | None:
        return self.shared.fault

    def now(self) -> float:
        return self.shared.now()

    @property
    def partitions(self) -> Sequence[str]:
        return self.shared.partitions

    def partition_of(self, identifier: str) -> str:
        return self.shared.partition_of(identifier)

    def home_of(self, instance_id: str) -> str:
        return self.shared.home_of(instance_id)

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        await trio.lowlevel.checkpoint()
        await self._pass_time()
        self._check()
        answer = self.shared.run(operation, partition)
        self.commits += 1
        self.on_commit(self.commits)
        await self._pass_time()
        await trio.lowlevel.checkpoint_if_cancelled()
        return answer

    async def _pass_time(self) -> None:
        if self.commit_seconds:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.chance.uniform(0, self.commit_seconds))

    async def _read(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.commit_seconds:
            await trio.sleep(self.chance.uniform(0, self.commit_seconds))
        self._check()

    def _check(self) -> None:
        if self.is_dead:
            raise StorageUnavailable("this process is dead")

    async def job(self, job_id: str) -> Job | None:
        await self._read()
        return await self.shared.job(job_id)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        await self._read()
        return await self.shared.jobs(query)

    async def job_counts(self) -> Mapping[JobStatus, int]:
        await self._read()
        return await self.shared.job_counts()

    async def tasks(self, job_id: str, dispatch: int | None = None) -> Sequence[Task]:
        await self._read()
        return await self.shared.tasks(job_id, dispatch)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        await self._read()
        return await self.shared.attempts(job_id)

    async def history(
        self, job_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[NumberedRow]:
        await self._read()
        return await self.shared.history(job_id, after=after, limit=limit)

    async def progress(self, job_id: str) -> Sequence[Progress]:
        await self._read()
        return await self.shared.progress(job_id)

    async def instance(self, instance_id: str) -> Instance | None:
        await self._read()
        return await self.shared.instance(instance_id)

    async def instances(self, worker_id: str | None = None) -> Sequence[Instance]:
        await self._read()
        return await self.shared.instances(worker_id)

    async def lease_counts(self, instances: Sequence[Instance]) -> Mapping[str, int]:
        await self._read()
        return await self.shared.lease_counts(instances)

    async def backlog(self, skills: Sequence[str]) -> Backlog:
        await self._read()
        return await self.shared.backlog(skills)

    async def access(self) -> AccessSet | None:
        await self._read()
        return await self.shared.access()

    async def audit(self, *, after: int = 0, limit: int = 1000) -> Sequence[NumberedAuditRow]:
        await self._read()
        return await self.shared.audit(after=after, limit=limit)

    async def export(self) -> AsyncIterator[Sequence[StoredRecord]]:
        async for batch in self.shared.export():
            await self._read()
            yield batch

    async def restore(self, records: Sequence[StoredRecord]) -> None:
        await self._read()
        await self.shared.restore(records)

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        await self._read()
        return await self.shared.claim_ready(owner, most=most, lease_seconds=lease_seconds)

    def renew_claims(self, owner: str, *, lease_seconds: float) -> None:
        if not self.is_dead:
            self.shared.renew_claims(owner, lease_seconds=lease_seconds)

    def settle_claim(self, job: Job) -> None:
        if not self.is_dead:
            self.shared.settle_claim(job)

    def leave_claim(self, job: Job, owner: str) -> None:
        if not self.is_dead:
            self.shared.leave_claim(job, owner)

    def release_claim(self, job: Job) -> None:
        if not self.is_dead:
            self.shared.release_claim(job)

    def partitions_with(self, skills: Sequence[str]) -> Sequence[str]:
        return self.shared.partitions_with(skills)

    async def due_partitions(self) -> Sequence[str]:
        await self._read()
        return await self.shared.due_partitions()

    async def holdings(self, instance_id: str) -> Sequence[str]:
        await self._read()
        return await self.shared.holdings(instance_id)

    def note_holding(self, instance_id: str, partition: str) -> None:
        if not self.is_dead:
            self.shared.note_holding(instance_id, partition)

    def drop_holding(self, instance_id: str, partition: str) -> None:
        if not self.is_dead:
            self.shared.drop_holding(instance_id, partition)

    def queue_news(self, skills: Sequence[str]) -> AbstractContextManager[Waiter]:
        return self.shared.queue_news(skills)

    def job_news(self, job_id: str) -> AbstractContextManager[Waiter]:
        return self.shared.job_news(job_id)
