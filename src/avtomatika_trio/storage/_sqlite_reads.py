"""What is read from the SQLite file, on a connection that the writer does not wait for.

Rows are fetched before they are decoded: a statement that is left half read would keep its
view of the file, and later reads would not see later commits.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from avtomatika_trio._core.access import AccessSet, AuditRow
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import HistoryRow, Instance, Progress
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.storage._base import JobQuery, NumberedAuditRow, NumberedRow

_job = msgspec.json.Decoder(Job).decode
_task = msgspec.json.Decoder(Task).decode
_attempt = msgspec.json.Decoder(Attempt).decode
_instance = msgspec.json.Decoder(Instance).decode
_progress = msgspec.json.Decoder(Progress).decode
_access = msgspec.json.Decoder(AccessSet).decode
_audit_row = msgspec.json.Decoder(AuditRow).decode
_row = msgspec.json.Decoder(HistoryRow).decode

#: How many ids one query names; SQLite allows 32,766 parameters.
_MOST_IDS = 500


def job(connection: sqlite3.Connection, job_id: str) -> Job | None:
    rows = connection.execute("SELECT body FROM jobs WHERE id=?", (job_id,)).fetchall()
    return _job(rows[0][0]) if rows else None


def jobs_by_id(connection: sqlite3.Connection, job_ids: Sequence[str]) -> Mapping[str, Job]:
    found: dict[str, Job] = {}
    for at in range(0, len(job_ids), _MOST_IDS):
        some = job_ids[at : at + _MOST_IDS]
        marks = ", ".join("?" * len(some))
        query = f"SELECT id, body FROM jobs WHERE id IN ({marks})"  # noqa: S608 - only marks
        rows = connection.execute(query, some).fetchall()
        found.update((job_id, _job(body)) for job_id, body in rows)
    return found


def ready_jobs(connection: sqlite3.Connection) -> Iterable[tuple[str, str, int]]:
    """Ids, blueprints and revisions of the jobs whose handler can run, oldest first."""
    query = "SELECT id, blueprint, revision FROM jobs WHERE ready ORDER BY created_at, id"
    return connection.execute(query).fetchall()


def jobs(connection: sqlite3.Connection, query: JobQuery) -> Sequence[Job]:
    """Each status is looked up by itself: SQLite would sort all the jobs of several statuses."""
    if query.labels:
        return [_job(body) for _, _, body in _jobs_with_labels(connection, query)]
    rows: list[tuple[float, str, bytes]] = []
    wanted: Sequence[JobStatus | None] = sorted(query.statuses) or [None]
    for status in wanted:
        rows += _jobs_of_status(connection, query, status)
    if len(query.statuses) > 1:
        rows.sort(reverse=True)
    return [_job(body) for _, _, body in rows[: query.limit]]


def _jobs_of_status(
    connection: sqlite3.Connection, query: JobQuery, status: JobStatus | None
) -> list[tuple[float, str, bytes]]:
    clauses, arguments = _clauses(query, "created_at", "id")
    if status is not None:
        clauses.append("status=?")
        arguments.append(status)
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    text = (
        f"SELECT created_at, id, body FROM jobs {where}"  # noqa: S608 - only names from here
        " ORDER BY created_at DESC, id DESC LIMIT ?"
    )
    return connection.execute(text, [*arguments, query.limit]).fetchall()


def _jobs_with_labels(
    connection: sqlite3.Connection, query: JobQuery
) -> list[tuple[float, str, bytes]]:
    """By the index of one of the labels, which has jobs in the order that they are wanted in."""
    clauses, arguments = _clauses(query, "one.created_at", "one.job_id")
    first, *others = query.labels.items()
    clauses.append("one.name=? AND one.value=?")
    arguments += first
    for other in others:
        clauses.append(
            "EXISTS (SELECT 1 FROM job_labels AS other"
            " WHERE other.job_id=one.job_id AND other.name=? AND other.value=?)"
        )
        arguments += other
    if query.statuses:
        clauses.append(f"status IN ({', '.join('?' * len(query.statuses))})")
        arguments += query.statuses
    text = (
        "SELECT one.created_at, one.job_id, body"  # noqa: S608 - only names from here
        " FROM job_labels AS one INDEXED BY jobs_by_label"
        f" CROSS JOIN jobs ON jobs.id=one.job_id WHERE {' AND '.join(clauses)}"
        " ORDER BY one.created_at DESC, one.job_id DESC LIMIT ?"
    )
    return connection.execute(text, [*arguments, query.limit]).fetchall()


def _clauses(query: JobQuery, created_at: str, job_id: str) -> tuple[list[str], list[object]]:
    """What is wanted, but for statuses and labels; for jobs with such columns."""
    clauses: list[str] = []
    arguments: list[object] = []
    for clause, value in (
        ("client=?", query.client),
        ("blueprint=?", query.blueprint),
        (f"{created_at}>=?", query.created_after),
    ):
        if value is not None:
            clauses.append(clause)
            arguments.append(value)
    if query.end is not None:
        clauses.append(f"({created_at}, {job_id}) < (?, ?)")
        arguments += query.end
    return clauses, arguments


def job_counts(connection: sqlite3.Connection) -> Mapping[JobStatus, int]:
    rows = connection.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall()
    return {JobStatus(status): count for status, count in rows}


def tasks(connection: sqlite3.Connection, job_id: str, dispatch: int | None) -> Sequence[Task]:
    text = "SELECT body FROM tasks WHERE job_id=?"
    arguments: list[object] = [job_id]
    if dispatch is not None:
        text += " AND dispatch=?"
        arguments.append(dispatch)
    rows = connection.execute(f"{text} ORDER BY dispatch, branch", arguments).fetchall()
    return [_task(row[0]) for row in rows]


def attempts(connection: sqlite3.Connection, job_id: str) -> Sequence[Attempt]:
    rows = connection.execute("SELECT body FROM attempts WHERE job_id=?", (job_id,)).fetchall()
    found = [_attempt(row[0]) for row in rows]
    return sorted(found, key=lambda attempt: (attempt.leased_at, attempt.number))


def history(
    connection: sqlite3.Connection, job_id: str, after: int, limit: int
) -> Sequence[NumberedRow]:
    rows = connection.execute(
        "SELECT number, body FROM history WHERE job_id=? AND number>? ORDER BY number LIMIT ?",
        (job_id, after, limit),
    ).fetchall()
    return [NumberedRow(number=number, row=_row(body)) for number, body in rows]


def progress(connection: sqlite3.Connection, job_id: str) -> Sequence[Progress]:
    rows = connection.execute(
        "SELECT dispatch, branch, tasks.body, progress.body FROM progress"
        " JOIN tasks ON tasks.id=progress.task_id"
        " WHERE progress.job_id=? AND tasks.status='leased'",
        (job_id,),
    ).fetchall()
    found = [(_task(task), _progress(said)) for _, _, task, said in sorted(rows)]
    return [said for task, said in found if said.attempt == task.attempt]


def instances(connection: sqlite3.Connection) -> Sequence[Instance]:
    rows = connection.execute("SELECT body FROM instances").fetchall()
    return [_instance(row[0]) for row in rows]


def lease_counts(connection: sqlite3.Connection) -> Mapping[str, int]:
    """How many attempts are leased to each instance; those without any are absent."""
    query = "SELECT instance, count(*) FROM attempts WHERE leased GROUP BY instance"
    return dict(connection.execute(query).fetchall())


def queue_lengths(connection: sqlite3.Connection) -> Iterable[tuple[str, int]]:
    """How many tasks of each skill are queued; skills without any are absent."""
    query = "SELECT skill, count(*) FROM tasks WHERE status='queued' GROUP BY skill"
    return connection.execute(query).fetchall()


def access(connection: sqlite3.Connection) -> AccessSet | None:
    rows = connection.execute("SELECT value FROM meta WHERE key='access'").fetchall()
    return _access(rows[0][0]) if rows else None


def audit(connection: sqlite3.Connection, after: int, limit: int) -> Sequence[NumberedAuditRow]:
    rows = connection.execute(
        "SELECT number, body FROM audit WHERE number>? ORDER BY number LIMIT ?", (after, limit)
    ).fetchall()
    return [NumberedAuditRow(number=number, row=_audit_row(body)) for number, body in rows]
