"""Processes of ours that can be killed at any moment and started again."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

import avtomatika_trio

CLIENT_TOKEN = "client-token-of-the-e2e-tests"
WORKER_TOKEN = "worker-token-of-the-e2e-tests"
#: The statuses of jobs that have not ended.
OPEN = ["pending", "running", "waiting_for_worker", "waiting_for_parallel"]

FIXTURES = Path(__file__).parent / "fixtures"

#: Processes run the code that the tests have imported, whatever is installed.
SOURCE = Path(avtomatika_trio.__file__).parents[1]

#: Below what systems give to outgoing connections, where something that tries to connect to a
#: dead process could meet itself.
_LASTING_PORTS = range(20_000, 30_000)


@attrs.define
class Program:
    """One process and how to start it again; nothing of it outlives `end`."""

    name: str
    arguments: list[str]
    folder: Path
    environ: Mapping[str, str] = attrs.field(factory=dict)
    """Settings, besides the tokens."""
    entry: tuple[str, ...] = ("-m", "avtomatika_trio")
    """What Python is to run: the command, or a script in its place."""
    child: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started, and neither ended here nor by itself."""
        return self.child is not None and self.child.poll() is None

    def check(self) -> None:
        """Fail with its log if it does not run."""
        assert self.runs, f"{self.name} does not run:\n{self.log()}"

    def start(self) -> None:
        """Start it; its output goes to `<name>.log`."""
        environ = {
            **os.environ,
            "CLIENT_TOKEN": CLIENT_TOKEN,
            "WORKER_TOKEN": WORKER_TOKEN,
            "WORKER_PORT": "off",
            "PYTHONPATH": os.pathsep.join([str(FIXTURES), str(SOURCE)]),
            "E2E_FOLDER": str(self.folder),
            **self.environ,
        }
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, *self.entry, *self.arguments],
                env=environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def said(self) -> dict[str, Any]:
        """Its first line on standard output, as JSON."""
        assert self.child is not None
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        assert line, self.log()
        said: dict[str, Any] = json.loads(line)
        return said

    def log(self) -> str:
        """What it has written so far."""
        return (self.folder / f"{self.name}.log").read_text()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._finish(signal.SIGKILL)

    def end(self, within_seconds: float = 20) -> int:
        """SIGTERM, and return the exit code."""
        return self._finish(signal.SIGTERM, within_seconds)

    def _finish(self, number: signal.Signals, within_seconds: float = 20) -> int:
        if self.child is None:
            return 0
        child, self.child = self.child, None
        try:
            child.send_signal(number)
            return child.wait(within_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise
        finally:
            if child.stdout is not None:
                child.stdout.close()


def orchestrator(
    folder: Path,
    port: int = 0,
    *,
    blueprints: str = "kill_blueprints",
    storage: str | None = None,
) -> Program:
    """`avtomatika serve` on a *storage*, or else a SQLite file in *folder*."""
    storage = storage or f"sqlite:{folder}/e2e.db"
    arguments = ["serve", "--storage", storage, "--port", str(port)]
    return Program("orchestrator", [*arguments, "--blueprints", blueprints, "-o", "json"], folder)


def worker(
    folder: Path,
    name: str,
    *urls: str,
    module: str = "kill_worker",
    environ: Mapping[str, str] | None = None,
) -> Program:
    """A worker with a spool of its own, for the orchestrators at *urls*, best first."""
    targets = json.dumps([{"url": url, "priority": n} for n, url in enumerate(urls)])
    arguments = ["worker", "run", f"{module}:worker", "--id", name]
    return Program(
        name,
        [*arguments, "--spool-dir", f"{folder}/spool-{name}"],
        folder,
        {"ORCHESTRATORS_CONFIG": targets, **(environ or {})},
    )


def sleeper(folder: Path, name: str, *urls: str, skill: str, environ: Mapping[str, str]) -> Program:
    """A worker of `fixtures/sleep_worker.py` with notes of its own."""
    notes = {"E2E_SKILL": skill, "E2E_NOTES": f"{folder}/notes-{name}.txt"}
    return worker(folder, name, *urls, module="sleep_worker", environ={**environ, **notes})


def notes_of(program: Program) -> Path:
    """Where a `sleeper` writes down what it begins."""
    return Path(program.environ["E2E_NOTES"])


def lasting_port() -> int:
    """A free port on which a process can be started, killed and started again."""
    while True:
        port = random.choice(_LASTING_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
