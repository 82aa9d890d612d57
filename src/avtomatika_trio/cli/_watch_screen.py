"""`avtomatika job watch` on a terminal: the job as it goes on, drawn in place."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from avtomatika_trio.cli._output import is_utf8, printable, table
from avtomatika_trio.cli._watching import Running, Waiting, Watching, duration, unix_seconds
from avtomatika_trio.errors import OrchestratorUnavailable, RateLimited

if TYPE_CHECKING:
    from avtomatika_trio.client import Client

_Job = Mapping[str, Any]

#: Between two looks: a job with many branches has news all the time.
_PACE_SECONDS = 0.25

#: Branches beyond it are shown without their skill: to ask for it is to read all tasks.
_MOST_TASKS_TO_READ = 500

_BAR_COLUMNS = 12
#: Below this width, columns that can be missed are left out.
_NARROW_COLUMNS = 60
#: Lines for what is not a state or a running task.
_FRAME_LINES = 9

_SEE = "see `avtomatika worker list`"

_STYLES = {"finished": "green", "failed": "red", "quarantined": "red", "cancelled": "yellow"}


def can_draw() -> bool:
    """Whether stdout is a terminal on which lines can be drawn anew, with any character."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}
    return terminal and is_utf8(sys.stdout)


def draw(client: "Client", jobs: Iterator[_Job]) -> _Job:
    """Show each of *jobs*, one job as it changes, until they end; returns the last.

    Args:
        client: Whom to ask for its history.
        jobs: As it comes; it must come at least once.

    Raises:
        AvtomatikaError: as *jobs* and the client raise.
    """
    known = Watching()
    reader = _Reader(client, known)
    console = Console(highlight=False)
    job: _Job = {}
    with _ending(), Live(console=console, transient=True, refresh_per_second=4) as live:
        for job in jobs:
            looked_at = time.monotonic()
            reader.read(job)
            live.update(screen(job, known, console, time.time()))
            time.sleep(max(0.0, looked_at + _PACE_SECONDS - time.monotonic()))
    _sum_up(job, known)
    return job


