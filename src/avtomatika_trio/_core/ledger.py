"""What one atomic commit may read and write.

An *operation* of the core is a plain function whose first argument is a `Ledger`.  A
storage runs it inside one transaction: all of its writes happen or none, and nobody sees
them before they are durable.  So each rule is written once, and every storage keeps it by
keeping the promises of this page.

Operations are re-run by storages that must try again, so they do nothing but read and
write the ledger: time is `Ledger.now`, chance and fresh ids are arguments.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import attrs

from avtomatika_trio._core.access import AccessSet, AuditRow, IssuedToken, Usage
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.task import Attempt, Lane, Task


@attrs.frozen(kw_only=True)
class FanOut:
    """One `dispatch_parallel`: how many of its branches are still out.

    Keyed by job and dispatch, so that a late branch of one fan-out cannot count for the
    next one.  Changed by branch results instead of the job, so that branches do not fight
    for the job's revision.
    """

    job_id: str
    dispatch: int
    state: str
    aggregate_into: str
    failure: str | None
    """The state to go to when a branch has failed for good; None fails the job."""
    total: int
    open: int
    released: int
    """How many branches have left `waiting`; they do so in order."""


class InstanceKind(StrEnum):
    """Whether a worker process speaks our extensions."""

    OURS = "ours"
    FOREIGN = "foreign"


class WorkerState(StrEnum):
    """Whether work is handed to a worker process."""

    ONLINE = "online"
    BLOCKED = "blocked"  #: its event loop stands still
    GONE = "gone"  #: it has said goodbye, was replaced, or was not heard of


@attrs.frozen(kw_only=True)
class Instance:
    """One run of a worker process, as far as it was heard of."""

    id: str
    worker_id: str
    kind: InstanceKind
    registration: dict[str, Any]
    """What it said of itself: skills, resources, software."""
    skills: tuple[str, ...]
    registered_at: float
    seen_at: float
    lease_until: float
    """Renews every lease of this instance; set by each heartbeat that renews them all."""
    due_at: float | None
    """When its leases must be looked at, or, once it is gone and holds none, whether to forget
    it; None = never."""
    interval_seconds: float
    beat: int = 0
    """Number of the newest heartbeat; older ones are late and change nothing."""
    last_poll: int = 0
    open_polls: tuple[int, ...] = ()
    blocked_since: float | None = None
    """Its event loop has not turned since; nothing is handed to it."""
    replaced_by: str | None = None
    gone: bool = False
    """Replaced, said goodbye, or lost: nothing is handed to it until it is heard again."""
    current_tasks: int = 0
    status: str = "idle"
    credential: str = ""
    """What it showed when it registered: the hash of a token of its own, `global` or
    `certificate`; empty where nobody asked."""
    held: tuple[str, ...] = ()
    """The wire ids, of any partition, that its newest heartbeat has named (ours)."""
    hot_skills: tuple[str, ...] = ()
    """The skills whose models are loaded there, as it said last."""

    @property
    def state(self) -> WorkerState:
        if self.gone:
            return WorkerState.GONE
        return WorkerState.ONLINE if self.blocked_since is None else WorkerState.BLOCKED


class TimerKind(StrEnum):
    """What is due at a timer's time."""

    RETRY = "retry"  #: a task waits for its next attempt
    ATTEMPT_TIMEOUT = "attempt_timeout"
    DISPATCH_TIMEOUT = "dispatch_timeout"
    RESULT_TIMEOUT = "result_timeout"
    JOB_RETRY = "job_retry"  #: a handler that has raised is called again
    AVOIDANCE = "avoidance"  #: the worker that gave a task back may have it again
    FILES = "files"  #: the files of a job that has ended may be removed
    FORGET = "forget"  #: a job that has ended may be forgotten


@attrs.frozen(kw_only=True)
class Timer:
    """Something to be done at a time; at most one for each kind and subject."""

    kind: TimerKind
    subject: str
    """A task id, a wire id or a job id."""
    due_at: float


