"""What the end of a task does to its job.

The other operations find out *that* a task has ended (a result, a timeout, a loss too
many); here it is decided what becomes of it.  Every ending of a task goes through
`conclude`, every entering of a state through `enter`.
"""

from typing import Any

import attrs

from avtomatika_trio._core import job as jobs, task as tasks
from avtomatika_trio._core.job import Job, JobFault, JobStatus
from avtomatika_trio._core.ledger import (
    FanOut,
    HistoryRow,
    Ledger,
    Timer,
    TimerKind,
    drop_task_timers,
    task_id,
)
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import (
    Attempt,
    AttemptStatus,
    Task,
    TaskFault,
    TaskResult,
    TaskStatus,
)

FAILURE = "failure"


@attrs.frozen(kw_only=True)
class Conclusion:
    """How a task has ended, and where that may lead."""

    result: TaskResult
    choices: tuple[str, ...]
    """Names in the task's `transitions`, the first one listed is taken."""
    otherwise: JobStatus
    """What the job becomes if none is listed: failed or quarantined."""
    failed: bool
    """Whether this is a failure for good, and not a result (of whatever status)."""
    attempt: Attempt | None = None
    """The attempt that brought it, if one did."""


def conclude(ledger: Ledger, task: Task, conclusion: Conclusion, rules: Rules) -> None:
    """End *task* and move its job on, in the same commit."""
    drop_task_timers(ledger, task)
    if task.branch is None:
        _conclude_single(ledger, task, conclusion, rules)
    else:
        _conclude_branch(ledger, task, conclusion, rules)


def _end(ledger: Ledger, task: Task, conclusion: Conclusion, *, listed: bool) -> None:
    poisoned = not listed and conclusion.otherwise is JobStatus.QUARANTINED
    event = tasks.Poisoned if poisoned else tasks.Ended
    ledger.put_task(tasks.step(task, event(result=conclusion.result)))


def _conclude_single(ledger: Ledger, task: Task, conclusion: Conclusion, rules: Rules) -> None:
    target = next((task.transitions[c] for c in conclusion.choices if c in task.transitions), None)
    _end(ledger, task, conclusion, listed=target is not None)
    job = ledger.job(task.job_id)
    if (
        job is None
        or job.status is not JobStatus.WAITING_FOR_WORKER
        or job.dispatch != task.dispatch
    ):
        return
    if target is None:
        _record_finish(ledger, job, task, conclusion, next_state=None)
        _give_up(ledger, job, _fault(task, conclusion), conclusion.otherwise, rules)
        return
    whole = _as_kept(conclusion.result)
    data = conclusion.result.data
    merged = {**job.state_history, **(data if isinstance(data, dict) else {}), task.state: whole}
    _record_finish(ledger, job, task, conclusion, next_state=target)
    enter(
        ledger,
        job,
        jobs.StateEntered(state=target, state_history=merged, last_task_state=task.state),
        rules,
    )


def _conclude_branch(ledger: Ledger, task: Task, conclusion: Conclusion, rules: Rules) -> None:
    job = ledger.job(task.job_id)
    fan = ledger.fan_out(task.job_id, task.dispatch)
    leads_on = not conclusion.failed or (fan is not None and fan.failure is not None)
    _end(ledger, task, conclusion, listed=leads_on)
    if job is None or fan is None or job.dispatch != task.dispatch or job.status.is_final:
        return
    if conclusion.failed:
        _record_finish(ledger, job, task, conclusion, next_state=fan.failure)
        drop_open_tasks(ledger, job.id)
        if fan.failure is None:
            _give_up(ledger, job, _fault(task, conclusion), conclusion.otherwise, rules)
        else:
            kept = {**job.state_history, fan.state: _as_kept(conclusion.result)}
            failed = jobs.StateEntered(
                state=fan.failure, state_history=kept, last_task_state=fan.state
            )
            enter(ledger, job, failed, rules)
        return
    _record_finish(ledger, job, task, conclusion, next_state=None)
    fan = _release_next(ledger, attrs.evolve(fan, open=fan.open - 1))
    ledger.put_fan_out(fan)
    if fan.open == 0:
        enter(
            ledger,
            job,
            jobs.StateEntered(
                state=fan.aggregate_into,
                state_history=job.state_history,
                aggregates=fan.dispatch,
            ),
            rules,
        )


def _release_next(ledger: Ledger, fan: FanOut) -> FanOut:
    """Queue the next branch that was held back by `max_concurrency`."""
    if fan.released == fan.total:
        return fan
    held = ledger.task(task_id(fan.job_id, fan.dispatch, fan.released))
    if held is not None and held.status is TaskStatus.WAITING:
        queue(ledger, tasks.step(held, tasks.Released()))
    return attrs.evolve(fan, released=fan.released + 1)


def queue(ledger: Ledger, task: Task) -> None:
    """Write *task*, which has just become queued, and start the clock of its wait."""
    ledger.put_task(task)
    if task.dispatch_timeout is not None:
        due_at = ledger.now + task.dispatch_timeout
        ledger.put_timer(Timer(kind=TimerKind.DISPATCH_TIMEOUT, subject=task.id, due_at=due_at))


