"""`avtomatika worker list`: the workers that an orchestrator has heard of."""

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from avtomatika_trio.cli._connect import open_client
from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._output import age, note, print_line, print_records, table
from avtomatika_trio.cli._watching import unix_seconds

_HEADINGS = ("WORKER", "PROCESSES", "SLOTS", "LEASES", "SEEN", "STATE", "SKILLS")

_Json = Mapping[str, Any]


def run(options: Namespace) -> int:
    """Print the workers, each with what its processes do.

    Raises:
        CommandError: there is no token.
        AvtomatikaError: as the client raises.
    """
    with open_client(options) as client:
        workers = [worker.raw for worker in client.workers()]
    if not workers:
        note("none has ever been here; start one: avtomatika worker run MODULE:ATTR")
    if options.output == "table":
        now = time.time()
        print_line(table(_HEADINGS, [worker_row(it, now=now) for it in workers], whole_last=True))
    else:
        print_records(options.output, workers, {})
    return Exit.OK


def worker_row(worker: _Json, *, now: float) -> tuple[object, ...]:
    """One worker for people: what its processes are together.

    Args:
        worker: As `GET /api/v1/workers` tells it.
        now: Unix seconds.
    """
    processes: Sequence[_Json] = worker["instances"]
    here = [it for it in processes if not _is_gone(it)]
    shown = here or processes
    slots = [it["slots"] for it in shown if it.get("slots") is not None]
    skills = dict.fromkeys(skill for it in shown for skill in it["skills"])
    seen_at = max((unix_seconds(it["seen_at"]) for it in processes), default=None)
    return (
        worker["worker_id"],
        len(here),
        sum(slots) if slots else None,
        sum(it["leases"] for it in processes),
        None if seen_at is None else f"{age(now - seen_at)} ago",
        _state(here),
        ", ".join(skills),
    )


def _state(here: Sequence[_Json]) -> str:
    """`live` if one of the processes can work, `blocked` if none of those *here* can."""
    if not here:
        return "gone"
    return "blocked" if all(it["blocked"] for it in here) else "live"


def _is_gone(process: _Json) -> bool:
    return bool(process["gone"]) or process["replaced_by"] is not None