@attrs.frozen(kw_only=True)
class HistoryRow:
    """One thing that happened to a job; rows are only ever added, in commit order."""

    job_id: str
    type: str
    at: float
    revision: int
    state: str | None = None
    next_state: str | None = None
    task_id: str | None = None
    """The stable id of the task."""
    attempt: int | None = None
    worker_id: str | None = None
    details: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class Progress:
    """What a running task last said of itself."""

    job_id: str
    task_id: str
    attempt: int = 0
    """Number of the attempt that said it; what an earlier one has said counts no more."""
    at: float
    progress: float | None
    message: str


@attrs.frozen(kw_only=True)
class Service:
    """Since when this storage (partition) has been served without a gap."""

    served_at: float
    serving_since: float


class Ledger(Protocol):
    """The records of a storage's partition, within one atomic commit.

    Reads see the operation's own writes.  Records are immutable; writing one replaces the
    record of the same id.

    The record of a worker process is in the partition that is its *home*, see `is_home_of`;
    elsewhere it is a *guest*, of which the partition has only the attempts that are leased to
    it, and a time at which to look at them.
    """

    @property
    def now(self) -> float:
        """The partition's time (Unix seconds): one throughout an operation, never going back."""
        ...

    def is_home_of(self, instance_id: str) -> bool:
        """Whether the record of that instance is in this partition; always if it is alone."""
        del instance_id
        return True

    def job(self, job_id: str) -> Job | None: ...

    def put_job(self, job: Job) -> None:
        """Write *job*, whose revision must follow the stored one's (or be 1 and new).

        Raises:
            StaleRevision: it does not; the whole operation is undone.
        """
        ...

    def forget_job(self, job_id: str) -> None:
        """Forget a job and all that is of it; one that nobody knows is no error.

        Its tasks, attempts, fan-outs, progress and history go with it, and the timers whose
        subject it is.  It must have ended, so that no task of it is open and no attempt leased.
        """
        ...

    def task(self, task_id: str) -> Task | None: ...

    def put_task(self, task: Task) -> None: ...

    def task_count(self, job_id: str) -> int:
        """How many tasks the job has ever had; it may be out of date at the commit."""
        ...

    def open_tasks(self, job_id: str) -> Sequence[Task]:
        """The tasks of *job_id* that have no outcome yet."""
        ...

    def queued(self, skill: str, lane: Lane, *, most: int) -> Sequence[Task]:
        """The first *most* tasks of a lane with status `queued`, by `queue_order`."""
        ...

    def fan_out(self, job_id: str, dispatch: int) -> FanOut | None: ...

    def put_fan_out(self, fan_out: FanOut) -> None: ...

    def attempt(self, wire_id: str) -> Attempt | None: ...

    def put_attempt(self, attempt: Attempt) -> None:
        """Write *attempt*; one that is leased to a guest is looked at when its lease ends.

        (The guest's due time here is then `lease_until` at the latest.)
        """
        ...

    def leased(self, instance_id: str) -> Sequence[Attempt]:
        """The attempts of this partition that are leased to an instance."""
        ...

    def instance(self, instance_id: str) -> Instance | None:
        """The record of an instance; a guest's is that of its home as it is now.

        A guest's times are shifted by how far this partition's clock is ahead of its home's,
        since times cross partitions only as durations (rule O3).  Nothing sees to it that the
        home's record is still the same at the commit.
        """
        ...

    def put_instance(self, instance: Instance) -> None:
        """Write *instance*; of a guest only `due_at` counts, as the time to look at it here."""
        ...

    def drop_instance(self, instance_id: str) -> None:
        """Forget an instance (one that nobody knows is no error); a guest's due time here."""
        ...

    def due_instances(self, *, most: int) -> Sequence[Instance]:
        """Instances whose `due_at` has come, earliest first.

        And guests whose due time here has come, whatever the `due_at` of their record, which
        is as `instance` has it.
        """
        ...

    def timer(self, kind: TimerKind, subject: str) -> Timer | None: ...

    def put_timer(self, timer: Timer) -> None: ...

    def drop_timer(self, kind: TimerKind, subject: str) -> None: ...

    def due_timers(self, *, most: int) -> Sequence[Timer]:
        """Timers whose time has come, in due order; but for those of files and of forgetting.

        What is done about files is done outside of the ledger and may have to wait, and to
        forget jobs is much work: that must not keep anything else waiting.
        """
        ...

    def due_files(self, *, most: int) -> Sequence[Timer]:
        """Timers of files whose time has come, in due order."""
        ...

    def due_forgets(self, *, most: int) -> Sequence[Timer]:
        """Timers of jobs to be forgotten whose time has come, in due order."""
        ...

    def record(self, row: HistoryRow) -> None:
        """Add to the history; rows are numbered in commit order."""
        ...

    def put_progress(self, progress: Progress) -> None: ...

    def service(self) -> Service | None: ...

    def put_service(self, service: Service) -> None: ...

    def access(self) -> AccessSet | None:
        """Who may talk; None = nobody has ever said."""
        ...

    def put_access(self, access: AccessSet) -> None: ...

    def usage(self, client: str, month: str) -> Usage | None: ...

    def put_usage(self, usage: Usage) -> None: ...

    def issued_token(self, token_hash: str) -> IssuedToken | None: ...

    def put_issued_token(self, token: IssuedToken) -> None: ...

    def drop_issued_token(self, token_hash: str) -> None:
        """Forget a token; one that nobody knows is no error."""
        ...

    def expired_tokens(self, *, most: int) -> Sequence[IssuedToken]:
        """Issued tokens whose time is over, earliest first."""
        ...

    def submission(self, submission_id: str) -> Submission | None:
        """What was made of a request with a key of its client's."""
        ...

    def put_submission(self, submission: Submission) -> None: ...

    def drop_submission(self, submission_id: str) -> None:
        """Forget one; one that nobody knows is no error."""
        ...

    def expired_submissions(self, *, most: int) -> Sequence[Submission]:
        """Those whose time is over, earliest first."""
        ...

    def note_for_audit(self, row: AuditRow) -> None:
        """Add to the audit; rows are only ever added, and numbered in commit order."""
        ...

    def wake(self, skill: str) -> None:
        """After the commit, wake polls that wait for *skill*.

        Tasks written as `queued` wake them without being asked.
        """
        ...


