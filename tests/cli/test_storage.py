"""`avtomatika storage`: real files, and what is wrong with them."""

import gzip
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from tests.cli.commands import Run
from tests.e2e.killing import CLIENT_TOKEN, Program, lasting_port, notes_of, sleeper
from tests.storage.redis_servers import start_server

from avtomatika_trio._core.ledger import Ledger, Service
from avtomatika_trio.cli import Exit, _storage_open
from avtomatika_trio.cli._storage_open import Opened
from avtomatika_trio.client import Client
from avtomatika_trio.storage import MemoryStorage, Storage, open_storage
from avtomatika_trio.storage._records import StoredRecord, encode_record
from avtomatika_trio.testing._promises_archive import exported, live
from avtomatika_trio.testing._samples import START, a_job, a_row, put
from avtomatika_trio.testing._suite import SetClock

T = TypeVar("T")

A, B, FILE = "sqlite:a.db", "sqlite:b.db", Path("a.backup")


def fill(url: str, fill_in: Callable[[Storage], Any] = live) -> list[StoredRecord]:
    """Have jobs in the storage *url*; what it exports then, without the facts."""

    async def main() -> list[StoredRecord]:
        async with open_storage(url, now=SetClock(), partitions=1) as storage:
            await fill_in(storage)
            return await _records(storage)

    return trio.run(main)


def held(url: str) -> tuple[str, list[StoredRecord]]:
    """The cluster id of the storage *url*, and what it exports without the facts."""

    async def main() -> tuple[str, list[StoredRecord]]:
        async with open_storage(url, now=SetClock(), partitions=1) as storage:
            return storage.cluster_id, await _records(storage)

    return trio.run(main)


async def _records(storage: Storage) -> list[StoredRecord]:
    """In an order that does not depend on the partitions that they are in."""
    return sorted((await exported(storage))[1:], key=encode_record)


async def broken_job(storage: Storage) -> None:
    """A job that waits for a worker without a task that one could get."""
    await storage.commit(put(a_job(), a_row()))


