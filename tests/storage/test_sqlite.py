"""What only the SQLite storage has: a file, its lock, group commit, a disk that can be full."""

import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Ledger, Timer, TimerKind
from avtomatika_trio._core.task import Lane
from avtomatika_trio.errors import ConfigError, StaleRevision, StorageUnavailable
from avtomatika_trio.storage import JobQuery, _sqlite_reads as reads, open_storage
from avtomatika_trio.storage._sqlite_ledger import SqliteLedger
from avtomatika_trio.storage._sqlite_schema import SCHEMA_VERSION, connect, prepare
from avtomatika_trio.testing._promises_access import a_submission
from avtomatika_trio.testing._promises_commit import EVERYTHING
from avtomatika_trio.testing._samples import START, a_job, a_row, a_task, an_attempt, put


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


def _start(*command: str) -> "subprocess.Popen[bytes]":
    """Start a process that is given every descriptor that can be inherited."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, close_fds=False)


# Opening.


async def test_a_second_opener_is_told_who_has_the_file(path: Path) -> None:
    async with open_storage(f"sqlite:{path}"):
        with pytest.raises(StorageUnavailable, match=rf"process {os.getpid()}\b.*redis:"):
            async with open_storage(f"sqlite:{path}"):
                pass
    async with open_storage(f"sqlite:{path}"):
        pass


async def test_a_child_does_not_inherit_the_lock(path: Path) -> None:
    async with open_storage(f"sqlite:{path}"):
        child = _start("sleep", "30")
    try:
        async with open_storage(f"sqlite:{path}"):
            pass
    finally:
        with child:
            child.kill()


_PARENT = """
import os, sys, trio
from avtomatika_trio.storage import open_storage

async def main():
    async with open_storage("sqlite:" + sys.argv[1]):
        pid = os.fork()
        if pid == 0:
            os.write(1, b"forked\\n")
            os.read(0, 1)  # until the test has done
        os._exit(0)
