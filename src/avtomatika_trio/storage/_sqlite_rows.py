"""The rows of the tables that have many columns; the body is the last one."""

from typing import Any

from avtomatika_trio._core.job import Job
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task
from avtomatika_trio.storage._sqlite_table import encode


def job_row(job: Job) -> tuple[Any, ...]:
    return (
        job.id,
        job.client,
        job.blueprint,
        job.status,
        job.created_at,
        job.is_ready,
        job.revision,
        encode(job),
    )


def label_rows(job: Job) -> list[tuple[Any, ...]]:
    return [(job.id, name, value, job.created_at) for name, value in job.labels.items()]


def task_row(task: Task) -> tuple[Any, ...]:
    return (
        task.id,
        task.job_id,
        task.dispatch,
        task.branch or 0,
        task.skill,
        task.lane,
        task.priority,
        task.created_at,
        task.status,
        task.status.is_open,
        encode(task),
    )


def attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    leased = attempt.status is AttemptStatus.LEASED
    return (attempt.wire_id, attempt.job_id, attempt.instance, leased, encode(attempt))
