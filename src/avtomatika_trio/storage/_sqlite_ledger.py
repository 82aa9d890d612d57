"""The ledger over one SQLite connection, in the writer's thread.

Records are kept decoded in caches (this process alone writes the file) and writes are
gathered until a query needs them or the batch ends, so that a record that changes twice in
a batch is written once, and each table with one `executemany`.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

import msgspec

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
from avtomatika_trio._core.task import Attempt, AttemptStatus, Lane, Task, TaskStatus
from avtomatika_trio.errors import StaleRevision
from avtomatika_trio.storage._signals import News

R = TypeVar("R")

#: Records that each cache holds at most; the oldest go first.
_MOST_CACHED = 10_000

encode = msgspec.json.Encoder().encode


class _Table(Generic[R]):
    """One table of records by key: a cache in front, and writes that wait."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        cls: type[R],
        *,
        select: str,
        upsert: str,
        row: Callable[[R], tuple[Any, ...]],
    ) -> None:
        self._connection = connection
        self._decode = msgspec.json.Decoder(cls).decode
        self._select = select
        self._upsert = upsert
        self._row = row
        self._cache: dict[Any, R] = {}
        self._dirty: dict[Any, R] = {}

    def get(self, *key: Any) -> R | None:
        found = self._cache.get(key)
        if found is not None:
            return found
        row = self._connection.execute(self._select, key).fetchone()
        if row is None:
            return None
        record = self._decode(row[0])
        self._cache[key] = record
        return record

    def put(self, record: R, *key: Any) -> None:
        self._cache[key] = record
        self._dirty[key] = record

    def flush(self) -> None:
        """Write what waits."""
        if self._dirty:
            rows = [self._row(record) for record in self._dirty.values()]
            self._connection.executemany(self._upsert, rows)
            self._dirty.clear()

    def trim(self) -> None:
        """Forget the oldest records of a cache that has grown too long."""
        surplus = len(self._cache) - _MOST_CACHED
        if surplus > 0:
            for key in list(self._cache)[:surplus]:
                del self._cache[key]

    def forget(self) -> None:
        """The transaction was rolled back: nothing that is remembered holds."""
        self._cache.clear()
        self._dirty.clear()


def _upsert(table: str, key: str, columns: str) -> str:
    names = [*key.split(), *columns.split()]
    sets = ", ".join(f"{name}=excluded.{name}" for name in columns.split())
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        f" ON CONFLICT ({', '.join(key.split())}) DO UPDATE SET {sets}"
    )


