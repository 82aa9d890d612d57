"""`avtomatika worker spool`."""

import json
import os
import time
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from tests.cli.commands import Run
from tests.worker.spool_cases import opened, result

from avtomatika_trio.cli import Exit, _worker_spool
from avtomatika_trio.worker._spool_holder import Holder, LockState

HOUR = 3600.0


async def fill(folder: Path) -> None:
    """Two results for blue, one for green, and one set aside."""
    now = time.time()
    async with opened(folder) as spool:
        for number, cluster_id, hours in ((1, "blue", 2), (2, "blue", 3), (3, "green", 50)):
            made = result(number, cluster_id=cluster_id)
            await spool.append(attrs.evolve(made, finished_at=now - hours * HOUR - 1))
        await spool.append(attrs.evolve(result(4), finished_at=now - 72 * HOUR - 1))
        await spool.set_aside(spool.pending()[-1].id, f"no job{'!' * 60}")


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "spool"
    trio.run(fill, folder)
    return folder


def test_people_get_tables(run: Run, spool_dir: Path) -> None:
    (spool_dir / "results.log.torn-1").write_bytes(b"xyz")
    os.utime(spool_dir / "results.log.torn-1", (time.time() - 601, time.time() - 601))
    ran = run("worker", "spool", "--spool-dir", "spool")
    assert (ran.code, ran.err) == (Exit.OK, "")
    log_bytes = (spool_dir / "results.log").stat().st_size
    assert ran.out == (
        f"folder     {spool_dir}\n"
        "open       by nobody\n"
        f"log        {log_bytes} bytes\n"
        "waiting    3 results\n"
        "set aside  1 result\n"
        "instances  i1\n"
        "\n"
        "CLUSTER  WAITING  BYTES  OLDEST\n"
        "green    1        40     2 d\n"
        "blue     2        80     3 h\n"
        "\n"
        "TASK    JOB    CLUSTER  ORCHESTRATOR           WORKER  AGE  BYTES\n"
        "task-1  job-1  blue     http://127.0.0.1:8080  w1      2 h  40\n"
        "task-2  job-2  blue     http://127.0.0.1:8080  w1      3 h  40\n"
        "task-3  job-3  green    http://127.0.0.1:8080  w1      2 d  40\n"
        "\n"
        "SET ASIDE  JOB    CLUSTER  WORKER  AGE  BYTES  REASON\n"
        f"task-4     job-4  blue     w1      3 d  40     no job{'!' * 60}\n"
        "\n"
        "DAMAGED             AGE     BYTES\n"
        "results.log.torn-1  10 min  3\n"
    )


def test_an_empty_spool_is_told_in_a_few_lines(run: Run, tmp_path: Path) -> None:
    async def open_it() -> None:
        async with opened(tmp_path / "spool"):
            pass

    trio.run(open_it)
    ran = run("worker", "spool", "--spool-dir", "spool")
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert "waiting    no results\nset aside  no results\n" in ran.out
    assert "CLUSTER" not in ran.out


def test_json_tells_everything_but_the_payload(run: Run, spool_dir: Path) -> None:
    told = run("worker", "spool", "--spool-dir", "spool", "-o", "json").json
    assert told["folder"] == str(spool_dir)
    assert told["lock"] == {"state": "free", "pid": None}
    assert [(it["cluster_id"], it["waiting"], it["bytes"]) for it in told["clusters"]] == [
        ("green", 1, 40),
        ("blue", 2, 80),
    ]
    assert (told["worker_id"], told["instances"], told["notes"]) == (None, ["i1"], [])
    assert told["damaged_files"] == []
    first = told["waiting"][0]
    age_seconds = first.pop("age_seconds")
    assert 2 * HOUR < age_seconds < 2 * HOUR + 60
    assert first.pop("finished_at") == pytest.approx(time.time() - age_seconds, abs=5)
    assert first == {
        "state": "waiting",
        "id": 1,
        "worker_id": "w1",
        "instance": "i1",
        "cluster_id": "blue",
        "orchestrator": "http://127.0.0.1:8080",
        "job_id": "job-1",
        "task_id": "task-1",
        "bytes": 40,
        "trace_context": {},
    }
    assert [(it["task_id"], it["reason"]) for it in told["set_aside"]] == [
        ("task-4", f"no job{'!' * 60}")
    ]


