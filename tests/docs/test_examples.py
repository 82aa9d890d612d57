"""What the docs show is what happens: their files and sessions, run with real processes."""

import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.docs.sessions import Exchange, Terminal, read_session

from avtomatika_trio._config import OrchestratorSettings
from avtomatika_trio._config._load import known_variables
from avtomatika_trio._config._settings_worker import WorkerSettings

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
FIRST_JOB = ROOT / "docs" / "examples" / "first-job"
HOW_TO = ROOT / "docs" / "examples" / "how-to"
WATCHING = ROOT / "docs" / "examples" / "watching"

OpenTerminal = Callable[[], Terminal]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def open_terminal(tmp_path: Path, port: int) -> Iterator[OpenTerminal]:
    """Opens terminals in an empty folder, with `avtomatika` on the path and no settings."""
    settings = {*known_variables(OrchestratorSettings), *known_variables(WorkerSettings)}
    environ = {name: value for name, value in os.environ.items() if name not in settings}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    environ |= {
        "PATH": path,
        "API_PORT": str(port),
        "ORCHESTRATOR_URL": f"http://127.0.0.1:{port}",
        "WORKER_PORT": "off",
    }
    opened: list[Terminal] = []

    def open_() -> Terminal:
        opened.append(Terminal(tmp_path, environ))
        return opened[-1]

    yield open_
    for terminal in reversed(opened):
        terminal.close()


def at_port(exchange: Exchange, port: int) -> Exchange:
    """The same, at another port than the 8080 of the docs."""
    return Exchange(
        exchange.command.replace(":8080", f":{port}"),
        exchange.expected.replace(":8080", f":{port}"),
    )


def test_the_first_job(tmp_path: Path, port: int, open_terminal: OpenTerminal) -> None:
    shutil.copytree(FIRST_JOB, tmp_path, dirs_exist_ok=True)

    def play(terminal: Terminal, name: str, *, stays: bool = False) -> None:
        for exchange in read_session((FIRST_JOB / f"{name}.console").read_text("utf-8")):
            terminal.type(at_port(exchange, port), stays=stays)

    first, second, third = (open_terminal() for _ in range(3))
    play(third, "check")
    play(first, "serve", stays=True)
    play(second, "work", stays=True)
    for name in ("submit", "branches", "history", "graph", "curl"):
        play(third, name)
    play(third, "kill-worker")
    play(open_terminal(), "work", stays=True)
    play(third, "watch-again")
    play(third, "kill-orchestrator")
    play(open_terminal(), "serve", stays=True)
    play(third, "watch-after-restart")


def test_the_how_tos(tmp_path: Path, port: int, open_terminal: OpenTerminal) -> None:
    shutil.copytree(HOW_TO, tmp_path, dirs_exist_ok=True)
    serve = Exchange("avtomatika serve --blueprints blueprints", "...\navtomatika ... serves\n")
    open_terminal().type(serve, stays=True)
    work = Exchange("avtomatika worker run converter:worker", "avtomatika ... works\n")
    open_terminal().type(work, stays=True)
    third = open_terminal()
    for exchange in read_session((HOW_TO / "films.console").read_text("utf-8")):
        third.type(exchange)
    page = (ROOT / "docs" / "how-to" / "look-into-a-job.md").read_text("utf-8")
    shown = re.findall(r"^(?:TOKEN=|curl ).*$", page, re.MULTILINE)
    assert len(shown) == 4
    third.type(Exchange("JOB=$(avtomatika job list -o json | grep -om1 'p00-[0-9a-f]*')", ""))
    for line in shown:
        command = line.replace("{job_id}", "$JOB").replace("{blueprint_name}", "films")
        quiet = command.replace("curl ", "curl --fail --silent --output out.txt ")
        third.type(at_port(Exchange(f"{quiet}; echo $?", "0\n"), port))


def test_watching(tmp_path: Path, port: int, open_terminal: OpenTerminal) -> None:
    shutil.copytree(HOW_TO, tmp_path, dirs_exist_ok=True)
    serve = "avtomatika serve --blueprints blueprints --log-format json 2> orchestrator.log"
    work = "avtomatika worker run converter:worker 2> worker.log"
    reader = open_terminal()
    for command, word in ((serve, "serves orchestrator.log"), (work, "works worker.log")):
        open_terminal().type(Exchange(command, ""), stays=True)
        reader.type(Exchange(f"until grep -qs {word}; do sleep 0.1; done", ""))
    for name in ("terminal", "stream", "trace"):
        for exchange in read_session((WATCHING / f"{name}.console").read_text("utf-8")):
            reader.type(at_port(exchange, port))


def test_the_readme(tmp_path: Path, port: int, open_terminal: OpenTerminal) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for code in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code, "utf-8")
    [session] = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    serve, work, submit = (at_port(exchange, port) for exchange in read_session(session))
    open_terminal().type(serve, stays=True)
    open_terminal().type(work, stays=True)
    open_terminal().type(submit)


def test_every_example_is_shown_and_every_code_block_is_an_example() -> None:
    tutorial = (ROOT / "docs" / "tutorial" / "first-job.md").read_text("utf-8")
    shown = set(re.findall(r"\{literalinclude\} \.\./examples/first-job/(\S+)", tutorial))
    there = {str(path.relative_to(FIRST_JOB)) for path in FIRST_JOB.rglob("*.*")}
    assert shown == {name for name in there if "__pycache__" not in name}
    assert set(re.findall(r"^```(.+)$", tutorial, re.MULTILINE)) <= {
        f"{{literalinclude}} ../examples/first-job/{name}" for name in shown
    }
