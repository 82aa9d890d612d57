"""`task_files`: what handlers of blueprints do with the files of their job."""

import contextlib
import stat
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from tests.orchestrator.clients import TOKEN, WORKER_TOKEN, memory
from trio.testing import MockClock

from avtomatika_trio import Blueprint
from avtomatika_trio._core import steps
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio.blobs import open_folder
from avtomatika_trio.errors import BlobMissing, BlobRefused, BlobUnavailable, UnsafePath
from avtomatika_trio.orchestrator import _job_files
from avtomatika_trio.orchestrator._context import Context, Limits
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._job_files import JobFiles
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.testing import MemoryBlobs

JOB = "p00-1"


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs(time.time)


@pytest.fixture
async def files(blobs: MemoryBlobs, tmp_path: Path) -> AsyncIterator[JobFiles]:
    async with opened(blobs, tmp_path / "work") as one:
        yield one


@contextlib.asynccontextmanager
async def opened(blobs: Any, folder: Path) -> AsyncIterator[JobFiles]:
    one = JobFiles(blobs, JOB, folder)
    try:
        yield one
    finally:
        await one.close()


def inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


async def run(
    handler: Callable[..., Any], blobs: Any, folder: Path, **limits: Any
) -> tuple[Job, Context]:
    """The job of which *handler* is the only state, once it has ended."""
    blueprint = Blueprint("b")
    blueprint.handler("start", is_start=True, is_end=True)(handler)
    context = Context(
        storage=memory(),
        blueprints=Blueprints([blueprint]),
        client_token=TOKEN,
        worker_token=WORKER_TOKEN,
        limits=Limits(**limits),
        blobs=blobs,
        task_files_dir=folder,
    )
    new = steps.NewJob(
        id=JOB, blueprint="b", client="c", start="start", initial_data={}, max_transitions=9
    )
    await context.storage.commit(partial(steps.submit, new=[new]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        with trio.fail_after(30), context.storage.job_news(JOB) as news:
            while True:
                job = await context.storage.job(JOB)
                assert job is not None
                if job.status.is_final or job.handler_failures:
                    break
                await news.wait()
        nursery.cancel_scope.cancel()
    return job, context


# In a handler.


async def test_an_async_handler_has_the_files_of_its_job(
    blobs: MemoryBlobs, tmp_path: Path
) -> None:
    blobs.put(f"jobs/{JOB}/in.txt", b"hello")

    async def start(task_files: JobFiles) -> dict[str, Any]:
        text = (await task_files.read("in.txt")).decode()
        uri = await task_files.write("out/a.txt", text.upper())
        path = task_files.path_to("b.txt")
        await trio.Path(path).write_text("b")
        await task_files.upload(path)
        return {"uri": uri, "names": await task_files.list()}

    job, _ = await run(start, blobs, tmp_path / "work")
    assert job.status is JobStatus.FINISHED
    assert job.result["uri"] == f"s3://memory/jobs/{JOB}/out/a.txt"
    assert job.result["names"] == ["b.txt", "in.txt", "out/a.txt"]
    assert inside(tmp_path / "work") == []


async def test_a_handler_in_a_thread_has_the_same_with_other_names(tmp_path: Path) -> None:
    def start(task_files: JobFiles) -> dict[str, Any]:
        task_files.write_sync("a.txt", b"a")
        task_files.write_json_sync("b.json", {"b": [1, "é"]})
        with task_files.open_sync("a.txt", "r") as file:
            text = file.read()
        with task_files.open_sync("d/new.txt", "w") as file:
            file.write("new")
        uri = task_files.upload_sync("d/new.txt")
        folder = task_files.upload_dir_sync("d", "all")
        copy = task_files.download_sync(uri)
        return {
            "read": [text, task_files.read_sync("a.txt").decode(), copy.read_text()],
            "json": task_files.read_json_sync("b.json"),
            "exists": [task_files.exists_sync("a.txt"), task_files.exists_sync("z")],
            "path": task_files.path_to("q").name,
            "folder": folder.rpartition("/jobs/")[2],
            "names": task_files.list_sync(),
        }

    async with open_folder(tmp_path / "files") as folder:
        job, _ = await run(start, folder, tmp_path / "work")
    assert job.result == {
        "read": ["a", "a", "new"],
        "json": {"b": [1, "é"]},
        "exists": [True, False],
        "path": "q",
        "folder": f"{JOB}/all/",
        "names": ["a.txt", "all/new.txt", "b.json", "d/new.txt"],
    }
    assert inside(tmp_path / "work") == []


async def test_every_method_has_a_twin() -> None:
    names = {it for it in vars(JobFiles) if not it.startswith("_")} - {"close"}
    plain = {it for it in names if not it.endswith("_sync")}
    assert {f"{it}_sync" for it in plain - {"path_to"}} == names - plain
    assert plain == {
        *("path_to", "read", "write", "read_json", "write_json", "list", "exists", "open"),
        *("upload", "download", "upload_dir"),
    }


async def test_whoever_does_not_use_files_pays_nothing(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def start(context: Any, task_files: JobFiles) -> None:
        assert context.task_files is task_files

    job, _ = await run(start, MemoryBlobs(time.time), tmp_path / "work")
    assert job.status is JobStatus.FINISHED
    assert not (tmp_path / "work").exists()


async def test_without_a_place_for_files_there_are_none(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async def start(task_files: Any) -> dict[str, Any]:
        return {"none": task_files is None}

    job, _ = await run(start, None, tmp_path / "work")
    assert job.result == {"none": True}


async def test_the_folder_of_a_step_goes_when_its_handler_raises(
    blobs: MemoryBlobs, tmp_path: Path
) -> None:
    async def start(task_files: JobFiles) -> None:
        await trio.Path(task_files.path_to("a")).write_text("a")
        raise RuntimeError("no")

    job, _ = await run(start, blobs, tmp_path / "work")
    assert job.handler_failures == 1
    assert inside(tmp_path / "work") == []


async def test_the_time_of_a_handler_ends_what_it_does_with_files(tmp_path: Path) -> None:
    @attrs.define(eq=False)
    class Slow(MemoryBlobs):
        async def head(self, at: Any) -> Any:
            await trio.sleep_forever()

    async def start(task_files: JobFiles) -> None:
        task_files.path_to("a")
        await task_files.read("a")

    job, _ = await run(start, Slow(time.time), tmp_path / "work", handler_timeout_seconds=0.1)
    assert job.handler_failures == 1
    assert inside(tmp_path / "work") == []


async def test_a_thread_that_outlives_its_step_cannot_use_files_any_more(tmp_path: Path) -> None:
    @attrs.define(eq=False)
    class Slow(MemoryBlobs):
        async def head(self, at: Any) -> Any:
            await trio.sleep_forever()

    raised: list[str] = []
    token, ended = trio.lowlevel.current_trio_token(), trio.Event()

    def start(task_files: JobFiles) -> None:
        for _ in range(2):  # while it goes on, and afterwards
            try:
                task_files.read_sync("a")
            except RuntimeError as exc:
                raised.append(str(exc))
        token.run_sync_soon(ended.set)

    job, _ = await run(start, Slow(time.time), tmp_path / "work", handler_timeout_seconds=0.1)
    assert job.handler_failures == 1
    with trio.fail_after(10):
        await ended.wait()
    assert raised == ["the step is over: task_files cannot be used any more"] * 2
    assert inside(tmp_path / "work") == []


# Names.


@pytest.mark.parametrize(
    "name",
    ["", "..", "../a", "a/../../b", "/etc/passwd", "a//b", "a\0", "a\nb", "..\\a", "x" * 999],
)
async def test_a_name_that_leads_away_is_refused_by_all(
    files: JobFiles, blobs: MemoryBlobs, name: str
) -> None:
    calls = (
        partial(files.read, name),
        partial(files.write, name, b""),
        partial(files.exists, name),
        partial(files.open, name),
        partial(files.open, name, "wb"),
        partial(files.download, name),
        partial(files.download, f"{name}/", "/nowhere"),
        partial(files.upload, __file__, name),
        partial(files.upload_dir, Path(__file__).parent / "tls", name),
    )
    for call in calls:
        with pytest.raises(UnsafePath):
            await call()
    with pytest.raises(UnsafePath):
        files.path_to(name)
    if name:
        with pytest.raises(UnsafePath):
            await files.list(name)
    assert blobs.keys() == []


async def test_a_local_file_outside_of_the_folder_gets_its_last_name(
    files: JobFiles, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("x")
    await files.upload(tmp_path / "mine.txt")
    assert blobs.keys() == [f"jobs/{JOB}/mine.txt"]
    with pytest.raises(UnsafePath):
        await files.upload("../part-of-another")


async def test_uris_of_this_job_stand_for_names(files: JobFiles, blobs: MemoryBlobs) -> None:
    blob = blobs.put(f"jobs/{JOB}/p00-task-1/out.txt", b"of a worker")
    assert await files.read(blob.uri) == b"of a worker"
    assert await files.exists(blob.uri)
    path = await files.download(blob.uri)
    assert path == files.path_to("p00-task-1/out.txt")
    assert path.read_bytes() == b"of a worker"
    async with await files.open(blob.uri, "r") as file:
        assert await file.read() == "of a worker"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://memory/jobs/p00-2/a",
        f"s3://memory/jobs/{JOB}0/a",
        f"s3://other/jobs/{JOB}/a",
        "s3://memory/a",
        "s3://memory",
        "s3://",
    ],
)
async def test_files_of_other_jobs_are_not_to_be_had(
    files: JobFiles, blobs: MemoryBlobs, uri: str
) -> None:
    for key in ("jobs/p00-2/a", f"jobs/{JOB}0/a", "a"):
        blobs.put(key, b"secret")
    for call in (files.read, files.exists, files.download, files.open):
        with pytest.raises(BlobRefused):
            await call(uri)
    with pytest.raises(UnsafePath):
        await files.read(f"s3://memory/jobs/{JOB}/../p00-2/a")


# Content.


async def test_what_is_not_there_is_missing(files: JobFiles) -> None:
    for call in (files.read, files.download, files.open):
        with pytest.raises(BlobMissing):
            await call("a")
    assert not await files.exists("a")
    assert await files.list() == []


async def test_a_file_that_is_too_long_is_not_read(
    files: JobFiles, blobs: MemoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_job_files, "MOST_READ_BYTES", 3)
    blobs.put(f"jobs/{JOB}/a", b"1234")
    with pytest.raises(BlobRefused, match=r"4 bytes.*download"):
        await files.read("a")
    assert (await files.download("a")).read_bytes() == b"1234"


async def test_open_prefers_the_local_copy_and_download_renews_it(
    files: JobFiles, blobs: MemoryBlobs
) -> None:
    blobs.put(f"jobs/{JOB}/a", b"1")
    async with await files.open("a") as file:
        assert await file.read() == b"1"
    async with await files.open("a", "wb") as file:
        await file.write(b"local")
    async with await files.open("a") as file:
        assert await file.read() == b"local"
    assert await files.read("a") == b"1"
    assert (await files.download("a")).read_bytes() == b"1"


async def test_a_folder_goes_and_comes_as_a_whole(
    files: JobFiles, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_text("a")
    (source / "sub" / "b").write_text("b")
    (source / "link").symlink_to("/etc/passwd")
    assert await files.upload_dir(source) == f"s3://memory/jobs/{JOB}/source/"
    assert await files.list("source/") == ["source/a", "source/sub/b"]
    folder = await files.download("source/")
    assert (folder / "sub" / "b").read_text() == "b"
    target = tmp_path / "target"
    await files.download(f"s3://memory/jobs/{JOB}/source/", target)
    assert sorted(it.name for it in target.rglob("*")) == ["a", "b", "sub"]


async def test_a_folder_with_an_empty_one_in_it_comes_as_a_whole(
    files: JobFiles, blobs: MemoryBlobs
) -> None:
    for name in ("set/a", "set/empty/", "bare/"):
        blobs.put(f"jobs/{JOB}/{name}", b"")
    folder = await files.download("set/")
    assert sorted(it.name for it in folder.iterdir()) == ["a", "empty"]
    assert (folder / "empty").is_dir()
    assert list((await files.download("bare/")).iterdir()) == []


async def test_local_copies_are_nobody_elses(files: JobFiles, tmp_path: Path) -> None:
    files.path_to("a")
    [scratch] = inside(tmp_path / "work")
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700


async def test_a_fault_of_the_place_comes_out(files: JobFiles, blobs: MemoryBlobs) -> None:
    with (
        blobs.broken(BlobUnavailable("s3://memory/a", "it is away")),
        pytest.raises(BlobUnavailable),
    ):
        await files.write("a", b"x")
    with pytest.raises(TypeError):
        await files.write_json("a", object())
    await files.write("a", "no json")
    with pytest.raises(ValueError, match="Expecting"):
        await files.read_json("a")


async def test_a_key_that_leads_away_is_not_written_to(
    files: JobFiles, blobs: MemoryBlobs, tmp_path: Path
) -> None:
    blobs.put(f"jobs/{JOB}/set/../../evil", b"x")
    with pytest.raises(UnsafePath):
        await files.download("set/", tmp_path / "a" / "b")
    assert list(tmp_path.rglob("evil")) == []
