"""What is in a spool's folder, for a person to see: read, and nothing changed.

It works beside a running worker, and on the folder of a dead one.  It takes no lock, so
what it tells may be over a moment later; each file is read once, the log as one piece.
Blocking code.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import msgspec

from avtomatika_trio.worker._spool_entry import SpoolEntry
from avtomatika_trio.worker._spool_folder import disk_errors
from avtomatika_trio.worker._spool_format import Damage, read_log, split_unfinished
from avtomatika_trio.worker._spool_holder import Holder, LockState, find_holder

_DAMAGED_FILE = re.compile(r"(.+)\.torn-([0-9]{1,9})")


@attrs.frozen(kw_only=True)
class SetAside:
    """A result that nobody wants."""

    reason: str
    entry: SpoolEntry


@attrs.frozen(kw_only=True)
class DamagedFile:
    """Bytes that an earlier start could not read and has set aside."""

    name: str
    size_bytes: int
    modified_at: float
    """When it was written, in Unix seconds."""


@attrs.frozen(kw_only=True)
class SpoolContents:
    """What is in a folder."""

    folder: Path
    worker_id: str | None
    """The generated id; None if the worker has always been given one."""
    holder: Holder
    log_bytes: int
    waiting: tuple[SpoolEntry, ...]
    """Results that no orchestrator has accepted yet, the oldest first."""
    damages: tuple[Damage, ...]
    """Bytes of the log that cannot be read."""
    unfinished: Damage | None
    """The beginning of a record at the end of the log."""
    set_aside: tuple[SetAside, ...]
    unreadable_lines: int
    """Lines of `set-aside.jsonl` that are not whole."""
    damaged_files: tuple[DamagedFile, ...]
    instances: tuple[str, ...] | None
    """Processes that no orchestrator knows to be dead; None if the record cannot be read."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        for damage in self.damages:
            yield (
                f"{len(damage.data)} bytes at {damage.offset} of results.log cannot be read;"
                " the next start sets them aside and keeps every other record"
            )
        if self.unfinished is not None:
            yield self._of_unfinished(self.unfinished)
        if self.unreadable_lines:
            yield f"lines of set-aside.jsonl that cannot be read: {self.unreadable_lines}"
        if self.instances is None:
            yield "instances.json cannot be read; the next start sets it aside"

    def _of_unfinished(self, tail: Damage) -> str:
        if self.holder.state is LockState.HELD:
            return "the last record is being written"
        torn = f"the last record is torn ({len(tail.data)} bytes at {tail.offset})"
        if self.holder.state is LockState.UNKNOWN:
            return f"the last record is being written; if no worker runs, {torn}"
        return f"{torn}; the next start sets it aside"


def inspect_spool(folder: Path) -> SpoolContents | None:
    """Read the spool in *folder*; None if there is no log in it, or no folder.

    Raises:
        SpoolError: it cannot be read.
    """
    with disk_errors(folder / "lock"):
        holder = find_holder(folder)
    # The log before the results set aside: one that is moved meanwhile is found in both
    # places, not in neither.
    data = _read(folder / "results.log")
    if data is None:
        return None
    contents = read_log(data)
    damages, unfinished = split_unfinished(contents.damages, len(data))
    set_aside, unreadable_lines = _read_set_aside(
        _read(folder / "set-aside.jsonl") or b"", is_held=holder.state is LockState.HELD
    )
    worker_id = _read(folder / "worker-id")
    with disk_errors(folder / "results.log"):
        damaged_files = _find_damaged_files(folder)
    return SpoolContents(
        folder=folder,
        worker_id=None if worker_id is None else worker_id.decode("ascii", "replace").strip(),
        holder=holder,
        log_bytes=len(data),
        waiting=contents.entries,
        damages=damages,
        unfinished=unfinished,
        set_aside=set_aside,
        unreadable_lines=unreadable_lines,
        damaged_files=damaged_files,
        instances=_read_instances(_read(folder / "instances.json")),
    )


def _read(path: Path) -> bytes | None:
    with disk_errors(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _read_set_aside(data: bytes, *, is_held: bool) -> tuple[tuple[SetAside, ...], int]:
    """The results set aside, and how many lines are none; *is_held*: the last may not be whole."""
    *lines, last = data.split(b"\n")
    found = [_decode_set_aside(line) for line in (*lines, last) if line]
    if last and is_held and found[-1] is None:
        found.pop()  # it is being written
    return tuple(it for it in found if it is not None), found.count(None)


def _decode_set_aside(line: bytes) -> SetAside | None:
    try:
        return msgspec.json.decode(line, type=SetAside)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _read_instances(data: bytes | None) -> tuple[str, ...] | None:
    if data is None:
        return ()
    try:
        return msgspec.json.decode(data, type=tuple[str, ...])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _find_damaged_files(folder: Path) -> tuple[DamagedFile, ...]:
    found: list[tuple[str, int, DamagedFile]] = []
    for path in folder.iterdir():
        name = _DAMAGED_FILE.fullmatch(path.name)
        if name is not None:
            status = path.stat()
            file = DamagedFile(
                name=path.name, size_bytes=status.st_size, modified_at=status.st_mtime
            )
            found.append((name[1], int(name[2]), file))
    return tuple(file for *_, file in sorted(found, key=lambda it: it[:2]))
