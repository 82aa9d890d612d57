"""What the demo tells: a progress bar on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

_TAIL_LINES = 15
"""How much of a log is shown; the whole is named."""

_PLAIN_STEPS = 10
"""How many lines stand for a progress bar where there is no terminal."""


_ANY_WIDTH = 1000
"""Columns: more than any table has."""


class _Out(Console):
    """stdout; a reader that goes away is for the caller to see."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


class Screen:
    """Tells people how the demo gets on: on stdout, complaints on stderr."""

    def __init__(self) -> None:
        self._out = _Out(highlight=False)
        self._err = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._told = -1

    def say(self, text: str = "") -> None:
        """Print *text* as it is: never wrapped, since paths and commands are to be copied."""
        self._out.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show what `counted` tells, while inside."""
        if not self._out.is_terminal:
            yield
            return
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._out,
        ) as self._bar:
            self._bar.add_task("analysed", total=None)
            yield
        self._bar = None

    def counted(self, done: int, total: int) -> None:
        """Take note that the results of *done* of *total* modules have been counted."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
            return
        step = _PLAIN_STEPS * done // total
        if step > self._told:
            self._told = step
            self.say(f"analysed {done} of {total}")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table: the first column to the left, numbers to the right.

        On a narrow terminal the last columns are left out, rather than all cut short.
        """
        content = list(rows)
        options = self._out.options.update(max_width=_ANY_WIDTH)
        table = _table(title, columns, content)
        count = len(columns)
        while count > 1 and Measurement.get(self._out, options, table).maximum > self._out.width:
            count -= 1
            table = _table(title, columns[:count], (row[:count] for row in content))
        self._out.print(table)

    def complain(self, reason: str, log: Path | None) -> None:
        """Print to stderr what went wrong, and the last lines of *log*."""
        sys.stdout.flush()
        self._err.print(f"avtomatika demo: {reason}", markup=False, soft_wrap=True)
        if log is None or not log.exists():
            return
        lines = log.read_text(errors="replace").splitlines()
        self._err.print(f"the end of {log}:", markup=False, soft_wrap=True)
        for line in lines[-_TAIL_LINES:]:
            self._err.print(f"  {line}", markup=False, soft_wrap=True)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table
