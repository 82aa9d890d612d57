"""What workers report, applied exactly once.

A result counts while its task is open and no newer attempt is leased (rule R1), however
its own lease may stand.  What was answered is stored with the attempt, so that the same
result sent again is answered the same (rule R3).
"""

import attrs

from avtomatika_trio._core import attempts
from avtomatika_trio._core.events import SaidEvent, carried
from avtomatika_trio._core.fencing import Answer, mismatch, refusal, unknown
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.json_schema import Effort
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
    events: tuple[SaidEvent, ...] = ()
    """Those that the worker had not got rid of before; they were before the result."""
    events_lost: int = 0
    """How many more it had, and had no room for."""


def was_answered(ledger: Ledger, said: Report) -> bool:
    """Whether `report` would answer with what it has answered to this attempt before."""
    attempt = ledger.attempt(said.wire_id)
    return (
        attempt is not None and attempt.worker_id == said.worker_id and attempt.answer is not None
    )


def report(
    ledger: Ledger, said: Report, rules: Rules, noise: float, effort: Effort | None = None
) -> Answer:
    """Apply one result.

    Args:
        ledger: Where.
        said: The result.
        rules: How tasks are retried, and which events are refused.
        noise: From 0 to 1, for the delays of retries.
        effort: What may go into the events of all that is reported with it; None = it is alone.

    Returns:
        What to answer; `status` is `accepted` or `ignored` (with a `reason`).
    """
    attempt = ledger.attempt(said.wire_id)
    if attempt is None:
        return unknown(ledger, "Result", said.wire_id, said.job_id)
    if attempt.worker_id != said.worker_id:
        return mismatch(attempt)
    if attempt.answer is not None:
        return attempt.answer
    answer = refusal(ledger, "Result", attempt)
    if answer is None:
        carried(ledger, said.wire_id, said.events, said.events_lost, rules, effort or Effort())
        answer = _apply(ledger, attempt, said.result, rules, noise)
    latest = ledger.attempt(said.wire_id)
    assert latest is not None
    ledger.put_attempt(attrs.evolve(latest, answer=answer))
    return answer


def _apply(
    ledger: Ledger, attempt: Attempt, result: TaskResult, rules: Rules, noise: float
) -> Answer:
    task = ledger.task(attempt.task_id)
    assert task is not None
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


def _end_leased_attempts(
    ledger: Ledger, task: Task, attempt: Attempt, status: AttemptStatus
) -> None:
    """The task has its outcome from *attempt*; an older one that is still leased must stop."""
    if task.wire_id is not None and task.wire_id != attempt.wire_id:
        end_attempt(ledger, task.wire_id, AttemptStatus.CANCELLED)
    end_attempt(ledger, attempt.wire_id, status)


def _accepted(transition: str) -> Answer:
    return {"status": "accepted", "transition": transition}
