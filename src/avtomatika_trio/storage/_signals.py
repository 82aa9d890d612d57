"""Wake-ups within one process: queued tasks, changed jobs, jobs that are ready.

Everything here runs on Trio's thread and is told of a commit after it has happened.  Of
news about a queue as many waiters are woken as there are new tasks, so that a thousand
parked polls do not all run for one task.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs
import trio

from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import Instance

#: Ready jobs beyond this many are kept by id alone and read again when they are claimed, so
#: that a backlog of any length costs little memory.
_JOBS_KEPT = 1000


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


@attrs.define(eq=False)
class QueueWaiter:
    """Waits for tasks of some skills; see `Waiter` in `_base`."""

    skills: Sequence[str]
    _queues: dict[str, "OrderedDict[QueueWaiter, None]"]
    woken_for: str | None = None
    """The skill of the news that it has not looked at yet."""
    _parked: trio.Event | None = None

    def line_up(self) -> None:
        """Stand at the end of every queue that it does not stand in already."""
        for skill in self.skills:
            self._queues.setdefault(skill, OrderedDict()).setdefault(self)

    def leave(self) -> None:
        """Stand in no queue any more."""
        for skill in self.skills:
            queue = self._queues.get(skill)
            if queue is not None:
                queue.pop(self, None)
                if not queue:
                    del self._queues[skill]

    async def wait(self) -> None:
        """Return when there was news since the last return."""
        self.line_up()
        while self.woken_for is None:
            self._parked = trio.Event()
            await self._parked.wait()
        self.woken_for = None

    def wake(self, skill: str) -> None:
        """Tell it that there is a task of *skill*."""
        self.woken_for = skill
        if self._parked is not None:
            self._parked.set()


@attrs.define
class _Claim:
    owner: str
    until: float
    job: Job | None


@attrs.define(eq=False)
class Signals:
    """The wake-ups of one storage."""

    _queues: dict[str, OrderedDict[QueueWaiter, None]] = attrs.field(factory=dict, init=False)
    _followers: dict[str, set[JobWaiter]] = attrs.field(factory=dict, init=False)
    _ready: deque[tuple[str, int, Job | None]] = attrs.field(factory=deque, init=False)
    _claims: dict[tuple[str, int], _Claim] = attrs.field(factory=dict, init=False)
    _new_ready: trio.Event | None = attrs.field(default=None, init=False)

    # Queues.

    @contextmanager
    def queue_news(self, skills: Sequence[str]) -> Iterator[QueueWaiter]:
        """See `Storage.queue_news`."""
        waiter = QueueWaiter(tuple(skills), self._queues)
        waiter.line_up()
        try:
            yield waiter
        finally:
            waiter.leave()
            if waiter.woken_for is not None:
                self.tasks_queued(waiter.woken_for, 1)

    def tasks_queued(self, skill: str, count: int) -> None:
        """Wake up to *count* of those who wait for *skill*, the longest waiting first."""
        queue = self._queues.get(skill)
        while queue and count > 0:
            waiter, _ = queue.popitem(last=False)
            if waiter.woken_for is None:
                waiter.wake(skill)
                count -= 1

    # Jobs.

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

    def job_changed(self, job_id: str) -> None:
        """Wake everyone who follows the job."""
        for waiter in self._followers.get(job_id, ()):
            waiter.wake()

    # Ready jobs.

    def job_ready(self, job_id: str, revision: int, job: Job | None) -> None:
        """Offer this revision of a job to be claimed."""
        kept = job if len(self._ready) < _JOBS_KEPT else None
        self._ready.append((job_id, revision, kept))
        if self._new_ready is not None:
            self._new_ready.set()
            self._new_ready = None

    async def claim_ready(
        self, owner: str, *, most: int, lease_seconds: float
    ) -> list[tuple[str, int, Job | None]]:
        """Wait for ready jobs and claim up to *most*; see `Storage.claim_ready`."""
        await trio.lowlevel.checkpoint()
        while True:
            self._offer_expired()
            if self._ready:
                break
            if self._new_ready is None:
                self._new_ready = trio.Event()
            with trio.move_on_after(lease_seconds / 3):
                await self._new_ready.wait()
        claimed: list[tuple[str, int, Job | None]] = []
        until = trio.current_time() + lease_seconds
        while self._ready and len(claimed) < most:
            job_id, revision, job = self._ready.popleft()
            if (job_id, revision) not in self._claims:
                self._claims[job_id, revision] = _Claim(owner, until, job)
                claimed.append((job_id, revision, job))
        return claimed

    def _offer_expired(self) -> None:
        now = trio.current_time()
        for key in [key for key, claim in self._claims.items() if claim.until <= now]:
            claim = self._claims.pop(key)
            self._ready.append((*key, claim.job))

    def renew_claims(self, owner: str, *, lease_seconds: float) -> None:
        """See `Storage.renew_claims`."""
        until = trio.current_time() + lease_seconds
        for claim in self._claims.values():
            if claim.owner == owner:
                claim.until = until

    def end_claim(self, job_id: str, revision: int) -> None:
        """Forget a claim."""
        self._claims.pop((job_id, revision), None)


@attrs.define
class News:
    """What one commit has to tell."""

    queued: dict[str, int] = attrs.field(factory=dict)
    """Skill -> how many tasks were written as queued."""
    ready: dict[str, Job] = attrs.field(factory=dict)
    changed: dict[str, None] = attrs.field(factory=dict)
    instances: dict[str, Instance] = attrs.field(factory=dict)

    def task_queued(self, skill: str) -> None:
        self.queued[skill] = self.queued.get(skill, 0) + 1

    def job_written(self, job: Job) -> None:
        self.changed[job.id] = None
        if job.is_ready:
            self.ready[job.id] = job
        else:
            self.ready.pop(job.id, None)

    def tell(self, signals: Signals) -> None:
        """Wake everyone concerned."""
        for job in self.ready.values():
            signals.job_ready(job.id, job.revision, job)
        for job_id in self.changed:
            signals.job_changed(job_id)
        for skill, count in self.queued.items():
            signals.tasks_queued(skill, count)


Clock = Callable[[], float]
