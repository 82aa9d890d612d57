"""What every benchmark says of itself: the machine, and where the figures go."""

import json
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

#: How many processes wanted a core before this one began: with more than a little, only ratios
#: of one run mean something.
_LOAD_BEFORE = os.getloadavg()[0]

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "fsync_ms": round(fsync_seconds() * 1000, 3),
        "load_of_others": round(_LOAD_BEFORE, 1),
    }


def fsync_seconds(rounds: int = 50) -> float:
    """Median time of a write of 4 KiB and its fsync, in the folder for temporary files."""
    took: list[float] = []
    with tempfile.TemporaryFile() as file:
        for _ in range(rounds):
            file.write(bytes(4096))
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begin)
    return statistics.median(took)


def rates(count: int, seconds: list[float]) -> dict[str, int]:
    """Median, worst and best of *count* things in each of *seconds*, per second."""
    each = sorted(count / it for it in seconds)
    return {
        "median": round(statistics.median(each)),
        "worst": round(each[0]),
        "best": round(each[-1]),
    }


def last(name: str) -> dict[str, Any]:
    """The figures of the last run; empty if there was none."""
    path = RESULTS / f"{name}.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    figures.pop("machine", None)
    return figures


def publish(name: str, figures: dict[str, Any]) -> None:
    """Write *figures* to `results/<name>.json` and to standard output."""
    text = json.dumps({"machine": machine(), **figures}, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
