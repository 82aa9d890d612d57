"""Jobs from their submission through their handlers' decisions to a cancel.

The engine runs the handler; what the handler chose comes here as a `Decision` and becomes
one commit: the job, its tasks, its timers and its history.
"""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import attrs

from avtomatika_trio._core import job as jobs
from avtomatika_trio._core.actions import Action, DispatchParallel, DispatchTask, GoTo, TaskSpec
from avtomatika_trio._core.job import Job, JobFault, JobStatus
from avtomatika_trio._core.known_files import metadata_of
from avtomatika_trio._core.ledger import (
    FanOut,
    HistoryRow,
    Ledger,
    Timer,
    TimerKind,
    task_id,
)
from avtomatika_trio._core.outcomes import drop_open_tasks, enter, finish, queue
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Task, TaskStatus
from avtomatika_trio.errors import JobNotFound, StaleRevision


@attrs.frozen(kw_only=True)
class NewJob:
    """A job as a client asks for it."""

    id: str
    blueprint: str
    client: str
    start: str
    initial_data: dict[str, Any]
    max_transitions: int
    labels: dict[str, str] = attrs.field(factory=dict)
    tracing_context: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Chose:
    """The handler chose an action."""

    action: Action
    known_files: Mapping[str, Any] = attrs.field(factory=dict)
    """What is known of files that its tasks are given, by their URIs; see `files_known`."""


@attrs.frozen(kw_only=True)
class ReachedEnd:
    """The handler of an end state has returned."""

    outcome: str
    """`finished`, `failed` or `cancelled`."""
    returned: Any = None


@attrs.frozen(kw_only=True)
class Broke:
    """The blueprint is wrong here; trying again cannot help."""

    fault: JobFault


@attrs.frozen(kw_only=True)
class Raised:
    """The handler raised, or took too long; it may be tried again."""

    fault: JobFault


Decision = Chose | ReachedEnd | Broke | Raised


def submit(ledger: Ledger, new: Sequence[NewJob]) -> None:
    """Accept jobs; each is ready to run its start state."""
    now = ledger.now
    for order in new:
        ledger.put_job(
            Job(
                id=order.id,
                blueprint=order.blueprint,
                client=order.client,
                state=order.start,
                initial_data=order.initial_data,
                labels=order.labels,
                tracing_context=order.tracing_context,
                max_transitions=order.max_transitions,
                created_at=now,
                updated_at=now,
            )
        )
        ledger.record(
            HistoryRow(
                job_id=order.id,
                type="job_created",
                at=now,
                revision=1,
                state=order.start,
                details={"blueprint": order.blueprint},
            )
        )


def advance(
    ledger: Ledger,
    claimed: Job,
    state_history: dict[str, Any],
    decision: Decision,
    rules: Rules,
    noise: float,
) -> None:
    """Carry out what the handler of *claimed*'s state decided.

    Args:
        ledger: Where.
        claimed: The job as the handler saw it.
        state_history: As the handler left it.
        decision: What it decided.
        rules: For the retries of handlers, and for the end of the job.
        noise: In [-1, 1), for the jitter of a retry.

    Raises:
        StaleRevision: the job has changed since; nothing was done.
    """
    job = ledger.job(claimed.id)
    if job is None or job.revision != claimed.revision:
        found = 0 if job is None else job.revision
        raise StaleRevision(claimed.id, claimed.revision, found)
    match decision:
        case Chose():
            _act(ledger, job, state_history, decision, rules)
        case ReachedEnd():
            finish(ledger, job, _ending(job, state_history, decision), rules)
        case Broke(fault=fault):
            finish(ledger, job, jobs.Failed(error=fault), rules)
        case Raised(fault=fault):
            _retry_handler(ledger, job, fault, rules, noise)
        case _:
            assert_never(decision)


def _act(
    ledger: Ledger, job: Job, state_history: dict[str, Any], chose: Chose, rules: Rules
) -> None:
    match chose.action:
        case GoTo(state=target):
            _record(ledger, job, "state_finished", next_state=target)
            enter(ledger, job, jobs.StateEntered(state=target, state_history=state_history), rules)
        case DispatchTask(spec=spec):
            moved = jobs.step(job, jobs.TaskDispatched(state_history=state_history), now=ledger.now)
            ledger.put_job(moved)
            known = chose.known_files
            transitions = spec.transitions
            task = _add_task(ledger, moved, spec, known, branch=None, transitions=transitions)
            details = {"skill": spec.skill}
            _record(ledger, moved, "task_dispatched", task_id=task.id, details=details)
        case DispatchParallel() as action:
            _fan_out(ledger, job, state_history, action, chose.known_files, rules)
        case _:
            assert_never(chose.action)