def repacked(change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Have the lines of the backup changed, with a checksum that fits."""
    lines = change(gzip.decompress(FILE.read_bytes()).splitlines(keepends=True)[:-1])
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    trailer = json.dumps({"records": len(lines) - 1, "sha256": digest}).encode() + b"\n"
    FILE.write_bytes(gzip.compress(b"".join(lines) + trailer))


class TestCheck:
    def test_it_counts_what_is_there(self, run: Run) -> None:
        fill(A)
        ran = run("storage", "check", "--storage", A)
        assert ran.code == Exit.OK
        assert "sqlite, schema 5" in ran.out
        assert "violations  none" in ran.out
        told = run("storage", "check", "--storage", A, "--json").json
        assert told["kind"] == "sqlite"
        assert told["cluster_id"] == held(A)[0]
        assert told["jobs"] == {
            "pending": 1,
            "waiting_for_worker": 2,
            "waiting_for_parallel": 1,
            "finished": 1,
        }
        assert (told["open_tasks"], told["running_attempts"], told["instances"]) == (4, 2, 1)
        assert told["records"]["audit"] == 3
        assert told["violations"] == []

    def test_the_storage_is_that_of_the_settings(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(A)
        monkeypatch.setenv("STORAGE_URL", A)
        assert run("storage", "check", "-o", "json").json["storage"] == A

    def test_each_violation_is_told(self, run: Run) -> None:
        fill(A, broken_job)
        ran = run("storage", "check", "--storage", A)
        fault = "job j (waiting_for_worker): waits for a worker with 0 open tasks"
        assert ran.code == Exit.FAILED
        assert fault in ran.err
        assert fault in run("storage", "check", "--storage", A, "--json").json["violations"]


class TestBackup:
    def test_everything_comes_back(self, run: Run) -> None:
        records = fill(A)
        cluster_id = held(A)[0]
        ran = run("storage", "backup", str(FILE), "--storage", A)
        assert (ran.code, ran.out) == (Exit.OK, "")
        assert FILE.stat().st_mode & 0o777 == 0o600
        ran = run("storage", "restore", str(FILE), "--storage", B)
        assert ran.code == Exit.OK
        assert cluster_id in ran.out
        assert "violations  none" in ran.out
        assert "start orchestrators with --storage sqlite:b.db" in ran.err
        assert held(B) == (cluster_id, records)
        assert held(A) == (cluster_id, records)

    def test_the_file_tells_where_it_comes_from(self, run: Run) -> None:
        records = fill(A)
        run("storage", "backup", str(FILE), "--storage", A)
        lines = gzip.decompress(FILE.read_bytes()).splitlines()
        header, trailer = json.loads(lines[0]), json.loads(lines[-1])
        assert header["format"] == "avtomatika-archive"
        assert (header["version"], header["schema"], header["storage"]) == (1, 5, "sqlite")
        assert header["cluster_id"] == held(A)[0]
        assert header["made_at"] > START
        assert json.loads(lines[1])[0] == "facts"
        assert trailer["records"] == len(records) + 1 == len(lines) - 2

    def test_another_file_is_replaced_only_by_force(self, run: Run) -> None:
        fill(A)
        FILE.write_text("mine")
        FILE.chmod(0o644)
        ran = run("storage", "backup", str(FILE), "--storage", A)
        assert ran.code == Exit.CONFLICT
        assert "--force" in ran.err
        assert FILE.read_text() == "mine"
        assert run("storage", "backup", str(FILE), "--storage", A, "--force").code == Exit.OK
        assert FILE.stat().st_mode & 0o777 == 0o600
        assert run("storage", "restore", str(FILE), "--storage", B).code == Exit.OK

    @pytest.mark.parametrize(
        ("file", "code", "fault"),
        [
            ("no/such/a.backup", Exit.FAILED, "cannot be written: No such file or directory"),
            ("/dev/full", Exit.USAGE, "is not a file"),
            (".", Exit.USAGE, "is not a file"),
        ],
    )
    def test_a_place_that_cannot_be_written(
        self, run: Run, file: str, code: Exit, fault: str
    ) -> None:
        fill(A)
        ran = run("storage", "backup", file, "--storage", A, "--force")
        assert (ran.code, ran.out) == (code, "")
        assert fault in ran.err

    def test_a_backup_that_fails_leaves_nothing(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(A)
        before = sorted(Path().iterdir())

        def fails(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fails)
        ran = run("storage", "backup", str(FILE), "--storage", A)
        assert ran.code == Exit.FAILED
        assert "No space left on device; nothing was changed" in ran.err
        assert sorted(Path().iterdir()) == before


class TestRestore:
    @pytest.fixture(autouse=True)
    def backup(self, run: Run) -> None:
        fill(A)
        run("storage", "backup", str(FILE), "--storage", A)

    def refused(self, run: Run, code: Exit = Exit.USAGE) -> str:
        """What is told of the file; nothing is made of it."""
        ran = run("storage", "restore", str(FILE), "--storage", B)
        assert (ran.code, ran.out) == (code, "")
        assert not Path("b.db").exists()
        return ran.err

    def test_a_file_that_is_cut_off_anywhere(self, run: Run) -> None:
        whole = FILE.read_bytes()
        for length in (0, 1, 9, 20, len(whole) // 2, len(whole) - 9, len(whole) - 1):
            FILE.write_bytes(whole[:length])
            told = self.refused(run)
            assert "it is cut off" in told or "is no backup" in told

    def test_a_file_whose_lines_are_cut_off(self, run: Run) -> None:
        whole = gzip.decompress(FILE.read_bytes())
        lines = whole.splitlines(keepends=True)
        for kept in (b"".join(lines[:-1]), b"".join(lines[:1]), whole[:-1], whole[:-70]):
            FILE.write_bytes(gzip.compress(kept))
            assert "it is cut off" in self.refused(run)

    def test_a_flipped_byte(self, run: Run) -> None:
        whole = FILE.read_bytes()
        for at in range(10, len(whole), len(whole) // 97):  # the first ten say nothing of it
            FILE.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
            self.refused(run)

    def test_a_record_that_was_changed_or_taken_out(self, run: Run) -> None:
        whole = gzip.decompress(FILE.read_bytes())
        lines = whole.splitlines(keepends=True)
        for changed in (
            whole.replace(b'"job":"single"', b'"job":"Single"'),
            b"".join(lines[:4] + lines[5:]),
            b"".join([*lines[:4], lines[5], lines[4], *lines[6:]]),
        ):
            assert changed != whole
            FILE.write_bytes(gzip.compress(changed))
            assert "its checksum is that of something else" in self.refused(run)
        FILE.write_bytes(gzip.compress(whole + lines[-2]))
        assert "goes on after its end" in self.refused(run)

    def test_files_of_another_kind(self, run: Run) -> None:
        for content in (b"", b"hello\n", b'{"format": "avtomatika-archive"}\n'):
            FILE.write_bytes(content)
            self.refused(run)
            FILE.write_bytes(gzip.compress(content))
            self.refused(run)
        FILE.write_bytes(gzip.compress(b'{"format": "tar", "version": 1}\n'))
        assert "is no backup" in self.refused(run)
        FILE.unlink()
        assert "there is no file" in self.refused(run, Exit.NOT_FOUND)
        FILE.mkdir()
        assert "Is a directory" in self.refused(run, Exit.FAILED)

    def test_a_newer_version(self, run: Run) -> None:
        repacked(lambda it: [it[0].replace(b'"version":1', b'"version":2'), *it[1:]])
        assert "its format is 2, this program knows 1" in self.refused(run)

    def test_records_that_are_malformed_are_told_with_their_line(self, run: Run) -> None:
        whole = FILE.read_bytes()
        repacked(lambda it: [*it[:2], b'["planet",{}]\n', *it[2:]])
        assert "line 3: there are no records of kind 'planet'" in self.refused(run)
        FILE.write_bytes(whole)
        repacked(lambda it: [*it[:2], b'["job",{"id":1}]\n', *it[2:]])
        assert "line 3, $.id" in self.refused(run)
        FILE.write_bytes(whole)
        repacked(lambda it: [it[0], *it[2:]])
        assert "line 2: the facts must come first" in self.refused(run)
        FILE.write_bytes(whole)
        repacked(lambda it: [*it, it[1]])
        assert "the facts must come first, and once" in self.refused(run)

    def test_a_storage_that_is_not_empty(self, run: Run) -> None:
        fill(B, broken_job)
        before = held(B)
        ran = run("storage", "restore", str(FILE), "--storage", B)
        assert (ran.code, ran.out) == (Exit.CONFLICT, "")
        assert "sqlite:b.db is not empty: it has 1 job; nothing was changed" in ran.err
        assert "remove b.db, b.db-wal and b.db-shm" in ran.err
        assert held(B) == before

    def test_a_storage_that_was_served(self, run: Run) -> None:
        async def serve(storage: Storage) -> None:
            await storage.commit(put(Service(served_at=START, serving_since=START)))

        fill(B, serve)
        ran = run("storage", "restore", str(FILE), "--storage", B)
        assert ran.code == Exit.CONFLICT
        assert "it has been served" in ran.err

    def test_what_was_broken_before_is_told_after(self, run: Run) -> None:
        fill("sqlite:c.db", broken_job)
        run("storage", "backup", str(FILE), "--storage", "sqlite:c.db", "--force")
        ran = run("storage", "restore", str(FILE), "--storage", B)
        assert ran.code == Exit.FAILED
        assert "waits for a worker with 0 open tasks" in ran.err

    def test_a_part_is_not_taken_for_the_cluster(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lost = MemoryStorage(SetClock(), "its-own")

        async def restore(_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(lost, "restore", restore)
        monkeypatch.setattr(_storage_open, "open_storage", lambda _: nullcontext(lost))
        ran = run("storage", "restore", str(FILE), "--storage", "redis://h")
        assert ran.code == Exit.INTERRUPTED
        assert "redis://h has a part at most, and is not to be served" in ran.err
        assert lost.cluster_id == "its-own"

    def test_a_storage_that_loses_something_is_found_out(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Forgetful(MemoryStorage):
            async def restore(self, records: Any) -> None:
                await super().restore([it for it in records if not hasattr(it, "wire_id")])

        storage = Forgetful(SetClock())
        monkeypatch.setattr(_storage_open, "open_storage", lambda _: nullcontext(storage))
        monkeypatch.setattr(_storage_open, "OBSERVE_SECONDS", 0.0)
        ran = run("storage", "restore", str(FILE), "--storage", "redis://h")
        assert ran.code == Exit.FAILED
        assert "does not hold what was put into it" in ran.err
        assert "of kind attempt" in ran.err


class TestMigrate:
    def test_everything_is_in_the_other_storage(self, run: Run) -> None:
        records = fill(A)
        before = held(A)
        ran = run("storage", "migrate", A, B)
        assert ran.code == Exit.OK
        assert "violations  none" in ran.out
        *_, after, never = ran.err.splitlines()
        assert "start orchestrators with --storage sqlite:b.db" in after
        assert "never  start one on sqlite:a.db any more" in never
        assert held(B) == (before[0], records)
        assert held(A) == before

    @pytest.mark.parametrize(
        ("source", "target", "code", "fault"),
        [
            (A, A, Exit.USAGE, "SOURCE and TARGET are the same"),
            (A, "sqlite:./a.db", Exit.FAILED, "a.db is in use by process"),
            ("sqlite:no.db", B, Exit.NOT_FOUND, "SOURCE: there is no database no.db"),
            (A, "sqlite:no/b.db", Exit.FAILED, "there is no folder no for the database"),
            (A, "postgres://h", Exit.USAGE, "TARGET: 'postgres://h' is not a storage"),
            ("a.db", B, Exit.USAGE, "SOURCE: 'a.db' is not a storage"),
            (A, "memory:", Exit.USAGE, "TARGET: memory: is gone when its process ends"),
            (A, "sqlite:c.db", Exit.CONFLICT, "sqlite:c.db is not empty"),
            ("sqlite:note", B, Exit.FAILED, "note cannot be used: file is not a database"),
        ],
    )
    def test_what_cannot_be_done(
        self, run: Run, source: str, target: str, code: Exit, fault: str
    ) -> None:
        fill(A)
        fill("sqlite:c.db")
        Path("note").write_text("no database, but long enough to be looked at by SQLite" * 20)
        ran = run("storage", "migrate", source, target)
        assert (ran.code, ran.out) == (code, "")
        assert fault in ran.err
        assert not Path("b.db").exists()


@pytest.mark.parametrize(
    "argv", [["check"], ["backup", "a.backup"], ["restore", "a.backup"], ["migrate", A, B]]
)
def test_a_file_that_somebody_has_open(run: Run, argv: list[str]) -> None:
    fill(A)
    run("storage", "backup", "a.backup", "--storage", A)

    async def main() -> tuple[int, str]:
        async with open_storage(A):
            options = [] if argv[0] == "migrate" else ["--storage", A]
            if argv[0] == "backup":
                options += ["--force"]
            ran = await trio.to_thread.run_sync(partial(run, "storage", *argv, *options))
            return ran.code, ran.err

    code, told = trio.run(main)
    assert code == Exit.FAILED
    assert f"a.db is in use by process {os.getpid()}" in told


@pytest.mark.parametrize("verb", ["check", "backup"])
def test_a_slip_in_the_name_makes_no_database(run: Run, verb: str) -> None:
    file = ["x.backup"] if verb == "backup" else []
    ran = run("storage", verb, *file, "--storage", "sqlite:typo.db")
    assert ran.code == Exit.NOT_FOUND
    assert "there is no database typo.db" in ran.err
    assert list(Path().iterdir()) == []


class Served(MemoryStorage):
    """Shared, and served by somebody else all the time."""

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        service = await super().commit(lambda ledger: ledger.service())
        at = START if service is None else service.served_at + 1
        await super().commit(put(Service(served_at=at, serving_since=START)))
        return await super().commit(operation, partition)


class TestShared:
    @pytest.fixture(autouse=True)
    def served(self, monkeypatch: pytest.MonkeyPatch) -> MemoryStorage:
        storage = Served(SetClock())

        def open_(url: str) -> AbstractAsyncContextManager[Storage]:
            return nullcontext(storage) if url.startswith("redis:") else open_storage(url)

        monkeypatch.setattr(_storage_open, "OBSERVE_SECONDS", 0.0)
        monkeypatch.setattr(_storage_open, "open_storage", open_)
        return storage

    def test_nothing_is_done_while_it_is_served(self, run: Run) -> None:
        fill(A)
        run("storage", "backup", "a.backup", "--storage", A)
        url = "redis://user:secret@h"
        for argv in (
            ["check", "--storage", url],
            ["backup", "x.backup", "--storage", url],
            ["restore", "a.backup", "--storage", url],
            ["migrate", A, url],
            ["migrate", url, B],
        ):
            ran = run("storage", *argv)
            assert (ran.code, ran.out) == (Exit.CONFLICT, "")
            assert "redis://***@h is being served; stop its orchestrators first" in ran.err
            assert ("--live" in ran.err) == (argv[0] in ("check", "backup"))
        assert not Path("x.backup").exists()

    def test_it_may_be_read_as_it_changes(self, run: Run) -> None:
        ran = run("storage", "check", "--storage", "redis://h", "--live", "--json")
        assert ran.code == Exit.OK
        assert ran.json["kind"] == "redis"
        assert "warning: redis://h is being served" in ran.err
        ran = run("storage", "backup", "x.backup", "--storage", "redis://h", "--live")
        assert ran.code == Exit.OK
        assert "may not fit together" in ran.err
        assert Path("x.backup").exists()

    def test_one_that_is_served_in_the_middle_is_given_up(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def is_served(_: Opened) -> bool:
            return False

        monkeypatch.setattr(Opened, "is_served", is_served)
        ran = run("storage", "backup", "x.backup", "--storage", "redis://h")
        assert ran.code == Exit.CONFLICT
        assert "was served meanwhile" in ran.err
        assert list(Path().iterdir()) == []


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.e2e)])
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of an empty server."""
    with start_server(request.param) as server:
        yield server.url


class TestRedis:
    @pytest.fixture(autouse=True)
    def at_rest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_storage_open, "OBSERVE_SECONDS", 0.0)

    def test_check_and_backup_and_restore(self, run: Run, redis_url: str) -> None:
        fill(redis_url)
        cluster_id, records = held(redis_url)
        told = run("storage", "check", "--storage", redis_url, "--json").json
        assert (told["kind"], told["cluster_id"], told["schema"]) == ("redis", cluster_id, 1)
        assert (told["open_tasks"], told["running_attempts"], told["violations"]) == (4, 2, [])
        ran = run("storage", "backup", str(FILE), "--storage", redis_url)
        assert (ran.code, ran.out) == (Exit.OK, "")
        with start_server() as other:
            ran = run("storage", "restore", str(FILE), "--storage", other.url)
            assert ran.code == Exit.OK
            assert cluster_id in ran.out
            assert "violations  none" in ran.out
            assert f"start orchestrators with --storage {other.url}" in ran.err
            assert held(other.url) == (cluster_id, records)
            ran = run("storage", "restore", str(FILE), "--storage", other.url)
            assert ran.code == Exit.CONFLICT
            assert "is not empty: it has 5 jobs; nothing was changed" in ran.err
        assert held(redis_url) == (cluster_id, records)

    def test_there_and_back(self, run: Run, redis_url: str) -> None:
        fill(A)
        before = held(A)
        for source, target in ((A, redis_url), (redis_url, B)):
            ran = run("storage", "migrate", source, target)
            assert ran.code == Exit.OK, ran.err
            assert "violations  none" in ran.out
            assert f"{source} is as it was" in ran.err
        assert held(A) == before
        cluster_id, records = held(B)
        assert cluster_id == before[0]
        assert sorted(map(encode_record, records)) == sorted(map(encode_record, before[1]))


