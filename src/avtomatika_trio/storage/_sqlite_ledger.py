"""The ledger over one SQLite connection, in the writer's thread.

Records are kept decoded in caches (this process alone writes the file) and writes are
gathered until a query needs them or the batch ends, so that a record that changes twice in
a batch is written once, and each table with one `executemany`.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, cast

import msgspec
from outcome import Error, Outcome

from avtomatika_trio._core.access import AccessSet, AuditRow, IssuedToken, Usage
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import (
    FanOut,
    HistoryRow,
    Instance,
    Ledger,
    Progress,
    Service,
    Timer,
    TimerKind,
)
from avtomatika_trio._core.task import Attempt, Lane, Task
from avtomatika_trio.errors import StaleRevision
from avtomatika_trio.storage import _sqlite_rows as tables
from avtomatika_trio.storage._signals import News
from avtomatika_trio.storage._sqlite_forget import delete_job
from avtomatika_trio.storage._sqlite_submissions import SubmissionRows
from avtomatika_trio.storage._sqlite_table import Table, encode, upsert

decode_token = msgspec.json.Decoder(IssuedToken).decode


class SqliteLedger(SubmissionRows, Ledger):
    """See `Ledger`.  One object serves all operations of a connection, one after the other."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._now = 0.0
        self.news = News()
        self.wrote = False
        """Whether the present operation has written anything."""
        self._jobs = tables.jobs(connection)
        self._tasks = tables.tasks(connection)
        self._attempts = tables.attempts(connection)
        self._fan_outs = tables.fan_outs(connection)
        self._instances = tables.instances(connection)
        self._service = tables.service(connection)
        self._access = tables.access(connection)
        self._tables: tuple[Table[Any], ...] = (
            self._jobs,
            self._tasks,
            self._attempts,
            self._fan_outs,
            self._instances,
            self._service,
            self._access,
        )
        self._rows: list[HistoryRow] = []
        self._ended: list[tuple[str]] = []
        self._timers: dict[tuple[TimerKind, str], Timer | None] = {}
        self._any_wrote = False

    # Between operations.

    def latest(self) -> float:
        """The latest time at which anything was written."""
        found = self._connection.execute("SELECT value FROM meta WHERE key='latest'").fetchone()
        return 0.0 if found is None else float(found[0])

    def begin_operation(self, now: float) -> None:
        self._any_wrote = self._any_wrote or self.wrote
        self._now = now
        self.wrote = False

    def spoiled(self, answer: Outcome[object]) -> bool:
        """Whether the operation has raised after it had written."""
        return self.wrote and isinstance(answer, Error)

    def flush(self) -> None:
        """Write everything that waits; the last thing before COMMIT."""
        if not (self._any_wrote or self.wrote):
            return
        for table in self._tables:
            table.flush()
        self._flush_timers()
        if self._rows:
            self._connection.executemany(
                "INSERT INTO history (job_id, body) VALUES (?, ?)",
                [(row.job_id, encode(row)) for row in self._rows],
            )
            self._rows.clear()
        if self._ended:
            self._connection.executemany("DELETE FROM progress WHERE job_id=?", self._ended)
            self._ended.clear()
        self._connection.execute(upsert("meta", "key", "value"), ("latest", self._now))

    def _flush_timers(self) -> None:
        if self._timers:
            dropped = [key for key, timer in self._timers.items() if timer is None]
            put = [(it.kind, it.subject, it.due_at) for it in self._timers.values() if it]
            self._connection.executemany("DELETE FROM timers WHERE kind=? AND subject=?", dropped)
            self._connection.executemany(upsert("timers", "kind subject", "due_at"), put)
            self._timers.clear()

    def end_batch(self) -> News:
        """After COMMIT: what there is to tell."""
        for table in self._tables:
            table.trim()
        self._any_wrote = self.wrote = False
        news, self.news = self.news, News()
        return news

    def forget(self) -> None:
        """After ROLLBACK."""
        for table in self._tables:
            table.forget()
        for waiting in (self._rows, self._ended, self._timers):
            waiting.clear()
        self._any_wrote = self.wrote = False
        self.news = News()

    # The ledger.

    @property
    def now(self) -> float:
        return self._now

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def put_job(self, job: Job) -> None:
        old = self._jobs.get(job.id)
        found = 0 if old is None else old.revision
        if job.revision != found + 1:
            raise StaleRevision(job.id, job.revision - 1, found)
        self.wrote = True
        self._jobs.put(job, job.id)
        if old is None and job.labels:
            self._put_labels(job)
        if job.status.is_final:
            self._ended.append((job.id,))
        self.news.job_written(job)

    def _put_labels(self, job: Job) -> None:
        statement = upsert("job_labels", "job_id name", "value created_at")
        self._connection.executemany(statement, tables.label_rows(job))

    def forget_job(self, job_id: str) -> None:
        job = self._jobs.get(job_id)
        if job is None:
            return
        self.wrote = True
        for kind in TimerKind:
            self.drop_timer(kind, job_id)
        self.flush()
        tasks, wire_ids, fan_outs = delete_job(self._connection, job_id)
        self._jobs.uncache(job_id)
        self._tasks.uncache_all(tasks)
        self._attempts.uncache_all(wire_ids)
        self._fan_outs.uncache_all(fan_outs)
        self.news.job_forgotten(job)

    def task(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def put_task(self, task: Task) -> None:
        self.wrote = True
        self.news.task_written(self._tasks.get(task.id), task)
        self._tasks.put(task, task.id)

    def task_count(self, job_id: str) -> int:
        self._tasks.flush()
        query = "SELECT count(*) FROM tasks WHERE job_id=?"
        return int(self._connection.execute(query, (job_id,)).fetchone()[0])

    def open_tasks(self, job_id: str) -> Sequence[Task]:
        self._tasks.flush()
        found = self._connection.execute(
            "SELECT id FROM tasks WHERE job_id=? AND open ORDER BY dispatch, branch", (job_id,)
        )
        return [self._stored_task(row[0]) for row in found.fetchall()]

    def queued(self, skill: str, lane: Lane, *, most: int) -> Sequence[Task]:
        self._tasks.flush()
        found = self._connection.execute(
            "SELECT id FROM tasks WHERE skill=? AND lane=? AND status='queued'"
            " ORDER BY priority DESC, created_at, job_id, branch LIMIT ?",
            (skill, lane, most),
        )
        return [self._stored_task(row[0]) for row in found.fetchall()]

    def _stored_task(self, task_id: str) -> Task:
        return cast("Task", self._tasks.get(task_id))

    def fan_out(self, job_id: str, dispatch: int) -> FanOut | None:
        return self._fan_outs.get(job_id, dispatch)

    def put_fan_out(self, fan_out: FanOut) -> None:
        self.wrote = True
        self._fan_outs.put(fan_out, fan_out.job_id, fan_out.dispatch)

    def attempt(self, wire_id: str) -> Attempt | None:
        return self._attempts.get(wire_id)

    def put_attempt(self, attempt: Attempt) -> None:
        self.wrote = True
        self._attempts.put(attempt, attempt.wire_id)

    def leased(self, instance_id: str) -> Sequence[Attempt]:
        self._attempts.flush()
        found = self._connection.execute(
            "SELECT wire_id FROM attempts WHERE instance=? AND leased", (instance_id,)
        )
        return [cast("Attempt", self._attempts.get(row[0])) for row in found.fetchall()]

    def instance(self, instance_id: str) -> Instance | None:
        return self._instances.get(instance_id)

    def put_instance(self, instance: Instance) -> None:
        self.wrote = True
        self._instances.put(instance, instance.id)
        self.news.instances[instance.id] = instance

    def drop_instance(self, instance_id: str) -> None:
        self.wrote = True
        self._instances.flush()
        self._instances.uncache(instance_id)
        self._connection.execute("DELETE FROM instances WHERE id=?", (instance_id,))
        self.news.instances[instance_id] = None

    def due_instances(self, *, most: int) -> Sequence[Instance]:
        self._instances.flush()
        found = self._connection.execute(
            "SELECT id FROM instances WHERE due_at IS NOT NULL AND due_at<=?"
            " ORDER BY due_at, id LIMIT ?",
            (self._now, most),
        )
        return [cast("Instance", self._instances.get(row[0])) for row in found.fetchall()]

    def timer(self, kind: TimerKind, subject: str) -> Timer | None:
        if (kind, subject) in self._timers:
            return self._timers[kind, subject]
        row = self._connection.execute(
            "SELECT due_at FROM timers WHERE kind=? AND subject=?", (kind, subject)
        ).fetchone()
        return None if row is None else Timer(kind=kind, subject=subject, due_at=row[0])

    def put_timer(self, timer: Timer) -> None:
        self.wrote = True
        self._timers[timer.kind, timer.subject] = timer

    def drop_timer(self, kind: TimerKind, subject: str) -> None:
        self.wrote = True
        self._timers[kind, subject] = None

    def due_timers(self, *, most: int) -> Sequence[Timer]:
        return self._due("timers_due WHERE kind!='files' AND kind!='forget'", most)

    def due_files(self, *, most: int) -> Sequence[Timer]:
        return self._due("files_due WHERE kind='files'", most)

    def due_forgets(self, *, most: int) -> Sequence[Timer]:
        return self._due("forgets_due WHERE kind='forget'", most)

    def _due(self, index: str, most: int) -> Sequence[Timer]:
        self._flush_timers()
        # Left to choose, SQLite would sort all timers of one kind.
        found = self._connection.execute(
            f"SELECT kind, subject, due_at FROM timers INDEXED BY {index} AND due_at<=?"  # noqa: S608
            " ORDER BY due_at, kind, subject LIMIT ?",
            (self._now, most),
        )
        return [Timer(kind=TimerKind(it[0]), subject=it[1], due_at=it[2]) for it in found]

    def record(self, row: HistoryRow) -> None:
        self.wrote = True
        self._rows.append(row)
        self.news.changed[row.job_id] = None

    def put_progress(self, progress: Progress) -> None:
        self.wrote = True
        self._connection.execute(
            upsert("progress", "job_id task_id", "body"),
            (progress.job_id, progress.task_id, encode(progress)),
        )
        self.news.changed[progress.job_id] = None

    def service(self) -> Service | None:
        return self._service.get("service")

    def put_service(self, service: Service) -> None:
        self.wrote = True
        self._service.put(service, "service")

    def access(self) -> AccessSet | None:
        return self._access.get("access")

    def put_access(self, access: AccessSet) -> None:
        self.wrote = True
        self._access.put(access, "access")
        self.news.access = access

    def usage(self, client: str, month: str) -> Usage | None:
        row = self._connection.execute(
            "SELECT jobs FROM usages WHERE client=? AND month=?", (client, month)
        ).fetchone()
        return None if row is None else Usage(client=client, month=month, jobs=row[0])

    def put_usage(self, usage: Usage) -> None:
        self.wrote = True
        self._connection.execute(
            upsert("usages", "client month", "jobs"), (usage.client, usage.month, usage.jobs)
        )

    def issued_token(self, token_hash: str) -> IssuedToken | None:
        query = "SELECT body FROM issued_tokens WHERE hash=?"
        row = self._connection.execute(query, (token_hash,)).fetchone()
        return None if row is None else decode_token(row[0])

    def put_issued_token(self, token: IssuedToken) -> None:
        self.wrote = True
        self._connection.execute(
            upsert("issued_tokens", "hash", "expires_at body"),
            (token.hash, token.expires_at, encode(token)),
        )

    def drop_issued_token(self, token_hash: str) -> None:
        self.wrote = True
        self._connection.execute("DELETE FROM issued_tokens WHERE hash=?", (token_hash,))

    def expired_tokens(self, *, most: int) -> Sequence[IssuedToken]:
        found = self._connection.execute(
            "SELECT body FROM issued_tokens WHERE expires_at<=? ORDER BY expires_at, hash LIMIT ?",
            (self._now, most),
        )
        return [decode_token(row[0]) for row in found.fetchall()]

    def note_for_audit(self, row: AuditRow) -> None:
        self.wrote = True
        self._connection.execute("INSERT INTO audit (body) VALUES (?)", (encode(row),))

    def wake(self, skill: str) -> None:
        self.wrote = True  # so that it is not told if the operation raises
        self.news.wake(skill)
