"""Orchestrators and workers as processes of their own, and what they take of the machine."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """What the process has used so far, in all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def rss_bytes(pid: int) -> int:
    """What it has in memory now."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Process:
    """A child that is measured, and ended by its pid.

    Args:
        module: What `python -m` is to run.
        arguments: Of it.
        environ: Besides our own environment.
        folder: Where it runs and logs.
    """

    def __init__(
        self, module: str, arguments: list[str], environ: dict[str, str], folder: Path
    ) -> None:
        self.log = folder / f"{module}-{arguments[0]}.log".replace("/", "_")
        paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def first_line(self) -> dict[str, Any]:
        """What it says once it is ready."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(self.log.read_text())
        said: dict[str, Any] = json.loads(line)
        return said

    def cpu_seconds(self) -> float:
        return cpu_seconds(self._child.pid)

    def rss_bytes(self) -> int:
        return rss_bytes(self._child.pid)

    def end(self) -> None:
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(20)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