class SqliteLedger(Ledger):
    """See `Ledger`.  One object serves all operations of a connection, one after the other."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._now = 0.0
        self.news = News()
        self.wrote = False
        """Whether the present operation has written anything."""
        self._jobs = _Table(
            connection,
            Job,
            select="SELECT body FROM jobs WHERE id=?",
            upsert=_upsert("jobs", "id", "client blueprint status created_at ready revision body"),
            row=_job_row,
        )
        self._tasks = _Table(
            connection,
            Task,
            select="SELECT body FROM tasks WHERE id=?",
            upsert=_upsert(
                "tasks",
                "id",
                "job_id dispatch branch skill lane priority created_at queued open body",
            ),
            row=_task_row,
        )
        self._attempts = _Table(
            connection,
            Attempt,
            select="SELECT body FROM attempts WHERE wire_id=?",
            upsert=_upsert("attempts", "wire_id", "job_id instance leased body"),
            row=lambda it: (
                it.wire_id,
                it.job_id,
                it.instance,
                it.status is AttemptStatus.LEASED,
                encode(it),
            ),
        )
        self._fan_outs = _Table(
            connection,
            FanOut,
            select="SELECT body FROM fan_outs WHERE job_id=? AND dispatch=?",
            upsert=_upsert("fan_outs", "job_id dispatch", "body"),
            row=lambda it: (it.job_id, it.dispatch, encode(it)),
        )
        self._instances = _Table(
            connection,
            Instance,
            select="SELECT body FROM instances WHERE id=?",
            upsert=_upsert("instances", "id", "due_at body"),
            row=lambda it: (it.id, it.due_at, encode(it)),
        )
        self._service = _Table(
            connection,
            Service,
            select="SELECT value FROM meta WHERE key=?",
            upsert=_upsert("meta", "key", "value"),
            row=lambda it: ("service", encode(it)),
        )
        self._tables: tuple[_Table[Any], ...] = (
            self._jobs,
            self._tasks,
            self._attempts,
            self._fan_outs,
            self._instances,
            self._service,
        )
        self._rows: list[tuple[str, bytes]] = []

    # Between operations.

    def begin_operation(self, now: float) -> None:
        self._now = now
        self.wrote = False

    def flush(self) -> None:
        """Write everything that waits; the last thing before COMMIT."""
        for table in self._tables:
            table.flush()
        if self._rows:
            self._connection.executemany(
                "INSERT INTO history (job_id, body) VALUES (?, ?)", self._rows
            )
            self._rows.clear()

    def end_batch(self) -> News:
        """After COMMIT: what there is to tell."""
        for table in self._tables:
            table.trim()
        news, self.news = self.news, News()
        return news

    def forget(self) -> None:
        """After ROLLBACK."""
        for table in self._tables:
            table.forget()
        self._rows.clear()
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
        self.news.job_written(job)

    def task(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def put_task(self, task: Task) -> None:
        self.wrote = True
        self._tasks.put(task, task.id)
        if task.status is TaskStatus.QUEUED:
            self.news.task_queued(task.skill)

    def open_tasks(self, job_id: str) -> Sequence[Task]:
        self._tasks.flush()
        found = self._connection.execute(
            "SELECT id FROM tasks WHERE job_id=? AND open ORDER BY dispatch, branch", (job_id,)
        )
        return [self._stored_task(row[0]) for row in found.fetchall()]

    def queued(self, skill: str, lane: Lane, *, most: int) -> Sequence[Task]:
        self._tasks.flush()
        found = self._connection.execute(
            "SELECT id FROM tasks WHERE skill=? AND lane=? AND queued"
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

    def due_instances(self, *, most: int) -> Sequence[Instance]:
        self._instances.flush()
        found = self._connection.execute(
            "SELECT id FROM instances WHERE due_at IS NOT NULL AND due_at<=?"
            " ORDER BY due_at LIMIT ?",
            (self._now, most),
        )
        return [cast("Instance", self._instances.get(row[0])) for row in found.fetchall()]

    def timer(self, kind: TimerKind, subject: str) -> Timer | None:
        row = self._connection.execute(
            "SELECT due_at FROM timers WHERE kind=? AND subject=?", (kind, subject)
        ).fetchone()
        return None if row is None else Timer(kind=kind, subject=subject, due_at=row[0])

    def put_timer(self, timer: Timer) -> None:
        self.wrote = True
        self._connection.execute(
            _upsert("timers", "kind subject", "due_at"), (timer.kind, timer.subject, timer.due_at)
        )

    def drop_timer(self, kind: TimerKind, subject: str) -> None:
        self.wrote = True
        self._connection.execute("DELETE FROM timers WHERE kind=? AND subject=?", (kind, subject))

    def due_timers(self, *, most: int) -> Sequence[Timer]:
        found = self._connection.execute(
            "SELECT kind, subject, due_at FROM timers WHERE due_at<=? ORDER BY due_at LIMIT ?",
            (self._now, most),
        )
        return [
            Timer(kind=TimerKind(kind), subject=subject, due_at=due_at)
            for kind, subject, due_at in found.fetchall()
        ]

    def record(self, row: HistoryRow) -> None:
        self.wrote = True
        self._rows.append((row.job_id, encode(row)))

    def put_progress(self, progress: Progress) -> None:
        self.wrote = True
        self._connection.execute(
            _upsert("progress", "job_id task_id", "body"),
            (progress.job_id, progress.task_id, encode(progress)),
        )
        self.news.changed[progress.job_id] = None

    def service(self) -> Service | None:
        return self._service.get("service")

    def put_service(self, service: Service) -> None:
        self.wrote = True
        self._service.put(service, "service")

    def wake(self, skill: str) -> None:
        self.news.task_queued(skill)


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
        task.status is TaskStatus.QUEUED,
        task.status.is_open,
        encode(task),
    )
