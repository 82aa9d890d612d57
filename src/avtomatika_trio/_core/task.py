"""The life of a task and of its attempts.

A *task* is a unit of work with a stable id; an *attempt* is one try at it, known on the
wire by a random id that is minted when it is handed out.  `TRANSITIONS` is the whole life
of a task and `step` the only way to change its status.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, assert_never

import attrs

from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio.errors import IllegalTransition


class TaskStatus(StrEnum):
    """Where a task is in its life."""

    WAITING = "waiting"  #: for its time: branches beyond `max_concurrency`
    QUEUED = "queued"  #: any worker with the skill may take it
    LEASED = "leased"  #: one worker has it
    RETRYING = "retrying"  #: an attempt failed or was given back too often; a timer queues it
    DONE = "done"  #: it has an outcome
    CANCELLED = "cancelled"  #: nobody wants it any more
    QUARANTINED = "quarantined"  #: it failed for good, or kills or annoys its workers

    @property
    def is_open(self) -> bool:
        return self not in _FINAL


_FINAL = frozenset({TaskStatus.DONE, TaskStatus.CANCELLED, TaskStatus.QUARANTINED})


class AttemptStatus(StrEnum):
    """How an attempt stands."""

    LEASED = "leased"
    LOST = "lost"  #: its worker vanished
    UNCLAIMED = "unclaimed"  #: handed out, but the worker never got to hold it
    RETURNED = "returned"  #: a live worker said it will not do it
    SUCCEEDED = "succeeded"  #: its result was applied (whatever the result's status)
    FAILED = "failed"  #: its failure was counted
    TIMED_OUT = "timed_out"  #: took longer than `timeout_seconds`
    CANCELLED = "cancelled"  #: its task is not wanted any more


class Lane(StrEnum):
    """Which queue of its skill a task waits in."""

    NORMAL = "normal"
    SUSPECT = "suspect"  #: two attempts were lost: a worker process holds at most one such


@attrs.frozen(kw_only=True)
class TaskFault:
    """What went wrong in an attempt."""

    code: str
    message: str = ""
    details: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class TaskResult:
    """What a worker reported, as it is kept."""

    status: str
    data: Any = None
    error: TaskFault | None = None
    data_metadata: dict[str, Any] = attrs.field(factory=dict)
    """What is known of files that the data name: `uri`, `size`, `etag`, `sha256`, by place."""


@attrs.frozen(kw_only=True)
class Task:
    """A unit of work for one worker, of one skill."""

    id: str
    """Stable over all attempts; the `idempotency_key` that handlers are given."""
    job_id: str
    dispatch: int
    """The job's revision at which it was dispatched."""
    branch: int | None
    """Its place in a `dispatch_parallel`; None for a single task."""
    key: str | None
    state: str
    """The state that dispatched it."""
    skill: str
    params: dict[str, Any]
    params_metadata: dict[str, Any] = attrs.field(factory=dict)
    """What is known of files that the params name, as in `TaskResult.data_metadata`."""
    tracing_context: dict[str, str] = attrs.field(factory=dict)
    """The job's."""
    priority: float
    transitions: dict[str, str]
    timeout_seconds: float | None
    dispatch_timeout: float | None
    result_timeout: float | None
    retry: RetryPolicy
    created_at: float
    status: TaskStatus = TaskStatus.QUEUED
    attempt: int = 0
    """Number of the newest attempt; 0 before the first."""
    wire_id: str | None = None
    """Of the leased attempt, while there is one."""
    failures: int = 0
    lost: int = 0
    returned: int = 0
    """Give-backs in a row."""
    avoid: str | None = None
    """A worker id that gave it back so often that others go first."""
    avoid_until: float = 0.0
    result: TaskResult | None = None

    @property
    def lane(self) -> Lane:
        return Lane.SUSPECT if self.lost >= 2 else Lane.NORMAL


@attrs.frozen(kw_only=True)
class NotedEvents:
    """Which events of an attempt are in the history: what tells a repeated one, and how many."""

    count: int = 0
    last: int = 0
    """The highest number among them."""
    ids: tuple[str, ...] = ()
    """Of the newest that had no number (foreign workers)."""
    is_full: bool = False
    """There were more than are kept, which the history tells."""