def enter(ledger: Ledger, job: Job, event: jobs.StateEntered, rules: Rules) -> None:
    """Move *job* to a state, unless it has made too many moves already."""
    if job.transitions >= job.max_transitions:
        fault = JobFault(
            code="TOO_MANY_TRANSITIONS",
            message=f"the job has entered {job.max_transitions} states, the most that are allowed,"
            f" and would enter {event.state!r}; is this a loop without an end?"
            " (MAX_TRANSITIONS_PER_JOB)",
            state=job.state,
        )
        _give_up(ledger, job, fault, JobStatus.FAILED, rules)
        return
    ledger.put_job(jobs.step(job, event, now=ledger.now))


def drop_open_tasks(ledger: Ledger, job_id: str) -> None:
    """Cancel every task of the job that is still open, and end its lease.

    The worker is told when it next names the attempt.
    """
    for task in ledger.open_tasks(job_id):
        drop_task_timers(ledger, task)
        if task.wire_id is not None:
            end_attempt(ledger, task.wire_id, AttemptStatus.CANCELLED)
        ledger.put_task(tasks.step(task, tasks.Dropped()))


def end_attempt(ledger: Ledger, wire_id: str, status: AttemptStatus) -> Attempt:
    """Mark the attempt as ended with *status*."""
    attempt = ledger.attempt(wire_id)
    assert attempt is not None, f"task names attempt {wire_id}, which is not stored"
    ended = attrs.evolve(attempt, status=status, ended_at=ledger.now, missed_at=None)
    ledger.put_attempt(ended)
    return ended


def _give_up(ledger: Ledger, job: Job, fault: JobFault, status: JobStatus, rules: Rules) -> None:
    if status is JobStatus.QUARANTINED:
        finish(ledger, job, jobs.Quarantined(error=fault), rules)
    else:
        finish(ledger, job, jobs.Failed(error=fault), rules)


def finish(
    ledger: Ledger,
    job: Job,
    event: jobs.Finished | jobs.Failed | jobs.Cancelled | jobs.Quarantined,
    rules: Rules,
) -> None:
    """End *job*: whatever ended it, the history says so and nothing of it stays open.

    From now on nothing needs its files, and the job itself, but those who look at them; *rules*
    say for how long.
    """
    ended = jobs.step(job, event, now=ledger.now)
    ledger.put_job(ended)
    if rules.files_retention_seconds is not None:
        due_at = ledger.now + rules.files_retention_seconds
        ledger.put_timer(Timer(kind=TimerKind.FILES, subject=job.id, due_at=due_at))
    if rules.jobs_retention_seconds is not None:
        due_at = ledger.now + rules.jobs_retention_seconds
        ledger.put_timer(Timer(kind=TimerKind.FORGET, subject=job.id, due_at=due_at))
    error = ended.error
    ledger.record(
        HistoryRow(
            job_id=job.id,
            type=f"job_{ended.status.value}",
            at=ledger.now,
            revision=ended.revision,
            state=job.state,
            details=None if error is None else {"code": error.code, "message": error.message},
        )
    )


def _fault(task: Task, conclusion: Conclusion) -> JobFault:
    result = conclusion.result
    which = f"task {task.skill!r} of state {task.state!r}"
    if task.branch is not None:
        which += f" (branch {task.key if task.key is not None else task.branch})"
    if result.error is not None:
        message = f"{which}: {result.error.message or result.error.code}"
        return JobFault(
            code=result.error.code, message=message, state=task.state, details=result.error.details
        )
    listed = ", ".join(sorted(task.transitions)) or "none"
    return JobFault(
        code="UNLISTED_STATUS",
        message=f"{which} ended with status {result.status!r}, which its transitions do not list"
        f" (listed: {listed})",
        state=task.state,
    )


def _as_kept(result: TaskResult) -> dict[str, Any]:
    kept: dict[str, Any] = {"status": result.status, "data": result.data}
    if result.error is not None:
        kept["error"] = _fault_as_json(result.error)
    if result.data_metadata:
        kept["data_metadata"] = result.data_metadata
    return kept


def _fault_as_json(fault: TaskFault) -> dict[str, Any]:
    return {"code": fault.code, "message": fault.message, "details": fault.details}


def as_branch_result(task: Task) -> dict[str, Any]:
    """What the aggregator is given of one branch."""
    result = task.result or TaskResult(status="cancelled")
    return {
        **_as_kept(result),
        "task_id": task.id,
        "key": task.key,
        "type": task.skill,
        "index": task.branch,
    }


def _record_finish(
    ledger: Ledger, job: Job, task: Task, conclusion: Conclusion, *, next_state: str | None
) -> None:
    result, attempt = conclusion.result, conclusion.attempt
    details: dict[str, Any] = {"status": result.status, "skill": task.skill}
    if task.key is not None:
        details["key"] = task.key
    if result.error is not None:
        details["error"] = {"code": result.error.code, "message": result.error.message}
    ledger.record(
        HistoryRow(
            job_id=job.id,
            type="task_finished",
            at=ledger.now,
            revision=job.revision,
            state=task.state,
            next_state=next_state,
            task_id=task.id,
            attempt=None if attempt is None else attempt.number,
            worker_id=None if attempt is None else attempt.worker_id,
            details=details,
        )
    )
