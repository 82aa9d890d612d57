"""`avtomatika worker run --reload`: a worker that is started again when its code changes.

The worker is a child process in a group of its own: Ctrl-C, or a terminal that closes, reaches
this process alone, which ends the child as SIGTERM does; on Linux the child does not outlive it.
A child that ends by itself, such as one that cannot be imported, has told why; the next save
starts another.
"""

import importlib.util
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import trio

from avtomatika_trio import _tether
from avtomatika_trio._config import load_worker_settings
from avtomatika_trio._ending_signals import ENDING
from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._imports import reach_working_folder
from avtomatika_trio.cli._output import note
from avtomatika_trio.cli._places import settings_file

#: How often the files are looked at.
_LOOK_SECONDS = 0.5
#: A save may write several files, and an editor one of them in several steps.
_CALM_SECONDS = 0.2
#: What a worker may take after its grace: it delivers results for five seconds.
_DELIVERY_SECONDS = 10.0

Stamps = Mapping[str, tuple[int, int]]
"""The time and size of each file."""


def run(options: Namespace) -> int:
    """Run a worker, and another whenever a file has changed, until SIGTERM (0) or Ctrl-C (130).

    Raises:
        ConfigError: a setting is wrong.
    """
    settings = load_worker_settings(
        environ=os.environ, file=settings_file(options), overrides={}
    ).settings
    folders = [folder_of(options.worker)]
    if settings.skills_dir is not None:
        folders.append(settings.skills_dir)
    tied = [sys.executable, "-I", "-S", _tether.__file__, str(os.getpid())]
    command = [*tied, sys.executable, "-m", "avtomatika_trio", *without_reload(sys.argv[1:])]
    grace = settings.shutdown_timeout_seconds + _DELIVERY_SECONDS
    note(f"watching *.py below {' and '.join(map(str, folders))}")
    return trio.run(_supervise, command, folders, grace)


def without_reload(arguments: Sequence[str]) -> list[str]:
    """*arguments* but `--reload`, also where it is shortened: a child must not watch as well."""
    return [it for it in arguments if not (len(it) > 2 and "--reload".startswith(it))]


def folder_of(spec: str) -> Path:
    """The folder of the module of *spec*, `MODULE:ATTR`; the working directory if unknown."""
    reach_working_folder()
    try:
        found = importlib.util.find_spec(spec.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        found = None
    origin = found.origin if found is not None else None
    return Path(origin).parent if origin is not None and Path(origin).is_file() else Path.cwd()


def stamps_in(folders: Sequence[Path]) -> Stamps:
    """What the files look like now; hidden folders and virtual environments are left out."""
    stamps: dict[str, tuple[int, int]] = {}
    for file in (file for folder in folders for file in _files(folder)):
        try:
            known = os.stat(file)  # noqa: PTH116 - thousands of files, twice a second
        except OSError:
            continue  # it went at this moment
        stamps[file] = known.st_mtime_ns, known.st_size
    return stamps


def _files(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = [
            it
            for it in folders
            if not it.startswith((".", "__pycache__", "node_modules"))
            and not (Path(place) / it / "pyvenv.cfg").exists()
        ]
        yield from (f"{place}/{it}" for it in files if it.endswith(".py"))


def _ending() -> tuple[signal.Signals, ...]:
    """What ends it; `nohup` ignores SIGHUP for it, and means that."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return ENDING if is_ignored else (*ENDING, signal.SIGHUP)


async def _supervise(command: Sequence[str], folders: Sequence[Path], grace: float) -> int:
    asked = _Asked()
    with trio.open_signal_receiver(*_ending()) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked.heed, signals)
            with asked.work:
                await _run_again_and_again(command, folders, grace, asked)
            nursery.cancel_scope.cancel()
    return Exit.INTERRUPTED if asked.by is signal.SIGINT else Exit.OK


@attrs.define(eq=False)
class _Asked:
    """Whether to end."""

    work: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Cancelled by the first signal."""
    by: signal.Signals | None = None
    at_once: bool = False
    """Whether a second signal has come."""

    async def heed(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if self.by is None:
                self.by = signal.Signals(number)
                self.work.cancel()
            else:
                self.at_once = True


async def _run_again_and_again(
    command: Sequence[str], folders: Sequence[Path], grace: float, asked: _Asked
) -> None:
    # Without byte code: that of a file which is saved twice within a second is taken for new.
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    while True:
        seen = stamps_in(folders)
        child = subprocess.Popen(  # noqa: ASYNC220, S603 - quick; our own command line
            command, env=environ, process_group=0
        )
        try:
            changed = await _change(folders, seen, child)
            note(f"{changed} has changed; starting again")
        finally:
            with trio.CancelScope(shield=True):
                await _end(child, grace, asked)


async def _change(folders: Sequence[Path], seen: Stamps, child: "subprocess.Popen[bytes]") -> str:
    """Wait until a file has changed and all have been calm; returns its path."""
    told = False
    while (now := stamps_in(folders)) == seen:
        if not told and child.poll() is not None:
            note(f"the worker has ended ({child.returncode}); the next save starts it again")
            told = True
        await trio.sleep(_LOOK_SECONDS)
    first = min(name for name, _ in now.items() ^ seen.items())
    while True:
        await trio.sleep(_CALM_SECONDS)
        later = stamps_in(folders)
        if later == now:
            return first
        now = later


async def _end(child: "subprocess.Popen[bytes]", grace: float, asked: _Asked) -> None:
    """End *child* gracefully, and by force when *grace* seconds are over."""
    try:
        if child.poll() is None:
            child.terminate()
        last = trio.current_time() + grace
        while trio.current_time() < last and not asked.at_once:
            if child.poll() is not None:
                break
            await trio.sleep(0.05)
        if child.poll() is None and not asked.at_once:
            note(f"the worker has not ended within {grace:g} seconds; it is killed")
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
