"""The demo's worker: three skills, run in threads because parsing keeps a processor busy."""

import os
from pathlib import Path
from typing import Any

from avtomatika_trio.demo._audit import audit, list_stdlib
from avtomatika_trio.demo._notes import Begun, note
from avtomatika_trio.demo._report import write_report
from avtomatika_trio.worker import Worker

worker = Worker()


@worker.skill("list_modules")
def list_modules(params: dict[str, Any]) -> dict[str, Any]:
    """The names of the packages and modules in `root`."""
    return {"names": list_stdlib(_folder(params["root"]))}


@worker.skill("audit_module")
def audit_module(params: dict[str, Any], idempotency_key: str, attempt: int) -> dict[str, Any]:
    """Measure the package or module `name` in `root`; a note of it is left in `folder`."""
    name = params["name"]
    begun = Begun(name=name, task_id=idempotency_key, attempt=attempt, pid=os.getpid())
    note(Path(params["folder"]), begun)
    return audit(name, _folder(params["root"]))


@worker.skill("write_report")
def write_report_files(params: dict[str, Any]) -> dict[str, str]:
    """Write the report and its chart into `folder`."""
    return write_report(params["summary"], Path(params["folder"]) / "report")


def _folder(root: str | None) -> Path | None:
    return None if root is None else Path(root)
