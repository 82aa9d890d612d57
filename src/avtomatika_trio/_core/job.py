"""The life of a job, as one table and one function.

Everything that can change a job's status is in `TRANSITIONS`; `step` is the only way to
change one.  The diagram in the docs and the tests are made from the table.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, assert_never

import attrs

from avtomatika_trio.errors import IllegalTransition


class JobStatus(StrEnum):
    """Where a job is in its life."""

    PENDING = "pending"  #: accepted, its start state has not run yet
    RUNNING = "running"  #: a state of its blueprint can run now, or at `ready_at`
    WAITING_FOR_WORKER = "waiting_for_worker"  #: a worker has, or will get, its task
    WAITING_FOR_HUMAN = "waiting_for_human"  #: a person must decide
    WAITING_FOR_PARALLEL = "waiting_for_parallel"  #: branches are out
    WAITING_FOR_SUB_JOB = "waiting_for_sub_job"  #: another job must end first
    FINISHED = "finished"  #: reached an end state
    FAILED = "failed"  #: gave up; `Job.error` says why
    CANCELLED = "cancelled"  #: someone asked for it
    QUARANTINED = "quarantined"  #: needs a person: it failed for good, or kills its workers

    @property
    def is_final(self) -> bool:
        return self in FINAL

    @property
    def can_run(self) -> bool:
        """Whether a handler is what the job needs next."""
        return self is JobStatus.PENDING or self is JobStatus.RUNNING


FINAL = frozenset(
    {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.QUARANTINED}
)


@attrs.frozen(kw_only=True)
class JobFault:
    """Why a job has not finished."""

    code: str
    """Stable, for programs: `BLUEPRINT_ERROR`, `HANDLER_ERROR`, or the code of a result."""
    message: str
    state: str | None = None
    details: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Job:
    """One run of a blueprint: everything that is stored of it but its tasks and history."""

    id: str
    blueprint: str
    client: str
    """Who submitted it; everybody else is told that it does not exist."""
    state: str
    status: JobStatus = JobStatus.PENDING
    revision: int = 1
    """Grows by one with every stored change; the compare in compare-and-swap."""
    initial_data: dict[str, Any] = attrs.field(factory=dict)
    labels: dict[str, str] = attrs.field(factory=dict)
    """What the client calls it by, to find it again."""
    tracing_context: dict[str, str] = attrs.field(factory=dict)
    """The headers of the Trace Context (W3C) that it was submitted with."""
    state_history: dict[str, Any] = attrs.field(factory=dict)
    """Data of results, merged; the whole result of each state's task under its name."""
    created_at: float
    updated_at: float
    transitions: int = 0
    """How many states have been entered since the start."""
    max_transitions: int = 100
    handler_failures: int = 0
    """How often the handler of the present state has raised."""
    ready_at: float | None = None
    """While a failed handler waits for its next try: when that is."""
    dispatch: int | None = None
    """The revision at which the tasks that the job waits for were dispatched."""
    aggregates: int | None = None
    """While in an aggregator: the dispatch whose results it is given."""
    last_task_state: str | None = None
    """The state whose task ended last; its data are the result if no handler returned one."""
    result: Any = None
    error: JobFault | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a handler can run now."""
        return self.status.can_run and self.ready_at is None


# What can happen to a job.


@attrs.frozen(kw_only=True)
class StateEntered:
    """A handler chose `go_to`, or tasks have ended and their outcome leads on."""

    state: str
    state_history: dict[str, Any]
    last_task_state: str | None = None
    aggregates: int | None = None


@attrs.frozen(kw_only=True)
class TaskDispatched:
    """A handler chose `dispatch_task`."""

    state_history: dict[str, Any]


@attrs.frozen(kw_only=True)
class BranchesDispatched:
    """A handler chose `dispatch_parallel` with at least one branch."""

    state_history: dict[str, Any]


@attrs.frozen(kw_only=True)
class HandlerFailed:
    """A handler has raised and will be called again at `retry_at`."""

    retry_at: float


@attrs.frozen(kw_only=True)
class RetryDue:
    """The time of a failed handler's next try has come."""


