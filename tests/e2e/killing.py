"""Processes of ours that can be killed at any moment and started again."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs

CLIENT_TOKEN = "client-token-of-the-e2e-tests"
WORKER_TOKEN = "worker-token-of-the-e2e-tests"
FIXTURES = Path(__file__).parent / "fixtures"


@attrs.define
class Program:
    """One process and how to start it again; nothing of it outlives `end`."""

    name: str
    arguments: list[str]
    folder: Path
    child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output goes to `<name>.log`."""
        environ = {
            **os.environ,
            "CLIENT_TOKEN": CLIENT_TOKEN,
            "WORKER_TOKEN": WORKER_TOKEN,
            "WORKER_PORT": "off",
            "PYTHONPATH": str(FIXTURES),
            "E2E_FOLDER": str(self.folder),
        }
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "avtomatika_trio", *self.arguments],
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


def orchestrator(folder: Path, port: int = 0) -> Program:
    """`avtomatika serve` on a SQLite file in *folder*."""
    arguments = ["serve", "--storage", f"sqlite:{folder}/e2e.db", "--port", str(port)]
    return Program(
        "orchestrator", [*arguments, "--blueprints", "kill_blueprints", "-o", "json"], folder
    )


def worker(folder: Path, name: str, url: str) -> Program:
    """A worker with a spool of its own."""
    arguments = ["worker", "run", "kill_worker:worker", "--id", name, "--orchestrator-url", url]
    return Program(name, [*arguments, "--spool-dir", f"{folder}/spool-{name}"], folder)
