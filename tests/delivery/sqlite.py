"""The SQLite ledger without its threads, so that scenes can be played on it step by step."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.storage import JobQuery, MemoryStorage, NumberedRow, _sqlite_reads as reads
from avtomatika_trio.storage._sqlite_ledger import SqliteLedger
from avtomatika_trio.storage._sqlite_schema import connect, prepare

T = TypeVar("T")


class SqliteWithoutThreads(MemoryStorage):
    """Commits and reads of `SqliteStorage`, in the caller's thread and in memory."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._connection = connect(Path(":memory:"))
        prepare(self._connection, Path(":memory:"), "c")
        self._ledger = SqliteLedger(self._connection)

    def __del__(self) -> None:
        self._connection.close()

    def run(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        self._connection.execute("BEGIN IMMEDIATE")
        self._ledger.begin_operation(self.now())
        try:
            answer = operation(self._ledger)
            self._ledger.flush()
        except BaseException:
            self._connection.execute("ROLLBACK")
            self._ledger.forget()
            raise
        self._connection.execute("COMMIT")
        self._ledger.end_batch()
        self._ledger.forget()  # what is read next comes from the file
        return answer

    async def job(self, job_id: str) -> Job | None:
        return reads.job(self._connection, job_id)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        return reads.jobs(self._connection, query)

    async def job_counts(self) -> Mapping[JobStatus, int]:
        return reads.job_counts(self._connection)

    async def tasks(self, job_id: str, dispatch: int | None = None) -> Sequence[Task]:
        return reads.tasks(self._connection, job_id, dispatch)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        return reads.attempts(self._connection, job_id)

    async def history(
        self, job_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[NumberedRow]:
        return reads.history(self._connection, job_id, after, limit)
