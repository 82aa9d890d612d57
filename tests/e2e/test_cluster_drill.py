"""A short drill of a cluster, and one without fences, which must find that; see `nox -l`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.killing import SOURCE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SHORT = ["--seconds", "24", "--every", "8", "--redis-kills", "1"]


def drill(folder: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Its exit code, what it has printed, and its report."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "tests.drills.cluster", *options, "--json", str(report)]
    done = subprocess.run(
        [*command, "--folder", str(folder / "files")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)  # shown if it fails
    return done.returncode, done.stdout, json.loads(report.read_text())


def test_a_short_drill_of_a_cluster_loses_and_doubles_nothing(tmp_path: Path) -> None:
    code, said, told = drill(tmp_path, *SHORT)
    assert (code, told["problems"]) == (0, [])
    assert sorted(kill["kind"] for kill in told["kills"]) == ["orchestrator", "redis", "worker"]
    assert all(kill["back_at"] > kill["at"] for kill in told["kills"])
    assert told["accepted"] == 72
    assert sum(told["jobs"].values()) == 72 + told["submissions_that_came_twice"]
    assert told["jobs"].keys() >= {"single", "fan", "flaky"}
    assert told["late_seconds"]["retry"]["count"] > 0
    assert told["lost"] == told["doubled"] == told["stuck"] == told["wrong"] == 0
    assert "BROKEN" not in said


def test_without_fences_the_drill_names_what_broke(tmp_path: Path) -> None:
    code, said, told = drill(tmp_path, "--seconds", "60", "--unfenced")
    assert code == 1
    assert told["broken_invariants"]
    named = [line for line in said.splitlines() if "BROKEN" in line]
    assert told["broken_invariants"][0] in named[-1]
