"""`avtomatika worker list`: what an orchestrator knows of its workers."""

import json
from typing import Any

import httpx
import pytest
from tests.cli.commands import TOKENS, Run

from avtomatika_trio.cli import Exit
from avtomatika_trio.cli._watching import unix_seconds
from avtomatika_trio.cli._worker_list import worker_row

SEEN = "2026-01-31T12:00:00.000Z"


def process(**changed: Any) -> dict[str, Any]:
    return {
        "skills": ["resize"],
        "seen_at": SEEN,
        "leases": 0,
        "gone": False,
        "blocked": False,
        "replaced_by": None,
        **changed,
    }


@pytest.mark.parametrize(
    ("processes", "row"),
    [
        ([process(leases=3)], ("w", 1, None, 3, "5 s ago", "live", "resize")),
        (
            [process(slots=4, leases=1), process(slots=2, skills=["ocr", "resize"])],
            ("w", 2, 6, 1, "5 s ago", "live", "resize, ocr"),
        ),
        ([process(blocked=True)], ("w", 1, None, 0, "5 s ago", "blocked", "resize")),
        (
            [process(blocked=True), process()],
            ("w", 2, None, 0, "5 s ago", "live", "resize"),
        ),
        (
            [process(gone=True, seen_at="2026-01-31T11:00:00.000Z", skills=["old"]), process()],
            ("w", 1, None, 0, "5 s ago", "live", "resize"),
        ),
        ([process(replaced_by="i2")], ("w", 0, None, 0, "5 s ago", "gone", "resize")),
        ([], ("w", 0, None, 0, None, "gone", "")),
    ],
)
def test_a_worker_is_what_its_processes_are(
    processes: list[dict[str, Any]], row: tuple[object, ...]
) -> None:
    told = {"worker_id": "w", "instances": processes}
    assert worker_row(told, now=unix_seconds(SEEN) + 5) == row


def test_none_is_told_with_how_to_start_one(ask_for: Run) -> None:
    ran = ask_for("worker", "list", "-o", "json")
    if ran.json == []:
        assert ran.err == (
            "none has ever been here; start one: avtomatika worker run MODULE:ATTR\n"
        )
    assert ran.code == Exit.OK


def test_a_worker_that_registered_is_listed(ask_for: Run, url: str) -> None:
    answer = httpx.post(
        f"{url}/_worker/workers/register",
        headers={"X-Worker-Token": TOKENS.worker_token, "X-Worker-ID": "w-7"},
        json={
            "worker_id": "w-7",
            "worker_type": "cpu",
            "supported_skills": [{"name": "resize"}],
            "slots": 4,
        },
    )
    assert answer.is_success, answer.text
    ran = ask_for("worker", "list")
    assert ran.code == Exit.OK
    head, row = ran.out.splitlines()
    assert head.split() == ["WORKER", "PROCESSES", "SLOTS", "LEASES", "SEEN", "STATE", "SKILLS"]
    assert row.split()[:3] == ["w-7", "1", "4"]
    assert row.split()[-2:] == ["live", "resize"]
    (line,) = ask_for("worker", "list", "-o", "jsonl").out.splitlines()
    assert json.loads(line)["worker_id"] == "w-7"