def task_id(job_id: str, dispatch: int, branch: int | None) -> str:
    """The stable id of a task; derived, so that a branch can be found by its place.

    >>> task_id("p00-7", 3, None)
    'p00-7-3'
    >>> task_id("p00-7", 3, 12)
    'p00-7-3-12'
    """
    return f"{job_id}-{dispatch}" if branch is None else f"{job_id}-{dispatch}-{branch}"


def drop_task_timers(ledger: Ledger, task: Task) -> None:
    """Forget every timer of *task* that its settings may have set."""
    if task.dispatch_timeout is not None:
        ledger.drop_timer(TimerKind.DISPATCH_TIMEOUT, task.id)
    if task.result_timeout is not None:
        ledger.drop_timer(TimerKind.RESULT_TIMEOUT, task.id)
    if task.failures or task.returned:
        ledger.drop_timer(TimerKind.RETRY, task.id)
    if task.avoid is not None:
        ledger.drop_timer(TimerKind.AVOIDANCE, task.id)
    if task.wire_id is not None and task.timeout_seconds is not None:
        ledger.drop_timer(TimerKind.ATTEMPT_TIMEOUT, task.wire_id)


def by_queue_order(tasks: Iterable[Task]) -> list[Task]:
    """*tasks* as they are handed out: priority high first, then by creation."""
    return sorted(tasks, key=queue_order)


def queue_order(task: Task) -> tuple[float, float, str, int]:
    """The sort key of a queue; every storage keeps its queues in this order."""
    return (-task.priority, task.created_at, task.job_id, task.branch or 0)