@attrs.frozen(kw_only=True)
class Finished:
    """An end state was reached."""

    state_history: dict[str, Any]
    result: Any = None


@attrs.frozen(kw_only=True)
class Failed:
    """The job has given up."""

    error: JobFault
    result: Any = None


@attrs.frozen(kw_only=True)
class Quarantined:
    """The job needs a person."""

    error: JobFault


@attrs.frozen(kw_only=True)
class Cancelled:
    """Someone asked for it, or an end state says so."""

    error: JobFault | None = None
    result: Any = None


Event = (
    StateEntered
    | TaskDispatched
    | BranchesDispatched
    | HandlerFailed
    | RetryDue
    | Finished
    | Failed
    | Quarantined
    | Cancelled
)

_S = JobStatus
_ENDINGS: Mapping[type[Any], JobStatus] = {
    Failed: _S.FAILED,
    Quarantined: _S.QUARANTINED,
    Cancelled: _S.CANCELLED,
}
_HANDLER: Mapping[type[Any], JobStatus] = {
    StateEntered: _S.RUNNING,
    TaskDispatched: _S.WAITING_FOR_WORKER,
    BranchesDispatched: _S.WAITING_FOR_PARALLEL,
    HandlerFailed: _S.RUNNING,
    Finished: _S.FINISHED,
    **_ENDINGS,
}
_WAITING: Mapping[type[Any], JobStatus] = {StateEntered: _S.RUNNING, **_ENDINGS}

TRANSITIONS: Mapping[JobStatus, Mapping[type[Any], JobStatus]] = {
    _S.PENDING: _HANDLER,
    _S.RUNNING: {**_HANDLER, RetryDue: _S.RUNNING},
    _S.WAITING_FOR_WORKER: _WAITING,
    _S.WAITING_FOR_PARALLEL: _WAITING,
    _S.WAITING_FOR_HUMAN: _WAITING,
    _S.WAITING_FOR_SUB_JOB: _WAITING,
    _S.FINISHED: {},
    _S.FAILED: {},
    _S.CANCELLED: {},
    _S.QUARANTINED: {},
}


def step(job: Job, event: Event, *, now: float) -> Job:
    """Apply *event* to *job* at time *now*.

    Raises:
        IllegalTransition: *event* cannot happen in this status.  Nothing has changed; the
            caller decides whether that is a conflict or a bug.
    """
    try:
        status = TRANSITIONS[job.status][type(event)]
    except KeyError:
        raise IllegalTransition(f"job {job.id}", job.status.value, type(event).__name__) from None
    moved: dict[str, Any] = {
        "status": status,
        "revision": job.revision + 1,
        "updated_at": max(now, job.updated_at),
        "ready_at": None,
    }
    match event:
        case StateEntered():
            moved |= {
                "state": event.state,
                "state_history": event.state_history,
                "transitions": job.transitions + 1,
                "handler_failures": 0,
                "dispatch": None,
                "aggregates": event.aggregates,
                "last_task_state": event.last_task_state or job.last_task_state,
            }
        case TaskDispatched() | BranchesDispatched():
            moved |= {
                "state_history": event.state_history,
                "dispatch": job.revision + 1,
                "aggregates": None,
            }
        case HandlerFailed():
            moved |= {
                "handler_failures": job.handler_failures + 1,
                "ready_at": event.retry_at,
            }
        case RetryDue():
            pass
        case Finished():
            moved |= {"state_history": event.state_history, "result": event.result}
        case Failed() | Cancelled():
            moved |= {"error": event.error, "result": event.result, "dispatch": None}
        case Quarantined():
            moved |= {"error": event.error, "dispatch": None}
        case _:
            assert_never(event)
    return attrs.evolve(job, **moved)
