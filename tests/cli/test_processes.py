"""The long-running commands as processes: readiness, signals, exit codes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.commands import Run

from avtomatika_trio.cli import Exit

pytestmark = pytest.mark.e2e

BLUEPRINT = """
from avtomatika_trio import Blueprint

bp = Blueprint("echo")

@bp.handler(is_start=True)
def start(actions, initial_data):
    actions.dispatch_task("echo", initial_data, {"success": "done"})

@bp.handler(is_end=True)
def done(start):
    return start["data"]
"""

WORKER = """
from avtomatika_trio.worker import Worker

worker = Worker(heartbeat_interval_seconds=0.5)

@worker.skill("echo")
def echo(params):
    return params
"""


@contextmanager
def started(
    *argv: str, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The command as a process, killed at the end of the block if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "avtomatika_trio", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environ or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def serving(*argv: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """An orchestrator and the line that it has printed."""
    with started("serve", "--port", "0", "-o", "json", *argv, environ=environ) as process:
        yield process, json.loads(first_line(process.stdout))


def first_line(stream: Any) -> str:
    return str(stream.readline())


def line_with(stream: Any, text: str) -> str:
    """The next line of *stream* that has *text* in it."""
    for line in stream:
        if text in line:
            return str(line)
    pytest.fail(f"{text!r} was not printed")


def test_a_job_runs_on_a_worker_with_generated_tokens(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(BLUEPRINT)
    (tmp_path / "hands.py").write_text(WORKER)
    with serving("--blueprints", "flows") as (orchestrator, ready):
        url = ready["url"]
        assert ready["pid"] == orchestrator.pid
        none_yet = run("job", "list", "--url", url)
        assert none_yet.err == "none; submit one: avtomatika job submit BLUEPRINT\n"
        options = ("--orchestrator-url", url, "--health-port", "off", "--id", "w-1")
        with started("worker", "run", "hands:worker", *options) as worker:
            ran = run(
                *("job", "submit", "echo", "--url", url, "--data", '{"n": 1}'),
                *("--wait", "--timeout", "30", "-o", "json"),
            )
            assert (ran.code, ran.json["result"]) == (Exit.OK, {"n": 1})
            worker.send_signal(signal.SIGTERM)
            _, told = worker.communicate()
        assert worker.returncode == Exit.OK
        assert "avtomatika 0.1.0 works\n  id             w-1\n  skills         echo\n" in told
        assert "Traceback" not in told
        orchestrator.send_signal(signal.SIGTERM)
        _, told = orchestrator.communicate()
    assert orchestrator.returncode == Exit.OK
    assert f"  url             {url}\n  storage         sqlite:avtomatika.db\n" in told
    assert f"  blueprint echo  POST {url}/api/v1/jobs/echo\n" in told
    assert "in avtomatika.tokens; commands given in this folder find them\n" in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, Exit.OK), (signal.SIGINT, Exit.INTERRUPTED)]
)
def test_an_orchestrator_without_blueprints_serves_and_ends(
    number: signal.Signals, code: Exit
) -> None:
    with serving("--storage", "memory:") as (process, _):
        process.send_signal(number)
        _, told = process.communicate()
    assert process.returncode == code
    assert "none, so no job can be submitted; give --blueprints a folder, file or module" in told
    assert "Traceback" not in told


def test_a_log_in_json_has_nothing_else_in_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "hands.py").write_text(WORKER)
    (tmp_path / "flows.py").write_text(BLUEPRINT)
    environ = {"LOG_FORMAT": "json", "WORKER_PORT": "off"}
    with serving("--blueprints", "flows", **environ) as (orchestrator, ready):
        argv = ("worker", "run", "hands:worker", "--orchestrator-url", ready["url"])
        with started(*argv, environ=environ) as worker:
            first = json.loads(line_with(worker.stderr, "works"))["msg"]
            assert first.startswith("avtomatika ")
            assert "; skills echo; slots 10; " in first
            done = run("job", "submit", "echo", "--wait", "--url", ready["url"])
            assert done.code == Exit.OK, done.err  # so it is up, and heeds signals
            ends = []
            for process in (worker, orchestrator):
                process.terminate()
                ends.append(process.communicate()[1])
    for told in ends:
        messages = [json.loads(line)["msg"] for line in told.splitlines()]
        assert "SIGTERM: ending gracefully; once more ends at once" in messages


def test_a_process_whose_messages_nobody_reads_ends_gracefully_too() -> None:
    with serving("--storage", "memory:") as (process, _):
        assert process.stderr is not None
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == Exit.INTERRUPTED


def test_a_second_signal_ends_at_once() -> None:
    with serving("--storage", "memory:", SHUTDOWN_GRACE_SECONDS="60") as (process, ready):
        host, port = ready["url"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"POST /api/v1/jobs/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1")
            process.send_signal(signal.SIGTERM)
            line_with(process.stderr, "SIGTERM: ending gracefully; once more ends at once")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == -signal.SIGTERM


def test_a_second_process_on_one_database_is_refused(run: Run) -> None:
    with serving() as (process, _):
        ran = run("serve", "--port", "0")
        assert (ran.code, ran.out) == (Exit.FAILED, "")
        assert str(process.pid) in ran.err
        assert "Traceback" not in ran.err


def test_a_second_worker_on_one_spool_does_not_say_that_it_works(tmp_path: Path) -> None:
    (tmp_path / "hands.py").write_text(WORKER)
    argv = ("worker", "run", "hands:worker", "--orchestrator-url", "http://127.0.0.1:9")
    with started(*argv, "--health-port", "off") as first:
        line_with(first.stderr, "works")
        with started(*argv, "--health-port", "off") as second:
            _, told = second.communicate()
        assert second.returncode == Exit.FAILED
        assert f"process {first.pid} has it open" in told
        assert "a folder of its own with --spool-dir or WORKER_SPOOL_DIR" in told
        assert "works" not in told


def test_sigusr1_writes_the_task_tree_to_the_log() -> None:
    with serving("--storage", "memory:") as (process, _):
        process.send_signal(signal.SIGUSR1)
        line_with(process.stderr, "tasks:")
        line_with(process.stderr, "run_engine")
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == Exit.OK


def test_ctrl_c_ends_a_watch_without_a_traceback(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(BLUEPRINT)
    with serving("--blueprints", "flows") as (_, ready):
        submitted = run("job", "submit", "echo", "--url", ready["url"])
        job_id = submitted.out.strip()
        watch = ("job", "watch", job_id, "--url", ready["url"])
        with started(*watch) as process:
            assert "waiting_for_worker" in line_with(process.stdout, "start")
            process.send_signal(signal.SIGINT)
            _, told = process.communicate()
        detached = (
            f"detached; job {job_id} goes on; watch it again: avtomatika job watch {job_id}\n"
        )
        assert (process.returncode, told) == (Exit.INTERRUPTED, detached)


def test_ctrl_c_ends_waiting_and_says_how_to_watch(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(BLUEPRINT)
    with serving("--blueprints", "flows") as (_, ready):
        with started("job", "submit", "echo", "--wait", "--url", ready["url"]) as process:
            job_id = line_with(process.stderr, "job ").split()[1]
            process.send_signal(signal.SIGINT)
            _, told = process.communicate()
        assert process.returncode == Exit.INTERRUPTED
        assert f"job {job_id} goes on; watch it again: avtomatika job watch {job_id}" in told


def test_a_watch_outlives_a_restart_of_the_orchestrator(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(BLUEPRINT)
    with serving("--blueprints", "flows") as (first, ready):
        url = ready["url"]
        job_id = run("job", "submit", "echo", "--url", url).out.strip()
        with started("job", "watch", job_id, "--url", url) as watch:
            line_with(watch.stdout, "waiting_for_worker")
            first.kill()
            first.wait()
            line_with(watch.stderr, "waiting for it")
            again = ("serve", "--blueprints", "flows", "--port", url.rpartition(":")[2])
            with started(*again, "-o", "json") as second:
                first_line(second.stdout)
                assert run("job", "cancel", job_id, "--url", url).code == Exit.OK
                printed, told = watch.communicate()
        assert watch.returncode == Exit.FAILED
        assert ("waiting for it" in told, f"{url} answers again\n" in told) == (False, True)
        assert "status     cancelled\n" in printed


def test_a_watch_ends_in_time_where_nothing_answers(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and is frozen
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        ran = run("job", "watch", "j", "--timeout", "1", "--url", url, "--token", "t")
        assert time.monotonic() - began < 15
    assert ran.code == Exit.TIMED_OUT
    assert f"nothing was told of job j in 1 seconds: {url} cannot be reached: timed out" in ran.err


def test_a_watch_where_nobody_listens_is_a_failure_whatever_its_time(run: Run) -> None:
    with socket.socket() as bound:  # so that nobody else listens there
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        ran = run("job", "watch", "j", "--timeout", "60", "--url", url, "--token", "t")
    assert ran.code == Exit.FAILED
    assert f"{url} cannot be reached" in ran.err


def test_ctrl_c_in_a_submission_says_that_it_may_have_arrived() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with started("job", "submit", "echo", "--url", url, "--token", "t") as process:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(65536).startswith(b"POST /api/v1/jobs/echo")
                process.send_signal(signal.SIGINT)
                _, told = process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert told == "the job may have been submitted; `avtomatika job list` shows it if it was\n"


def test_systemd_is_told_of_a_start_the_life_and_the_end(tmp_path: Path) -> None:
    (tmp_path / "hands.py").write_text(WORKER)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)

        def heard(text: bytes) -> bytes:
            while True:  # what keeps saying that it lives says other things too
                told = listener.recv(4096)
                if told.startswith(text):
                    return told

        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with serving("--storage", "memory:", **environ) as (process, ready):
            assert heard(b"READY=1") == f"READY=1\nSTATUS=serves {ready['url']}".encode()
            assert heard(b"WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            assert heard(b"STOPPING=1")
            process.communicate()
        options = ("--orchestrator-url", "http://127.0.0.1:9", "--health-port", "off")
        with started("worker", "run", "hands:worker", *options, environ=environ) as worker:
            assert heard(b"READY=1") == b"READY=1\nSTATUS=works for skills echo"
            assert heard(b"WATCHDOG=1")
            worker.send_signal(signal.SIGTERM)
            assert heard(b"STOPPING=1")
            worker.communicate()