@attrs.frozen(kw_only=True)
class Attempt:
    """One try at a task, from its hand-out on; kept for as long as the job is."""

    wire_id: str
    task_id: str
    job_id: str
    number: int
    worker_id: str
    instance: str
    poll: int
    leased_at: float
    lease_until: float
    """Its own end of lease; the instance's counts when it is later."""
    suspect: bool = False
    status: AttemptStatus = AttemptStatus.LEASED
    ended_at: float | None = None
    missed_at: float | None = None
    """A foreign worker's heartbeat left it out for the first time then."""
    answer: dict[str, Any] | None = None
    """What was answered to its result; the same again if it is sent again."""
    events: NotedEvents | None = None
    """None = it has sent none."""


# What can happen to a task.


@attrs.frozen(kw_only=True)
class Released:
    """Its time has come."""


@attrs.frozen(kw_only=True)
class HandedOut:
    """A worker got it."""

    wire_id: str


@attrs.frozen(kw_only=True)
class Requeued:
    """Its lease ended without an outcome."""

    lost: int
    returned: int
    avoid: str | None = None
    avoid_until: float = 0.0


@attrs.frozen(kw_only=True)
class Delayed:
    """It will be queued again after a while."""

    failures: int
    returned: int
    avoid: str | None = None
    avoid_until: float = 0.0


@attrs.frozen(kw_only=True)
class LeaseRetaken:
    """A worker that was believed lost still holds it."""

    wire_id: str
    lost: int


@attrs.frozen(kw_only=True)
class Ended:
    """It has an outcome."""

    result: TaskResult


@attrs.frozen(kw_only=True)
class Poisoned:
    """It needs a person."""

    result: TaskResult


@attrs.frozen(kw_only=True)
class Dropped:
    """Nobody wants it any more."""


Event = Released | HandedOut | Requeued | Delayed | LeaseRetaken | Ended | Poisoned | Dropped

_T = TaskStatus
_ENDINGS: Mapping[type[Any], TaskStatus] = {
    Ended: _T.DONE,
    Poisoned: _T.QUARANTINED,
    Dropped: _T.CANCELLED,
}

TRANSITIONS: Mapping[TaskStatus, Mapping[type[Any], TaskStatus]] = {
    _T.WAITING: {Released: _T.QUEUED, **_ENDINGS},
    _T.QUEUED: {
        HandedOut: _T.LEASED,
        LeaseRetaken: _T.LEASED,
        Delayed: _T.RETRYING,
        **_ENDINGS,
    },
    _T.LEASED: {Requeued: _T.QUEUED, Delayed: _T.RETRYING, **_ENDINGS},
    _T.RETRYING: {
        Released: _T.QUEUED,
        LeaseRetaken: _T.LEASED,
        Delayed: _T.RETRYING,
        **_ENDINGS,
    },
    _T.DONE: {},
    _T.CANCELLED: {},
    _T.QUARANTINED: {},
}


def step(task: Task, event: Event) -> Task:
    """Apply *event* to *task*.

    Raises:
        IllegalTransition: *event* cannot happen in this status; nothing has changed.
    """
    try:
        status = TRANSITIONS[task.status][type(event)]
    except KeyError:
        raise IllegalTransition(
            f"task {task.id}", task.status.value, type(event).__name__
        ) from None
    match event:
        case Released():
            return attrs.evolve(task, status=status)
        case HandedOut(wire_id=wire_id):
            return attrs.evolve(task, status=status, wire_id=wire_id, attempt=task.attempt + 1)
        case Requeued() | Delayed():
            changed = {
                field.name: getattr(event, field.name) for field in attrs.fields(type(event))
            }
            return attrs.evolve(task, status=status, wire_id=None, **changed)
        case LeaseRetaken(wire_id=wire_id, lost=lost):
            return attrs.evolve(task, status=status, wire_id=wire_id, lost=lost)
        case Ended(result=result) | Poisoned(result=result):
            return attrs.evolve(task, status=status, wire_id=None, result=result)
        case Dropped():
            return attrs.evolve(task, status=status, wire_id=None)
        case _:
            assert_never(event)
