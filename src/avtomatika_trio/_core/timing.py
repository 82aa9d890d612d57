"""What is done when a stored time has come.

A timer is a row; it is taken and acted on in one commit, so a crash between the two cannot
happen (rule S5).  A timer whose reason has gone is simply forgotten.
"""

from typing import assert_never

import attrs

from avtomatika_trio._core import attempts, job as jobs, task as tasks
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import Ledger, Timer, TimerKind
from avtomatika_trio._core.outcomes import FAILURE, Conclusion, conclude, end_attempt, queue
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import AttemptStatus, TaskFault, TaskResult, TaskStatus

TIMEOUT = "timeout"
DISPATCH_TIMEOUT = "dispatch_timeout"

#: Kinds that are about workers being slow to report or to ask: not while they could do
#: neither (rule O1).
_NEEDS_SERVICE = frozenset(
    {TimerKind.ATTEMPT_TIMEOUT, TimerKind.RESULT_TIMEOUT, TimerKind.DISPATCH_TIMEOUT}
)


def fire_due(ledger: Ledger, rules: Rules, noise: float, *, most: int) -> int:
    """Act on up to *most* timers whose time has come; returns how many there were."""
    due = ledger.due_timers(most=most)
    service = ledger.service()
    not_before = 0.0 if service is None else service.serving_since + rules.lease_seconds
    for timer in due:
        if timer.kind in _NEEDS_SERVICE and ledger.now < not_before:
            ledger.put_timer(attrs.evolve(timer, due_at=not_before))
            continue
        ledger.drop_timer(timer.kind, timer.subject)
        _fire(ledger, timer, rules, noise)
    return len(due)


def _fire(ledger: Ledger, timer: Timer, rules: Rules, noise: float) -> None:
    match timer.kind:
        case TimerKind.RETRY:
            task = ledger.task(timer.subject)
            if task is not None and task.status is TaskStatus.RETRYING:
                queue(ledger, tasks.step(task, tasks.Released()))
        case TimerKind.AVOIDANCE:
            task = ledger.task(timer.subject)
            if task is not None and task.status is TaskStatus.QUEUED:
                ledger.wake(task.skill)
        case TimerKind.ATTEMPT_TIMEOUT:
            _attempt_timeout(ledger, timer.subject, rules, noise)
        case TimerKind.DISPATCH_TIMEOUT:
            _dispatch_timeout(ledger, timer.subject, rules)
        case TimerKind.RESULT_TIMEOUT:
            _result_timeout(ledger, timer.subject, rules)
        case TimerKind.JOB_RETRY:
            _job_retry(ledger, timer.subject)
        case TimerKind.FILES | TimerKind.FORGET:
            pass  # none of these is among them; see `files` and `retention`
        case _:
            assert_never(timer.kind)


def _job_retry(ledger: Ledger, job_id: str) -> None:
    job = ledger.job(job_id)
    if job is not None and job.ready_at is not None and job.status.can_run:
        ledger.put_job(jobs.step(job, jobs.RetryDue(), now=ledger.now))


def _attempt_timeout(ledger: Ledger, wire_id: str, rules: Rules, noise: float) -> None:
    attempt = ledger.attempt(wire_id)
    task = None if attempt is None else attempts.holder_of(ledger, attempt)
    if attempt is None or task is None:
        return
    fault = TaskFault(
        code="TIMEOUT_ERROR",
        message=f"attempt {attempt.number} took longer than timeout_seconds="
        f"{task.timeout_seconds:g}",
    )
    result = TaskResult(status=FAILURE, error=fault)
    choices = (TIMEOUT, FAILURE)
    attempts.fail(ledger, attempt, result, AttemptStatus.TIMED_OUT, choices, rules, noise)


def _dispatch_timeout(ledger: Ledger, task_id: str, rules: Rules) -> None:
    task = ledger.task(task_id)
    if task is None or task.status is not TaskStatus.QUEUED:
        return
    fault = TaskFault(
        code="DISPATCH_TIMEOUT",
        message=f"no worker took it within dispatch_timeout={task.dispatch_timeout:g} s",
    )
    conclude(
        ledger,
        task,
        Conclusion(
            result=TaskResult(status=FAILURE, error=fault),
            choices=(DISPATCH_TIMEOUT, FAILURE),
            otherwise=JobStatus.FAILED,
            failed=True,
        ),
        rules,
    )


def _result_timeout(ledger: Ledger, task_id: str, rules: Rules) -> None:
    task = ledger.task(task_id)
    if task is None or not task.status.is_open:
        return
    if task.wire_id is not None:
        end_attempt(ledger, task.wire_id, AttemptStatus.CANCELLED)
    fault = TaskFault(
        code="RESULT_TIMEOUT",
        message=f"there was no result within result_timeout={task.result_timeout:g} s",
    )
    conclude(
        ledger,
        task,
        Conclusion(
            result=TaskResult(status=FAILURE, error=fault),
            choices=(TIMEOUT, FAILURE),
            otherwise=JobStatus.FAILED,
            failed=True,
        ),
        rules,
    )
