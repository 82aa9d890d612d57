"""Where the shell of the docs is played: a folder, a port, and terminals."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
from tests.docs.blocks import Block, typed_in
from tests.docs.sessions import Exchange, Terminal, read_session

from avtomatika_trio._config import OrchestratorSettings, WorkerSettings
from avtomatika_trio._config._load import known_variables

FILMS = """
from avtomatika_trio import Blueprint

films = Blueprint("films")


@films.handler(is_start=True)
async def begin(actions, path, wait=False):
    if wait:
        actions.dispatch_task("cut", {"path": path}, {"success": "done"})
    else:
        actions.go_to("done")


@films.handler(is_end=True)
async def done(path):
    return {"path": path}
"""

#: Commands that go on until they are told to end, and what they print when they are up.
STARTED = {
    "avtomatika serve": "...\navtomatika ... serves\n",
    "avtomatika worker run": "...\navtomatika ... works\n",
}

#: What stands in for a program that is not installed here.
STAND_INS = {
    "dot": "#!/bin/sh\ngrep -m1 digraph\n",
    "sqlite3": (
        f"#!{sys.executable}\n"
        "import sqlite3, sys\n"
        "command, target = sys.argv[2].split()\n"
        'assert command == ".backup"\n'
        "with sqlite3.connect(sys.argv[1]) as source:\n"
        "    source.backup(sqlite3.connect(target))\n"
    ),
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@attrs.define(kw_only=True, eq=False)
class Stage:
    """An empty folder, a free port, and `avtomatika` on the path; no settings."""

    folder: Path
    port: int = attrs.field(factory=free_port)
    instead: dict[str, str] = attrs.field(factory=dict)
    """What is typed in the place of what the docs say: addresses and folders."""
    _open: ExitStack = attrs.field(factory=ExitStack)

    def close(self) -> None:
        """End everything, the latest first."""
        self._open.close()

    def here(self, text: str) -> str:
        """*text* with the addresses and folders that are here."""
        for said, meant in {**self.instead, ":8080": f":{self.port}"}.items():
            text = text.replace(said, meant)
        return text

    def write(self, name: str, text: str) -> Path:
        """A file of the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def terminal(self, **environ: str) -> Terminal:
        """One more terminal, closed with the stage."""
        terminal = Terminal(self.folder, {**self._environ(), **environ})
        self._open.callback(terminal.close)
        return terminal

    def write_films(self, folder: str = "blueprints") -> None:
        """A blueprint, whose jobs end by themselves unless they are told to `wait`."""
        self.write(f"{folder}/films.py", FILMS)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """An orchestrator in the folder; ended at the end of the block."""
        self.write_films()
        terminal = Terminal(self.folder, self._environ())
        try:
            serve = Exchange(
                "avtomatika serve --blueprints blueprints", STARTED["avtomatika serve"]
            )
            terminal.type(serve, stays=True)
            yield
        finally:
            terminal.close()

    def _environ(self) -> Mapping[str, str]:
        settings = {*known_variables(OrchestratorSettings), *known_variables(WorkerSettings)}
        environ = {name: value for name, value in os.environ.items() if name not in settings}
        programs = self.folder / ".programs"
        if not programs.exists():
            self.write(".programs/.curlrc", "fail\nsilent\nshow-error\n")
            for name, text in STAND_INS.items():
                self.write(f".programs/{name}", text).chmod(0o755)
        # Our own first, and what stands in for others last.
        path = (str(Path(sys.executable).parent), environ["PATH"], str(programs))
        return {
            **environ,
            "PATH": os.pathsep.join(path),
            "CURL_HOME": str(programs),
            "API_PORT": str(self.port),
            "ORCHESTRATOR_URL": f"http://127.0.0.1:{self.port}",
            "WORKER_PORT": "off",
        }

    def play(self, terminal: Terminal, block: Block, change: Callable[[str], str] = str) -> None:
        """Type a block of commands, each of which must end well.

        One that goes on for good - the last one of a block - has to come up.

        Args:
            terminal: Where.
            block: In `bash` or `sh`, or a session, whose output is compared.
            change: What is typed for a command: names and ids of the reader's own.
        """
        for exchange in self._exchanges(block):
            command = self.here(change(exchange.command))
            up = next((it for name, it in STARTED.items() if command.startswith(name)), None)
            if up is not None:
                terminal.type(Exchange(command, self.here(exchange.expected or up)), stays=True)
            elif exchange.expected:
                terminal.type(Exchange(command, self.here(exchange.expected)))
            else:
                self.enter(terminal, command)

    def enter(self, terminal: Terminal, *commands: str) -> None:
        """Type commands that the docs do not have; they must end well."""
        for command in commands:
            told = 'code=$?; echo; echo "exit $code"'
            terminal.type(Exchange(f"{command}\n{told}", "...\nexit 0\n"))

    def _exchanges(self, block: Block) -> list[Exchange]:
        if block.language == "console":
            return read_session(block.text)
        return [Exchange(command, "") for command, _ in typed_in(block.text)]

    def set(self, block: Block) -> None:
        """Set the variables of a block: `avtomatika check` finds each, and nothing wrong."""
        script = f"set -a\n{self.here(block.text)}avtomatika check -o json"
        ended = subprocess.run(
            ["bash", "-ec", script],
            cwd=self.folder,
            env=self._environ(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{block}\n{ended.stdout}{ended.stderr}"
        report = json.loads(ended.stdout)
        assert (report["problems"], report["warnings"]) == ([], []), block
        entries = [*report["orchestrator"], *report["worker"]]
        sources = {entry["source"] for entry in entries}
        names = {words[0].partition("=")[0] for _, words in typed_in(block.text)}
        assert {f"environment {name}" for name in names} <= sources, block
