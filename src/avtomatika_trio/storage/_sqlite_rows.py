"""The tables of records: which columns each has beside the body, which is the last one."""

import sqlite3
from typing import Any, TypeVar

from avtomatika_trio._core.access import AccessSet
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import FanOut, Instance, Service
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task
from avtomatika_trio.storage._sqlite_table import Table, encode, upsert

M = TypeVar("M")


def jobs(connection: sqlite3.Connection) -> Table[Job]:
    return Table(
        connection,
        Job,
        select="SELECT body FROM jobs WHERE id=?",
        upsert=upsert("jobs", "id", "client blueprint status created_at ready revision body"),
        row=_job_row,
    )


def _job_row(job: Job) -> tuple[Any, ...]:
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


def tasks(connection: sqlite3.Connection) -> Table[Task]:
    return Table(
        connection,
        Task,
        select="SELECT body FROM tasks WHERE id=?",
        upsert=upsert(
            "tasks", "id", "job_id dispatch branch skill lane priority created_at status open body"
        ),
        row=_task_row,
    )


def _task_row(task: Task) -> tuple[Any, ...]:
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


def attempts(connection: sqlite3.Connection) -> Table[Attempt]:
    return Table(
        connection,
        Attempt,
        select="SELECT body FROM attempts WHERE wire_id=?",
        upsert=upsert("attempts", "wire_id", "job_id instance leased body"),
        row=_attempt_row,
    )


def _attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    leased = attempt.status is AttemptStatus.LEASED
    return (attempt.wire_id, attempt.job_id, attempt.instance, leased, encode(attempt))


def fan_outs(connection: sqlite3.Connection) -> Table[FanOut]:
    return Table(
        connection,
        FanOut,
        select="SELECT body FROM fan_outs WHERE job_id=? AND dispatch=?",
        upsert=upsert("fan_outs", "job_id dispatch", "body"),
        row=lambda it: (it.job_id, it.dispatch, encode(it)),
    )


def instances(connection: sqlite3.Connection) -> Table[Instance]:
    return Table(
        connection,
        Instance,
        select="SELECT body FROM instances WHERE id=?",
        upsert=upsert("instances", "id", "due_at body"),
        row=lambda it: (it.id, it.due_at, encode(it)),
    )


def service(connection: sqlite3.Connection) -> Table[Service]:
    return _meta(connection, Service, "service")


def access(connection: sqlite3.Connection) -> Table[AccessSet]:
    return _meta(connection, AccessSet, "access")


def _meta(connection: sqlite3.Connection, cls: type[M], key: str) -> Table[M]:
    """What there is one of."""
    return Table(
        connection,
        cls,
        select="SELECT value FROM meta WHERE key=?",
        upsert=upsert("meta", "key", "value"),
        row=lambda it: (key, encode(it)),
    )
