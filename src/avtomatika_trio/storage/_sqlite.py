"""The default storage: one SQLite file, one writer thread, group commit.

All operations that wait are run in one transaction and answered after its COMMIT (rule
S6).  One that raises does not disturb the others: if it has written anything by then, the
transaction is rolled back and those before it are run again without it.

One process owns the file, by an OS lock beside it; several orchestrators need `redis:`.
"""

import fcntl
import os
import secrets
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from functools import partial
from pathlib import Path
from typing import TypeVar

import outcome
import trio

from avtomatika_trio._core.access import AccessSet
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Instance, Ledger, Progress
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage import _sqlite_reads as reads
from avtomatika_trio.storage._backlog import Backlog, queues_told_of
from avtomatika_trio.storage._base import JobQuery, NumberedAuditRow, NumberedRow
from avtomatika_trio.storage._clock import Clock, RisingClock
from avtomatika_trio.storage._partitions import AlwaysAtHome
from avtomatika_trio.storage._ready import Offer
from avtomatika_trio.storage._records import StoredRecord, facts_of
from avtomatika_trio.storage._restore import put_as_they_are
from avtomatika_trio.storage._signals import News, Signalling
from avtomatika_trio.storage._sqlite_backlog import backlog
from avtomatika_trio.storage._sqlite_export import RestoringSqliteLedger, export
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
    with _lock(path), ExitStack() as connections:
        with _as_unavailable(path, "; name another file (--storage sqlite:PATH)"):
            writing = connections.enter_context(closing(connect(path)))
            cluster_id = prepare(writing, path, secrets.token_hex(8))
            reading = connections.enter_context(closing(connect(path)))
            storage = SqliteStorage(path, writing, reading, now, cluster_id)
        try:
            yield storage
        finally:
            await storage._close()  # noqa: SLF001 - its other half


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the file for this process alone."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise StorageUnavailable(
            f"{path} cannot be opened: {exc.strerror} ({lock_path}); name a file in a folder that"
            " can be written (--storage sqlite:PATH)"
        ) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StorageUnavailable(
                f"{path} is in use by process {owner}; stop that one first, or name another file"
                " (several orchestrators on one storage need redis:)"
            ) from None
        except OSError as exc:
            raise StorageUnavailable(
                f"{path} cannot be locked: {exc.strerror}; keep it on a local disk"
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        _locks.add(descriptor)
        yield
    finally:
        _locks.discard(descriptor)
        os.close(descriptor)


#: Descriptors of the locks that this process holds.  A forked child has copies, and would go
#: on holding the locks when this process is dead, so it closes them first of all.
_locks: set[int] = set()


def _close_copies() -> None:
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_close_copies)


@contextmanager
def _as_unavailable(path: Path, remedy: str = "") -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise StorageUnavailable(f"{path} cannot be used: {exc}{remedy}") from exc


#: Jobs that were written last are told from memory: those who follow them ask at once.
_MOST_RECENT = 1000

