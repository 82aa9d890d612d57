"""The demo's blueprint: list modules, audit each as a task of its own, merge, write a report.

Jobs of it take `root` (a folder of Python source, or None for the standard library of the Python
that the workers run) and `folder` (where the report and the notes of the workers go).
"""

from collections.abc import Mapping
from typing import Any

from avtomatika_trio import ActionFactory, Blueprint
from avtomatika_trio.demo._audit import COUNTS, merge
from avtomatika_trio.demo._report import largest_table

code_audit = Blueprint("code_audit", api_version="v1", api_endpoint="/jobs/code_audit")

LISTING = "listing"
"""The state whose task lists the modules."""

AUDITING = "auditing"
"""The state that makes one task for each module."""


@code_audit.handler(LISTING, is_start=True)
def listing(actions: ActionFactory, root: str | None) -> None:
    """Ask a worker what there is: only it knows its Python."""
    actions.dispatch_task("list_modules", {"root": root}, {"success": AUDITING})


@code_audit.handler(AUDITING)
def auditing(actions: ActionFactory, names: list[str], root: str | None, folder: str) -> None:
    """Make one task for each name, all at once: whoever has room takes the next."""
    actions.dispatch_parallel(
        [
            {
                "type": "audit_module",
                "key": name,
                "params": {"name": name, "root": root, "folder": folder},
            }
            for name in names
        ],
        aggregate_into="merging",
    )


@code_audit.aggregator("merging")
def merging(
    actions: ActionFactory,
    aggregation_results: Mapping[str, Any],
    state_history: dict[str, Any],
    folder: str,
) -> None:
    """Add everything up, and have the report written."""
    summary = merge(result["data"] for result in aggregation_results.values())
    state_history["totals"] = {key: summary[key] for key in ("names", *COUNTS)}
    state_history["largest"] = [list(row) for row in largest_table(summary)]
    actions.dispatch_task(
        "write_report", {"summary": summary, "folder": folder}, {"success": "reported"}
    )


@code_audit.handler("reported", is_end=True)
def reported(
    report: str, chart: str, sha256: str, totals: dict[str, int], largest: list[list[str]]
) -> dict[str, Any]:
    """The job's result: where the two files lie, their digest, and the most telling numbers."""
    return {
        "report": report,
        "chart": chart,
        "sha256": sha256,
        "totals": totals,
        "largest": largest,
    }
