"""The report that ends the demo's job: Markdown with the numbers, SVG with the picture.

Both files depend on the summary alone.  No time, no path and nothing of the machine is in them,
so a job that was killed and went on must end in the same bytes as one that was left in peace.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from avtomatika_trio.demo._chart import coverage, draw

LARGEST_COLUMNS = ("name", "lines", "functions", "classes", "documented", "todos")
"""The headings of what `largest_table` returns."""

_COLUMNS = (*LARGEST_COLUMNS, "files", "unparsed", "longest function")
_REPORT = "report.md"
_CHART = "chart.svg"


def largest_table(summary: dict[str, Any], count: int = 10) -> list[tuple[str, ...]]:
    """The *count* largest of a summary as texts to print, one for each of `LARGEST_COLUMNS`."""
    return [tuple(_cell(row, key) for key in LARGEST_COLUMNS) for row in summary["rows"][:count]]


def write_report(summary: dict[str, Any], folder: Path) -> dict[str, str]:
    """Write `report.md` and `chart.svg`; both appear whole, or as they were before.

    Args:
        summary: What `merge` made.
        folder: Where to; made when it is missing.

    Returns:
        JSON: `report` and `chart`, the paths; `sha256`, the hex digest of the bytes of both
        files, report first.

    Raises:
        OSError: The folder cannot be written to.
    """
    contents = {
        _REPORT: _markdown(summary).encode(),
        _CHART: draw(summary["rows"]).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the target, as only a rename within one file system is atomic.  A folder of its own,
    # as a second attempt of the same task may be writing at the same time.
    with TemporaryDirectory(prefix=".report-", dir=folder) as unfinished:
        for name, content in contents.items():
            (Path(unfinished) / name).write_bytes(content)
        for name in contents:
            (Path(unfinished) / name).replace(folder / name)
    return {
        "report": str(folder / _REPORT),
        "chart": str(folder / _CHART),
        "sha256": hashlib.sha256(b"".join(contents.values())).hexdigest(),
    }


def _markdown(summary: dict[str, Any]) -> str:
    return "\n".join(
        [
            "# Code audit",
            "",
            *_headline(summary),
            "",
            f"![The largest packages and modules by lines of source]({_CHART})",
            "",
            "## The ten largest",
            "",
            *_table(LARGEST_COLUMNS, largest_table(summary)),
            "",
            f"## All {summary['names']:,}",
            "",
            *_table(_COLUMNS, ([_cell(row, key) for key in _COLUMNS] for row in summary["rows"])),
            "",
            "*documented*: the share of modules, public classes and public functions that have a",
            "docstring; a dash where none is due. *todos*: comments with TODO, FIXME or XXX.",
            "*unparsed*: files that are not valid Python of the version that read them, such as",
            "test data; they count as files and in nothing else.",
            "",
        ]
    )


def _headline(summary: dict[str, Any]) -> Iterator[str]:
    yield f"**{summary['lines']:,} lines** in {summary['files']:,} files of {summary['names']:,}"
    yield "top-level packages and modules."
    yield ""
    yield f"- functions: {summary['functions']:,}"
    yield f"- classes: {summary['classes']:,}"
    if (longest := summary["longest_function"]) is not None:
        yield f"- longest function: {_code(longest['name'])}, {longest['lines']:,} lines"
    yield (
        f"- docstrings: {summary['documented']:,} of {summary['documentable']:,}"
        f" modules, public classes and public functions ({coverage(summary)})"
    )
    yield f"- comments with TODO, FIXME or XXX: {summary['todos']:,}"
    yield f"- files that do not parse: {summary['unparsed']:,}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A Markdown table: names to the left, numbers to the right."""
    names = {"name", "longest function"}
    yield f"| {' | '.join(columns)} |"
    yield "".join("| :-- " if column in names else "| --: " for column in columns) + "|"
    for row in rows:
        cells = (
            _code(cell) if column in names and cell else cell
            for column, cell in zip(columns, row, strict=True)
        )
        yield f"| {' | '.join(cells)} |"


def _cell(row: dict[str, Any], key: str) -> str:
    match key:
        case "name":
            return str(row["name"])
        case "documented":
            return coverage(row)
        case "longest function":
            longest = row["longest_function"]
            return "" if longest is None else f"{longest['name']} ({longest['lines']:,})"
        case _:
            return f"{row[key]:,}"


def _code(text: str) -> str:
    """Set *text* as code, in which Markdown sees no emphasis in `__init__` and no tag in `<`."""
    return f"`{text}`"
