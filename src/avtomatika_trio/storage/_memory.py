"""The reference implementation: dicts, lost at exit.

It keeps every promise of `_base` but durability, and nothing in it grows with finished
jobs but the records themselves.  Tests in virtual time use it, since it has no thread.
"""

import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import trio

from avtomatika_trio._core.access import AccessSet
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Instance, Ledger, Progress
from avtomatika_trio._core.partitions import names
from avtomatika_trio._core.task import Attempt, Lane, Task, TaskStatus
from avtomatika_trio.storage._backlog import Backlog, queues_told_of, together
from avtomatika_trio.storage._base import JobQuery, NumberedAuditRow, NumberedRow
from avtomatika_trio.storage._clock import Clock, RisingClock
from avtomatika_trio.storage._memory_backlog import backlog
from avtomatika_trio.storage._memory_export import all_records
from avtomatika_trio.storage._memory_ledger import MemoryLedger, Records
from avtomatika_trio.storage._partitions import Holdings, Partitioned
from avtomatika_trio.storage._records import StorageFacts, StoredRecord, facts_of, in_batches
from avtomatika_trio.storage._restore import put_as_they_are
from avtomatika_trio.storage._signals import Signalling

T = TypeVar("T")

#: Of dicts; they have had no other.
SCHEMA_VERSION = 1


