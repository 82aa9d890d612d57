"""Every block of code in the docs is executed, or read by what will read it.

`RULES` says what is done with a language, `PLAYED` which blocks other tests run, and `REASONS`
why something is left alone.  A block that none of them knows fails.  Shell is read here, and
played with real processes in `test_plays.py`.
"""

import ast
import inspect
import linecache
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli
import trustme
from tests.docs.blocks import BLOCKS, ROOT, Block, commands_in
from tests.docs.sessions import read_session

from avtomatika_trio import Blueprint, testing
from avtomatika_trio._config import (
    OrchestratorSettings,
    WorkerSettings,
    check,
    read_clients_file,
    read_workers_file,
)
from avtomatika_trio._config._load import known_variables
from avtomatika_trio._wire.codec import decode
from avtomatika_trio._wire.messages import Submission
from avtomatika_trio._wire.token_hashes import hash_token
from avtomatika_trio.cli._parser import parse
from avtomatika_trio.orchestrator._registry import load_blueprints
from avtomatika_trio.worker import Worker

PROGRAMS = (OrchestratorSettings, WorkerSettings)
SETTINGS = {name for kind in PROGRAMS for name in known_variables(kind)}

#: Blocks that tests of their own run or make: where that is.
PLAYED = {
    ("docs/how-to/use-the-client.md", "python"): "tests/client/test_real_sockets.py",
    ("docs/reference/screens.md", "text"): "tests/docs/test_screens.py",
}

#: What is no code, by language.
REASONS = {
    "text": "for reading: a drawing, or lines of a log",
    "dot": "made from the code; test_generated.py sees that it is fresh",
}


@asynccontextmanager
async def connect() -> AsyncIterator[str]:
    """Of the page on workers: its database."""
    yield "db"


#: What pages take as given, by names.
GIVEN: Mapping[str, Callable[[], dict[str, Any]]] = {
    "docs/how-to/large-files.md": lambda: {"films": Blueprint("films")},
    "docs/how-to/write-workers.md": lambda: {
        "worker": Worker(),
        "connect": connect,
        "render_frame": lambda frame: None,
    },
}

#: Programs of others that commands of the docs call.
TOOLS = {"curl", "dot", "sqlite3", "python3.11", ".venv/bin/pip", ".venv/bin/nox"}

#: What JSON of the docs is, by page and first line.
BODIES: Mapping[tuple[str, str], type[Any]] = {
    (
        "docs/reference/http.md",
        (
            '{"initial_data": {"path": "/films/one.mp4"}, "labels": {"shop": "north"},'
            ' "max_transitions": 50}'
        ),
    ): Submission,
}

#: What the docs shorten, and what stands there in full.
SHORTENED = {"hs256$...": hash_token("secret", b"0123456789abcdef")}


def of(language: str) -> list[Any]:
    return [pytest.param(it, id=str(it)) for it in BLOCKS if it.language == language]


def test_every_block_has_a_rule_or_a_reason() -> None:
    known = {*RULES, *REASONS, ""}
    assert [f"{it}: {it.info}" for it in BLOCKS if it.language not in known] == []
    assert len(BLOCKS) > 60
    assert set(REASONS) | set(RULES) <= {it.language for it in BLOCKS}, "a rule without a block"


@pytest.mark.parametrize("played", PLAYED, ids=str)
def test_what_others_play_is_there_and_they_name_the_page(played: tuple[str, str]) -> None:
    page, _ = played
    assert any((it.page, it.language) == played for it in BLOCKS)
    assert Path(page).name.removesuffix(".md") in (ROOT / PLAYED[played]).read_text("utf-8")


# Python: a page is one program.


def pages_with_python() -> list[str]:
    pages = dict.fromkeys(it.page for it in BLOCKS if it.language == "python")
    return [it for it in pages if (it, "python") not in PLAYED]


@pytest.mark.timeout(180)  # the tests that it shows are run too
@pytest.mark.parametrize("page", pages_with_python())
def test_python_runs(page: str) -> None:
    names: dict[str, Any] = {"__name__": "page", **GIVEN.get(page, dict)()}
    for block in BLOCKS:
        if (block.page, block.language) == (page, "python"):
            execute(block, names)
    tests = [it for name, it in names.items() if name.startswith("test_")]
    for function in tests:
        if inspect.iscoroutinefunction(function):
            testing.run(function, None)  # `autojump_clock`, which `run` sees to
        else:
            function()
    assert len(tests) == len(re.findall(r"^(?:async )?def test_", text_of(page), re.MULTILINE))


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def execute(block: Block, names: dict[str, Any]) -> None:
    """Run *block*; tracebacks, and the check of blueprints, find its source."""
    place = f"<{block}>"
    lines = ["\n"] * (block.line - 1) + block.text.splitlines(keepends=True)
    linecache.cache[place] = (len(block.text), None, lines, place)
    tree = ast.increment_lineno(ast.parse(block.text, place), block.line - 1)
    exec(compile(tree, place, "exec"), names)


def test_the_blueprints_and_workers_of_the_pages_are_right() -> None:
    names: dict[str, Any] = {}
    for block in BLOCKS:
        if (block.page, block.language) == ("README.md", "python"):
            execute(block, names)
    job = testing.run_job(names["greetings"], {"name": "Ada"}, workers=[names["worker"]])
    assert job.assert_finished() == {"said": "Hello, Ada!"}