@pytest.mark.usefixtures("spool_dir")
def test_jsonl_is_a_line_for_each_result(run: Run) -> None:
    ran = run("worker", "spool", "--spool-dir", "spool", "-o", "jsonl")
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert [(it["task_id"], it["state"]) for it in told] == [
        ("task-1", "waiting"),
        ("task-2", "waiting"),
        ("task-3", "waiting"),
        ("task-4", "set_aside"),
    ]


@pytest.mark.usefixtures("spool_dir")
@pytest.mark.parametrize("output", ["table", "json", "jsonl"])
def test_one_task_is_shown_whole(run: Run, output: str) -> None:
    show = partial(run, "worker", "spool", "--spool-dir", "spool", "-o", output, "--task")
    told = show("task-2").json
    assert told["body"] == {"status": "success", "data": {"number": 2}}
    assert (told["job_id"], told["instance"]) == ("job-2", "i1")
    assert show("task-4").json["reason"].startswith("no job")


def test_a_task_that_is_here_twice(run: Run, spool_dir: Path) -> None:
    async def append_again() -> None:
        async with opened(spool_dir, "i2") as spool:
            await spool.append(result(2))

    trio.run(append_again)
    show = partial(run, "worker", "spool", "--spool-dir", "spool", "--task", "task-2")
    ran = show()
    assert ran.json["instance"] == "i1"
    assert ran.err == "there are 2 results of it; -o jsonl prints them all\n"
    assert len(show("-o", "jsonl").out.splitlines()) == 2


def test_a_task_that_is_not_here(run: Run, spool_dir: Path) -> None:
    ran = run("worker", "spool", "--spool-dir", "spool", "--task", "task-9")
    assert (ran.code, ran.out) == (Exit.NOT_FOUND, "")
    assert ran.err == (
        f"avtomatika: no result of task 'task-9' is in {spool_dir}: it was delivered, or never"
        " came; `avtomatika worker spool` shows those there are\n"
    )


@pytest.mark.parametrize("made", [False, True])
def test_no_spool_is_no_crash_and_none_is_made(run: Run, tmp_path: Path, made: bool) -> None:
    folder = tmp_path / ".avtomatika" / "spool"
    if made:
        folder.mkdir(parents=True)
    ran = run("worker", "spool")
    assert (ran.code, ran.out) == (Exit.NOT_FOUND, "")
    assert ran.err == (
        f"avtomatika: there is no spool in {folder}: no worker has kept results there yet."
        " If one keeps them elsewhere, give --spool-dir or set WORKER_SPOOL_DIR\n"
    )
    assert folder.exists() == made


def test_a_spool_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = run("worker", "spool", "--spool-dir", "file")
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert ran.err.startswith(f"avtomatika: the spool at {tmp_path / 'file'} cannot be used: ")


def test_the_folder_is_that_of_option_environment_file_default(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_all() -> None:
        for name in ("option", "environment", "file", ".avtomatika/spool"):
            async with opened(tmp_path / name):
                pass

    trio.run(open_all)

    def folder(*argv: str) -> str:
        told = run("worker", "spool", "-o", "json", *argv).json
        return str(Path(told["folder"]).relative_to(tmp_path))

    assert folder() == ".avtomatika/spool"
    (tmp_path / "my.toml").write_text('[worker]\nworker_spool_dir = "file"\n')
    assert folder("--config", "my.toml") == "file"
    monkeypatch.setenv("WORKER_SPOOL_DIR", "environment")
    assert folder("--config", "my.toml") == "environment"
    assert folder("--config", "my.toml", "--spool-dir", "option") == "option"


def test_beside_a_running_worker(run: Run, spool_dir: Path) -> None:
    async def look() -> None:
        async with opened(spool_dir, "i2") as spool:
            with (spool_dir / "results.log").open("ab") as log:
                log.write(b"\x1e0123")
            ran = run("worker", "spool", "--spool-dir", "spool")
            assert (ran.code, ran.err) == (Exit.OK, "the last record is being written\n")
            assert f"open       by process {os.getpid()}\n" in ran.out
            assert "instances  i1, i2\n" in ran.out
            assert len(spool.pending()) == 3

    trio.run(look)


@pytest.mark.parametrize(
    ("holder", "text"),
    [
        (Holder(state=LockState.HELD, pid=7), "by process 7"),
        (Holder(state=LockState.FREE), "by nobody"),
        (
            Holder(state=LockState.UNKNOWN, pid=7),
            "not known on this system; the last was process 7, which runs",
        ),
    ],
)
def test_who_has_it_open(holder: Holder, text: str) -> None:
    assert _worker_spool._holder(holder) == text
