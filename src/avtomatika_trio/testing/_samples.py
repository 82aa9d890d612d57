"""Records to fill a storage with, and the operation that writes them."""

from collections.abc import Callable
from typing import Any

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import (
    FanOut,
    HistoryRow,
    Instance,
    InstanceKind,
    Ledger,
    Progress,
    Service,
    Timer,
    task_id,
)
from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio._core.task import Attempt, Task

Record = Job | Task | Attempt | FanOut | Instance | Timer | HistoryRow | Progress | Service

#: Unix seconds at which the sample records are made; where a suite's clock begins.
START = 1_000_000.0


def put(*records: Record) -> Callable[[Ledger], None]:
    """The operation that writes *records*, in this order."""

    def operation(ledger: Ledger) -> None:
        for record in records:
            _put(ledger, record)

    return operation


def _put(ledger: Ledger, record: Record) -> None:
    match record:
        case Job():
            ledger.put_job(record)
        case Task():
            ledger.put_task(record)
        case Attempt():
            ledger.put_attempt(record)
        case FanOut():
            ledger.put_fan_out(record)
        case Instance():
            ledger.put_instance(record)
        case Timer():
            ledger.put_timer(record)
        case HistoryRow():
            ledger.record(record)
        case Progress():
            ledger.put_progress(record)
        case Service():
            ledger.put_service(record)


def a_job(job_id: str = "j", **more: Any) -> Job:
    """A job that waits for a worker, so that no engine would claim it."""
    given: dict[str, Any] = {
        "id": job_id,
        "blueprint": "b",
        "client": "c",
        "state": "start",
        "status": JobStatus.WAITING_FOR_WORKER,
        "created_at": START,
        "updated_at": START,
    }
    return Job(**(given | more))


def a_ready_job(job_id: str = "j", **more: Any) -> Job:
    """A job whose handler can run."""
    return a_job(job_id, **({"status": JobStatus.PENDING} | more))


def a_task(job_id: str = "j", dispatch: int = 1, branch: int | None = None, **more: Any) -> Task:
    """A task that waits in the queue of the skill `k`."""
    given: dict[str, Any] = {
        "id": task_id(job_id, dispatch, branch),
        "job_id": job_id,
        "dispatch": dispatch,
        "branch": branch,
        "key": None,
        "state": "start",
        "skill": "k",
        "params": {},
        "priority": 0.0,
        "transitions": {"success": "end"},
        "timeout_seconds": None,
        "dispatch_timeout": None,
        "result_timeout": None,
        "retry": RetryPolicy(),
        "created_at": START,
    }
    return Task(**(given | more))


def an_attempt(wire_id: str = "w1", job_id: str = "j", **more: Any) -> Attempt:
    """A leased attempt at the task of `a_task`, of the instance `i`."""
    given: dict[str, Any] = {
        "wire_id": wire_id,
        "task_id": task_id(job_id, 1, None),
        "job_id": job_id,
        "number": 1,
        "worker_id": "w",
        "instance": "i",
        "poll": 1,
        "leased_at": START,
        "lease_until": START + 30,
    }
    return Attempt(**(given | more))


def an_instance(instance_id: str = "i", **more: Any) -> Instance:
    """A worker process of ours that was heard of at the start."""
    given: dict[str, Any] = {
        "id": instance_id,
        "worker_id": "w",
        "kind": InstanceKind.OURS,
        "registration": {"supported_skills": [{"name": "k"}]},
        "skills": ("k",),
        "registered_at": START,
        "seen_at": START,
        "lease_until": START + 30,
        "due_at": START + 30,
        "interval_seconds": 10.0,
    }
    return Instance(**(given | more))


def a_row(job_id: str = "j", kind: str = "job_created", **more: Any) -> HistoryRow:
    """A row of a job's history."""
    given: dict[str, Any] = {"job_id": job_id, "type": kind, "at": START, "revision": 1}
    return HistoryRow(**(given | more))
