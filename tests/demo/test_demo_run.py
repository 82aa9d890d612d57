"""`avtomatika demo` with real processes, and with whatever can end it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avtomatika_trio.demo._audit import audit, list_stdlib, merge
from avtomatika_trio.demo._report import write_report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]

MODULES = 60

PROCESSES = 3
"""An orchestrator and two workers."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library whose modules take some 20 ms each to analyse."""
    folder = tmp_path_factory.mktemp("sources")
    function = 'def function_{0}(a, b=1):\n    """Adds."""\n    return [a + b, {{"x": a}}]\n\n'
    for number in range(MODULES):
        text = "".join(function.format(each) for each in range(400 + number))
        (folder / f"module_{number}.py").write_text(text)
    return folder


@contextmanager
def demo(folder: Path, root: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The demo as a process in a group of its own, as a shell would start it.

    The settings in its environment are those of somebody who runs other things, too.
    """
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "avtomatika_trio", "demo"),
            *("--folder", str(folder), "--root", str(root), *more),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
        env={**os.environ, "STORAGE_URL": "redis://nowhere", "WORKER_ID": "somebody"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(folder: Path, root: Path, *more: str) -> str:
    with demo(folder, root, *more) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out


def working_in(folder: Path) -> list[int]:
    """The live processes, of whatever parent, whose working directory is below *folder*."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                inside = (entry / "cwd").readlink().is_relative_to(folder)
            except OSError:
                continue  # it has just ended
            if inside and state != "Z":
                found.append(int(entry.name))
    return found


def wait_for_processes(folder: Path, count: int) -> None:
    until = time.monotonic() + 60
    while len(found := working_in(folder)) != count:
        assert time.monotonic() < until, f"{found} work in {folder}, not {count} processes"
        time.sleep(0.02)


def expected_report(folder: Path, root: Path) -> str:
    """The digest of a report made without orchestrator and workers."""
    summary = merge(audit(name, root) for name in list_stdlib(root))
    return write_report(summary, folder / "expected here")["sha256"]


def test_the_report_counts_every_module_once(tmp_path: Path, sources: Path) -> None:
    out = run(tmp_path, sources)
    assert f"analysed {MODULES} of {MODULES}" in out
    assert f"SHA-256 of both: {expected_report(tmp_path, sources)}\n" in out
    assert working_in(tmp_path) == []


def test_killed_processes_change_nothing_in_the_report(tmp_path: Path, sources: Path) -> None:
    out = run(tmp_path, sources, "--kill")
    assert "killed the orchestrator (SIGKILL), " in out
    assert "killed worker demo-" in out
    assert f"- each of {MODULES} names was counted exactly once\n" in out
    assert f"SHA-256 of both: {expected_report(tmp_path, sources)}\n" in out
    assert working_in(tmp_path) == []


def test_older_runs_are_kept(tmp_path: Path, sources: Path) -> None:
    (tmp_path / "run-1").mkdir()
    out = run(tmp_path, sources)
    assert f"Report: {tmp_path}/run-2/report/report.md\n" in out
    assert list((tmp_path / "run-1").iterdir()) == []


def test_ctrl_c_ends_everything(tmp_path: Path, sources: Path) -> None:
    with demo(tmp_path, sources) as process:
        wait_for_processes(tmp_path, PROCESSES)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        130,
        "avtomatika demo: interrupted; everything that it had started has ended\n",
    )
    assert working_in(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of such a death")
def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path, sources: Path) -> None:
    with demo(tmp_path, sources) as process:
        wait_for_processes(tmp_path, PROCESSES)
        process.kill()
        process.communicate(timeout=60)
    wait_for_processes(tmp_path, 0)


def test_a_process_that_dies_ends_the_demo_with_the_reason(tmp_path: Path, sources: Path) -> None:
    with demo(tmp_path, sources) as process:
        wait_for_processes(tmp_path, PROCESSES)
        (worker,) = [
            pid
            for pid in working_in(tmp_path)
            if b"WORKER_ID=demo-2" in Path(f"/proc/{pid}/environ").read_bytes()
        ]
        os.kill(worker, signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "avtomatika demo: demo-2 ended by itself (signal SIGKILL)\n" in err
    assert err.endswith(f"avtomatika demo: all logs are in {tmp_path}/run-1\n")
    assert working_in(tmp_path) == []


def test_a_folder_without_python_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with demo(tmp_path, empty) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"root: {empty} has no Python source" in err
    assert "Traceback" not in out + err
