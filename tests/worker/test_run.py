"""`Worker.run` in a process of its own, and what importing the SDK costs."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from avtomatika_trio import worker
from avtomatika_trio.worker import Worker

PROGRAM = """
import os, sys, time, trio
from avtomatika_trio.worker import Worker

worker = Worker(orchestrators="http://127.0.0.1:1", health_port="off", spool_dir=sys.argv[1])

@worker.skill
async def wait():
    await trio.sleep_forever()

async def stuck():
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()

async def tell(task_status=trio.TASK_STATUS_IGNORED):
    if "moving" in sys.argv:
        os.chdir("/")
    print("up", flush=True)
    if "stuck" in sys.argv:
        await stuck()
    while "standing" in sys.argv:
        time.sleep(0.1)

serve = worker.serve

async def serve_and_tell(task_status):
    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        task_status.started()
        nursery.start_soon(tell)

worker.serve = serve_and_tell
worker.run()
print("ended", flush=True)
"""


def started(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    environ = {name: value for name, value in os.environ.items() if name != "WORKER_ID"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "spool", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environ,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_worker_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path) as process:
        process.send_signal(number)
        out, errors = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "ended\n"), errors


@pytest.mark.e2e
@pytest.mark.parametrize("how", ["stuck", "standing"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals, how: str) -> None:
    """Also if the loop stands still, in which no signal is seen."""
    with started(tmp_path, how) as process:
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)
        process.send_signal(number)
        try:
            process.communicate(timeout=5)
        finally:
            process.kill()
    assert process.returncode == -number


@pytest.mark.e2e
def test_a_handler_that_changes_the_working_folder_moves_no_folder_of_the_worker(
    tmp_path: Path,
) -> None:
    with started(tmp_path, "moving") as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert "cannot be used" not in errors
    assert (tmp_path / "spool" / "instances.json").exists()


@pytest.mark.e2e
def test_systemd_is_told_of_its_start_life_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "n"))
        heard.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        monkeypatch.setenv("WATCHDOG_USEC", "60000000")
        with started(tmp_path) as process:
            assert {heard.recv(100), heard.recv(100)} == {
                b"READY=1\nSTATUS=works for skills wait",
                b"WATCHDOG=1",
            }
            process.send_signal(signal.SIGTERM)
            assert heard.recv(100) == b"STOPPING=1"
            process.communicate(timeout=20)


def test_importing_the_sdk_loads_no_server_and_no_database() -> None:
    unwanted = ("quart", "hypercorn", "sqlite3")
    probe = (
        f"import sys, avtomatika_trio.worker; print([m for m in {unwanted} if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_what_is_public_is_documented() -> None:
    assert worker.__all__ == sorted(worker.__all__)
    assert all(getattr(worker, name).__doc__ for name in worker.__all__)


def test_making_a_worker_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_TASKS", "many")
    assert Worker("gpu").worker_type == "gpu"


def test_settings_come_from_arguments_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_TASKS", "3")
    monkeypatch.setenv("WORKER_ID", "from-the-environment")
    made = Worker(max_concurrent_tasks=4)
    settings = made.configure(worker_id="from-the-command-line")
    assert (settings.max_concurrent_tasks, settings.worker_id) == (4, "from-the-command-line")


def test_it_has_its_older_name() -> None:
    assert Worker.run_with_health_check is Worker.run
