"""A short drill with files, and what it must find; the long one is `nox -s drill-files`."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.blobs.measuring import MIB
from tests.drills import files
from tests.drills.files import MOST_GROWTH, Outcome
from tests.e2e.killing import SOURCE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]

ROOT = Path(__file__).parents[2]
MEGABYTES = 64


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """The drill in a process of its own, with all that it makes in *folder*."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.drills.files", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_short_drill_brings_back_the_same_with_little_memory(tmp_path: Path) -> None:
    with start(tmp_path, "--megabytes", str(MEGABYTES)) as drill:
        said, errors = drill.communicate()
    print(said)  # shown if it fails
    assert (drill.returncode, errors) == (0, "")
    told = dict(line.split(maxsplit=1) for line in said.splitlines() if " " in line)
    for what in ("upload", "download"):
        done, rate = told[what].split(", ")
        assert done == f"{MEGABYTES * MIB} of {MEGABYTES * MIB} bytes"
        assert rate.endswith(" MB/s")
    assert told["sent"] == told["received"]
    assert told["problems"] == "0"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_drill_leaves_nothing(tmp_path: Path) -> None:
    with start(tmp_path, "--megabytes", "1024") as drill:
        assert drill.stdout is not None
        for line in drill.stdout:
            if line.startswith("upload"):
                drill.send_signal(signal.SIGINT)
                break
        _, errors = drill.communicate()
    assert (drill.returncode, errors) == (130, "interrupted; nothing was left\n")
    assert list(tmp_path.iterdir()) == []


def test_a_drill_tells_what_it_finds() -> None:
    fine = Outcome("a1", "a1", {"the download": "a1"}, MOST_GROWTH - 1)
    assert fine.problems == []
    [changed] = Outcome("a1", "b2", {"the download": "a1"}, 0).problems
    assert changed == "what came back has the sha256 b2, not a1"
    [costly] = Outcome("a1", "a1", {"the download": "a1"}, MOST_GROWTH).problems
    assert costly.startswith("the transfers took 64.0 MiB of memory")


def test_a_full_disk_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert files.main(["--gigabytes", "1e9"]) == 2
    assert "MiB are needed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
