"""`task_files`: what a handler does in the folder of its attempt."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.file_cases import BUCKET, Desk
from tests.worker.worker_cases import running

from avtomatika_trio.errors import BlobMissing, UnsafePath
from avtomatika_trio.worker import TaskFiles, Worker


@pytest.fixture
async def files(desk: Desk) -> AsyncIterator[TaskFiles]:
    attempt = desk.attempt()
    async with attempt.open():
        await attempt.make()
        yield TaskFiles(attempt)


async def test_what_is_written_can_be_read(files: TaskFiles) -> None:
    path = await files.write("deep/er/a.txt", "grün")
    assert path == files.root.resolve() / "deep/er/a.txt"
    assert await files.read("deep/er/a.txt") == "grün".encode()
    assert await files.read(str(path)) == "grün".encode()
    await files.write("b.bin", b"\xff")
    assert await files.read("b.bin") == b"\xff"
    await files.write_json("c.json", {"a": [1, None, "ü"]})
    assert await files.read_json("c.json") == {"a": [1, None, "ü"]}
    assert await files.list() == ["b.bin", "c.json", "deep/er/a.txt"]
    assert await files.list("deep") == ["er/a.txt"]
    assert await files.exists("deep")
    assert not await files.exists("nothing")
    async with await files.open("d.txt", "w") as file:
        await file.write("d")
    async with await files.open("d.txt") as file:
        assert await file.read() == b"d"


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/hostname", "..", "a\0b", "link/x", "link"]
)
async def test_no_name_leads_out(files: TaskFiles, tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_text("secret")
    (files.root / "link").symlink_to(tmp_path)
    before = sorted(tmp_path.iterdir())
    calls: list[Any] = [
        lambda: files.read(name),
        lambda: files.write(name, b"!"),
        lambda: files.read_json(name),
        lambda: files.write_json(name, 1),
        lambda: files.list(name),
        lambda: files.exists(name),
        lambda: files.open(name, "w"),
        lambda: files.upload(name),
        lambda: files.upload_dir(name),
        lambda: files.download(f"s3://{BUCKET}/a", name),
    ]
    for call in calls:
        with pytest.raises(UnsafePath):
            await call()
    for sync in (files.path_to, files.read_sync, files.exists_sync, files.open_sync):
        with pytest.raises(UnsafePath):
            sync(name)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "x").read_text() == "secret"


async def test_upload_and_download(desk: Desk, files: TaskFiles) -> None:
    await files.write("set/a", b"a")
    await files.write("set/b/c", b"c")
    assert await files.upload("set/a") == f"s3://{BUCKET}/jobs/j1/t1/set/a"
    uri = await files.upload_dir("set")
    assert uri == f"s3://{BUCKET}/jobs/j1/t1/set/"
    path = await files.download(uri, "copy")
    assert await files.list("copy") == ["a", "b/c"]
    assert path == files.root.resolve() / "copy"
    one = await files.download(f"{uri}b/c")
    assert (one.name, await files.read("c")) == ("c", b"c")
    with pytest.raises(BlobMissing):
        await files.download(f"{uri}nothing")
    with pytest.raises(FileNotFoundError):
        await files.upload("nothing")
    with pytest.raises(UnsafePath):
        await files.download("s3://payroll/a")
    with pytest.raises(UnsafePath):
        await files.download(f"s3://{BUCKET}/", ".")


async def test_a_folder_is_not_downloaded_through_a_link(
    desk: Desk, files: TaskFiles, tmp_path: Path
) -> None:
    await desk.put("set/sub/x", b"x")
    (files.root / "copy").mkdir()
    (files.root / "copy" / "sub").symlink_to(tmp_path)
    with pytest.raises(UnsafePath):
        await files.download(f"s3://{BUCKET}/set/", "copy")
    assert not (tmp_path / "x").exists()


async def test_a_handler_in_a_thread_uses_the_twins(tmp_path: Path) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    def work(params: dict[str, Any], task_files: TaskFiles) -> dict[str, Any]:
        task_files.write_sync("a/b.txt", "b")
        task_files.write_json_sync("c.json", [1])
        with task_files.open_sync("d.txt", "w") as file:
            file.write("d")
        uri = task_files.upload_sync("a/b.txt")
        path = task_files.download_sync(uri, "again.txt")
        return {
            "uri": uri,
            "again": task_files.read_sync("again.txt").decode(),
            "json": task_files.read_json_sync("c.json"),
            "list": task_files.list_sync(),
            "exists": task_files.exists_sync("a"),
            "folder": task_files.upload_dir_sync("a"),
            "path": path,
        }

    fake.submit("work", {})
    files_dir, payloads = tmp_path / "files", tmp_path / "payloads"
    with trio.fail_after(20):
        async with running(worker, fake, files_dir=files_dir, payload_dir=payloads):
            await fake.all_done()
    ((status, data),) = fake.results().values()
    prefix = data["uri"].removesuffix("a/b.txt")
    assert prefix.startswith(f"s3://{BUCKET}/jobs/job-k0/")
    assert (status, data) == (
        "success",
        {
            "uri": f"{prefix}a/b.txt",
            "again": "b",
            "json": [1],
            "list": ["a/b.txt", "again.txt", "c.json", "d.txt"],
            "exists": True,
            "folder": f"{prefix}a/",
            "path": f"{prefix}again.txt",
        },
    )
    assert list(payloads.iterdir()) == []


async def test_what_is_forbidden_fails_the_task_as_a_matter_of_security(tmp_path: Path) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(params: dict[str, Any], task_files: TaskFiles) -> bytes:
        return await task_files.read("../../../secret")

    fake.submit("work", {})
    with trio.fail_after(20):
        async with running(worker, fake, payload_dir=tmp_path / "payloads"):
            await fake.all_done()
    (task,) = fake.tasks.values()
    assert task.result is not None
    assert task.result.error is not None
    assert not isinstance(task.result.error, str)
    assert task.result.error.code == "SECURITY_ERROR"
