"""The promises of a storage.

One method changes things: `commit` runs an operation of the core as one atomic, durable
step.  The others read, or wait to be told that there is something to read; but for `restore`,
which takes what another storage has exported.  The suite in
`avtomatika_trio.testing.conformance` holds every backend to this page.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import attrs

from avtomatika_trio._core.access import AccessSet
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Instance, Ledger, Progress
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.storage._backlog import Backlog
from avtomatika_trio.storage._records import (
    NumberedAuditRow,
    NumberedRow,
    StoredRecord,
)

__all__ = ["Backlog", "JobQuery", "NumberedAuditRow", "NumberedRow", "Storage", "Waiter"]

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class JobQuery:
    """Which jobs to list, newest first."""

    client: str | None = None
    """Only this client's; None = everybody's (for operators)."""
    statuses: frozenset[JobStatus] = frozenset()
    """Empty = any."""
    blueprint: str | None = None
    before: tuple[float, str] | None = None
    """`(created_at, id)` of the last job of the page before; None = from the newest."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    """Only those that have all of these."""
    created_after: float | None = None
    """Only those created at this time or later."""
    created_before: float | None = None
    """Only those created earlier than this."""
    limit: int = 100

    @property
    def end(self) -> tuple[float, str] | None:
        """`(created_at, id)` that every job wanted is below; None = there is no such bound."""
        if self.created_before is None:
            return self.before
        bound = (self.created_before, "")
        return bound if self.before is None else min(bound, self.before)

    def fits(self, job: Job) -> bool:
        """Whether *job* is wanted."""
        return (
            self.client in (None, job.client)
            and (not self.statuses or job.status in self.statuses)
            and self.blueprint in (None, job.blueprint)
            and self.labels.items() <= job.labels.items()
            and (self.created_after is None or job.created_at >= self.created_after)
            and (self.end is None or (job.created_at, job.id) < self.end)
        )


class Waiter(Protocol):
    """Registered for news since it was entered; none that came after that is missed."""

    async def wait(self) -> None:
        """Return at once if there was news since the last `wait` returned, else when there is.

        To wait again says that the news was of no use here: while there is still something
        in the queue, the wake-up is passed on.
        """
        ...


class Storage(Protocol):
    """Remembers jobs, tasks, leases, timers and history.

    It consists of partitions, and one commit can touch only one of them: a job with all that
    belongs to it is in the one that its id begins with, the record of a worker process in its
    home; who may talk, and what clients have used, is in the root.

    Every method that waits may raise `StorageUnavailable`, also because just one of the
    partitions cannot be reached.
    """

    @property
    def cluster_id(self) -> str:
        """Random, made with the storage: orchestrators with the same one share it."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether several orchestrators may use it at the same time."""
        ...

    @property
    def fault(self) -> str | None:
        """Why it cannot be used at present, for people; None = it could, last time."""
        ...

    @property
    def partitions(self) -> Sequence[str]:
        """Names of the partitions, the root first."""
        ...

    def partition_of(self, identifier: str) -> str:
        """Where the job, the task or the attempt with that id is; see `_core.partitions`."""
        ...

    def home_of(self, instance_id: str) -> str:
        """Where the record of that worker process is; see `_core.partitions`."""
        ...

    def now(self) -> float:
        """The root's time (Unix seconds), which never goes back.

        When the host's time is set back, this one goes on from where it was.
        """
        ...

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        """Run *operation* on *partition* (None = the root) in one atomic step.

        It returns the answer of the operation once that is durable.

        * All of its writes happen, or (if it raises) none; what it raises comes out here
          and does not disturb the operations that are committed together with it.
        * Operations on a partition are serialised: each sees the complete writes of those
          before it.
        * Once submitted it is carried through: a cancelled caller does not learn the answer,
          but the step is whole.  A caller that must know awaits under a shield.
        * It may be called more than once (and its earlier writes undone), so it must be a
          function of the ledger alone.  It may run in another thread.
        * Wake-ups follow the commit: skills whose tasks were written as queued, jobs written
          as ready, followers of changed jobs.
        """
        ...

    async def job(self, job_id: str) -> Job | None: ...

    async def jobs(self, query: JobQuery) -> Sequence[Job]: ...

    async def job_counts(self) -> Mapping[JobStatus, int]:
        """How many jobs have each status; statuses without jobs may be absent."""
        ...

    async def tasks(self, job_id: str, dispatch: int | None = None) -> Sequence[Task]:
        """The tasks of a job, or of one dispatch of it, ordered by dispatch and branch."""
        ...

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        """Every attempt at a task of the job, ordered by `leased_at`, then number."""
        ...

    async def history(
        self, job_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[NumberedRow]:
        """Rows with a number above *after*, in commit order."""
        ...

    async def progress(self, job_id: str) -> Sequence[Progress]:
        """The latest progress of each running task of the job."""
        ...

    async def instance(self, instance_id: str) -> Instance | None: ...

    async def instances(self, worker_id: str | None = None) -> Sequence[Instance]:
        """Worker processes heard of, those that are gone included, latest seen first.

        Args:
            worker_id: Only those of this worker, which takes no look at the others.
        """
        ...

    async def lease_counts(self, instances: Sequence[Instance]) -> Mapping[str, int]:
        """How many attempts are leased to each of *instances*, by id; not of one moment."""
        ...

    async def backlog(self, skills: Sequence[str]) -> Backlog:
        """How much waits and runs, in all partitions; cheap, however much that is.

        Not of one moment.  Of what is counted one by one there are `MOST_COUNTED` at most.

        Args:
            skills: Whose queues are told of, also if they are empty; and besides these, so
                long as they are not more than `MOST_QUEUES`, queues that are known here to
                have tasks.
        """
        ...

    async def access(self) -> AccessSet | None:
        """Who may talk; cheap, since every orchestrator asks often."""
        ...

    async def audit(self, *, after: int = 0, limit: int = 1000) -> Sequence[NumberedAuditRow]:
        """Rows with a number above *after*, in commit order."""
        ...

    def export(self) -> AsyncIterator[Sequence[StoredRecord]]:
        """Everything there is, in batches of at most `MOST_PER_BATCH`.

        The `StorageFacts` come first, jobs by `created_at`, and the rows of one job, and those
        of the audit, in the order of their numbers.  What belongs to a job is there if the job
        is.  It shows one moment only if nobody commits until it has ended.
        """
        ...

    async def restore(self, records: Sequence[StoredRecord]) -> None:
        """Put *records*, of the export of any storage, as they are, in one atomic step.

        * They replace what has their ids (or numbers), whatever its revision; a record that is
          stored already changes nothing.
        * Everything follows as after a commit: queues, jobs to be claimed, news.
        * `StorageFacts` bring the cluster id, and a time before which `now` does not fall any
          more; they need not be among the first.
        * Numbers go on after the highest one restored.
        """
        ...

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        """Wait until jobs are ready (see `Job.is_ready`) and claim up to *most* of them.

        While a claim is held nobody else is given this revision of the job.  A claim that is
        neither settled nor renewed for *lease_seconds* ends, and the job is ready again.
        Cancelling claims nothing.
        """
        ...

    def renew_claims(self, owner: str, *, lease_seconds: float) -> None:
        """Hold every claim of *owner* for *lease_seconds* from now."""
        ...

    def settle_claim(self, job: Job) -> None:
        """End the claim of this revision; if it is still the stored one, do not offer it again."""
        ...

    def release_claim(self, job: Job) -> None:
        """End the claim of this revision and offer it again at once."""
        ...

    def leave_claim(self, job: Job, owner: str) -> None:
        """End the claim and leave the job to others: *owner* has no use for its blueprint.

        From then on *owner* is given no job of that blueprint.
        """
        ...

    def partitions_with(self, skills: Sequence[str]) -> Sequence[str]:
        """Partitions in which tasks of any of *skills* may be queued.

        None only if nothing of them is queued anywhere: then `queue_news` tells when there is.
        Spares a parked poll the looks that it would take in vain.
        """
        ...

    async def due_partitions(self) -> Sequence[str]:
        """Where something may be due, or the service must be noted; cheap, since often asked."""
        ...

    async def holdings(self, instance_id: str) -> Sequence[str]:
        """In which partitions, besides its home, attempts may be leased to an instance.

        A hint: to lose it costs time, never a task.
        """
        ...

    def note_holding(self, instance_id: str, partition: str) -> None:
        """Before something of *partition* is leased to an instance with another home.

        Never fails, and does not wait.
        """
        ...

    def drop_holding(self, instance_id: str, partition: str) -> None:
        """Nothing of *partition* is leased to the instance any more.  Never fails."""
        ...

    def queue_news(self, skills: Sequence[str]) -> AbstractContextManager[Waiter]:
        """Be told when tasks of any of *skills* are queued.

        Among those who wait, as many are woken as there are new tasks, longest waiting first;
        one that leaves without having looked passes its wake-up on.
        """
        ...

    def job_news(self, job_id: str) -> AbstractContextManager[Waiter]:
        """Be told when the job changes (also its history and its progress)."""
        ...