trio.run(main)
"""


async def test_a_forked_child_does_not_hold_the_lock_after_its_parent(path: Path) -> None:
    parent = _start(sys.executable, "-W", "ignore", "-c", _PARENT, str(path))
    with parent:  # closes the pipe at the end, on which the child ends
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"forked\n"
        parent.wait()
        async with open_storage(f"sqlite:{path}"):
            pass


async def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    async with open_storage(f"sqlite:{path}"):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(StorageUnavailable, match=r"newer version.*upgrade"):
        async with open_storage(f"sqlite:{path}"):
            pass


async def test_a_file_of_an_older_version_is_completed(path: Path) -> None:
    """Version 2 had one index for the timers of all kinds."""
    timers = [
        Timer(kind=kind, subject="t", due_at=0) for kind in (TimerKind.FILES, TimerKind.RETRY)
    ]
    async with open_storage(f"sqlite:{path}") as storage:
        await storage.commit(put(*timers))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TABLE submissions; DROP TABLE job_labels;"
            "DROP INDEX timers_due; DROP INDEX files_due; DROP INDEX forgets_due;"
            "CREATE INDEX timers_due ON timers (due_at); PRAGMA user_version=2;"
        )
    async with open_storage(f"sqlite:{path}") as storage:
        assert await storage.commit(lambda ledger: ledger.due_files(most=9)) == timers[:1]
        assert await storage.commit(lambda ledger: ledger.due_timers(most=9)) == timers[1:]


async def test_a_file_from_before_jobs_were_forgotten_is_completed(path: Path) -> None:
    """Version 3 had no index for what that needs."""
    kinds = (TimerKind.FILES, TimerKind.FORGET, TimerKind.RETRY)
    timers = [Timer(kind=kind, subject="t", due_at=0) for kind in kinds]
    async with open_storage(f"sqlite:{path}") as storage:
        await storage.commit(put(*timers))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TABLE submissions; DROP TABLE job_labels;"
            "DROP INDEX timers_due; DROP INDEX forgets_due; CREATE INDEX timers_due"
            " ON timers (due_at, kind, subject) WHERE kind!='files'; PRAGMA user_version=3;"
        )
    async with open_storage(f"sqlite:{path}") as storage:
        assert await storage.commit(lambda ledger: ledger.due_files(most=9)) == timers[:1]
        assert await storage.commit(lambda ledger: ledger.due_forgets(most=9)) == timers[1:2]
        assert await storage.commit(lambda ledger: ledger.due_timers(most=9)) == timers[2:]


async def test_a_file_from_before_there_were_labels_and_keys_is_completed(path: Path) -> None:
    """Version 4 had no tables for them."""
    async with open_storage(f"sqlite:{path}") as storage:
        await storage.commit(put(a_job("old")))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TABLE submissions; DROP TABLE job_labels; PRAGMA user_version=4;"
        )
    said = a_submission("s", 0)
    async with open_storage(f"sqlite:{path}") as storage:
        assert await storage.job("old") is not None
        assert await storage.commit(lambda ledger: ledger.submission("s")) is None
        await storage.commit(lambda ledger: ledger.put_submission(said))
        assert await storage.commit(lambda ledger: ledger.expired_submissions(most=9)) == [said]


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StorageUnavailable, match="another program"):
        async with open_storage(f"sqlite:{path}"):
            pass
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == [("theirs",)]


async def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    text = b"Dear diary, " * 100
    await trio.Path(path).write_bytes(text)
    with pytest.raises(StorageUnavailable, match=re.escape(str(path))):
        async with open_storage(f"sqlite:{path}"):
            pass
    assert await trio.Path(path).read_bytes() == text


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "a.db"
    with pytest.raises(StorageUnavailable, match=re.escape(str(path))):
        async with open_storage(f"sqlite:{path}"):
            pass


async def test_three_slashes_begin_an_absolute_path(path: Path) -> None:
    async with open_storage(f"sqlite://{path}") as storage:
        await storage.commit(put(a_job()))
    async with open_storage(f"sqlite:{path}") as storage:
        assert await storage.job("j") == a_job()


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite:", "memory", "memory:x", "postgres:x", "x"])
def test_what_is_no_storage_is_refused_with_the_choices(url: str) -> None:
    with pytest.raises(ConfigError, match=r"memory:.*sqlite:"):
        open_storage(url)


# Group commit.


async def test_operations_that_wait_share_a_transaction(path: Path) -> None:
    async with open_storage(f"sqlite:{path}") as storage:
        before = _transactions(path)
        async with trio.open_nursery() as nursery:
            for at in range(1000):
                nursery.start_soon(storage.commit, put(a_job(f"j{at:04}"), a_row(f"j{at:04}")))
        assert 1 <= _transactions(path) - before <= 20
        assert len(await storage.jobs(JobQuery(limit=2000))) == 1000


async def test_refused_steps_do_not_break_up_a_batch(path: Path) -> None:
    """One that is refused before it has written anything needs no rollback."""
    refused: list[str] = []

    async def commit_stale() -> None:
        try:
            await storage.commit(put(a_job(revision=7)))
        except StaleRevision:
            refused.append("stale")

    async with open_storage(f"sqlite:{path}") as storage:
        before = _transactions(path)
        async with trio.open_nursery() as nursery:
            for at in range(200):
                nursery.start_soon(storage.commit, put(a_row(f"j{at}")))
                nursery.start_soon(commit_stale)
        assert 1 <= _transactions(path) - before <= 10
    assert len(refused) == 200


async def test_a_record_that_cannot_be_stored_fails_alone(path: Path) -> None:
    refused: list[str] = []

    async def commit_bad(job_id: str, value: object) -> None:
        try:
            await storage.commit(put(a_job(job_id, initial_data={"x": value})))
        except (TypeError, ValueError, OverflowError, RecursionError):
            refused.append(job_id)

    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    bad = {"object": object(), "surrogate": "\ud800", "deep": deep}
    async with open_storage(f"sqlite:{path}") as storage:
        async with trio.open_nursery() as nursery:
            for name, value in bad.items():
                nursery.start_soon(storage.commit, put(a_job(f"before {name}")))
                nursery.start_soon(commit_bad, name, value)
                nursery.start_soon(storage.commit, put(a_job(f"after {name}")))
        stored = {job.id for job in await storage.jobs(JobQuery())}
    assert sorted(refused) == sorted(bad)
    assert stored == {f"{when} {name}" for name in bad for when in ("before", "after")}


def _transactions(path: Path) -> int:
    """How many commits the write-ahead log holds (by its format: sqlite.org/fileformat2.html)."""
    log = path.with_name(path.name + "-wal").read_bytes()
    frame = 24 + int.from_bytes(log[8:12], "big")
    salt = log[16:24]
    count = 0
    for at in range(32, len(log) - frame + 1, frame):
        if log[at + 8 : at + 16] != salt:
            break
        count += log[at + 4 : at + 8] != bytes(4)
    return count


# Faults.


@contextmanager
def _full_disk(limit_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond *limit_bytes*."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_commit_that_the_disk_refuses_is_answered_so_and_leaves_nothing(
    path: Path,
) -> None:
    refused: list[str] = []

    async def commit(job_id: str) -> None:
        try:
            await storage.commit(put(a_job(job_id, revision=1, result="x" * 9000), a_row(job_id)))
        except StorageUnavailable as exc:
            refused.append(str(exc))

    async with open_storage(f"sqlite:{path}") as storage:
        await storage.commit(put(a_job("before")))
        log = path.with_name(path.name + "-wal").stat().st_size
        with _full_disk(log + 5000):
            async with trio.open_nursery() as nursery:
                for at in range(10):
                    nursery.start_soon(commit, f"j{at}")
        assert len(refused) == 10
        assert str(path) in refused[0]
        for at in range(10):
            assert await storage.job(f"j{at}") is None
            assert await storage.commit(partial(_stored_job, job_id=f"j{at}")) is None
        await storage.commit(put(a_job("j0"), a_row("j0")))
        assert await storage.job("before") == a_job("before")
    async with open_storage(f"sqlite:{path}") as storage:
        assert [job.id for job in await storage.jobs(JobQuery())] == ["j0", "before"]
        assert len(await storage.history("j0")) == 1


def _stored_job(ledger: Ledger, job_id: str) -> Job | None:
    return ledger.job(job_id)


async def test_commits_after_closing_are_refused(path: Path) -> None:
    async with open_storage(f"sqlite:{path}") as storage:
        pass
    with trio.fail_after(5), pytest.raises(StorageUnavailable):
        await storage.commit(lambda _: None)


_CHILD = """
import os, sys, trio
from avtomatika_trio.storage import open_storage
from avtomatika_trio.testing._samples import a_job, a_row, a_task, put

