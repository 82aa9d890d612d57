"""Terminals that play the sessions of the docs, as a reader would type them.

A session is a text with the commands after `$ `, each followed by what it prints.  In that,
`...` stands for anything within a line, and a line of `...` alone for any number of lines.
Times, ids and shares of progress are alike, whatever they are.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import attrs

_MARK = "--- the command has ended ---"

_ALIKE = {
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d+Z?": "TIME",
    r"p00-[0-9a-f]{27}": "JOB",
    r"worker-[0-9a-f]{12}": "WORKER",
    r"\d of \d branches done  \d+% of \d running  \d of \d words": "PROGRESS",
}
"""What differs from run to run, as patterns."""


@attrs.frozen
class Exchange:
    """A command, and the output that the docs show of it."""

    command: str
    expected: str


def read_session(text: str) -> list[Exchange]:
    """The commands of a session, in order."""
    exchanges: list[Exchange] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            exchanges.append(Exchange(line.removeprefix("$ "), ""))
        else:
            last = exchanges.pop()
            exchanges.append(Exchange(last.command, f"{last.expected}{line}\n"))
    return exchanges


def plain(text: str) -> str:
    """*text* without what differs from run to run."""
    for pattern, name in _ALIKE.items():
        text = re.sub(pattern, name, text)
    return text


def pattern_of(expected: str) -> re.Pattern[str]:
    """A pattern for `plain` outputs that are as *expected*; runs of blanks are alike."""
    lines = []
    for line in plain(expected).splitlines():
        if line == "...":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            words = [re.escape(word).replace(r"\.\.\.", r"[^\n]*?") for word in line.split()]
            lines.append(r"[ ]*" + r"[ ]+".join(words) + r"[ ]*\n")
    return re.compile("".join(lines))


class Terminal:
    """A shell that commands are typed into; `close` ends everything that it has started."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self._output += line

    def type(
        self, exchange: Exchange, *, stays: bool = False, within_seconds: float = 30.0
    ) -> None:
        """Enter a command and compare what it prints.

        Args:
            exchange: The command and its output.
            stays: Whether it goes on running; then its output only has to begin as shown.
            within_seconds: How long to wait for it.
        """
        assert self._shell.stdin is not None
        self._output = ""
        command = exchange.command if stays else f"{exchange.command}\necho '{_MARK}'"
        self._shell.stdin.write(f"{command}\n")
        self._shell.stdin.flush()
        pattern = pattern_of(exchange.expected)
        matches = pattern.match if stays else pattern.fullmatch
        for output in self._growing(within_seconds):
            if stays and matches(plain(output)):
                return
            if output.endswith(f"{_MARK}\n"):
                printed = output.removesuffix(f"{_MARK}\n")
                assert matches(plain(printed)), f"$ {exchange.command}\n{printed}"
                return
        raise AssertionError(f"$ {exchange.command}\n{self._output}")

    def _growing(self, within_seconds: float) -> Iterator[str]:
        until = time.monotonic() + within_seconds
        while time.monotonic() < until:
            yield self._output
            time.sleep(0.02)

    def close(self) -> None:
        """End the shell and, politely first, what runs in it."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):  # whose group is there until it is waited for
                os.killpg(self._shell.pid, number)
            self._reader.join(5)
            if not self._reader.is_alive():  # nobody has its output open any more
                break
        self._shell.wait(5)
        assert self._shell.stdout is not None
        self._shell.stdout.close()
