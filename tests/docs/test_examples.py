"""What the docs show is what happens: their files and sessions, run with real processes."""

import re
import shutil
from pathlib import Path

import pytest
from tests.docs.sessions import Exchange, Terminal, read_session
from tests.docs.stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
FIRST_JOB = ROOT / "docs" / "examples" / "first-job"
HOW_TO = ROOT / "docs" / "examples" / "how-to"
WATCHING = ROOT / "docs" / "examples" / "watching"


def test_the_first_job(stage: Stage) -> None:
    shutil.copytree(FIRST_JOB, stage.folder, dirs_exist_ok=True)
    played: set[str] = set()

    def play(terminal: Terminal, name: str, *, stays: bool = False) -> None:
        played.add(f"{name}.console")
        session = (FIRST_JOB / f"{name}.console").read_text("utf-8")
        for exchange in read_session(stage.here(session)):
            terminal.type(exchange, stays=stays)

    first, second, third = (stage.terminal() for _ in range(3))
    play(third, "check")
    play(first, "serve", stays=True)
    play(second, "work", stays=True)
    for name in ("submit", "branches", "history", "graph", "curl"):
        play(third, name)
    play(third, "kill-worker")
    play(stage.terminal(), "work", stays=True)
    play(third, "watch-again")
    play(third, "kill-orchestrator")
    play(stage.terminal(), "serve", stays=True)
    play(third, "watch-after-restart")
    assert played == {path.name for path in FIRST_JOB.glob("*.console")}


def test_the_how_tos(stage: Stage) -> None:
    shutil.copytree(HOW_TO, stage.folder, dirs_exist_ok=True)
    serve = Exchange("avtomatika serve --blueprints blueprints", "...\navtomatika ... serves\n")
    stage.terminal().type(serve, stays=True)
    work = Exchange("avtomatika worker run converter:worker", "avtomatika ... works\n")
    stage.terminal().type(work, stays=True)
    third = stage.terminal()
    [session] = HOW_TO.glob("*.console")
    for exchange in read_session(session.read_text("utf-8")):
        third.type(exchange)


def test_watching(stage: Stage) -> None:
    shutil.copytree(HOW_TO, stage.folder, dirs_exist_ok=True)
    serve = "avtomatika serve --blueprints blueprints --log-format json 2> orchestrator.log"
    work = "avtomatika worker run converter:worker 2> worker.log"
    reader = stage.terminal()
    for command, word in ((serve, "serves orchestrator.log"), (work, "works worker.log")):
        stage.terminal().type(Exchange(command, ""), stays=True)
        reader.type(Exchange(f"until grep -qs {word}; do sleep 0.1; done", ""))
    for name in ("terminal", "stream", "trace"):
        session = (WATCHING / f"{name}.console").read_text("utf-8")
        for exchange in read_session(stage.here(session)):
            reader.type(exchange)


def test_every_example_is_shown_and_every_code_block_is_an_example() -> None:
    tutorial = (ROOT / "docs" / "tutorial" / "first-job.md").read_text("utf-8")
    shown = set(re.findall(r"\{literalinclude\} \.\./examples/first-job/(\S+)", tutorial))
    there = {str(path.relative_to(FIRST_JOB)) for path in FIRST_JOB.rglob("*.*")}
    assert shown == {name for name in there if "__pycache__" not in name}
    assert set(re.findall(r"^```(.+)$", tutorial, re.MULTILINE)) <= {
        f"{{literalinclude}} ../examples/first-job/{name}" for name in shown
    }
