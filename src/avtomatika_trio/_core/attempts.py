"""How the lease of an attempt ends without a result, and how it is taken again.

Lost attempts, give-backs and failures are three things and are counted apart.
"""

from typing import Any

import attrs

from avtomatika_trio._core import task as tasks
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import HistoryRow, Ledger, Timer, TimerKind, drop_task_timers
from avtomatika_trio._core.outcomes import FAILURE, Conclusion, conclude, end_attempt, queue
from avtomatika_trio._core.retry import Backoff
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import (
    Attempt,
    AttemptStatus,
    Task,
    TaskFault,
    TaskResult,
    TaskStatus,
)

#: A lease that ended like this may be taken again by the process that still has the task.
RETAKABLE = frozenset({AttemptStatus.LOST, AttemptStatus.UNCLAIMED})


def holder_of(ledger: Ledger, attempt: Attempt) -> Task | None:
    """The task that is leased to *attempt*, or None if it is not (any more)."""
    task = ledger.task(attempt.task_id)
    if task is None or task.status is not TaskStatus.LEASED or task.wire_id != attempt.wire_id:
        return None
    return task


def lose(ledger: Ledger, attempt: Attempt, rules: Rules, reason: str) -> None:
    """The worker of *attempt* has vanished: queue the task again, at once (rule L8)."""
    task = holder_of(ledger, attempt)
    if task is None:
        return
    _end(ledger, task, attempt, AttemptStatus.LOST, "attempt_lost", {"reason": reason})
    lost = task.lost + 1
    if lost >= rules.max_lost_attempts:
        fault = TaskFault(
            code="worker_lost",
            message=f"{lost} workers vanished while they had this task; it may be what kills them",
        )
        _poison(ledger, task, fault, rules)
        return
    queue(ledger, tasks.step(task, tasks.Requeued(lost=lost, returned=0)))


def unclaim(ledger: Ledger, attempt: Attempt, reason: str) -> None:
    """The worker never got to hold *attempt*: queue the task again; it counts as nothing."""
    task = holder_of(ledger, attempt)
    if task is None:
        return
    _end(ledger, task, attempt, AttemptStatus.UNCLAIMED, "attempt_unclaimed", {"reason": reason})
    queue(
        ledger,
        tasks.step(
            task,
            tasks.Requeued(
                lost=task.lost,
                returned=task.returned,
                avoid=task.avoid,
                avoid_until=task.avoid_until,
            ),
        ),
    )


def give_back(
    ledger: Ledger, attempt: Attempt, rules: Rules, reason: str, noise: float, *, started: bool
) -> None:
    """A live worker will not do *attempt*; no failure is counted (rule L9).

    Args:
        ledger: Where.
        attempt: What is given back.
        rules: When patience ends.
        reason: For the history.
        noise: In [-1, 1), for the jitter of a delay.
        started: Whether its handler had begun; what never began is not counted at all.
    """
    task = holder_of(ledger, attempt)
    if task is None:
        return
    details = {"reason": reason, "started": started}
    _end(ledger, task, attempt, AttemptStatus.RETURNED, "attempt_returned", details)
    returned = task.returned + (1 if started else 0)
    if returned >= rules.max_returns:
        fault = TaskFault(
            code="returned_too_often", message=f"workers gave this task back {returned} times"
        )
        _poison(ledger, task, fault, rules)
        return
    if not started:  # nothing has changed: who is to be avoided still is
        same = tasks.Requeued(
            lost=task.lost, returned=returned, avoid=task.avoid, avoid_until=task.avoid_until
        )
        queue(ledger, tasks.step(task, same))
        return
    if returned < rules.returns_before_backoff:
        queue(ledger, tasks.step(task, tasks.Requeued(lost=task.lost, returned=returned)))
        return
    rank = returned - rules.returns_before_backoff + 1
    backoff = Backoff(base_seconds=task.retry.base_seconds, cap_seconds=task.retry.cap_seconds)
    retry_at = ledger.now + backoff.delay_seconds(attempt=rank, noise=noise)
    avoid_until = retry_at + rules.avoidance_seconds
    delayed = tasks.step(
        task,
        tasks.Delayed(
            failures=task.failures,
            returned=returned,
            avoid=attempt.worker_id,
            avoid_until=avoid_until,
        ),
    )
    ledger.put_task(delayed)
    ledger.put_timer(Timer(kind=TimerKind.RETRY, subject=task.id, due_at=retry_at))
    ledger.put_timer(Timer(kind=TimerKind.AVOIDANCE, subject=task.id, due_at=avoid_until))


