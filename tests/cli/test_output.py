"""Tables, listings and JSON."""

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from avtomatika_trio.cli._output import (
    age,
    cell,
    listing,
    note,
    print_json,
    print_records,
    table,
)


def test_columns_are_aligned_and_lines_have_no_tail() -> None:
    text = table(("ID", "STATUS"), [("a", "finished"), ("long-id", None)])
    assert text == "ID       STATUS\na        finished\nlong-id  -"


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    text = table(("ID", "STATUS"), [("日本", "finished"), ("e\u0301", "x"), ("abcd", "y")])
    assert text == "ID    STATUS\n日本  finished\ne\u0301     x\nabcd  y"
    assert listing({"日本": 1, "abc": 2}) == "日本  1\nabc   2"


def test_a_table_without_rows_is_its_headings() -> None:
    assert table(("ID", "STATUS"), []) == "ID  STATUS"


def test_the_last_column_may_be_whole() -> None:
    rows = [("a", "x" * 61 + "\n"), ("b", None)]
    assert table(("A", "B"), rows, whole_last=True) == f"A  B\na  {'x' * 61}\\n\nb  -"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0 s"),
        (0.9, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
    ],
)
def test_an_age_is_in_a_unit_that_says_enough(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb\x1b[31m", "a\\nb\\x1b[31m"),
        ({"n": 1, "ü": None}, '{"n": 1, "ü": null}'),
        ("", "-"),
        (0, "0"),
        ("x" * 61, "x" * 57 + "..."),
        ("日" * 30, "日" * 30),
        ("日" * 31, "日" * 28 + "..."),
        ("e\u0301" * 60, "e\u0301" * 60),
    ],
)
def test_a_cell_is_one_short_line_that_cannot_steer_a_terminal(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_listing_leaves_out_what_is_not_there_and_cuts_nothing() -> None:
    assert listing({"id": "x" * 99, "error": None, "state": "a"}) == f"id     {'x' * 99}\nstate  a"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_arrives_whole_in_every_encoding(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    value = {"text": "é😀\ud800\n"}
    print_json(value)
    assert json.loads(raw.getvalue().decode(encoding)) == value


def test_jsonl_is_one_record_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_records("jsonl", [{"a": 1}, {"a": "x\ny"}], {})
    assert capsys.readouterr().out == '{"a": 1}\n{"a": "x\\ny"}\n'


@pytest.mark.parametrize(
    ("arguments", "closed", "code"),
    [
        ("blueprint graph greet --blueprints greet.py", ">&-", 0),
        ("blueprint graph nope --blueprints greet.py", "2>&-", 3),
        ("job submit greet --data - --url http://127.0.0.1:9 --token t", "<&-", 2),
        ("job get j --url http://127.0.0.1:9 --token t", "<&- >&- 2>&-", 1),
    ],
)
def test_a_process_without_a_stream_does_what_it_can(
    arguments: str, closed: str, code: int, tmp_path: Path
) -> None:
    source = "from avtomatika_trio import Blueprint\ngreet = Blueprint('greet')\n"
    handler = "@greet.handler(is_start=True, is_end=True)\ndef begin():\n    pass\n"
    (tmp_path / "greet.py").write_text(source + handler)
    command = f"{sys.executable} -m avtomatika_trio {arguments} {closed}"
    ran = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, "Traceback" in ran.stderr) == (code, False), ran


def test_what_nobody_can_be_told_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a device
    monkeypatch.setattr(sys, "stderr", full)
    note("x")
    with suppress(OSError):
        full.close()
