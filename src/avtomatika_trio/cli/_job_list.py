"""`avtomatika job list`: the jobs of an orchestrator, those that are asked for."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._narrowing import given
from avtomatika_trio.cli._output import note, print_line, print_records, table

if TYPE_CHECKING:
    from avtomatika_trio.client import Client

_Job = Mapping[str, Any]

_COLUMNS = {
    "ID": "id",
    "BLUEPRINT": "blueprint_name",
    "STATUS": "status",
    "STATE": "state",
    "CREATED": "created_at",
}
#: Last, since it may be long, and only where there are some.
_LABELS = {"LABELS": "labels"}

_NONE = "none; submit one: avtomatika job submit BLUEPRINT"
_NONE_FITS = "none is like this; `avtomatika job list` without filters shows the newest"


def print_list(client: "Client", options: Namespace) -> int:
    """Print the jobs that *options* ask for, newest first.

    Raises:
        CommandError: a label is given twice.
        AvtomatikaError: as the client raises.
    """
    statuses = () if options.status is None else (options.status,)
    more = given(options, "labels", "created_after", "created_before")
    found = client.list(statuses=statuses, blueprint=options.blueprint, most=options.limit, **more)
    jobs = [job.raw for job in found]
    if options.output == "table":
        print_line(list_of(jobs))
    else:
        print_records(options.output, jobs, {})
    if not jobs:
        is_narrowed = bool(statuses or options.blueprint is not None or more)
        note(_NONE_FITS if is_narrowed else _NONE)
    if len(jobs) == options.limit:
        note(f"the newest {options.limit}; there may be more, see --limit")
    return Exit.OK


def list_of(jobs: Sequence[_Job]) -> str:
    """The table of *jobs*; with their labels, if one of them has any."""
    has_labels = any(job.get("labels") for job in jobs)
    columns = {**_COLUMNS, **(_LABELS if has_labels else {})}
    rows = [[_shown(job, member) for member in columns.values()] for job in jobs]
    return table(list(columns), rows, whole_last=has_labels)


def _shown(job: _Job, member: str) -> object:
    value: object = job.get(member)
    if member != "labels" or not isinstance(value, Mapping):
        return value
    return ",".join(f"{name}={value[name]}" for name in sorted(value))
