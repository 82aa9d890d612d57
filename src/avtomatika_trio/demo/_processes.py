"""The processes that the demo starts, kills, and leaves none of behind.

They die with the demo, whatever ends it: `Family` ends them when it is left, and the kernel when
the demo is itself killed with SIGKILL (see `_tether.py`).  They are groups of their own, so Ctrl-C
in a terminal reaches the demo alone, which ends them in order.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs

from avtomatika_trio import _tether
from avtomatika_trio._config._file import CONFIG_VARIABLE
from avtomatika_trio._config._setting import setting_of
from avtomatika_trio._config._settings_orchestrator import OrchestratorSettings
from avtomatika_trio._config._settings_worker import WorkerSettings
from avtomatika_trio.errors import AvtomatikaError

START_SECONDS = 60.0
"""How long a process may take to be ready: a cold start on a busy machine takes a few seconds."""

STOP_SECONDS = 20.0
"""How long a process may take to end when it has nothing left to do."""

_LOOK_SECONDS = 0.02


@attrs.frozen
class DemoFailed(AvtomatikaError):
    """The demo cannot go on, or has found something that must not be."""

    reason: str
    log: Path | None = None
    """Where it may be read why."""

    def __str__(self) -> str:
        return self.reason


@attrs.define(kw_only=True, eq=False)
class Process:
    """A process of the demo; its log is added to when it is started again."""

    name: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str]
    log: Path
    _popen: subprocess.Popen[bytes]
    _output: Path

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._popen.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended; a stopped one has not."""
        return self._popen.poll() is None

    def first_line(self) -> dict[str, Any]:
        """Wait for the first line that it prints, which is JSON.

        Raises:
            DemoFailed: It ended instead, or printed nothing in time, or something else.
        """
        until = time.monotonic() + START_SECONDS
        while b"\n" not in (printed := self._output.read_bytes()):
            self.check()
            if time.monotonic() > until:
                raise DemoFailed(
                    f"{self.name} was not ready after {START_SECONDS:.0f} seconds", self.log
                )
            time.sleep(_LOOK_SECONDS)
        try:
            said = json.loads(printed.partition(b"\n")[0])
        except ValueError:
            said = None
        if not isinstance(said, dict):
            raise DemoFailed(f"{self.name} printed {printed[:200]!r} instead of JSON", self.log)
        return said

    def check(self) -> None:
        """Make sure that it has not ended by itself.

        Raises:
            DemoFailed: It has.
        """
        if not self.runs:
            code = self._popen.returncode
            how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            raise DemoFailed(f"{self.name} ended by itself ({how})", self.log)

    def pause(self) -> None:
        """Stop it in the middle of what it does; it can be killed then, or resumed."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, wherever it is, and wait until it is gone."""
        if self.runs:
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self) -> None:
        """Ask it to end, and wait until it has.

        Raises:
            DemoFailed: It had ended before, or did not end in time (and was killed), or
                not as it was asked to.
        """
        self.check()
        os.killpg(self.pid, signal.SIGTERM)
        try:
            code = self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DemoFailed(
                f"{self.name} did not end within {STOP_SECONDS:.0f} seconds of SIGTERM", self.log
            ) from None
        if code not in _GOOD_ENDS:
            raise DemoFailed(f"{self.name} was asked to end, and failed ({code})", self.log)


_GOOD_ENDS = frozenset({0, -signal.SIGTERM, 128 + signal.SIGTERM})


class Family:
    """Starts processes, and kills those that still run when it is left.

    Args:
        folder: Their working directory; their logs are there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._members: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Also on success nothing may be left; there, all have been stopped before.
        for member in self._members:
            member.kill()

    def start(self, name: str, arguments: Sequence[str], environ: Mapping[str, str]) -> Process:
        """Start `python -m avtomatika_trio` with *arguments*.

        Args:
            name: For messages and for the name of its log.
            arguments: Of the command line.
            environ: Settings, in addition to what is inherited; inherited settings are not.
        """
        log = self._folder / f"{name}.log"
        output = self._folder / f"{name}.out"
        # From the main thread, which outlives every other: the kernel ends the child when the
        # *thread* that has started it ends.
        with log.open("ab") as errors, output.open("wb") as printed:
            popen = subprocess.Popen(  # noqa: S603 - this very Python
                [
                    *(sys.executable, "-I", "-S", _tether.__file__, str(os.getpid())),
                    *(sys.executable, "-m", "avtomatika_trio", *arguments),
                ],
                cwd=self._folder,
                env={**_inherited(), **environ},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=errors,
                process_group=0,
            )
        process = Process(
            name=name,
            arguments=tuple(arguments),
            environ=environ,
            log=log,
            popen=popen,
            output=output,
        )
        self._members.append(process)
        return process

    def restart(self, process: Process) -> Process:
        """Kill *process* where it is, and start it again with the same arguments."""
        process.kill()
        self._members.remove(process)
        return self.start(process.name, process.arguments, process.environ)


def _inherited() -> dict[str, str]:
    """The environment without any setting: the demo is the same wherever it is run."""
    settings = {
        name
        for table in (OrchestratorSettings, WorkerSettings)
        for field in attrs.fields(table)
        for name in setting_of(field).names
    }
    left_out = {CONFIG_VARIABLE, *settings, *(f"{name}_FILE" for name in settings)}
    return {
        name: value
        for name, value in os.environ.items()
        if name.removeprefix("AVTOMATIKA_") not in left_out and name not in left_out
    }
