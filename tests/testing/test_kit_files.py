"""Files in the kit for tests, and threads, which the clock of tests does not see by itself."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from avtomatika_trio import ActionFactory, Blueprint, testing
from avtomatika_trio.errors import BlobMissing
from avtomatika_trio.testing import _threads
from avtomatika_trio.worker import TaskFiles, TransientError, Worker

FILM = "s3://films/a.mov"

films = Blueprint("films")


@films.handler(is_start=True)
async def begin(actions: ActionFactory, source: str) -> None:
    actions.dispatch_task("cut", {"film": source}, {"success": "done"})


@films.handler(is_end=True)
async def done(first: str, task_files: Any) -> dict[str, Any]:
    await task_files.write_json("credits.json", {"by": "all"})
    return {"first": first, "bytes": len(await task_files.read(first))}


async def cut(params: dict[str, Any], task_files: TaskFiles) -> dict[str, Any]:
    film = await trio.Path(params["film"]).read_bytes()
    path = await task_files.write("frames/0.png", film[:3])
    return {"first": str(path)}


def cut_in_a_thread(params: dict[str, Any], task_files: TaskFiles) -> dict[str, Any]:
    return {"first": task_files.write_sync("frames/0.png", Path(params["film"]).read_bytes()[:3])}


@pytest.mark.parametrize("played", [cut, cut_in_a_thread])
def test_a_file_goes_in_and_another_comes_out(played: Any) -> None:
    files: dict[str, bytes | str] = {FILM: b"abcdef", "s3://films/b.mov": "a text"}
    job = testing.run_job(films, {"source": FILM}, skills={"cut": played}, files=files)
    result = job.assert_finished()
    assert result["bytes"] == 3
    assert job.file(result["first"]) == b"abc"
    assert job.file("credits.json") == b'{"by": "all"}'
    assert len(job.files) == 2
    folder = result["first"].removesuffix("0.png")
    with pytest.raises(LookupError, match=r"frames/ is a folder; ask for .*frames/0\.png"):
        job.file(folder)
    assert job.seconds == 0.0, "no time has passed for what was done with files"


def test_handlers_that_are_not_async_use_the_files_of_their_job() -> None:
    filing = Blueprint("filing")

    @filing.handler(is_start=True, to=["seen"])
    def keep(actions: ActionFactory, task_files: Any) -> None:
        task_files.write_sync("a.txt", "hi")
        actions.go_to("seen")

    @filing.handler(is_end=True)
    def seen(context: Any) -> Any:
        return context.task_files.list_sync(), context.task_files.read_sync("a.txt").decode()

    assert testing.run_job(filing).assert_finished() == [["a.txt"], "hi"]


def test_a_worker_is_lost_with_its_files() -> None:
    tried: list[int] = []

    def cut(params: dict[str, Any], task_files: TaskFiles, attempt: int) -> Any:
        tried.append(attempt)
        if attempt == 2:
            raise TransientError("not now")
        return {"first": task_files.write_sync("x", Path(params["film"]).read_bytes())}

    async def scenario() -> testing.EndedJob:
        async with testing.cluster(films, skills={"cut": cut}, files={FILM: b"abc"}) as c:
            await c.lose_worker(during="cut")
            return await c.run({"source": FILM})

    job, again = testing.run(scenario), testing.run(scenario)
    assert job.assert_finished()["bytes"] == 3
    assert job.events.count("attempt_lost") == job.events.count("attempt_failed") == 1
    assert tried == [2, 3, 2, 3], "the first attempt was lost before the handler saw it"
    told = [[(it.event_type, it.timestamp) for it in one.history] for one in (job, again)]
    assert told[0] == told[1]


async def test_files_are_put_and_read_while_it_runs(autojump_clock: MockClock) -> None:
    async with testing.cluster(films, skills={"cut": cut}) as c:
        uri = await c.put_file("s3://avtomatika-payloads/in/a.mov", b"123456")
        assert await c.read_file(uri) == b"123456"
        with pytest.raises(BlobMissing, match="no such file"):
            await c.read_file("s3://avtomatika-payloads/in/b.mov")
        job = await c.run({"source": uri})
        assert await c.read_file(job.assert_finished()["first"]) == b"123"
    with pytest.raises(LookupError, match=r"no file 'c.json'; its files: credits\.json, .*0\.png"):
        job.file("c.json")
    with pytest.raises(LookupError, match=r"no file 's3://films/a\.mov'"):
        job.file(FILM)


async def test_nothing_of_them_is_left(autojump_clock: MockClock) -> None:
    before = set(_of_tests())
    async with testing.cluster(films, skills={"cut": cut}, files={FILM: b"abc"}) as c:
        [folder] = set(_of_tests()) - before
        (await c.run({"source": FILM})).assert_finished()
        assert list((folder / "files" / "films").iterdir())
    assert set(_of_tests()) == before


def _of_tests() -> list[Path]:
    # Another process of the tests has folders of its own meanwhile.
    found = Path(os.environ["TMPDIR"]).glob("avtomatika-test-*")
    return list(found)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_a_file_that_is_not_there_is_told() -> None:
    job = testing.run_job(
        films, {"source": "s3://films/b.mov"}, skills={"cut": cut}, files={FILM: ""}
    )
    fault = job.assert_failed("INVALID_INPUT_ERROR")
    assert "s3://films/b.mov" in fault.message
    assert "there is no such file" in fault.message


def test_a_bucket_that_workers_may_not_use_is_told_and_can_be_allowed() -> None:
    job = testing.run_job(films, {"source": "s3://other/b.mov"}, skills={"cut": cut})
    assert "S3_ALLOWED_BUCKETS" in job.assert_failed().message

    async def scenario() -> testing.EndedJob:
        worker = Worker(s3_allowed_buckets=("other",))
        worker.skill("cut")(cut)
        async with testing.cluster(films, workers=[worker]) as c:
            uri = await c.put_file("s3://other/b.mov", b"abc")
            return await c.run({"source": uri})

    assert testing.run(scenario).assert_finished()["bytes"] == 3


def test_texts_are_texts_to_who_has_no_files() -> None:
    plain = Blueprint("plain")

    @plain.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("look", {"at": FILM}, {"success": "end"})

    @plain.handler(is_end=True)
    async def end(at: str) -> str:
        return at

    job = testing.run_job(plain, skills={"look": lambda params: params})
    assert job.assert_finished() == FILM
    job = testing.run_job(plain, skills={"look": lambda params: params}, files={FILM: ""})
    assert str(job.assert_finished()).endswith("/a.mov")
    assert job.result != FILM, "it is the path of a local copy"


@pytest.mark.parametrize(
    ("files", "error", "text"),
    [
        (["s3://films/a.mov"], TypeError, "files is a dict of URIs and contents"),
        ({"a.mov": b""}, ValueError, "a.mov: it is not of the form s3://bucket/key; give a URI"),
        ({"s3://films/": b""}, ValueError, "s3://films/ names no file; give a URI"),
        ({"s3://films/a/": b""}, ValueError, "s3://films/a/ names no file; give a URI"),
        ({FILM: Path("a.mov")}, TypeError, "s3://films/a.mov: the content of a file is bytes"),
    ],
)
def test_what_is_no_file_is_told(files: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        testing.run_job(films, {"source": FILM}, skills={"cut": cut}, files=files)


async def test_time_stands_still_for_threads(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that went on standing still would cost this, of real time, at each jump.
    monkeypatch.setattr(_threads, "_PATIENCE_SECONDS", 40.0)
    threaded = Blueprint("threaded")

    @threaded.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("think", {}, {"success": "end"}, timeout_seconds=1)

    @threaded.handler(is_end=True)
    async def end(in_thread: bool) -> bool:
        return in_thread

    async def think() -> dict[str, bool]:
        def work() -> bool:
            time.sleep(0.05)  # of real time: what threads do takes some
            return threading.current_thread() is not threading.main_thread()

        in_thread = await trio.to_thread.run_sync(work)
        await trio.sleep(0.5)
        return {"in_thread": in_thread}

    usual = autojump_clock.autojump_threshold
    began = time.monotonic()
    async with testing.cluster(threaded, skills={"think": think}) as c:
        job = await c.run()
        assert job.assert_finished() is True
        assert job.seconds == pytest.approx(0.5)
        async with testing.cluster(threaded, skills={"think": think}) as within:
            (await within.run()).assert_finished()
        (await c.run()).assert_finished()
    assert autojump_clock.autojump_threshold == usual
    assert time.monotonic() - began < 30.0, "the clock jumps again as soon as threads have ended"


async def test_it_does_as_long_as_any_cluster_is_open(autojump_clock: MockClock) -> None:
    """They need not be closed in the order in which they were opened."""

    async def open_and_close(opened: trio.Event, close: trio.Event) -> None:
        async with testing.cluster(films, skills={"cut": cut}):
            opened.set()
            await close.wait()

    first, second = [(trio.Event(), trio.Event()) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for events in (first, second):
            nursery.start_soon(open_and_close, *events)
            await events[0].wait()
        first[1].set()
        await trio.sleep(10.0)
        began = trio.current_time()
        await trio.to_thread.run_sync(time.sleep, 0.05)
        assert trio.current_time() == began
        second[1].set()
    assert autojump_clock.autojump_threshold == 0.0


async def test_a_thread_that_waits_for_time_is_not_waited_for(autojump_clock: MockClock) -> None:
    def wait(params: dict[str, Any], task_files: TaskFiles) -> dict[str, Any]:
        trio.from_thread.run(trio.sleep, 1.0)
        return {"first": task_files.write_sync("x", b"abc")}

    async with testing.cluster(films, skills={"cut": wait}) as c:
        job = await c.run({"source": "a.mov"})
    job.assert_finished()
    assert 1.0 <= job.seconds < 1000.0


async def test_the_clock_may_have_been_let_go_by_trio(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise RuntimeError("as a signal does, of pytest-timeout for one")

    async with testing.cluster(films, skills={"cut": cut}) as c:
        with monkeypatch.context() as patched:
            patched.setattr(_threads, "active_thread_count", fail)
            await c.sleep(60.0)  # Trio drops an instrument that raises


def test_many_threads_at_a_time_have_files() -> None:
    many = Blueprint("many")

    @many.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        tasks = [{"type": "cut", "params": {"n": n}} for n in range(60)]
        actions.dispatch_parallel(tasks, aggregate_into="end")

    @many.aggregator("end", is_end=True)
    async def end() -> None: ...

    worker = Worker(max_concurrent_tasks=60)
    barrier = threading.Barrier(60, timeout=10.0)

    @worker.skill("cut")
    def cut(params: dict[str, Any], task_files: TaskFiles) -> dict[str, Any]:
        barrier.wait()
        return {"file": task_files.write_sync("x", str(params["n"]))}

    job = testing.run_job(many, workers=[worker])
    job.assert_finished()
    assert sorted(map(int, job.files.values())) == list(range(60))
    assert job.attempts == {"cut": 60}


def test_a_thread_that_never_ends_does_not_keep_the_test_from_it() -> None:
    end = threading.Event()

    def hang(task_files: TaskFiles) -> None:
        del task_files
        end.wait(60.0)

    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError, match="its handler has not returned"):
            testing.run_job(films, {"source": "a"}, skills={"cut": hang}, timeout_seconds=600.0)
        assert time.monotonic() - began < 20.0
    finally:
        end.set()


async def test_what_clients_do_with_files_of_a_job_works(autojump_clock: MockClock) -> None:
    async def wait(params: dict[str, Any], task_files: TaskFiles) -> dict[str, Any]:
        await trio.sleep(100.0)
        return await cut(params, task_files)

    async with testing.cluster(films, skills={"cut": wait}, files={FILM: b"abcdef"}) as c:
        job_id = await c.submit({"source": FILM})
        http = c._cluster._client
        at = f"http://cluster/api/v1/jobs/{job_id}/files"
        put = await http.put(f"{at}/content/in/a.txt", content=b"hello")
        assert put.status_code == 200
        assert await c.read_file(put.json()["uri"]) == b"hello"
        got = await http.get(f"{at}/download/in/a.txt")
        assert got.content == b"hello"
        assert [it["name"] for it in (await http.get(at)).json()["files"]] == ["in/a.txt"]
        job = await c.wait(job_id)
    assert job.file("in/a.txt") == b"hello"
    assert job.seconds == 100.0
