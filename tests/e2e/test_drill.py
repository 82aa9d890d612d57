"""A short drill, and one that must find something; the long one is `nox -s drill-failover`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from tests.drills import failover
from tests.e2e.killing import SOURCE
from tests.e2e.reckoning import Run, read_runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

ROOT = Path(__file__).parents[2]
TASKS = 60
SHORT = ["--seconds", "15", "--tasks", str(TASKS)]


def test_a_short_drill_loses_and_doubles_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.drills.failover", *SHORT, "--folder", str(tmp_path)]
    environ = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    print(done.stdout)  # shown if it fails
    assert (done.returncode, done.stderr) == (0, "")
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)
    # A job whose orchestrator died between its commit and its answer is submitted once more.
    twice = int(told["submissions"].split(", ")[1].split()[0])
    assert told["finished"] == f"{TASKS + twice} of {TASKS + twice}"
    assert told["kills"] in {"2 of the first, 1 of the second", "2 of the second, 1 of the first"}
    assert (told["lost"], told["doubled"], told["problems"]) == ("0", "0", "0")


def test_a_drill_tells_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_twice(notes: Path) -> list[Run]:
        return read_runs(notes) * 2

    monkeypatch.setattr(failover, "read_runs", read_twice)
    plan = failover.Plan(seconds=1, tasks=1, seed=1, mode="FAILOVER")
    assert trio.run(failover.run, plan, tmp_path) is False
    assert "was begun 2 times" in capsys.readouterr().out
