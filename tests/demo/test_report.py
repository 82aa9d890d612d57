"""The demo's report: the same bytes for the same numbers, and files that others can read."""

import hashlib
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from avtomatika_trio.demo._audit import COUNTS, merge
from avtomatika_trio.demo._chart import BARS, SHADES, coverage, draw
from avtomatika_trio.demo._report import LARGEST_COLUMNS, largest_table, write_report

SVG = "{http://www.w3.org/2000/svg}"


def row(name: str, lines: int, *, documented: int = 1, documentable: int = 2) -> dict[str, Any]:
    return {
        "name": name,
        **dict.fromkeys(COUNTS, 1),
        "lines": lines,
        "documented": documented,
        "documentable": documentable,
        "longest_function": {"name": f"{name}:Cat.<locals>.__init__", "lines": 1234},
    }


def rows(count: int) -> list[dict[str, Any]]:
    return [row(f"module_{number}", 1000 * number) for number in range(count)]


def bars(svg: str) -> list[str]:
    """The shade of every bar, from the top."""
    return [path.get("class", "") for path in ET.fromstring(svg).iter(f"{SVG}path")]


def test_the_report_holds_totals_the_ten_largest_and_everything(tmp_path: Path) -> None:
    result = write_report(merge(rows(30)), tmp_path / "new" / "folder")
    text = Path(result["report"]).read_text()
    head, largest, everything = text.split("\n## ")
    assert "**435,000 lines** in 30 files of 30\n" in head
    assert "- docstrings: 30 of 60 modules, public classes and public functions (50 %)" in head
    assert "](chart.svg)" in head
    assert "| `module_29` | 29,000 | 1 | 1 | 50 % | 1 |\n" in largest
    assert largest.count("\n| `module_") == 10
    assert everything.count("\n| `module_") == 30
    assert "| `module_7:Cat.<locals>.__init__ (1,234)` |\n" in everything


def test_the_same_audits_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    audits = rows(30)
    shuffled = random.Random(3).sample(audits, len(audits))
    first = write_report(merge(audits), tmp_path / "first")
    second = write_report(merge(shuffled), tmp_path / "second")
    assert first["sha256"] == second["sha256"]
    for file in ("report", "chart"):
        assert Path(first[file]).read_bytes() == Path(second[file]).read_bytes()


def test_the_digest_is_of_both_files_and_the_folder_holds_nothing_else(tmp_path: Path) -> None:
    for count in (3, 5):  # the second time over what the first time wrote
        result = write_report(merge(rows(count)), tmp_path)
        both = (tmp_path / "report.md").read_bytes() + (tmp_path / "chart.svg").read_bytes()
        assert result == {
            "report": str(tmp_path / "report.md"),
            "chart": str(tmp_path / "chart.svg"),
            "sha256": hashlib.sha256(both).hexdigest(),
        }
        assert {path.name for path in tmp_path.iterdir()} == {"report.md", "chart.svg"}


def test_no_path_of_the_machine_is_in_the_report(tmp_path: Path) -> None:
    result = write_report(merge(rows(3)), tmp_path)
    for file in ("report", "chart"):
        assert str(tmp_path).encode() not in Path(result[file]).read_bytes()


def test_an_empty_summary_is_a_report_too(tmp_path: Path) -> None:
    result = write_report(merge([]), tmp_path)
    assert "**0 lines** in 0 files" in Path(result["report"]).read_text()
    assert bars(Path(result["chart"]).read_text()) == []


def test_the_chart_is_xml_with_a_title_and_one_bar_for_each_of_the_largest() -> None:
    svg = draw(merge(rows(30))["rows"])
    root = ET.fromstring(svg)
    assert root.findtext(f"{SVG}title") == f"The {BARS} largest by lines of source"
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "title desc")
    assert len(bars(svg)) == BARS
    tips = [group.findtext(f"{SVG}title") for group in root.iter(f"{SVG}g")]
    assert tips[0] == "module_29: 29,000 lines, 50 % documented"
    assert "prefers-color-scheme: dark" in svg


def test_bars_are_shaded_by_docstring_coverage() -> None:
    svg = draw(
        [
            row("none", 6, documented=0, documentable=10),
            row("fifth", 5, documented=2, documentable=10),
            row("half", 4, documented=5, documentable=10),
            row("most", 3, documented=79, documentable=100),
            row("all", 2, documented=10, documentable=10),
            row("nothing_due", 1, documented=0, documentable=0),
        ]
    )
    assert bars(svg) == ["shade0", "shade1", "shade2", "shade3", "shade4", "shade4"]
    assert len(SHADES) == 5


def test_names_are_escaped_in_the_chart() -> None:
    svg = draw([row('<a & "b">', 1)])
    texts = [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert '<a & "b">' in texts


def test_modules_without_lines_are_drawn_as_bars_without_length() -> None:
    assert len(bars(draw([row("empty", 0), row("hollow", 0)]))) == 2


@pytest.mark.parametrize(
    ("documented", "documentable", "shown"),
    [(0, 0, "-"), (0, 5, "0 %"), (199, 200, "99 %"), (5, 5, "100 %")],
)
def test_coverage_is_never_rounded_up(documented: int, documentable: int, shown: str) -> None:
    assert coverage({"documented": documented, "documentable": documentable}) == shown


def test_the_largest_are_rows_of_text_for_a_terminal() -> None:
    assert LARGEST_COLUMNS == ("name", "lines", "functions", "classes", "documented", "todos")
    summary = merge(rows(30))
    assert largest_table(summary, 2) == [
        ("module_29", "29,000", "1", "1", "50 %", "1"),
        ("module_28", "28,000", "1", "1", "50 %", "1"),
    ]
    assert len(largest_table(summary)) == 10
