"""`avtomatika check`: every setting, where it comes from, and what is wrong."""

import os
from argparse import Namespace

import attrs

from avtomatika_trio._config import OrchestratorSettings, WorkerSettings, check
from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._output import complain, note, print_json, print_line, table
from avtomatika_trio.cli._places import settings_file

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
