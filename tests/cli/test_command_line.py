"""What is true of every command: help, versions, usage, pipes."""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.commands import Run

from avtomatika_trio.cli import Exit
from avtomatika_trio.cli._parser import create_parser
from avtomatika_trio.cli._parser_parts import below

_HEAVY = ("trio", "httpx", "quart", "rich", "msgspec", "hypercorn", "sqlite3", "tomli")


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["job", "submit", "--help"]])
def test_help_and_version_load_nothing_heavy(argv: list[str]) -> None:
    probe = (
        "import sys; from avtomatika_trio.cli import main; code = main(sys.argv[1:]);"
        f" sys.exit(f'{{code}}: ' + ' '.join(sorted(set(sys.modules) & set({_HEAVY!r}))))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", probe, *argv], capture_output=True, text=True, check=False
    )
    assert ended.stderr == "0: \n"
    assert ended.stdout


def test_the_module_is_the_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "avtomatika_trio", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("avtomatika ")


def test_the_version_has_a_short_option_too(run: Run) -> None:
    assert run("-V").out == run("--version").out


def test_help_tells_the_commands_and_the_exit_codes(run: Run) -> None:
    ran = run("--help")
    assert (ran.code, ran.err) == (0, "")
    for word in ("serve", "worker", "job", "blueprint", "check", "demo", "124 timed out"):
        assert word in ran.out


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        ([], "avtomatika: error: a COMMAND is missing; give one of those above"),
        (["job"], "avtomatika job: error: a VERB is missing; give one of those above"),
        ([], "    serve        run an orchestrator until SIGTERM or Ctrl-C"),
        ([], "    blueprint    look at blueprints"),
        (["submit"], "; did you mean `avtomatika job submit`?"),
        (["list"], "; did you mean `avtomatika worker list` or `avtomatika job list` or"),
        (["job"], "    watch     follow a job until it ends; exit with its outcome"),
        (["job", "wacth"], "invalid choice: 'wacth' (choose from"),
        (["job", "wacth"], "; did you mean watch?"),
        (["job", "list", "--status", "finishd"], "; did you mean finished?"),
        (["job", "list", "--limit", "0"], "is not a whole number above 0; give one like 20"),
        (
            ["serve", "--prot", "1"],
            "avtomatika serve: error: unrecognized arguments: --prot 1; did you mean --port?",
        ),
        (
            ["serve", "flows"],
            "serve: error: unrecognized arguments: flows; did you mean --blueprints flows?\n",
        ),
        (["serve", "--xyz", "flows"], "serve: error: unrecognized arguments: --xyz flows\n"),
        (["check", "soon"], "avtomatika check: error: unrecognized arguments: soon\n"),
        (
            ["job", "list", "--limit", "0"],
            "avtomatika job list: error: argument --limit: '0' is not a whole number above 0",
        ),
        (
            ["job", "watch", "x", "--timeout", "soon"],
            (
                "avtomatika job watch: error: argument --timeout: 'soon' is not a number of"
                " seconds; give one like 60"
            ),
        ),
        (
            ["job", "list", "--status", "lost"],
            "avtomatika job list: error: argument --status: invalid choice: 'lost' (choose from",
        ),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run: Run, argv: list[str], fault: str) -> None:
    ran = run(*argv)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert fault in ran.err


def test_every_command_that_can_print_json_does_so_for_json() -> None:
    parsers = list(_commands(create_parser()))
    asked = [parser for parser in parsers if _formats(parser) & {"json"}]
    assert len(asked) >= 20
    for parser in asked:
        assert "--json" in parser.format_help(), parser.prog
        given = parser.parse_known_args(["--json", *["1"] * 2])[0]
        assert given.output == "json"
    for parser in set(parsers) - set(asked):
        assert "--json" not in parser.format_help(), parser.prog


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    inner = below(parser).values()
    if not inner:
        yield parser
    for each in inner:
        yield from _commands(each)


def _formats(parser: argparse.ArgumentParser) -> set[str]:
    outputs = [it for it in parser._actions if it.dest == "output"]
    return {choice for it in outputs for choice in it.choices or ()}


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "avtomatika_trio", "check"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (Exit.BROKEN_PIPE, b"")


@pytest.mark.parametrize(
    "gone",
    [
        "import os; r, w = os.pipe(); os.close(r); os.dup2(w, 2)",
        "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 2)",
        "import sys; sys.stderr = None",
    ],
)
def test_notes_that_nobody_reads_end_no_work(gone: str) -> None:
    """As when Ctrl-C ends the `tee` behind a worker, before it tells how it will end."""
    said = f"from avtomatika_trio.cli._output import note; {gone}; note('a'); note('b'); print('c')"
    ended = subprocess.run(
        [sys.executable, "-c", said], stdout=subprocess.PIPE, text=True, check=False
    )
    assert ended.stdout == "c\n"


@pytest.mark.parametrize("argv", [["--version"], ["check"]])
def test_output_that_cannot_be_written_is_told_in_one_line(argv: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "avtomatika_trio", *argv],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    fault = "avtomatika: the output cannot be written: No space left on device"
    assert ended.returncode == Exit.FAILED
    assert ended.stderr == f"{fault}; send it to another place\n"


def test_a_demo_without_source_makes_no_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = run("demo", "--root", "empty")
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert "has no Python source; name a folder that has" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_demo_gets_its_options(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "source.py").write_text("")
    ran = run("demo", "--kill", "--folder", "file/runs", "--root", ".")
    assert (ran.code, ran.out) == (Exit.FAILED, "")
    assert "Not a directory" in ran.err
    assert "choose another place with --folder" in ran.err