def _fan_out(
    ledger: Ledger,
    job: Job,
    state_history: dict[str, Any],
    action: DispatchParallel,
    known: Mapping[str, Any],
    rules: Rules,
) -> None:
    total = len(action.specs)
    target = action.aggregate_into
    if total == 0:
        _record(ledger, job, "branches_dispatched", next_state=target, details={"branches": 0})
        enter(
            ledger,
            job,
            jobs.StateEntered(
                state=target, state_history=state_history, aggregates=job.revision + 1
            ),
            rules,
        )
        return
    moved = jobs.step(job, jobs.BranchesDispatched(state_history=state_history), now=ledger.now)
    ledger.put_job(moved)
    released = min(total, action.max_concurrency or total)
    ledger.put_fan_out(
        FanOut(
            job_id=job.id,
            dispatch=moved.revision,
            state=job.state,
            aggregate_into=target,
            failure=action.transitions.get("failure"),
            total=total,
            open=total,
            released=released,
        )
    )
    for branch, spec in enumerate(action.specs):
        held = branch >= released
        _add_task(ledger, moved, spec, known, branch=branch, transitions={}, held=held)
    _record(ledger, moved, "branches_dispatched", next_state=target, details={"branches": total})


def _add_task(
    ledger: Ledger,
    job: Job,
    spec: TaskSpec,
    known: Mapping[str, Any],
    *,
    branch: int | None,
    transitions: dict[str, str],
    held: bool = False,
) -> Task:
    task = Task(
        id=task_id(job.id, job.revision, branch),
        job_id=job.id,
        tracing_context=job.tracing_context,
        dispatch=job.revision,
        branch=branch,
        key=spec.key,
        state=job.state,
        skill=spec.skill,
        params=spec.params,
        params_metadata=metadata_of(spec.params, known),
        priority=spec.priority,
        transitions=transitions,
        timeout_seconds=spec.timeout_seconds,
        dispatch_timeout=spec.dispatch_timeout,
        result_timeout=spec.result_timeout,
        retry=spec.retry,
        created_at=ledger.now,
        status=TaskStatus.WAITING if held else TaskStatus.QUEUED,
    )
    if held:
        ledger.put_task(task)
    else:
        queue(ledger, task)
    if task.result_timeout is not None:
        due_at = ledger.now + task.result_timeout
        ledger.put_timer(Timer(kind=TimerKind.RESULT_TIMEOUT, subject=task.id, due_at=due_at))
    return task


def _ending(
    job: Job, state_history: dict[str, Any], decision: ReachedEnd
) -> jobs.Finished | jobs.Failed | jobs.Cancelled:
    last = state_history.get(job.last_task_state) if job.last_task_state is not None else None
    last = last if isinstance(last, dict) else {}
    result = last.get("data") if decision.returned is None else decision.returned
    fault = _ended_in_state(job, last.get("error"))
    match decision.outcome:
        case "finished":
            return jobs.Finished(state_history=state_history, result=result)
        case "cancelled":
            return jobs.Cancelled(error=fault, result=result)
        case _:
            return jobs.Failed(error=fault, result=result)


def _ended_in_state(job: Job, cause: Any) -> JobFault:
    """Why a job has not finished that reached such an end; *cause* is the last task's error."""
    message = f"the job ended in state {job.state!r}"
    if not isinstance(cause, dict):
        return JobFault(code="ENDED_IN_STATE", message=message, state=job.state)
    message += f", after {job.last_task_state!r} had failed: {cause.get('message')}"
    return JobFault(
        code="ENDED_IN_STATE", message=message, state=job.state, details={"cause": cause}
    )


def _retry_handler(ledger: Ledger, job: Job, fault: JobFault, rules: Rules, noise: float) -> None:
    failures = job.handler_failures + 1
    details: dict[str, Any] = {"code": fault.code, "message": fault.message, "failures": failures}
    if not rules.handler_retry.allows(failures=failures):
        _record(ledger, job, "state_failed", details=details)
        finish(ledger, job, jobs.Quarantined(error=fault), rules)
        return
    retry_at = ledger.now + rules.handler_retry.delay_seconds(failures=failures, noise=noise)
    moved = jobs.step(job, jobs.HandlerFailed(retry_at=retry_at), now=ledger.now)
    ledger.put_job(moved)
    ledger.put_timer(Timer(kind=TimerKind.JOB_RETRY, subject=job.id, due_at=retry_at))
    _record(ledger, moved, "state_failed", details={**details, "retry_at": retry_at})


def cancel(ledger: Ledger, job_id: str, reason: str, rules: Rules) -> Job:
    """Cancel the job, its queued tasks and its running attempts.

    Returns:
        The job, cancelled; or as it had ended before.

    Raises:
        JobNotFound: there is no such job.
    """
    job = ledger.job(job_id)
    if job is None:
        raise JobNotFound(job_id)
    if job.status.is_final:
        return job
    drop_open_tasks(ledger, job_id)
    if job.ready_at is not None:
        ledger.drop_timer(TimerKind.JOB_RETRY, job_id)
    fault = JobFault(code="CANCELLED", message=reason, state=job.state)
    finish(ledger, job, jobs.Cancelled(error=fault), rules)
    cancelled = ledger.job(job_id)
    assert cancelled is not None
    assert cancelled.status is JobStatus.CANCELLED
    return cancelled


def _record(
    ledger: Ledger,
    job: Job,
    kind: str,
    *,
    next_state: str | None = None,
    task_id: str | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    ledger.record(
        HistoryRow(
            job_id=job.id,
            type=kind,
            at=ledger.now,
            revision=job.revision,
            state=job.state,
            next_state=next_state,
            task_id=task_id,
            details=details,
        )
    )