class MemoryStorage(Partitioned, Signalling):
    """A `Storage` in memory.

    Args:
        now: The time, as Unix seconds; it may jump, but what is read here never goes back.
        cluster_id: None draws one.
        partitions: How many partitions it has.
    """

    def __init__(self, now: Clock, cluster_id: str | None = None, partitions: int = 1) -> None:
        self.cluster_id = cluster_id or secrets.token_hex(8)
        self.is_shared = True
        self.partitions: Sequence[str] = names(partitions)
        self.ahead: dict[str, float] = {}
        """By how much the clocks of partitions are ahead of the root's; for tests."""
        self._clock = RisingClock(now)
        self._divided = {name: Records() for name in self.partitions}
        self._records = self._divided[self.partitions[0]]
        self._holdings = Holdings()
        super().__init__()

    def now(self) -> float:
        return self._clock.now()

    def run(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        """Commit *operation* without a loop; for tests that have none."""
        now = self.now()
        ledger = MemoryLedger(
            self._divided,
            self.partitions[0] if partition is None else partition,
            lambda name: now + self.ahead.get(name, 0.0),
        )
        try:
            answer = operation(ledger)
        except BaseException:
            ledger.undo()
            raise
        ledger.news.tell(self._signals)
        return answer

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        await trio.lowlevel.checkpoint()
        return self.run(operation, partition)

    def _of(self, job_id: str) -> Records:
        return self._divided[self.partition_of(job_id)]

    async def job(self, job_id: str) -> Job | None:
        await trio.lowlevel.checkpoint()
        return self._of(job_id).jobs.get(job_id)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        await trio.lowlevel.checkpoint()
        wanted = [job for job in self._all_jobs() if query.fits(job)]
        wanted.sort(key=lambda job: (job.created_at, job.id), reverse=True)
        return wanted[: query.limit]

    async def job_counts(self) -> Mapping[JobStatus, int]:
        await trio.lowlevel.checkpoint()
        counts: dict[JobStatus, int] = {}
        for job in self._all_jobs():
            counts[job.status] = counts.get(job.status, 0) + 1
        return counts

    def _all_jobs(self) -> Iterator[Job]:
        return chain.from_iterable(it.jobs.values() for it in self._divided.values())

    async def tasks(self, job_id: str, dispatch: int | None = None) -> Sequence[Task]:
        await trio.lowlevel.checkpoint()
        records = self._of(job_id)
        tasks = [records.tasks[it] for it in records.tasks_of.get(job_id, ())]
        wanted = [task for task in tasks if dispatch in (None, task.dispatch)]
        return sorted(wanted, key=lambda task: (task.dispatch, task.branch or 0))

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        await trio.lowlevel.checkpoint()
        records = self._of(job_id)
        found = [records.attempts[it] for it in records.attempts_of.get(job_id, ())]
        return sorted(found, key=lambda attempt: (attempt.leased_at, attempt.number))

    async def history(
        self, job_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[NumberedRow]:
        await trio.lowlevel.checkpoint()
        records = self._of(job_id)
        numbers = [it for it in records.rows_of.get(job_id, ()) if it > after][:limit]
        return [NumberedRow(number=it, row=records.rows[it]) for it in numbers]

    async def progress(self, job_id: str) -> Sequence[Progress]:
        await trio.lowlevel.checkpoint()
        leased = [task for task in await self.tasks(job_id) if task.status is TaskStatus.LEASED]
        said = self._of(job_id).progress.get(job_id, {})
        found = ((task, said.get(task.id)) for task in leased)
        return [it for task, it in found if it is not None and it.attempt == task.attempt]

    async def instance(self, instance_id: str) -> Instance | None:
        await trio.lowlevel.checkpoint()
        return self._divided[self.home_of(instance_id)].instances.get(instance_id)

    async def instances(self, worker_id: str | None = None) -> Sequence[Instance]:
        await trio.lowlevel.checkpoint()
        found = chain.from_iterable(it.instances.values() for it in self._divided.values())
        wanted = (it for it in found if worker_id in (None, it.worker_id))
        return sorted(wanted, key=lambda it: -it.seen_at)

    async def lease_counts(self, instances: Sequence[Instance]) -> Mapping[str, int]:
        await trio.lowlevel.checkpoint()
        places = self._divided.values()
        return {it.id: sum(len(at.leased_to.get(it.id, ())) for at in places) for it in instances}

    async def backlog(self, skills: Sequence[str]) -> Backlog:
        await trio.lowlevel.checkpoint()
        told_of = queues_told_of(skills, self._signals.queues.lengths())
        now = self.now()
        return together(
            [
                backlog(records, told_of, now + self.ahead.get(name, 0.0))
                for name, records in self._divided.items()
            ]
        )

    async def access(self) -> AccessSet | None:
        await trio.lowlevel.checkpoint()
        return self._records.access.get(None)

    async def audit(self, *, after: int = 0, limit: int = 1000) -> Sequence[NumberedAuditRow]:
        await trio.lowlevel.checkpoint()
        found = [it for it in self._records.audit if it > after][:limit]
        return [NumberedAuditRow(number=it, row=self._records.audit[it]) for it in found]

    async def export(self) -> AsyncIterator[Sequence[StoredRecord]]:
        self._check_not_divided()
        facts = StorageFacts(cluster_id=self.cluster_id, latest=self.now(), schema=SCHEMA_VERSION)
        for batch in in_batches([facts, *all_records(self._records)]):
            await trio.lowlevel.checkpoint()
            yield batch

    async def restore(self, records: Sequence[StoredRecord]) -> None:
        await trio.lowlevel.checkpoint()
        self._check_not_divided()
        facts = facts_of(records)
        if facts is not None:
            self._clock.go_on_from(facts.latest)
        self.run(partial(put_as_they_are, records=records))
        if facts is not None:
            self.cluster_id = facts.cluster_id

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        claimed = await self._signals.ready.claim(owner, most=most, lease_seconds=lease_seconds)
        return [self._of(offer.job_id).jobs[offer.job_id] for offer in claimed]

    def partitions_with(self, skills: Sequence[str]) -> Sequence[str]:
        queues = [(skill, lane) for skill in skills for lane in Lane]
        return [
            name
            for name, records in self._divided.items()
            if any(records.queues.get(queue) for queue in queues)
        ]

    def next_due(self) -> float:
        """When a lease or a timer is due next, files apart; infinite if there is nothing."""
        firsts = (
            first - self.ahead.get(name, 0.0)
            for name, it in self._divided.items()
            for due in (it.due_timers, it.due_forgets, it.due_instances)
            for first, *_ in due[:1]
        )
        return min(firsts, default=math.inf)

    async def due_partitions(self) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return self.partitions

    async def holdings(self, instance_id: str) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return self._holdings.of(instance_id)

    def note_holding(self, instance_id: str, partition: str) -> None:
        self._holdings.note(instance_id, partition)

    def drop_holding(self, instance_id: str, partition: str) -> None:
        self._holdings.drop(instance_id, partition)

    def _check_not_divided(self) -> None:
        if len(self.partitions) > 1:
            raise NotImplementedError("a storage in memory that is divided is for tests alone")
