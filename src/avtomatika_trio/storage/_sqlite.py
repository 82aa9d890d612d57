"""The default storage: one SQLite file, one writer thread, group commit.

All operations that wait are run in one transaction and answered after its COMMIT (rule
S6).  One that raises does not disturb the others: if it has written anything by then, the
batch is rolled back and its operations are run again one by one.

One process owns the file, by an OS lock beside it; several orchestrators need `redis:`.
"""

import fcntl
import os
import secrets
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import outcome
import trio

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Instance, Ledger, Progress
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage import _sqlite_reads as reads
from avtomatika_trio.storage._base import JobQuery, NumberedRow
from avtomatika_trio.storage._signals import Clock, JobWaiter, News, QueueWaiter, Signals
from avtomatika_trio.storage._sqlite_ledger import SqliteLedger
from avtomatika_trio.storage._sqlite_schema import connect, prepare
from avtomatika_trio.storage._thread import BlockingThread, Call

T = TypeVar("T")


@asynccontextmanager
async def open_sqlite(path: Path, now: Clock) -> AsyncIterator["SqliteStorage"]:
    """Open *path*, making it if it is not there.

    Args:
        path: The database file; `<path>.lock` appears beside it.
        now: The host's time, as Unix seconds.

    Raises:
        StorageUnavailable: another process has it open, or it cannot be used.
    """
    with _lock(path), _as_unavailable(path), closing(connect(path)) as writing:
        cluster_id = prepare(writing, path, secrets.token_hex(8))
        with closing(connect(path)) as reading:
            storage = SqliteStorage(path, writing, reading, now, cluster_id)
            try:
                yield storage
            finally:
                await storage._close()  # noqa: SLF001 - its other half


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the file for this process alone; children do not inherit the lock."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise StorageUnavailable(f"{path} cannot be opened: {exc.strerror} ({lock_path})") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StorageUnavailable(
                f"{path} is in use by process {owner}; stop that one, or give this one a file of"
                " its own (several orchestrators on one storage need redis:)"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _as_unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise StorageUnavailable(f"{path} cannot be used: {exc}") from exc


