"""Whether what a worker says of an attempt still counts, and how it is answered if not.

Results and events go by the same rule (R1): an attempt counts while its task is open and no
newer attempt is leased, however its own lease may stand.
"""

from typing import Any

from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.task import Attempt, Task

Answer = dict[str, Any]
"""What a worker is answered: `status`, and if it was of no use, `reason` and `message`."""


def ignored(reason: str, message: str) -> Answer:
    """What was said has changed nothing."""
    return {"status": "ignored", "reason": reason, "message": message}


def unknown(ledger: Ledger, what: str, wire_id: str, job_id: str) -> Answer:
    """There is no such attempt; *what* was said of it is a `Result` or an `Event`."""
    if ledger.job(job_id) is None:
        return _no_job(job_id)
    return stale(what, wire_id, job_id)


def mismatch(attempt: Attempt) -> Answer:
    """It is another worker's."""
    return ignored("worker_mismatch", f"task {attempt.wire_id} was given to {attempt.worker_id!r}")


def stale(what: str, wire_id: str, job_id: str) -> Answer:
    """The attempt counts no more."""
    return ignored(
        "stale_task", f"{what} ignored: task_id {wire_id} is no longer active for job {job_id}"
    )


def refusal(ledger: Ledger, what: str, attempt: Attempt) -> Answer | None:
    """Why *attempt* does not count (any more); None if it does."""
    task = ledger.task(attempt.task_id)
    job = ledger.job(attempt.job_id)
    if task is None or job is None:
        return _no_job(attempt.job_id)
    if job.status.is_final:
        return ignored(
            "job_already_terminated",
            f"{what} ignored: the job is already in a terminal state ({job.status.value}).",
        )
    if not task.status.is_open or _newer_is_leased(ledger, task, attempt):
        return stale(what, attempt.wire_id, attempt.job_id)
    return None


def _no_job(job_id: str) -> Answer:
    return ignored("job_not_found", f"Job {job_id} not found (expired or deleted).")


def _newer_is_leased(ledger: Ledger, task: Task, attempt: Attempt) -> bool:
    if task.wire_id is None or task.wire_id == attempt.wire_id:
        return False
    leased = ledger.attempt(task.wire_id)
    return leased is not None and leased.number > attempt.number
