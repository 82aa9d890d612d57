"""The page of screens: `python docs/screens.py` writes it anew.

What is drawn is drawn by the program itself, of an example job.  The demo is recorded from a run:
`COLUMNS=80 avtomatika demo > demo.txt; python docs/screens.py demo.txt`.
"""

import io
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from avtomatika_trio.cli._job_list import list_of
from avtomatika_trio.cli._output import table
from avtomatika_trio.cli._watch_screen import screen, summary
from avtomatika_trio.cli._watching import Watching, unix_seconds
from avtomatika_trio.cli._worker_list import _HEADINGS, worker_row

PAGE = Path(__file__).parent / "reference" / "screens.md"

_JOB = "p00-01a225f8094f000b9bf4cd20c10"
_DAY = "2026-11-29T06:22:"

_HEAD = """\
# Screens

<!-- Generated from the code: python docs/screens.py -->

What commands look like on a terminal of 80 columns, without their colours.
"""


def demo_on(page: str) -> str:
    """What the demo has printed, as *page* has it."""
    found = re.search(r"## The demo\n.*?```text\n(.*?)```", page, re.DOTALL)
    return found[1] if found else ""


def page(demo: str) -> str:
    """The page, with what the demo has printed."""
    parts = [_HEAD]
    for title, command, text in (
        ("A job that is watched", f"job watch {_JOB}", _watched()),
        ("The end of it", f"job watch {_JOB}", f"{_ended()}\n"),
        ("Jobs", "job list", f"{_jobs()}\n"),
        ("Workers", "worker list", f"{_workers()}\n"),
        ("The demo", "demo", demo),
    ):
        parts.append(f"## {title}\n\n`avtomatika {command}`\n\n```text\n{text}```\n")
    return "\n".join(parts)


def _event(second: float, kind: str, state: str, **more: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("next_state", "task_id", "attempt", "worker_id", "details"))
    at = f"{_DAY}{second:06.3f}Z"
    row = {"event_id": 1, "event_type": kind, "timestamp": at, "state": state}
    return {**row, **blank, **more}


def _known(*, ended: bool) -> Watching:
    """A job that fetches a film and converts its parts."""
    known = Watching()
    fetch = {"task_id": f"{_JOB}-2", "attempt": 1, "worker_id": "cpu-1"}
    known.add(
        [
            _event(1, "job_created", "begin"),
            _event(1, "task_dispatched", "begin", **{**fetch, "details": {"skill": "fetch"}}),
            _event(1.2, "attempt_leased", "begin", **fetch),
            _event(5.4, "task_finished", "begin", next_state="split", **fetch),
            _event(5.5, "branches_dispatched", "split", next_state="join", details={"branches": 8}),
        ]
    )
    for number in range(6):
        task = {"task_id": f"{_JOB}-4-{number}", "worker_id": f"gpu-{1 + number % 2}"}
        attempt = 2 if number == 5 else 1
        lease = 6 + 3 * number
        known.add([_event(lease, "attempt_leased", "split", attempt=attempt, **task)])
        if number < 4 or ended:
            known.add([_event(lease + 9, "task_finished", "split", **task)])
        else:
            known.skills[task["task_id"]] = "convert"
    if ended:
        known.add(
            [
                _event(34, "state_finished", "join", next_state="done"),
                _event(34.1, "job_finished", "done"),
            ]
        )
    return known


def _job(**changed: Any) -> dict[str, Any]:
    return {
        "id": _JOB,
        "blueprint_name": "film",
        "status": "waiting_for_parallel",
        "state": "split",
        "created_at": f"{_DAY}01.000Z",
        "updated_at": f"{_DAY}34.100Z",
        "progress": [
            {"task_id": f"{_JOB}-4-4", "progress": 0.75, "message": "part 5", "at": ""},
            {"task_id": f"{_JOB}-4-5", "progress": 0.25, "message": "part 6", "at": ""},
        ],
        **changed,
    }


def _watched() -> str:
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=False, _environ={})
    console.print(screen(_job(), _known(ended=False), console, unix_seconds(f"{_DAY}25.000Z")))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _ended() -> str:
    return summary(_job(status="finished", state="done"), _known(ended=True))


def _jobs() -> str:
    earlier = "p00-01a225f7f1c9000d3b1a0c98f7e"
    labels = {"shop": "north"}
    return list_of([_job(labels=labels), _job(id=earlier, status="failed", state="broken")])


def _workers() -> str:
    def process(**changed: Any) -> dict[str, Any]:
        flags = {"gone": False, "blocked": False, "replaced_by": None}
        return {"skills": ["convert"], "seen_at": f"{_DAY}22.000Z", "leases": 0, **flags, **changed}

    workers = {
        "cpu-1": [process(skills=["fetch", "probe"])],
        "gpu-1": [process(leases=1, slots=2), process(leases=1, slots=2)],
        "gpu-2": [process(blocked=True, leases=1)],
        "gpu-3": [process(gone=True, seen_at="2026-11-29T02:00:00.000Z")],
    }
    now = unix_seconds(f"{_DAY}25.000Z")
    rows = [worker_row({"worker_id": it, "instances": workers[it]}, now=now) for it in workers]
    return table(_HEADINGS, rows, whole_last=True)


if __name__ == "__main__":
    recorded = Path(sys.argv[1]).read_text("utf-8") if len(sys.argv) > 1 else None
    PAGE.write_text(page(recorded or demo_on(PAGE.read_text("utf-8"))), "utf-8")
    print(PAGE)
