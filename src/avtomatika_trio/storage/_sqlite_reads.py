"""What is read from the SQLite file, on a connection that the writer does not wait for."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import HistoryRow, Instance, Progress
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.storage._base import JobQuery, NumberedRow

_job = msgspec.json.Decoder(Job).decode
_task = msgspec.json.Decoder(Task).decode
_attempt = msgspec.json.Decoder(Attempt).decode
_instance = msgspec.json.Decoder(Instance).decode
_progress = msgspec.json.Decoder(Progress).decode
_row = msgspec.json.Decoder(HistoryRow).decode

#: How many ids one query names; SQLite allows 32,766 parameters.
_MOST_IDS = 500


def job(connection: sqlite3.Connection, job_id: str) -> Job | None:
    row = connection.execute("SELECT body FROM jobs WHERE id=?", (job_id,)).fetchone()
    return None if row is None else _job(row[0])


def jobs_by_id(connection: sqlite3.Connection, job_ids: Sequence[str]) -> Mapping[str, Job]:
    found: dict[str, Job] = {}
    for at in range(0, len(job_ids), _MOST_IDS):
        some = job_ids[at : at + _MOST_IDS]
        marks = ", ".join("?" * len(some))
        query = f"SELECT id, body FROM jobs WHERE id IN ({marks})"  # noqa: S608 - only marks
        found.update((row[0], _job(row[1])) for row in connection.execute(query, some))
    return found


def ready_jobs(connection: sqlite3.Connection) -> Iterable[tuple[str, int]]:
    """Ids and revisions of the jobs whose handler can run, oldest first."""
    query = "SELECT id, revision FROM jobs WHERE ready ORDER BY created_at, id"
    return connection.execute(query).fetchall()


def jobs(connection: sqlite3.Connection, query: JobQuery) -> Sequence[Job]:
    clauses: list[str] = []
    arguments: list[object] = []
    if query.client is not None:
        clauses.append("client=?")
        arguments.append(query.client)
    if query.blueprint is not None:
        clauses.append("blueprint=?")
        arguments.append(query.blueprint)
    if query.statuses:
        clauses.append(f"status IN ({', '.join('?' * len(query.statuses))})")
        arguments += sorted(query.statuses)
    if query.before is not None:
        clauses.append("(created_at, id) < (?, ?)")
        arguments += query.before
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    text = f"SELECT body FROM jobs {where} ORDER BY created_at DESC, id DESC LIMIT ?"  # noqa: S608
    return [_job(row[0]) for row in connection.execute(text, [*arguments, query.limit])]


def job_counts(connection: sqlite3.Connection) -> Mapping[JobStatus, int]:
    rows = connection.execute("SELECT status, count(*) FROM jobs GROUP BY status")
    return {JobStatus(status): count for status, count in rows}


def tasks(connection: sqlite3.Connection, job_id: str, dispatch: int | None) -> Sequence[Task]:
    text = "SELECT body FROM tasks WHERE job_id=?"
    arguments: list[object] = [job_id]
    if dispatch is not None:
        text += " AND dispatch=?"
        arguments.append(dispatch)
    rows = connection.execute(f"{text} ORDER BY dispatch, branch", arguments)
    return [_task(row[0]) for row in rows]


def attempts(connection: sqlite3.Connection, job_id: str) -> Sequence[Attempt]:
    rows = connection.execute("SELECT body FROM attempts WHERE job_id=?", (job_id,))
    found = [_attempt(row[0]) for row in rows]
    return sorted(found, key=lambda attempt: (attempt.leased_at, attempt.number))


def history(
    connection: sqlite3.Connection, job_id: str, after: int, limit: int
) -> Sequence[NumberedRow]:
    rows = connection.execute(
        "SELECT number, body FROM history WHERE job_id=? AND number>? ORDER BY number LIMIT ?",
        (job_id, after, limit),
    )
    return [NumberedRow(number=number, row=_row(body)) for number, body in rows]


def progress(connection: sqlite3.Connection, job_id: str) -> Sequence[Progress]:
    rows = connection.execute(
        "SELECT progress.body FROM progress JOIN tasks ON tasks.id=progress.task_id"
        " WHERE progress.job_id=? AND tasks.open AND NOT tasks.queued ORDER BY tasks.branch",
        (job_id,),
    )
    return [_progress(row[0]) for row in rows]


def instances(connection: sqlite3.Connection) -> Sequence[Instance]:
    return [_instance(row[0]) for row in connection.execute("SELECT body FROM instances")]
