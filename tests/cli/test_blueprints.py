"""`avtomatika blueprint`, with a source and with an orchestrator."""

import io
import sys
from pathlib import Path

import pytest
from tests.cli.commands import Run

from avtomatika_trio.cli import Exit, main

GOOD = """
from avtomatika_trio import Blueprint

bp = Blueprint("good")

@bp.handler(is_start=True)
def start(actions):
    actions.dispatch_task("resize", {}, {"success": "done"})

@bp.handler(is_end=True)
def done():
    pass
"""

TYPO = GOOD.replace('"good"', '"typo"').replace('"done"', '"dnoe"')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of blueprints; the source is `blueprints`."""
    path = tmp_path / "blueprints"
    path.mkdir()
    (path / "good.py").write_text(GOOD)
    return path


def test_a_sound_source_passes(run: Run, folder: Path) -> None:
    ran = run("blueprint", "check", "blueprints")
    assert (ran.code, ran.err) == (Exit.OK, "")
    assert ran.out == "BLUEPRINT  STATES  CHECK\ngood       2       ok\n"


def test_all_problems_of_all_files_are_told(run: Run, folder: Path) -> None:
    (folder / "typo.py").write_text(TYPO)
    (folder / "broken.py").write_text("import json\n\njson.loads('{')\n")
    (folder / "syntax.py").write_text("\ndef f(:\n")
    (folder / "exits.py").write_text("raise SystemExit(0)\n")
    (folder / "twice.py").write_text(GOOD)
    ran = run("blueprint", "check", "blueprints", "-o", "json")
    assert ran.code == Exit.FAILED
    assert [blueprint["name"] for blueprint in ran.json["blueprints"]] == ["good"]
    start, done = f"{folder}/typo.py:7", f"{folder}/typo.py:11"
    assert ran.json["problems"] == [
        (
            "blueprints/broken.py line 3: cannot be imported: JSONDecodeError: Expecting property"
            " name enclosed in double quotes: line 1 column 2 (char 1)"
        ),
        "blueprints/exits.py line 1: cannot be imported: SystemExit: 0",
        (
            "blueprints/syntax.py: cannot be imported: SyntaxError: invalid syntax"
            " (syntax.py, line 2)"
        ),
        (
            "blueprints/twice.py: blueprint 'good' is not usable:\n"
            "  - there are two blueprints of this name"
        ),
        (
            "blueprints/typo.py: blueprint 'typo' is not usable:\n"
            f"  - state 'start' ({start}): line 8 leads to 'dnoe', which is not a state;"
            " did you mean 'done'?\n"
            f"  - state 'done' ({done}): nothing leads to it from the start 'start';"
            " lead to it, or remove it"
        ),
    ]
    assert ran.err == "".join(f"avtomatika: {problem}\n" for problem in ran.json["problems"])


def test_a_module_of_the_working_directory_is_found(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cli_test_flows.py").write_text(GOOD)
    assert run("blueprint", "check", "cli_test_flows").code == Exit.OK


def test_files_may_share_what_is_in_a_file_with_an_underscore(run: Run, folder: Path) -> None:
    (folder / "_cli_test_shared.py").write_text("NAME = 'other'\n")
    (folder / "other.py").write_text(
        "from _cli_test_shared import NAME\n" + GOOD.replace('"good"', "NAME")
    )
    ran = run("blueprint", "list", "--blueprints", "blueprints", "-o", "json")
    assert [blueprint["name"] for blueprint in ran.json] == ["good", "other"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "nosuch",
            (
                "nosuch: is neither a folder, a file nor a module that can be imported"
                " (No module named 'nosuch');"
                " `avtomatika init` writes a folder of one to begin with"
            ),
        ),
        ("../nosuch", "../nosuch: there is no such file or folder"),
        ("nosuch.py", "nosuch.py: there is no such file or folder"),
        ("empty", "empty: there is no *.py file in this folder"),
        ("plain.py", "plain.py: there is no Blueprint in it; make one: bp = Blueprint(...)"),
    ],
)
def test_a_source_without_blueprints(run: Run, tmp_path: Path, source: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.py").write_text("x = 1\n")
    for command in (
        ("blueprint", "check", source),
        ("blueprint", "list", "--blueprints", source),
        ("serve", "--blueprints", source),
    ):
        ran = run(*command)
        assert (ran.code, ran.out) == (Exit.FAILED, "")
        assert ran.err == f"avtomatika: {problem}\n"


def test_a_graph_needs_no_orchestrator(run: Run, folder: Path) -> None:
    dot = run("blueprint", "graph", "good", "--blueprints", "blueprints")
    assert dot.code == Exit.OK
    assert dot.out.startswith('digraph "good" {\n')
    assert '  "start" -> "done" [label="success · resize"];\n' in dot.out
    as_json = run("blueprint", "graph", "good", "--blueprints", "blueprints", "-o", "json")
    assert (as_json.json["name"], as_json.json["start"]) == ("good", "start")


def test_an_unknown_blueprint_is_not_found_and_the_others_are_named(run: Run, folder: Path) -> None:
    ran = run("blueprint", "graph", "godo", "--blueprints", "blueprints")
    assert ran.code == Exit.NOT_FOUND
    assert ran.err == ("avtomatika: there is no blueprint 'godo'; did you mean 'good'?\n")


def test_an_orchestrator_lists_its_blueprints_as_a_source_does(ask_for: Run) -> None:
    listed = ask_for("blueprint", "list", "-o", "json").json
    assert listed == [
        {
            "name": "quick",
            "endpoints": ["/api/v1/jobs/quickly", "/api/v1/jobs/quick"],
            "states": 3,
        },
        {"name": "waits", "endpoints": ["/api/v1/jobs/waits"], "states": 2},
    ]
    source = ask_for("blueprint", "list", "--blueprints", "tests.cli.commands", "-o", "json")
    assert source.json == listed
    assert ask_for("blueprint", "list").out == (
        "BLUEPRINT  STATES  JOBS ARE POSTED TO\n"
        "quick      3       /api/v1/jobs/quickly\n"
        "waits      2       /api/v1/jobs/waits\n"
    )


def test_an_orchestrator_draws_its_blueprints(ask_for: Run) -> None:
    drawn = ask_for("blueprint", "graph", "quick")
    source = ask_for("blueprint", "graph", "quick", "--blueprints", "tests.cli.commands")
    assert drawn.code == Exit.OK
    assert drawn.out == source.out
    assert ask_for("blueprint", "graph", "nosuch").code == Exit.NOT_FOUND


def test_a_file_that_is_no_python_is_told_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    ran = run("blueprint", "check", "notes.txt")
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert ran.err == (
        "avtomatika: notes.txt: is no Python file; give a *.py file, a folder or a module\n"
    )


@pytest.mark.parametrize("form", ["svg", "ascii", "json"])
def test_an_orchestrator_and_a_source_give_the_same_picture(ask_for: Run, form: str) -> None:
    asked = ask_for("blueprint", "graph", "quick", "--format", form)
    source = ask_for(
        *("blueprint", "graph", "quick", "--format", form),
        *("--blueprints", "tests.cli.commands"),
    )
    assert (asked.code, source.code) == (Exit.OK, Exit.OK)
    assert "begin" in asked.out
    assert [line for line in asked.out.splitlines() if '"line"' not in line] == [
        line for line in source.out.splitlines() if '"line"' not in line
    ]


def test_a_graph_as_text_and_as_svg(run: Run, folder: Path) -> None:
    source = ("blueprint", "graph", "good", "--blueprints", "blueprints")
    assert run(*source, "--format", "ascii").out == (
        "good\n* start  (start)\n    --success, resize--> done\n# done  (end: finished)\n"
    )
    assert run(*source, "-o", "svg").out.startswith('<svg xmlns="http://www.w3.org/2000/svg"')


@pytest.mark.parametrize("form", ["svg", "dot"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_picture_is_in_utf8_whatever_the_terminal_is_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, form: str, encoding: str
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    assert main(["blueprint", "graph", "good", "--blueprints", "blueprints", "-o", form]) == Exit.OK
    assert "success · resize" in raw.getvalue().decode()
