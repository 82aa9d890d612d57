"""Wake-ups within one process: queued tasks, changed jobs.

Everything here runs on Trio's thread and is told of a commit after it has happened.  Of
news about a queue as many waiters are woken as there are new tasks, so that a thousand
parked polls do not all run for one task.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import attrs
import trio

from avtomatika_trio._core.access import AccessSet
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import Instance
from avtomatika_trio._core.task import Task, TaskStatus
from avtomatika_trio.storage._ready import ReadyJobs


@attrs.define(eq=False)
class JobWaiter:
    """Waits for news of one job; see `Waiter` in `_base`."""

    _news: bool = False
    _parked: trio.Event | None = None

    async def wait(self) -> None:
        """Return when there was news since the last return."""
        while not self._news:
            self._parked = trio.Event()
            await self._parked.wait()
        self._news = False

    def wake(self) -> None:
        """Tell it that there is news."""
        self._news = True
        if self._parked is not None:
            self._parked.set()


@attrs.frozen
class _Wakeup:
    """Somebody should look for tasks of a skill, because of news with this number."""

    skill: str
    number: int


@attrs.define(eq=False)
class QueueWaiter:
    """Waits for tasks of some skills; see `Waiter` in `_base`."""

    skills: Sequence[str]
    _queues: "Queues"
    looked_at: int = 0
    """Number of the last news before it looked."""
    woken: _Wakeup | None = None
    """`wait` has not returned for it yet."""
    looks: _Wakeup | None = None
    """`wait` has returned for it, and was not called again."""
    _parked: trio.Event | None = None

    async def wait(self) -> None:
        """Return when there was news since the last return."""
        looked, self.looks = self.looks, None
        if looked is not None:
            self._queues.pass_on(looked)
        while self.woken is None:
            self._parked = trio.Event()
            await self._parked.wait()
        self.looks, self.woken = self.woken, None
        self._queues.line_up(self)  # before it looks: what comes after the look is news again

    def wake(self, wakeup: _Wakeup) -> None:
        """Have it look for a task."""
        self.woken = wakeup
        if self._parked is not None:
            self._parked.set()


@attrs.define(eq=False)
class Queues:
    """Who waits for tasks of each skill, and how many tasks are queued there.

    Whoever has looked and waits again may have left a task to others (because it gave that
    one back, say): while there are tasks, the wake-up goes on to the next who has not looked
    since they came.
    """

    _waiters: dict[str, OrderedDict[QueueWaiter, None]] = attrs.field(factory=dict, init=False)
    _lengths: dict[str, int] = attrs.field(factory=dict, init=False)
    _number: int = attrs.field(default=0, init=False)

    def changed(self, skill: str, by: int) -> None:
        """Take note that so many more tasks of *skill* are queued."""
        length = self._lengths.get(skill, 0) + by
        if length > 0:
            self._lengths[skill] = length
        else:
            self._lengths.pop(skill, None)

    def measured(self, skill: str, length: int) -> None:
        """So many tasks of *skill* are queued; who waits for them all the same looks again."""
        self._lengths.pop(skill, None)
        if length > 0:
            self._lengths[skill] = length
            self.news(skill, length)

    def skills(self) -> Sequence[str]:
        """What is waited for."""
        return list(self._waiters)

    def lengths(self) -> Mapping[str, int]:
        """How many tasks are queued of each skill; those without any are absent."""
        return self._lengths

    def has_any(self, skills: Sequence[str]) -> bool:
        """Whether a task of one of *skills* is queued."""
        return any(skill in self._lengths for skill in skills)

    def news(self, skill: str, count: int) -> None:
        """Wake up to *count* of those who wait for *skill*, the longest waiting first."""
        self._number += 1
        for _ in range(count):
            if not self._wake(_Wakeup(skill, self._number)):
                break

    def wake_all(self, skill: str) -> None:
        """Wake everyone who waits for *skill*."""
        self.news(skill, len(self._waiters.get(skill, ())))

    def pass_on(self, wakeup: _Wakeup) -> None:
        """Wake the next who has not looked since the news came, if there still is a task."""
        if wakeup.skill in self._lengths:
            self._wake(wakeup)

    def _wake(self, wakeup: _Wakeup) -> bool:
        waiters = self._waiters.get(wakeup.skill)
        while waiters:
            waiter = next(iter(waiters))
            if waiter.looked_at >= wakeup.number:
                break
            del waiters[waiter]
            if waiter.woken is None:
                waiter.wake(wakeup)
                return True
        return False

    def line_up(self, waiter: QueueWaiter) -> None:
        """Put *waiter* at the end of the queues that it does not stand in; it looks now."""
        waiter.looked_at = self._number
        for skill in waiter.skills:
            waiters = self._waiters.setdefault(skill, OrderedDict())
            waiters[waiter] = None
            waiters.move_to_end(waiter)

    def leave(self, waiter: QueueWaiter, *, looked: bool) -> None:
        """Take *waiter* out, and pass on what it was woken for and has not looked for."""
        for skill in waiter.skills:
            waiters = self._waiters.get(skill)
            if waiters is not None:
                waiters.pop(waiter, None)
                if not waiters:
                    del self._waiters[skill]
        if waiter.woken is not None:
            self._wake(waiter.woken)
        if waiter.looks is not None and not looked:
            self._wake(waiter.looks)


@attrs.define(eq=False)
class Signals:
    """The wake-ups of one storage."""

    queues: Queues = attrs.field(factory=Queues, init=False)
    ready: ReadyJobs = attrs.field(factory=ReadyJobs, init=False)
    _followers: dict[str, set[JobWaiter]] = attrs.field(factory=dict, init=False)

    @contextmanager
    def queue_news(self, skills: Sequence[str]) -> Iterator[QueueWaiter]:
        """See `Storage.queue_news`."""
        waiter = QueueWaiter(tuple(skills), self.queues)
        self.queues.line_up(waiter)
        looked = False
        try:
            yield waiter
            looked = True
        finally:
            self.queues.leave(waiter, looked=looked)

    @contextmanager
    def job_news(self, job_id: str) -> Iterator[JobWaiter]:
        """See `Storage.job_news`."""
        waiter = JobWaiter()
        self._followers.setdefault(job_id, set()).add(waiter)
        try:
            yield waiter
        finally:
            followers = self._followers[job_id]
            followers.discard(waiter)
            if not followers:
                del self._followers[job_id]

    def wake_all(self) -> None:
        """Wake everyone who waits for tasks or follows a job."""
        for skill in self.queues.skills():
            self.queues.wake_all(skill)
        for job_id in list(self._followers):
            self.job_changed(job_id)

    def job_changed(self, job_id: str) -> None:
        """Wake everyone who follows the job."""
        for waiter in self._followers.get(job_id, ()):
            waiter.wake()


@attrs.define
class News:
    """What one commit has to tell."""

    queued: dict[str, int] = attrs.field(factory=dict)
    """Skill -> how many should look for tasks."""
    lengths: dict[str, int] = attrs.field(factory=dict)
    """Skill -> by how much its queue has grown."""
    jobs: dict[str, Job] = attrs.field(factory=dict)
    """The newest revision of each job that was written."""
    forgotten: dict[str, Job] = attrs.field(factory=dict)
    """Jobs that are no more, as they were last."""
    changed: dict[str, None] = attrs.field(factory=dict)
    """Ids of jobs that were written, forgotten, or have new history or progress."""
    instances: dict[str, Instance | None] = attrs.field(factory=dict)
    """None = forgotten."""
    access: AccessSet | None = None
    """The newest, if it was written."""

    def task_written(self, old: Task | None, task: Task) -> None:
        if old is not None and old.status is TaskStatus.QUEUED:
            self._count(self.lengths, old.skill, -1)
        if task.status is TaskStatus.QUEUED:
            self._count(self.lengths, task.skill, 1)
            self._count(self.queued, task.skill, 1)

    def wake(self, skill: str) -> None:
        self._count(self.queued, skill, 1)

    @staticmethod
    def _count(counts: dict[str, int], skill: str, by: int) -> None:
        counts[skill] = counts.get(skill, 0) + by

    def job_written(self, job: Job) -> None:
        self.changed[job.id] = None
        self.jobs[job.id] = job

    def job_forgotten(self, job: Job) -> None:
        self.changed[job.id] = None
        self.forgotten[job.id] = job
        self.jobs.pop(job.id, None)

    def tell(self, signals: Signals) -> None:
        """Wake everyone concerned."""
        for job in (*self.forgotten.values(), *self.jobs.values()):
            signals.ready.job_written(job)
        for job_id in self.changed:
            signals.job_changed(job_id)
        for skill, by in self.lengths.items():
            signals.queues.changed(skill, by)
        for skill, count in self.queued.items():
            signals.queues.news(skill, count)


class Signalling:
    """The part of a `Storage` that waits for news within one process."""

    fault: str | None = None
    """Always: it is not somewhere else."""

    def __init__(self) -> None:
        self._signals = Signals()

    def renew_claims(self, owner: str, *, lease_seconds: float) -> None:
        self._signals.ready.renew(owner, lease_seconds=lease_seconds)

    def settle_claim(self, job: Job) -> None:
        self._signals.ready.settle(job)

    def release_claim(self, job: Job) -> None:
        self._signals.ready.release(job.id, job.revision)

    def leave_claim(self, job: Job, owner: str) -> None:
        self._signals.ready.leave(job, owner)

    def queue_news(self, skills: Sequence[str]) -> AbstractContextManager[QueueWaiter]:
        return self._signals.queue_news(skills)

    def job_news(self, job_id: str) -> AbstractContextManager[JobWaiter]:
        return self._signals.job_news(job_id)