# What is included.


def included() -> Iterator[Path]:
    for block in BLOCKS:
        if block.info.startswith("{literalinclude}"):
            yield ((ROOT / block.page).parent / block.info.split()[1]).resolve()


def test_what_is_included_is_there_and_loads(tmp_path: Path) -> None:
    files = sorted(set(included()))
    assert len(files) > 10
    for file in files:
        relative = file.relative_to(ROOT / "docs" / "examples")
        if file.suffix != ".py":
            assert file.exists(), file
        elif relative.parent.name == "blueprints":
            assert load_blueprints(str(file)), file
        else:
            names: dict[str, Any] = {"__name__": file.stem}
            exec(compile(file.read_text("utf-8"), str(file), "exec"), names)
            assert names["worker"].skills, file


# Shell.


@pytest.mark.parametrize("block", [*of("bash"), *of("sh")])
def test_shell_can_be_entered(block: Block, tmp_path: Path) -> None:
    check_shell(block.text, tmp_path)


def check_shell(text: str, folder: Path) -> None:
    """See that bash can read it, that commands of ours are understood, and settings loaded."""
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    environ: dict[str, str] = {}
    for words in commands_in(text):
        said = words[1:] if words[0] == "export" else words
        for word in said if "=" in words[0] or words[0] == "export" else ():
            name, _, value = word.partition("=")
            if name == "TOKEN":  # a variable of the reader's
                continue
            assert name.removesuffix("_FILE") in SETTINGS or name in SETTINGS, word
            environ[name] = value
        if words[0] == "avtomatika":
            parse([word.replace("{", "").replace("}", "") for word in words[1:]])
        elif "=" not in words[0] and words[0] != "export":
            assert words[0] in TOOLS, f"a program that nobody knows: {words[0]}"
    for kind in PROGRAMS:
        with_files = {name: at_hand(value, folder) for name, value in environ.items()}
        assert not check(kind, environ=with_files, file=None, overrides={}).problems


def at_hand(value: str, folder: Path) -> str:
    """*value*; where it is a path below /etc, that of a file that is there."""
    if not value.startswith("/etc/"):
        return value
    path = folder / Path(value).name
    if not path.exists():
        authority = trustme.CA()
        server = authority.issue_cert("localhost")
        match path.name:
            case "workers-ca.pem":
                authority.cert_pem.write_to_path(str(path))
            case "server.pem" | "server.key":
                server.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
                server.private_key_pem.write_to_path(str(folder / "server.key"))
            case _:
                path.write_text("a-token")
    return str(path)


@pytest.mark.parametrize("block", of("console"))
def test_sessions_can_be_entered(block: Block, tmp_path: Path) -> None:
    exchanges = read_session(block.text)
    assert exchanges
    for exchange in exchanges:
        check_shell(f"{exchange.command}\n", tmp_path)


# Files.


@pytest.mark.parametrize("block", of("toml"))
def test_toml_is_what_it_is_for(block: Block, tmp_path: Path) -> None:
    text = block.text.replace("/run/secrets/worker-token", str(tmp_path / "token"))
    (tmp_path / "token").write_text("a-token")
    for short, whole in SHORTENED.items():
        text = text.replace(short, whole)
    file = tmp_path / "it.toml"
    file.write_text(text)
    tables = tomli.loads(text)
    if "workers.toml" in text:
        assert len(read_workers_file(file).entries) == len(tables)
    elif block.page.endswith("secure.md"):
        assert len(read_clients_file(file).entries) == len(tables)
    else:
        for kind in PROGRAMS:
            report = check(kind, environ={}, file=file, overrides={})
            assert (report.problems, report.warnings) == ((), ())


@pytest.mark.parametrize("block", of("json"))
def test_json_is_what_it_is_for(block: Block) -> None:
    kind = BODIES.get((block.page, block.first))
    assert kind is not None, f"add to BODIES what {block} is: {block.first}"
    decode(block.text.encode(), kind, closed=True)


@pytest.mark.parametrize("block", of("ini"))
def test_units_of_systemd_are_right(block: Block, tmp_path: Path) -> None:
    lines = [line for line in block.text.splitlines() if line]
    assert [it for it in lines if it.startswith("[")] == ["[Unit]", "[Service]", "[Install]"]
    pairs = [line.partition("=") for line in lines if not line.startswith("[")]
    assert all(name and value for name, _, value in pairs)
    for name, _, value in pairs:
        if name == "Environment":
            check_shell(f"{value}\n", tmp_path)
        elif name == "ExecStart":
            check_shell(f"{value.replace('/opt/avtomatika/bin/', '')}\n", tmp_path)
    if verify := shutil.which("systemd-analyze"):
        unit = tmp_path / "it.service"
        here = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", block.text, flags=re.MULTILINE)
        unit.write_text(here)
        subprocess.run([verify, "verify", str(unit)], check=True, env={**os.environ, "LANG": "C"})


#: What is done with blocks, by language.
RULES: Mapping[str, Callable[..., None]] = {
    "python": test_python_runs,
    "bash": test_shell_can_be_entered,
    "sh": test_shell_can_be_entered,
    "console": test_sessions_can_be_entered,
    "toml": test_toml_is_what_it_is_for,
    "json": test_json_is_what_it_is_for,
    "ini": test_units_of_systemd_are_right,
}
