"""A process that is killed with SIGKILL loses nothing that it has acknowledged."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.task import Attempt, AttemptStatus
from avtomatika_trio.storage import open_storage
from avtomatika_trio.testing.invariants import find_violations

DYING = Path(__file__).with_name("dying.py")


@pytest.fixture
def acknowledged(tmp_path: Path) -> dict[str, list[str]]:
    """What a process acknowledged before it was killed in the middle of its commits."""
    said: dict[str, list[str]] = {}
    with subprocess.Popen(
        [sys.executable, DYING, tmp_path / "a.db"], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for number, line in enumerate(child.stdout):
            if number == 1000:
                child.kill()
            if line.endswith("\n"):
                kind, _, name = line.strip().partition(" ")
                said.setdefault(kind, []).append(name)
    return said


def _attempt(ledger: Ledger, wire_id: str) -> Attempt | None:
    return ledger.attempt(wire_id)


async def test_every_acknowledged_step_is_found_again_and_whole(
    tmp_path: Path, acknowledged: dict[str, list[str]]
) -> None:
    assert min(len(acknowledged[kind]) for kind in ("submitted", "handed", "applied", "ended")) > 9
    async with open_storage(f"sqlite:{tmp_path / 'a.db'}") as storage:
        assert await find_violations(storage) == []
        for job_id in acknowledged["submitted"]:
            assert await storage.job(job_id) is not None
        for job_id in acknowledged["ended"]:
            job = await storage.job(job_id)
            assert job is not None
            assert job.status is JobStatus.FINISHED
        for wire_id in acknowledged["handed"]:
            assert await storage.commit(partial(_attempt, wire_id=wire_id))
        for wire_id in acknowledged["applied"]:
            attempt = await storage.commit(partial(_attempt, wire_id=wire_id))
            assert attempt is not None
            assert attempt.status is AttemptStatus.SUCCEEDED
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
