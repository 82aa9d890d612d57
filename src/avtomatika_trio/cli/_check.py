"""`avtomatika check`: every setting, where it comes from, and what is wrong."""

import os
from argparse import Namespace
from pathlib import Path

import attrs

from avtomatika_trio._config import (
    OrchestratorSettings,
    Report,
    WorkerSettings,
    check,
    read_clients_file,
    read_workers_file,
)
from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._output import complain, note, print_json, print_line, table
from avtomatika_trio.cli._places import settings_file
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.orchestrator._credential_files import CLIENTS_FILE, WORKERS_FILE

#: The settings of files of credentials: where each is usually, and what reads it.
_FILES = {
    "workers_config": (WORKERS_FILE, read_workers_file),
    "clients_config": (CLIENTS_FILE, read_clients_file),
}

_PROGRAMS: dict[str, type[OrchestratorSettings] | type[WorkerSettings]] = {
    "orchestrator": OrchestratorSettings,
    "worker": WorkerSettings,
}


def run(options: Namespace) -> int:
    """Print the settings of both programs; 2 if one of them is wrong."""
    file = settings_file(options)
    reports = {
        name: check(kind, environ=os.environ, file=file, overrides={})
        for name, kind in _PROGRAMS.items()
    }
    # What both programs read, and what is wrong with the file, is reported by each.
    problems = list(dict.fromkeys(p for report in reports.values() for p in report.problems))
    problems += _credential_problems(reports["orchestrator"])
    warnings = list(dict.fromkeys(w for report in reports.values() for w in report.warnings))
    if options.output == "json":
        entries = {
            name: [attrs.asdict(entry) for entry in report.entries]
            for name, report in reports.items()
        }
        print_json({**entries, "problems": problems, "warnings": warnings})
    else:
        rows = [
            (name, entry.name, entry.value, entry.source)
            for name, report in reports.items()
            for entry in report.entries
        ]
        print_line(table(("PROGRAM", "SETTING", "VALUE", "SOURCE"), rows))
        note(f"settings file: {file or 'none'}")
    for warning in warnings:
        note(f"warning: {warning}")
    for problem in problems:
        complain(problem)
    return Exit.USAGE if problems else Exit.OK


def _credential_problems(report: Report) -> list[str]:
    """What is wrong with the files that say who may talk."""
    problems: list[str] = []
    given = {entry.field: entry.value for entry in report.entries if entry.source != "default"}
    for field, (usual, read) in _FILES.items():
        path = Path(given[field]) if field in given else usual
        try:
            if path.exists():
                read(path)
        except ConfigError as exc:
            problems += exc.problems
    return problems
