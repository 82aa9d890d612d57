"""What goes out of a SQLite storage page by page, and into one as it is."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import attrs
import msgspec

from avtomatika_trio._core.access import AccessSet, AuditRow, IssuedToken, Usage
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import (
    FanOut,
    HistoryRow,
    Instance,
    Progress,
    Service,
    Timer,
    TimerKind,
)
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._records import (
    MOST_PER_BATCH,
    NumberedAuditRow,
    NumberedRow,
    StorageFacts,
    StoredRecord,
)
from avtomatika_trio.storage._sqlite_ledger import SqliteLedger
from avtomatika_trio.storage._sqlite_schema import SCHEMA_VERSION
from avtomatika_trio.storage._sqlite_table import encode, upsert

T = TypeVar("T")

Read = Callable[..., Awaitable[tuple[Sequence[StoredRecord], Any]]]
"""Has a query carried out by the thread that reads: the query, then its arguments."""


class RestoringSqliteLedger(SqliteLedger):
    """See `RestoringLedger`."""

    def store_job(self, job: Job) -> None:
        self.wrote = True
        self._jobs.put(job, job.id)
        self._connection.execute("DELETE FROM job_labels WHERE job_id=?", (job.id,))
        self._put_labels(job)
        self.news.job_written(job)

    def store_row(self, numbered: NumberedRow) -> None:
        self.wrote = True
        self._connection.execute(
            upsert("history", "number", "job_id body"),
            (numbered.number, numbered.row.job_id, encode(numbered.row)),
        )

    def store_audit_row(self, numbered: NumberedAuditRow) -> None:
        self.wrote = True
        self._connection.execute(
            upsert("audit", "number", "body"), (numbered.number, encode(numbered.row))
        )

    def store_cluster_id(self, cluster_id: str) -> None:
        self.wrote = True
        self._connection.execute(upsert("meta", "key", "value"), ("cluster_id", cluster_id))


@attrs.frozen
class _Table:
    """A table that is read page by page, in the order of a unique key."""

    name: str
    key: str
    """The columns that order it, separated by commas."""
    values: str
    """What a record is made of."""
    record: Callable[..., StoredRecord]
    where: str = "true"


def _decoder(cls: type[T]) -> Callable[[bytes], T]:
    return msgspec.json.Decoder(cls).decode


_history_row = _decoder(HistoryRow)
_audit_row = _decoder(AuditRow)

#: In the order of `Storage.export`.  Where a key is the rowid, records keep the order in which
#: they came.
_TABLES: tuple[_Table, ...] = (
    _Table("meta", "key", "value", _decoder(Service), "key='service'"),
    _Table("meta", "key", "value", _decoder(AccessSet), "key='access'"),
    _Table("instances", "rowid", "body", _decoder(Instance)),
    _Table("jobs", "created_at, id", "body", _decoder(Job)),
    _Table("tasks", "job_id, dispatch, branch, id", "body", _decoder(Task)),
    _Table("attempts", "rowid", "body", _decoder(Attempt)),
    _Table("fan_outs", "job_id, dispatch", "body", _decoder(FanOut)),
    _Table(
        "timers",
        "kind, subject",
        "kind, subject, due_at",
        lambda kind, subject, due: Timer(kind=TimerKind(kind), subject=subject, due_at=due),
    ),
    _Table("progress", "job_id, task_id", "body", _decoder(Progress)),
    _Table(
        "history",
        "number",
        "number, body",
        lambda number, body: NumberedRow(number=number, row=_history_row(body)),
    ),
    _Table(
        "audit",
        "number",
        "number, body",
        lambda number, body: NumberedAuditRow(number=number, row=_audit_row(body)),
    ),
    _Table(
        "usages",
        "client, month",
        "client, month, jobs",
        lambda client, month, jobs: Usage(client=client, month=month, jobs=jobs),
    ),
    _Table("issued_tokens", "rowid", "body", _decoder(IssuedToken)),
    _Table("submissions", "rowid", "body", _decoder(Submission)),
)


async def export(
    cluster_id: str, latest: float, read: Read
) -> AsyncIterator[Sequence[StoredRecord]]:
    """See `Storage.export`."""
    yield [StorageFacts(cluster_id=cluster_id, latest=latest, schema=SCHEMA_VERSION)]
    for table in _TABLES:
        records, after = await read(_page, table, None)
        while records:
            yield records
            records, after = await read(_page, table, after)


def _page(
    connection: sqlite3.Connection, table: _Table, after: tuple[Any, ...] | None
) -> tuple[Sequence[StoredRecord], tuple[Any, ...] | None]:
    """The records that follow the key *after*, and the key of the last of them."""
    width = len(table.key.split(","))
    later = "true" if after is None else f"({table.key}) > ({', '.join('?' * width)})"
    rows = connection.execute(
        f"SELECT {table.key}, {table.values} FROM {table.name}"  # noqa: S608 - of `_TABLES`
        f" WHERE {table.where} AND {later} ORDER BY {table.key} LIMIT {MOST_PER_BATCH}",
        after or (),
    ).fetchall()
    try:
        records = [table.record(*row[width:]) for row in rows]
    except (ValueError, TypeError) as exc:  # msgspec's are among them
        raise StorageUnavailable(
            f"a record in the table {table.name} is damaged: {exc}; restore a backup"
        ) from exc
    return records, rows[-1][:width] if rows else None