#: What is wrong with what an operation wrote, not with the file: values that SQLite or JSON
#: cannot hold.
_FAULTS_OF_RECORDS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ArithmeticError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class SqliteStorage(AlwaysAtHome, Signalling):
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
        self.is_shared = False
        self._path = path
        self._connection = writing
        self._reading = reading
        self._ledger = RestoringSqliteLedger(writing)
        self._clock = RisingClock(now, at_least=self._ledger.latest())
        self._instances = {it.id: it for it in reads.instances(reading)}
        self._access = reads.access(reading)
        self._recent: OrderedDict[str, Job] = OrderedDict()
        super().__init__()
        for job_id, blueprint, revision in reads.ready_jobs(reading):
            self._signals.ready.offer(Offer(job_id, blueprint, revision, None))
        for skill, length in reads.queue_lengths(reading):
            self._signals.queues.changed(skill, length)
        self._writer = BlockingThread("sqlite-writer", self._run_batch)
        self._reader = BlockingThread("sqlite-reader", self._run_reads)

    async def _close(self) -> None:
        await self._writer.close()
        await self._reader.close()
        self._recent.clear()

    def now(self) -> float:
        return self._clock.now()

    # Writing.

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        del partition  # there is one
        return await self._writer.call(operation)

    def _run_batch(self, batch: Sequence[Call]) -> None:
        """In the writer's thread: carry out *batch* in as few transactions as can be."""
        at, together = 0, len(batch)
        while at < len(batch):
            good = self._in_one_transaction(batch[at : at + together])
            if good is None:
                at += together
                together = len(batch) - at
            else:
                together = max(good, 1)

    def _in_one_transaction(self, calls: Sequence[Call]) -> int | None:
        """Commit *calls* and set their answers.

        Returns:
            None when they are answered; else nothing has happened, and so many of the first
            of them should be tried without the others.
        """
        answers: list[outcome.Outcome[object]] = []
        try:
            if self._connection.in_transaction:  # an earlier ROLLBACK has failed
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            for call in calls:
                answers.append(self._run(call))
                if self._ledger.spoiled(answers[-1]):
                    self._roll_back()
                    return self._unless_alone(calls, answers[-1], len(answers) - 1)
            self._ledger.flush()
            self._connection.execute("COMMIT")
        except _FAULTS_OF_RECORDS as exc:
            self._roll_back()
            refused = ValueError(f"a record cannot be stored in SQLite: {exc}")
            refused.__cause__ = exc
            return self._unless_alone(calls, outcome.Error(refused), len(calls) // 2)
        except sqlite3.Error as exc:
            self._roll_back()
            for call in calls:
                error = StorageUnavailable(f"{self._path} could not be written: {exc}")
                error.__cause__ = exc
                call.answer = outcome.Error(error)
            return None
        except BaseException:  # a bug; whoever waits is told by the thread
            self._roll_back()
            raise
        calls[-1].told = partial(self._tell, self._ledger.end_batch())
        for call, answer in zip(calls, answers, strict=True):
            call.answer = answer
        return None

    def _run(self, call: Call) -> outcome.Outcome[object]:
        self._ledger.begin_operation(self.now())
        answer: outcome.Outcome[object] = outcome.capture(call.function, self._ledger)
        if isinstance(answer, outcome.Error) and isinstance(answer.error, sqlite3.Error):
            raise answer.error
        return answer

    @staticmethod
    def _unless_alone(
        calls: Sequence[Call], answer: outcome.Outcome[object], good: int
    ) -> int | None:
        if len(calls) > 1:
            return good
        calls[0].answer = answer
        return None

    def _roll_back(self) -> None:
        self._ledger.forget()
        with suppress(sqlite3.Error):  # tried again before the next transaction
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _tell(self, news: News) -> None:
        for instance_id, instance in news.instances.items():
            if instance is None:
                self._instances.pop(instance_id, None)
            else:
                self._instances[instance_id] = instance
        self._access = news.access or self._access
        for job_id in news.forgotten:
            self._recent.pop(job_id, None)
        for job in news.jobs.values():
            self._recent[job.id] = job
            self._recent.move_to_end(job.id)
        while len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)
        news.tell(self._signals)

    # Reading.

    def _run_reads(self, batch: Sequence[Call]) -> None:
        for call in batch:
            call.answer = outcome.capture(call.function)

    async def _read(self, query: Callable[..., T], *arguments: object) -> T:
        with _as_unavailable(self._path):
            return await self._reader.call(partial(query, self._reading, *arguments))

    async def job(self, job_id: str) -> Job | None:
        recent = self._recent.get(job_id)
        if recent is None:
            return await self._read(reads.job, job_id)
        await trio.lowlevel.checkpoint()
        return recent

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

    async def instances(self, worker_id: str | None = None) -> Sequence[Instance]:
        await trio.lowlevel.checkpoint()
        found = (it for it in self._instances.values() if worker_id in (None, it.worker_id))
        return sorted(found, key=lambda it: -it.seen_at)

    async def lease_counts(self, instances: Sequence[Instance]) -> Mapping[str, int]:
        counts = await self._read(reads.lease_counts)
        return {it.id: counts.get(it.id, 0) for it in instances}

    async def backlog(self, skills: Sequence[str]) -> Backlog:
        lengths = self._signals.queues.lengths()
        told_of = {skill: lengths.get(skill, 0) for skill in queues_told_of(skills, lengths)}
        workers = Counter(it.state for it in self._instances.values())
        return await self._read(backlog, told_of, workers, self.now())

    async def access(self) -> AccessSet | None:
        await trio.lowlevel.checkpoint()
        return self._access

    async def audit(self, *, after: int = 0, limit: int = 1000) -> Sequence[NumberedAuditRow]:
        return await self._read(reads.audit, after, limit)

    # Moving.

    def export(self) -> AsyncIterator[Sequence[StoredRecord]]:
        return export(self.cluster_id, self.now(), self._read)

    async def restore(self, records: Sequence[StoredRecord]) -> None:
        facts = facts_of(records)
        if facts is not None:
            self._clock.go_on_from(facts.latest)  # the commit notes its own time
        with trio.CancelScope(shield=facts is not None):
            await self.commit(partial(put_as_they_are, records=records))
            if facts is not None:
                self.cluster_id = facts.cluster_id

    # Waiting.

    def partitions_with(self, skills: Sequence[str]) -> Sequence[str]:
        return self.partitions if self._signals.queues.has_any(skills) else ()

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        ready = self._signals.ready
        while True:
            claimed = await ready.claim(owner, most=most, lease_seconds=lease_seconds)
            try:
                jobs = await self._as_stored(claimed)
            except BaseException:
                for offer in reversed(claimed):
                    ready.release(offer.job_id, offer.revision)
                raise
            if jobs or not claimed:
                return jobs

    async def _as_stored(self, claimed: Sequence[Offer]) -> list[Job]:
        """The claimed jobs; of those that have changed since, there are or will be news."""
        missing = [offer.job_id for offer in claimed if offer.job is None]
        read = await self._read(reads.jobs_by_id, missing) if missing else {}
        found: list[Job] = []
        for offer in claimed:
            stored = offer.job or read.get(offer.job_id)
            if stored is not None and stored.revision == offer.revision:
                found.append(stored)
            else:
                self._signals.ready.settle(offer)
        return found