class SqliteStorage:
    """A `Storage` in a SQLite file; made by `open_sqlite`."""

    def __init__(
        self,
        path: Path,
        writing: sqlite3.Connection,
        reading: sqlite3.Connection,
        now: Clock,
        cluster_id: str,
    ) -> None:
        self.cluster_id = cluster_id
        self._path = path
        self._connection = writing
        self._reading = reading
        self._clock = now
        self._clock_lock = threading.Lock()
        self._ledger = SqliteLedger(writing)
        service = self._ledger.service()
        self._latest = 0.0 if service is None else service.served_at
        self._instances = {it.id: it for it in reads.instances(reading)}
        self._signals = Signals()
        for job_id, revision in reads.ready_jobs(reading):
            self._signals.job_ready(job_id, revision, None)
        self._writer = BlockingThread("sqlite-writer", self._run_batch)
        self._reader = BlockingThread("sqlite-reader", self._run_reads)

    async def _close(self) -> None:
        await self._writer.close()
        await self._reader.close()

    def now(self) -> float:
        with self._clock_lock:
            self._latest = max(self._latest, self._clock())
            return self._latest

    # Writing.

    async def commit(self, operation: Callable[[Ledger], T]) -> T:
        return await self._writer.call(operation)

    def _run_batch(self, batch: Sequence[Call]) -> None:
        """In the writer's thread: carry out *batch*, and never raise."""
        if not self._in_one_transaction(batch):
            for call in batch:
                self._in_one_transaction([call], alone=True)

    def _in_one_transaction(self, batch: Sequence[Call], *, alone: bool = False) -> bool:
        """Returns False if the batch was rolled back because of one of its operations."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            if not all(self._run(call) for call in batch):
                self._roll_back()
                return alone
            self._ledger.flush()
            self._connection.execute("COMMIT")
        except sqlite3.Error as exc:
            self._roll_back()
            error = StorageUnavailable(f"{self._path} could not be written: {exc}")
            for call in batch:
                call.answer = outcome.Error(error)
            return True
        except (TypeError, ValueError, OverflowError) as exc:  # a record that is not JSON
            self._roll_back()
            batch[0].answer = outcome.Error(exc)
            return alone
        batch[-1].told = partial(self._tell, self._ledger.end_batch())
        return True

    def _run(self, call: Call) -> bool:
        """Run one operation; returns False if it has raised after it had written."""
        self._ledger.begin_operation(self.now())
        call.answer = outcome.capture(call.function, self._ledger)
        if not isinstance(call.answer, outcome.Error):
            return True
        if isinstance(call.answer.error, sqlite3.Error):
            raise call.answer.error
        return not self._ledger.wrote

    def _roll_back(self) -> None:
        self._ledger.forget()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _tell(self, news: News) -> None:
        self._instances |= news.instances
        news.tell(self._signals)

    # Reading.

    def _run_reads(self, batch: Sequence[Call]) -> None:
        for call in batch:
            call.answer = outcome.capture(call.function)

    async def _read(self, query: Callable[..., T], *arguments: object) -> T:
        with _as_unavailable(self._path):
            return await self._reader.call(partial(query, self._reading, *arguments))

    async def job(self, job_id: str) -> Job | None:
        return await self._read(reads.job, job_id)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        return await self._read(reads.jobs, query)

    async def job_counts(self) -> Mapping[JobStatus, int]:
        return await self._read(reads.job_counts)

    async def tasks(self, job_id: str, dispatch: int | None = None) -> Sequence[Task]:
        return await self._read(reads.tasks, job_id, dispatch)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        return await self._read(reads.attempts, job_id)

    async def history(
        self, job_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[NumberedRow]:
        return await self._read(reads.history, job_id, after, limit)

    async def progress(self, job_id: str) -> Sequence[Progress]:
        return await self._read(reads.progress, job_id)

    async def instance(self, instance_id: str) -> Instance | None:
        await trio.lowlevel.checkpoint()
        return self._instances.get(instance_id)

    async def instances(self) -> Sequence[Instance]:
        await trio.lowlevel.checkpoint()
        return sorted(self._instances.values(), key=lambda it: -it.seen_at)

    # Waiting.

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        while True:
            claimed = await self._signals.claim_ready(owner, most=most, lease_seconds=lease_seconds)
            try:
                jobs = await self._as_stored(claimed)
            except BaseException:
                for job_id, revision, job in claimed:
                    self._signals.end_claim(job_id, revision)
                    self._signals.job_ready(job_id, revision, job)
                raise
            if jobs:
                return jobs

    async def _as_stored(self, claimed: Sequence[tuple[str, int, Job | None]]) -> list[Job]:
        """The claimed jobs; those that have changed since are no longer claimed."""
        missing = [job_id for job_id, _, job in claimed if job is None]
        read = await self._read(reads.jobs_by_id, missing) if missing else {}
        found: list[Job] = []
        for job_id, revision, job in claimed:
            stored = job or read.get(job_id)
            if stored is not None and stored.revision == revision and stored.is_ready:
                found.append(stored)
            else:
                self._signals.end_claim(job_id, revision)
        return found

    def renew_claims(self, owner: str, *, lease_seconds: float) -> None:
        self._signals.renew_claims(owner, lease_seconds=lease_seconds)

    def settle_claim(self, job: Job) -> None:
        self._signals.end_claim(job.id, job.revision)

    def release_claim(self, job: Job) -> None:
        self._signals.end_claim(job.id, job.revision)
        self._signals.job_ready(job.id, job.revision, job)

    def queue_news(self, skills: Sequence[str]) -> AbstractContextManager[QueueWaiter]:
        return self._signals.queue_news(skills)

    def job_news(self, job_id: str) -> AbstractContextManager[JobWaiter]:
        return self._signals.job_news(job_id)