async def commit(storage, job_id):
    await storage.commit(put(a_job(job_id), a_row(job_id), a_task(job_id)))
    os.write(1, f"{job_id}\\n".encode())

async def main():
    async with open_storage("sqlite:" + sys.argv[1]) as storage, trio.open_nursery() as nursery:
        for at in range(100_000):
            nursery.start_soon(commit, storage, f"j{at}")
            if at % 20 == 0:
                await trio.sleep(0)
trio.run(main)
"""


async def test_every_acknowledged_commit_survives_kill_9(path: Path) -> None:
    with _start(sys.executable, "-c", _CHILD, str(path)) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(500)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout
    acknowledged = [line.decode().strip() for line in lines if line.endswith(b"\n")]
    assert child.returncode == -signal.SIGKILL
    async with open_storage(f"sqlite:{path}") as storage:
        stored = {job.id for job in await storage.jobs(JobQuery(limit=200_000))}
        assert set(acknowledged) <= stored
        for job_id in stored:
            assert len(await storage.history(job_id)) == 1
            assert len(await storage.tasks(job_id)) == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# Cost.


@contextmanager
def _statements(connection: sqlite3.Connection) -> Iterator[set[str]]:
    seen: set[str] = set()
    connection.set_trace_callback(seen.add)
    try:
        yield seen
    finally:
        connection.set_trace_callback(None)


def _everything_an_operation_does(ledger: Ledger) -> None:
    put(*EVERYTHING)(ledger)
    ledger.job("other")
    ledger.task("other")
    ledger.attempt("other")
    ledger.instance("other")
    ledger.fan_out("other", 1)
    ledger.timer(TimerKind.RETRY, "other")
    ledger.drop_timer(TimerKind.RETRY, "other")
    ledger.open_tasks("j")
    ledger.queued("k", Lane.NORMAL, most=9)
    ledger.leased("i")
    ledger.due_instances(most=9)
    ledger.due_timers(most=9)
    ledger.due_files(most=9)
    ledger.due_forgets(most=9)
    ledger.task_count("j")
    ledger.forget_job("j")
    ledger.put_task(a_task("k"))
    ledger.put_attempt(an_attempt("w2"))


def _everything_that_is_read(connection: sqlite3.Connection) -> None:
    reads.job(connection, "j")
    reads.jobs_by_id(connection, ["a", "b"])
    reads.tasks(connection, "j", None)
    reads.tasks(connection, "j", 1)
    reads.attempts(connection, "j")
    reads.history(connection, "j", 0, 10)
    reads.progress(connection, "j")
    for before in (None, (START, "j")):
        reads.jobs(connection, JobQuery(before=before))
        reads.jobs(connection, JobQuery(before=before, client="c"))
        for statuses in ({JobStatus.FAILED}, {JobStatus.FAILED, JobStatus.CANCELLED}):
            reads.jobs(connection, JobQuery(before=before, statuses=frozenset(statuses)))


def test_no_query_scans_a_table_or_sorts(path: Path) -> None:
    with closing(connect(path)) as connection:
        prepare(connection, path, "c")
        ledger = SqliteLedger(connection)
        with _statements(connection) as statements:
            ledger.begin_operation(START)
            _everything_an_operation_does(ledger)
            ledger.flush()
            _everything_that_is_read(connection)
        assert len(statements) > 20
        slow = [
            (statement, step[3])
            for statement in sorted(statements)
            for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            if _costs_more_than_it_finds(statement, step[3])
        ]
    assert slow == []


def _costs_more_than_it_finds(statement: str, detail: str) -> bool:
    if "TEMP B-TREE" in detail:
        return "FROM progress" not in statement  # sorts the running tasks of one job
    if not detail.startswith("SCAN"):
        return False
    if "CONSTANT ROW" in detail:  # the rows of a VALUES clause
        return False
    # A listing of everybody's jobs walks an index from its end, and stops at the limit.
    return not (detail.startswith("SCAN jobs USING INDEX") and "LIMIT" in statement)
