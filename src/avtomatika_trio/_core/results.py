"""What workers report, applied exactly once.

A result counts while its task is open and no newer attempt is leased (rule R1), however
its own lease may stand.  What was answered is stored with the attempt, so that the same
result sent again is answered the same (rule R3).
"""

from typing import Any

import attrs

from avtomatika_trio._core import attempts
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.outcomes import FAILURE, Conclusion, conclude, end_attempt
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task, TaskResult, TaskStatus

#: Error codes after which another attempt cannot end differently: quarantine.
PERMANENT_CODES = frozenset(
    {
        "PERMANENT_ERROR",
        "SECURITY_ERROR",
        "DEPENDENCY_ERROR",
        "CONTRACT_VIOLATION_ERROR",
        "RESULT_REJECTED",  # a worker of ours: the result is such that it cannot be taken
    }
)
#: Error codes that blame the params: the job fails.
INVALID_CODES = frozenset({"INVALID_INPUT_ERROR", "INTEGRITY_MISMATCH_ERROR"})

CANCELLED = "cancelled"

#: Attempts whose failure has been counted already; a success after all still counts.
_COUNTED = frozenset({AttemptStatus.FAILED, AttemptStatus.TIMED_OUT})


@attrs.frozen(kw_only=True)
class Report:
    """One result as it came over the wire."""

    worker_id: str
    wire_id: str
    job_id: str
    result: TaskResult


Answer = dict[str, Any]


def was_answered(ledger: Ledger, said: Report) -> bool:
    """Whether `report` would answer with what it has answered to this attempt before."""
    attempt = ledger.attempt(said.wire_id)
    return (
        attempt is not None and attempt.worker_id == said.worker_id and attempt.answer is not None
    )


def report(ledger: Ledger, said: Report, rules: Rules, noise: float) -> Answer:
    """Apply one result.

    Returns:
        What to answer; `status` is `accepted` or `ignored` (with a `reason`).
    """
    attempt = ledger.attempt(said.wire_id)
    if attempt is None:
        return _unknown(ledger, said)
    if attempt.worker_id != said.worker_id:
        return _ignored(
            "worker_mismatch", f"task {said.wire_id} was given to {attempt.worker_id!r}"
        )
    if attempt.answer is not None:
        return attempt.answer
    answer = _apply(ledger, attempt, said.result, rules, noise)
    latest = ledger.attempt(said.wire_id)
    assert latest is not None
    ledger.put_attempt(attrs.evolve(latest, answer=answer))
    return answer


def _unknown(ledger: Ledger, said: Report) -> Answer:
    if ledger.job(said.job_id) is None:
        return _ignored("job_not_found", f"Job {said.job_id} not found (expired or deleted).")
    return _stale(said.wire_id, said.job_id)


def _apply(
    ledger: Ledger, attempt: Attempt, result: TaskResult, rules: Rules, noise: float
) -> Answer:
    task = ledger.task(attempt.task_id)
    job = ledger.job(attempt.job_id)
    if task is None or job is None:
        return _ignored("job_not_found", f"Job {attempt.job_id} not found (expired or deleted).")
    if job.status.is_final:
        return _ignored(
            "job_already_terminated",
            f"Result ignored: the job is already in a terminal state ({job.status.value}).",
        )
    if not task.status.is_open or _newer_is_leased(ledger, task, attempt):
        return _stale(attempt.wire_id, attempt.job_id)
    if result.status == CANCELLED and CANCELLED not in task.transitions:
        attempts.give_back(ledger, attempt, rules, "cancelled by the worker", noise, started=True)
        return _accepted("cancelled_handled")
    if result.status == FAILURE:
        return _failure(ledger, task, attempt, result, rules, noise)
    _end_leased_attempts(ledger, task, attempt, AttemptStatus.SUCCEEDED)
    listed = result.status in task.transitions
    conclude(
        ledger,
        task,
        Conclusion(
            result=result,
            choices=(result.status,),
            otherwise=JobStatus.FAILED,
            failed=False,
            attempt=attempt,
        ),
        rules,
    )
    if task.branch is not None:
        return _accepted("parallel_branch_accepted")
    return _accepted(
        f"{result.status}_transition" if listed else f"unhandled_status_{result.status}"
    )


def _failure(
    ledger: Ledger,
    task: Task,
    attempt: Attempt,
    result: TaskResult,
    rules: Rules,
    noise: float,
) -> Answer:
    answer = _accepted("failure_handled" if task.branch is None else "parallel_branch_accepted")
    held_by_other = task.status is TaskStatus.LEASED and task.wire_id != attempt.wire_id
    if attempt.status in _COUNTED or held_by_other:
        return answer
    assert result.error is not None
    code = result.error.code
    if code in PERMANENT_CODES or code in INVALID_CODES:
        _end_leased_attempts(ledger, task, attempt, AttemptStatus.FAILED)
        conclude(
            ledger,
            task,
            Conclusion(
                result=result,
                choices=(FAILURE,),
                otherwise=(JobStatus.FAILED if code in INVALID_CODES else JobStatus.QUARANTINED),
                failed=True,
                attempt=attempt,
            ),
            rules,
        )
    else:
        attempts.fail(ledger, attempt, result, AttemptStatus.FAILED, (FAILURE,), rules, noise)
    return answer


def _newer_is_leased(ledger: Ledger, task: Task, attempt: Attempt) -> bool:
    if task.wire_id is None or task.wire_id == attempt.wire_id:
        return False
    leased = ledger.attempt(task.wire_id)
    return leased is not None and leased.number > attempt.number


def _end_leased_attempts(
    ledger: Ledger, task: Task, attempt: Attempt, status: AttemptStatus
) -> None:
    """The task has its outcome from *attempt*; an older one that is still leased must stop."""
    if task.wire_id is not None and task.wire_id != attempt.wire_id:
        end_attempt(ledger, task.wire_id, AttemptStatus.CANCELLED)
    end_attempt(ledger, attempt.wire_id, status)


def _accepted(transition: str) -> Answer:
    return {"status": "accepted", "transition": transition}


def _ignored(reason: str, message: str) -> Answer:
    return {"status": "ignored", "reason": reason, "message": message}


def _stale(wire_id: str, job_id: str) -> Answer:
    return _ignored(
        "stale_task", f"Result ignored: task_id {wire_id} is no longer active for job {job_id}"
    )