def fail(
    ledger: Ledger,
    attempt: Attempt,
    result: TaskResult,
    status: AttemptStatus,
    choices: tuple[str, ...],
    rules: Rules,
    noise: float,
) -> None:
    """*attempt* failed in passing: try again if the policy allows, else the failure is final.

    Args:
        ledger: Where.
        attempt: Leased, or one that was taken for lost and has failed after all.
        result: The failure.
        status: How the attempt ended: failed or timed out.
        choices: Transitions to look for once the policy is exhausted.
        rules: For the end of a job.
        noise: In [-1, 1), for the jitter of the delay.
    """
    task = ledger.task(attempt.task_id)
    assert task is not None
    assert result.error is not None
    failures = task.failures + 1
    again = task.retry.allows(failures=failures)
    retry_at = ledger.now + task.retry.delay_seconds(failures=failures, noise=noise)
    error = {"code": result.error.code, "message": result.error.message}
    details = {"error": error, "retry_at": retry_at} if again else {"error": error}
    _end(ledger, task, attempt, status, f"attempt_{status.value}", details)
    if not again:
        exhausted = attrs.evolve(task, failures=failures)
        conclude(
            ledger,
            exhausted,
            Conclusion(
                result=result,
                choices=choices,
                otherwise=JobStatus.QUARANTINED,
                failed=True,
                attempt=attempt,
            ),
            rules,
        )
        return
    if task.dispatch_timeout is not None:
        ledger.drop_timer(TimerKind.DISPATCH_TIMEOUT, task.id)  # it may have been queued again
    ledger.put_task(tasks.step(task, tasks.Delayed(failures=failures, returned=0)))
    ledger.put_timer(Timer(kind=TimerKind.RETRY, subject=task.id, due_at=retry_at))


def may_retake(ledger: Ledger, attempt: Attempt) -> bool:
    """Whether the process that names *attempt* may have its lease again (rule R2)."""
    task = ledger.task(attempt.task_id)
    return (
        task is not None
        and attempt.status in RETAKABLE
        and task.status in (TaskStatus.QUEUED, TaskStatus.RETRYING)
    )


def poll_of(attempt: Attempt, instance: str) -> int:
    """The poll by which *instance* has *attempt*.

    0, which is before all others, if it has inherited it: the number of an earlier process
    says nothing about the polls of this one, and could pass for one that is still to come.
    """
    return attempt.poll if attempt.instance == instance else 0


def retake(ledger: Ledger, attempt: Attempt, instance: str, lease_until: float) -> None:
    """Lease *attempt* again to the process that still holds it; a counted loss is taken back."""
    task = ledger.task(attempt.task_id)
    assert task is not None
    drop_task_timers(ledger, attrs.evolve(task, result_timeout=None))
    lost = task.lost - (1 if attempt.status is AttemptStatus.LOST else 0)
    ledger.put_task(tasks.step(task, tasks.LeaseRetaken(wire_id=attempt.wire_id, lost=lost)))
    ledger.put_attempt(
        attrs.evolve(
            attempt,
            status=AttemptStatus.LEASED,
            ended_at=None,
            instance=instance,
            poll=poll_of(attempt, instance),
            lease_until=lease_until,
        )
    )
    if task.timeout_seconds is not None:
        due_at = attempt.leased_at + task.timeout_seconds
        timer = Timer(kind=TimerKind.ATTEMPT_TIMEOUT, subject=attempt.wire_id, due_at=due_at)
        ledger.put_timer(timer)
    record_attempt(ledger, task, attempt, "attempt_retaken", {"instance": instance})


def _poison(ledger: Ledger, task: Task, fault: TaskFault, rules: Rules) -> None:
    result = TaskResult(status=FAILURE, error=fault)
    conclude(
        ledger,
        task,
        Conclusion(result=result, choices=(), otherwise=JobStatus.QUARANTINED, failed=True),
        rules,
    )


def _end(
    ledger: Ledger,
    task: Task,
    attempt: Attempt,
    status: AttemptStatus,
    kind: str,
    details: dict[str, Any],
) -> None:
    if task.timeout_seconds is not None:
        ledger.drop_timer(TimerKind.ATTEMPT_TIMEOUT, attempt.wire_id)
    end_attempt(ledger, attempt.wire_id, status)
    record_attempt(ledger, task, attempt, kind, details)


def record_attempt(
    ledger: Ledger, task: Task, attempt: Attempt, kind: str, details: dict[str, Any]
) -> None:
    """Add a row about *attempt* to the history of its job."""
    ledger.record(
        HistoryRow(
            job_id=task.job_id,
            type=kind,
            at=ledger.now,
            revision=task.dispatch,
            state=task.state,
            task_id=task.id,
            attempt=attempt.number,
            worker_id=attempt.worker_id,
            details=details,
        )
    )