@contextmanager
def _ending() -> Iterator[None]:
    """Let SIGTERM leave the block: dying on the spot would leave the terminal without a cursor."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Reader:
    """Asks for what is new."""

    def __init__(self, client: "Client", known: Watching) -> None:
        self._client = client
        self._known = known
        self._asked_for: object = None

    def read(self, job: _Job) -> None:
        known = self._known
        try:
            rows = self._client.history(job["id"], after=known.last_event)
            known.add(row.raw for row in rows)
            fan_out = known.fan_out
            small = fan_out is None or fan_out.total <= _MOST_TASKS_TO_READ
            if small and known.lacks_skills and self._asked_for is not fan_out:
                tasks = self._client.tasks(job["id"])
                known.skills.update((it.id, it.skill) for it in tasks)
                self._asked_for = fan_out
        except (OrchestratorUnavailable, RateLimited):
            pass  # who asks for the job tells of it, and the history is read with the next look


def screen(job: _Job, known: Watching, console: Console, now: float) -> RenderableType:
    """The whole picture.

    Args:
        job: As it stands.
        known: What its history has told.
        console: Of the terminal; how wide and high it is.
        now: Unix seconds.
    """
    now = max(now, known.last_at)
    room = max(2, console.height - _FRAME_LINES)
    parts: list[RenderableType] = [_head(job, now), Text(), _states(known, room // 2, now)]
    if known.fan_out is not None and known.fan_out.done < known.fan_out.total:
        parts += [Text(), _branches(known)]
        if known.are_branches_left(now):
            parts.append(_text(f"no worker takes them, {_SEE}", "dim"))
    if known.running or known.waiting:
        parts += [Text(), _tasks(job, known, console.width, room - room // 2, now)]
    return Group(*parts)


def _head(job: _Job, now: float) -> RenderableType:
    line = _text("")
    line.append(printable(f"{job['blueprint_name']} "), "bold")
    line.append(str(job["status"]), _STYLES.get(job["status"], "cyan"))
    line.append(f" {duration(now - unix_seconds(job['created_at']))}", "dim")
    return Group(_text(f"job {job['id']}"), line)


def _states(known: Watching, most: int, now: float) -> RenderableType:
    grid = _grid()
    hidden = len(known.passages) - max(1, most)
    if hidden > 0:
        grid.add_row("", _text(f"... {hidden} before", "dim"), "")
    for passage in known.passages[max(0, hidden) :]:
        here = passage.left_at is None
        grid.add_row(
            ">" if here else " ",
            _text(passage.state, "bold" if here else ""),
            _text(duration(passage.seconds(now)), "dim"),
        )
    return grid


def _branches(known: Watching) -> RenderableType:
    assert known.fan_out is not None
    grid = _grid()
    done, total = known.fan_out.done, known.fan_out.total
    bar = ProgressBar(total=total, completed=done, width=_BAR_COLUMNS)
    grid.add_row(_text("branches"), bar, _text(f"{done} of {total}"))
    return grid


def _tasks(job: _Job, known: Watching, width: int, most: int, now: float) -> RenderableType:
    """What runs, and then what no worker has; *most* of it."""
    wide = width >= _NARROW_COLUMNS
    most = max(1, most)
    grid = _grid()
    rows = itertools.chain(_running_rows(job, known, now), _waiting_rows(job, known, now))
    for name, *columns, share, message in itertools.islice(rows, most):
        grid.add_row(name, *(columns if wide else ()), share, message)
    left = len(known.running) + len(known.waiting) - most
    kind = "" if known.waiting else " running"
    more = [_text(f"... and {left} more{kind}", "dim")] if left > 0 else []
    return Group(grid, *more)


def _running_rows(job: _Job, known: Watching, now: float) -> Iterator[list[RenderableType]]:
    told = {said["task_id"]: said for said in job["progress"]}
    for one in sorted(known.running.values(), key=lambda it: it.leased_at):
        said = told.get(one.task_id, {})
        share = said.get("progress")
        bar: RenderableType = Text("")
        if share is not None:
            bar = ProgressBar(total=1.0, completed=share, width=_BAR_COLUMNS)
        yield [
            _text(_name(one, known, job)),
            _text(one.worker_id),
            _text(duration(now - one.leased_at), "dim"),
            bar,
            _text("" if share is None else f"{share:.0%}"),
            _text(said.get("message") or one.event, "dim"),
        ]


def _waiting_rows(job: _Job, known: Watching, now: float) -> Iterator[list[RenderableType]]:
    for held in sorted(known.waiting.values(), key=lambda it: it.since):
        yield [
            _text(_task(held.task_id, known, job)),
            _text("-"),
            _text(duration(now - held.since), "dim"),
            Text(""),
            Text(""),
            _text(_why_waiting(held, now), "dim"),
        ]


def _why_waiting(held: Waiting, now: float) -> str:
    """What has to happen before a worker gets the task."""
    after = f"; {held.why}" if held.why else ""
    if held.retry_at is not None and held.retry_at > now:
        return f"again in {duration(held.retry_at - now)}{after}"
    if not held.is_left(now):
        return f"waits for a worker{after}"
    return f"no worker takes it, {_SEE}{after}"


def _name(one: Running, known: Watching, job: _Job) -> str:
    """Skill and number of a task; the attempt, if it is not the first."""
    again = f" attempt {one.attempt}" if one.attempt > 1 else ""
    return f"{_task(one.task_id, known, job)}{again}"


def _task(task_id: str, known: Watching, job: _Job) -> str:
    number = task_id.removeprefix(f"{job['id']}-")
    return f"{known.skills.get(task_id, 'task')} {number}"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(6):
        grid.add_column(no_wrap=True, overflow="ellipsis")
    return grid


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")


def _sum_up(job: _Job, known: Watching) -> None:
    """Leave on the screen where the job has been and how long that took."""
    sys.stdout.write(summary(job, known) + "\n\n")
    sys.stdout.flush()


def summary(job: _Job, known: Watching) -> str:
    """The states that the job went through, and the time of each and of all."""
    now = unix_seconds(job["updated_at"])
    rows = [(it.state, duration(it.seconds(now))) for it in known.passages]
    whole = duration(now - unix_seconds(job["created_at"]))
    return table(("STATE", "TOOK"), [*rows, ("in all", whole)])
