"""What becomes of a task whose files cannot be had or put: its code says whose fault it is."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.file_cases import BUCKET
from tests.worker.worker_cases import running

from avtomatika_trio import errors
from avtomatika_trio._wire.messages import ResultError
from avtomatika_trio.blobs._folder import FolderBlobs
from avtomatika_trio.errors import BlobError
from avtomatika_trio.worker import TaskFiles, Worker

URI = f"s3://{BUCKET}/a"


def all_blob_errors() -> Iterator[type[BlobError]]:
    for it in vars(errors).values():
        if isinstance(it, type) and issubclass(it, BlobError):
            yield it


CODES = {
    "BlobMissing": "INVALID_INPUT_ERROR",
    "BlobRefused": "INVALID_INPUT_ERROR",
    "BlobDenied": "PERMANENT_ERROR",
    "BlobMismatch": "INTEGRITY_MISMATCH_ERROR",
    "BlobChanged": "TRANSIENT_ERROR",
    "BlobUnavailable": "TRANSIENT_ERROR",
    "DiskFault": "TRANSIENT_ERROR",
    "BlobError": "TRANSIENT_ERROR",
}


def folders(tmp_path: Path) -> dict[str, Any]:
    return {"files_dir": tmp_path / "files", "payload_dir": tmp_path / "payloads"}


async def error_of(worker: Worker, tmp_path: Path, params: dict[str, Any]) -> ResultError:
    fake = FakeOrchestrator()
    (task,) = fake.submit("work", params)
    with trio.fail_after(20):
        async with running(worker, fake, **folders(tmp_path)):
            await fake.all_done()
    assert task.result is not None
    assert isinstance(task.result.error, ResultError)
    assert not list((tmp_path / "payloads").iterdir())
    return task.result.error


@pytest.mark.parametrize("kind", list(all_blob_errors()), ids=lambda it: it.__name__)
async def test_an_input_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BlobError]
) -> None:
    async def head(self: FolderBlobs, at: object) -> None:
        raise kind(URI, "the reason")

    monkeypatch.setattr(FolderBlobs, "head", head)
    worker, called = Worker(), []

    @worker.skill
    async def work(params: dict[str, Any]) -> None:
        called.append(params)

    error = await error_of(worker, tmp_path, {"file": URI})
    assert (error.code, error.details) == (CODES[kind.__name__], {"uri": URI})
    assert error.message == f"{URI}: the reason"
    assert called == []


@pytest.mark.parametrize("kind", list(all_blob_errors()), ids=lambda it: it.__name__)
async def test_an_output_that_cannot_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BlobError]
) -> None:
    async def upload(self: FolderBlobs, *args: object) -> None:
        raise kind(URI, "the reason")

    monkeypatch.setattr(FolderBlobs, "upload", upload)
    worker = Worker()

    @worker.skill
    async def work(params: dict[str, Any], task_files: TaskFiles) -> Path:
        return await task_files.write("a", b"a")

    error = await error_of(worker, tmp_path, {})
    code = CODES[kind.__name__]
    if code != "TRANSIENT_ERROR":
        code = "PERMANENT_ERROR"  # who submitted the job has no part in it
    assert (error.code, error.message) == (code, f"{URI}: the reason")


async def test_what_leads_out_is_told_as_a_matter_of_security(tmp_path: Path) -> None:
    worker = Worker()

    @worker.skill
    async def work(params: dict[str, Any], task_files: TaskFiles) -> str:
        return str(task_files.root.parent / "lock")

    for params, said in (({"file": "s3://payroll/a"}, "payroll"), ({}, "lock")):
        error = await error_of(worker, tmp_path, params)
        assert error.code == "SECURITY_ERROR"
        assert said in error.message


async def test_a_link_to_nothing_in_a_result_is_no_crash_of_the_worker(tmp_path: Path) -> None:
    worker = Worker()

    @worker.skill
    async def work(params: dict[str, Any], task_files: TaskFiles) -> Path:
        (task_files.root / "set").mkdir()
        (task_files.root / "set" / "link").symlink_to("nothing")
        return task_files.root / "set"

    error = await error_of(worker, tmp_path, {})
    assert (error.code, "leads nowhere" in error.message) == ("PERMANENT_ERROR", True)


async def test_who_uses_no_files_has_no_folder(tmp_path: Path) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(params: dict[str, Any]) -> list[str]:
        return [it.name for it in (tmp_path / "payloads" / "run-i1").iterdir()]

    fake.submit("work", {})
    with trio.fail_after(20):
        async with running(worker, fake, **folders(tmp_path)):
            await fake.all_done()
    assert list(fake.results().values()) == [("success", ["lock"])]


async def test_a_disk_that_fails_is_no_crash_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()

    @worker.skill
    async def work(params: dict[str, Any], task_files: TaskFiles) -> None: ...

    def mkdir(self: Path, *args: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    async def break_disk() -> None:
        while not (tmp_path / "payloads" / "run-i1").exists():  # noqa: ASYNC110 - on the disk
            await trio.sleep(0.001)
        monkeypatch.setattr(Path, "mkdir", mkdir)

    fake = FakeOrchestrator()
    with trio.fail_after(20):
        async with running(worker, fake, **folders(tmp_path)):
            await break_disk()
            fake.submit("work", {})
            await fake.all_done()
            monkeypatch.undo()
    ((status, _),) = fake.results().values()
    assert status == "failure"


async def test_a_folder_stays_for_a_thread_that_is_left_to_itself(tmp_path: Path) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    @worker.skill
    def work(params: dict[str, Any], task_files: TaskFiles) -> None:
        begun.set()
        go_on.wait(20)
        seen.append(task_files.root.exists())
        done.set()

    fake.submit("work", {})
    chosen = {**folders(tmp_path), "shutdown_timeout_seconds": 0.0}
    with trio.fail_after(20):
        async with running(worker, fake, **chosen):
            await trio.to_thread.run_sync(begun.wait)
            (root,) = (tmp_path / "payloads" / "run-i1").glob("k0*")
        # The worker has ended, and everything of it is gone; no earlier.
        assert not root.exists()
        go_on.set()
        await trio.to_thread.run_sync(done.wait)
    assert seen == [False]


async def test_a_cancelled_thread_keeps_its_folder_until_it_ends(tmp_path: Path) -> None:
    fake, worker = FakeOrchestrator(heartbeat_seconds=0.1), Worker()
    begun, go_on = threading.Event(), threading.Event()
    seen: list[bool] = []

    @worker.skill
    def work(params: dict[str, Any], task_files: TaskFiles) -> str:
        begun.set()
        go_on.wait(20)
        seen.append(task_files.root.exists())
        return str(task_files.write_sync("a", b"a"))

    (task,) = fake.submit("work", {})
    chosen = {**folders(tmp_path), "heartbeat_interval_seconds": 0.1}
    with trio.fail_after(20):
        async with running(worker, fake, **chosen):
            await trio.to_thread.run_sync(begun.wait)
            assert task.leased_as is not None
            fake.to_cancel.add(task.leased_as)
            beats = len(fake.beats)
            await fake.until(lambda: len(fake.beats) > beats + 2, seconds=20)
            go_on.set()
            (own,) = (tmp_path / "payloads").iterdir()
            while [it for it in own.iterdir() if it.is_dir()]:  # noqa: ASYNC110 - on the disk
                await trio.sleep(0.001)
    assert seen == [True]
    assert fake.results() == {}
    assert not (tmp_path / "files").exists()  # nobody wants what it returned