@pytest.mark.e2e
@pytest.mark.timeout(120)
class TestProcesses:
    @pytest.fixture
    def programs(self) -> Iterator[list[Program]]:
        started: list[Program] = []
        yield started
        for program in reversed(started):
            program.end()

    def serve(self, programs: list[Program], folder: Path, url: str, port: int) -> Program:
        """An orchestrator on the storage *url* that is ready."""
        argv = ["serve", "--storage", url, "--port", str(port), "--blueprints", "sleep_blueprints"]
        name = f"orchestrator-{len(programs)}"
        program = Program(name, [*argv, "-o", "json"], folder)
        programs.append(program)
        program.start()
        program.said()
        return program

    def test_nothing_is_done_while_it_is_served(
        self, run: Run, redis_url: str, tmp_path: Path, programs: list[Program]
    ) -> None:
        fill(A)
        assert run("storage", "backup", str(FILE), "--storage", A).code == Exit.OK
        server = self.serve(programs, tmp_path, redis_url, 0)
        for argv in (
            ["check", "--storage", redis_url],
            ["backup", "x.backup", "--storage", redis_url],
            ["restore", str(FILE), "--storage", redis_url],
            ["migrate", A, redis_url],
            ["migrate", redis_url, B],
        ):
            ran = run("storage", *argv)
            assert (ran.code, ran.out) == (Exit.CONFLICT, ""), argv
            assert f"{redis_url} is being served; stop its orchestrators first" in ran.err
        assert run("storage", "check", "--live", "--storage", redis_url).code == Exit.OK
        server.check()
        assert server.end() == Exit.OK
        assert run("storage", "check", "--storage", redis_url).code == Exit.OK

    def test_a_running_attempt_survives_the_move(
        self, run: Run, redis_url: str, tmp_path: Path, programs: list[Program]
    ) -> None:
        port = lasting_port()
        url = f"http://127.0.0.1:{port}"
        before = self.serve(programs, tmp_path, A, port)
        worker = sleeper(tmp_path, "w", url, skill="s", environ={})
        programs.append(worker)
        worker.start()
        with Client(url, CLIENT_TOKEN) as client:
            job_id = client.submit("sleep", {"skill": "s", "n": 7, "seconds": 6.0})
        until = time.monotonic() + 30
        while not notes_of(worker).exists():
            assert time.monotonic() < until, worker.log()
            time.sleep(0.05)
        assert before.end() == Exit.OK
        ran = run("storage", "migrate", A, redis_url)
        assert ran.code == Exit.OK, ran.err
        assert "running     1" in ran.out
        after = self.serve(programs, tmp_path, redis_url, port)
        with Client(url, CLIENT_TOKEN) as client:
            assert client.wait(job_id, timeout_seconds=40).result == {"n": 7}
        worker.check()
        assert len(notes_of(worker).read_text().splitlines()) == 1
        assert worker.end() == Exit.OK
        assert after.end() == Exit.OK
        assert run("storage", "check", "--storage", redis_url).code == Exit.OK


async def test_who_serves_is_seen_by_the_notes_of_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    storage = MemoryStorage(trio.current_time)
    shared = Opened("redis://h", storage)
    assert not await shared.is_served()

    async def serve() -> None:
        while True:
            await storage.commit(
                lambda ledger: ledger.put_service(Service(served_at=ledger.now, serving_since=0.0))
            )
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        assert await shared.is_served()
        nursery.cancel_scope.cancel()
    assert not await shared.is_served()
