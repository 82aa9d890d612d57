"""`worker run --reload` with real processes: saves, a broken file, Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

APP = """
from avtomatika_trio.worker import Worker
worker = Worker()
@worker.skill({skill!r})
async def it(params): ...
"""


class Reloading:
    """The command, and what it has said."""

    def __init__(self, folder: Path, *before: str) -> None:
        self.app = folder / "app_under_reload.py"
        self._log = folder / "log.txt"
        self.save(APP.format(skill="first"))
        command = [*before, sys.executable, "-m", "avtomatika_trio", "worker", "run", "--reload"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, f"{self.app.stem}:worker", "--health-port", "off"],
                cwd=folder,
                env={**os.environ, "ORCHESTRATOR_URL": "http://127.0.0.1:9", "WORKER_TOKEN": "t"},
                stdout=log,
                stderr=log,
            )

    def save(self, text: str) -> None:
        self.app.write_text(text)

    def said(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str, times: int = 1) -> None:
        until = time.monotonic() + 40
        while len(re.findall(text, self.said())) < times:
            assert time.monotonic() < until, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)


@pytest.fixture
def reloading(tmp_path: Path) -> Iterator[Reloading]:
    it = Reloading(tmp_path)
    yield it
    it.process.terminate()
    it.process.wait(20)


def workers_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in listed.stdout.split()]


def runs(pid: int) -> bool:
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip() != "" and not listed.stdout.startswith("Z")


def test_a_save_starts_the_worker_again_until_ctrl_c(reloading: Reloading) -> None:
    reloading.wait_for(r"skills\s+first")
    (first,) = workers_of(reloading.process.pid)
    reloading.save(APP.format(skill="second"))
    reloading.wait_for(r"skills\s+second")
    (second,) = workers_of(reloading.process.pid)
    assert second != first

    reloading.save("x = 1\nworker = (\n")
    reloading.wait_for("SyntaxError")
    reloading.wait_for("the next save starts it again")
    assert "line 2" in reloading.said()
    reloading.save(APP.format(skill="third"))
    reloading.wait_for(r"skills\s+third")

    (third,) = workers_of(reloading.process.pid)
    reloading.process.send_signal(signal.SIGINT)
    assert reloading.process.wait(20) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(third, 0)
    assert "Traceback" not in reloading.said()


def test_a_second_signal_ends_a_worker_that_does_not(reloading: Reloading) -> None:
    stubborn = "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    reloading.save(stubborn + "print('stubborn', flush=True)\ntime.sleep(60)\n")
    reloading.wait_for("stubborn")
    (child,) = workers_of(reloading.process.pid)
    reloading.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        reloading.process.wait(2)
    reloading.process.send_signal(signal.SIGTERM)
    assert reloading.process.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_no_worker_outlives_a_terminal_that_closes_nor_the_command(
    reloading: Reloading, number: signal.Signals
) -> None:
    reloading.wait_for(r"skills\s+first")
    (child,) = workers_of(reloading.process.pid)
    reloading.process.send_signal(number)
    assert reloading.process.wait(20) == (0 if number is signal.SIGHUP else -number)
    until = time.monotonic() + 20
    while runs(child):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_terminal_that_closes_is_nothing_to_nohup(tmp_path: Path) -> None:
    reloading = Reloading(tmp_path, "nohup")
    try:
        reloading.wait_for(r"skills\s+first")
        reloading.process.send_signal(signal.SIGHUP)
        reloading.save(APP.format(skill="second"))
        reloading.wait_for(r"skills\s+second")
    finally:
        reloading.process.terminate()
        assert reloading.process.wait(20) == 0
