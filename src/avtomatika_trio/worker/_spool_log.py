"""The spool's files: the log, the earlier instances, and what was set aside.

    results.log            the log; its bytes are described in `_spool_format`
    results.log.torn-<n>   damaged bytes that were found in it
    instances.json         the processes that worked with this folder
    set-aside.jsonl        results that no orchestrator wants, each with the reason
    lock                   held while a process has the folder open

A `SpoolLog` is blocking code for one thread.  It keeps the entries of the log in memory too,
so that rewriting the log never reads it.
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
import msgspec

from avtomatika_trio.worker._spool_entry import Recovered, SpoolEntry
from avtomatika_trio.worker._spool_file import AppendFile
from avtomatika_trio.worker._spool_folder import (
    DISK,
    PRIVATE_FILE,
    Disk,
    disk_errors,
    free_name,
    hold_lock,
    make_folder,
)
from avtomatika_trio.worker._spool_format import (
    Damage,
    encode_acknowledged,
    encode_entry,
    encode_next_id,
    read_log,
)
from avtomatika_trio.worker._spool_mounts import file_system_of, refuse_network_file_system

logger = logging.getLogger(__name__)

COMPACT_BYTES = 1024 * 1024
"""A log below this size is not worth rewriting: it is read in a few milliseconds."""


#: Of earlier instances, no more are remembered: with an orchestrator that is away for good, each
#: start would add one.  What the oldest of them held has long been lost and done again.
_MOST_INSTANCES = 200


@attrs.frozen
class _Live:
    entry: SpoolEntry
    record_bytes: int


class SpoolLog:
    """The open log of one folder, with the lock that keeps others out.

    Opening takes the lock, reads the log, sets damaged bytes aside, rewrites the log without
    what is settled, and records *instance* durably, in this order: when it returns, the next
    process that opens the folder will find this instance.

    Args:
        folder: Where it lies; made if it is missing.
        instance: The process that opens it.
        disk: How bytes become durable.
        file_system: Tells the type of the file system under a folder.
        compact_bytes: From which size on a log that is mostly settled is rewritten.

    Raises:
        SpoolError: the folder is in use, on a network file system, or the disk fails.
    """

    recovered: Recovered
    """What was found."""
    next_id: int
    """The id for the next entry."""

    def __init__(
        self,
        folder: Path,
        *,
        instance: str,
        disk: Disk = DISK,
        file_system: Callable[[Path], str | None] = file_system_of,
        compact_bytes: int = COMPACT_BYTES,
    ) -> None:
        self._disk = disk
        self._path = folder / "results.log"
        self._instances_path = folder / "instances.json"
        self._set_aside_path = folder / "set-aside.jsonl"
        self._compact_at = self._compact_bytes = compact_bytes
        self._live: dict[int, _Live] = {}
        self._live_bytes = 0
        with ExitStack() as opening:
            with disk_errors(folder):
                refuse_network_file_system(folder, file_system(folder))
                make_folder(folder, disk)
            opening.enter_context(hold_lock(folder))
            with disk_errors(self._path):
                self._file = AppendFile(self._path, disk)
                opening.callback(self._file.close)
                notes = self._recover_entries()
            with disk_errors(self._instances_path):
                known, complaints = self._read_instances()
                earlier = tuple(other for other in known if other != instance)[-_MOST_INSTANCES:]
                self._write_instances((*earlier, instance))
            self._held = opening.pop_all()
        self.recovered = Recovered(
            entries=tuple(live.entry for live in self._live.values()),
            instances=earlier,
            notes=notes + complaints,
        )

    def write(
        self, entries: Sequence[tuple[SpoolEntry, bytes]], acknowledged: Sequence[int]
    ) -> None:
        """Append *entries*, each with its record, and settle those *acknowledged*.

        Returns when the entries are durable.  Settling alone is not waited for: after a power
        failure the entry is back and is sent once more.

        Raises:
            SpoolError: none of the entries was taken.  The ids are settled in memory all the
                same, so that the next rewriting leaves them out.
        """
        for entry_id in acknowledged:
            settled = self._live.pop(entry_id, None)
            self._live_bytes -= settled.record_bytes if settled else 0
        data = b"".join(record for _, record in entries)
        if acknowledged:
            data += encode_acknowledged(acknowledged)
        with disk_errors(self._path):
            self._file.append(data, durable=bool(entries))
        for entry, record in entries:
            self._keep(entry, len(record))
        if self._file.size >= self._compact_at and self._live_bytes * 2 <= self._file.size:
            self._try_to_compact()

    def set_aside(self, entry_id: int, reason: str) -> None:
        """Move an entry, with the reason, to `set-aside.jsonl`; durable when it returns.

        An id that is settled already changes nothing.

        Raises:
            SpoolError: it could not be written.
        """
        live = self._live.get(entry_id)
        if live is None:
            return
        line = msgspec.json.encode({"reason": reason, "entry": live.entry}) + b"\n"
        with disk_errors(self._set_aside_path):
            self._append_line(self._set_aside_path, line)
        self.write((), (entry_id,))

    def forget_instances(self, ids: Sequence[str]) -> None:
        """Remove *ids* from the record of instances, durably.

        Raises:
            SpoolError: it could not be written; nothing is forgotten.
        """
        with disk_errors(self._instances_path):
            self._write_instances(tuple(i for i in self._instances if i not in ids))

    def close(self) -> None:
        """Make the last acknowledgements durable and let go of the folder."""
        with self._held:
            try:
                self._file.sync()
            except OSError as exc:
                logger.warning(
                    "the last acknowledgements may be lost; their results are sent once more",
                    extra={"path": str(self._path), "reason": str(exc)},
                )

    def _recover_entries(self) -> tuple[str, ...]:
        contents = read_log(self._file.read())
        self.next_id = contents.next_id
        for entry in contents.entries:
            self._keep(entry, len(encode_entry(entry)))
        notes = self._save(contents.damages) if contents.damages else ()
        if not contents.is_compact:
            self._compact()
        self._file.sync()
        return notes

    def _save(self, damages: Sequence[Damage]) -> tuple[str, ...]:
        """Copy damaged bytes to a new file, durably, before the log is rewritten without."""
        path = free_name(self._path)
        self._disk.replace(path, b"\n".join(damage.data for damage in damages))
        return tuple(
            f"{self._path}: {len(damage.data)} bytes at {damage.offset} could not be read and"
            f" were copied to {path.name}; every other record was kept"
            for damage in damages
        )

    def _keep(self, entry: SpoolEntry, record_bytes: int) -> None:
        self._live[entry.id] = _Live(entry, record_bytes)
        self._live_bytes += record_bytes
        self.next_id = max(self.next_id, entry.id + 1)

    def _compact(self) -> None:
        records = [encode_entry(live.entry) for live in self._live.values()]
        self._file.replace(b"".join([encode_next_id(self.next_id), *records]))

    def _try_to_compact(self) -> None:
        """Rewrite the log if the disk allows; if not, it is as good as before, only longer."""
        try:
            self._compact()
        except OSError as exc:
            self._compact_at = self._file.size * 2  # do not try again with every batch
            logger.warning(
                "the spool's log could not be rewritten and goes on growing",
                extra={"path": str(self._path), "reason": str(exc)},
            )
        else:
            self._compact_at = self._compact_bytes

    def _append_line(self, path: Path, line: bytes) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line  # the last one was torn: do not write on its line
            self._disk.write_all(fd, line)
            self._disk.fsync(fd)
        finally:
            os.close(fd)
        self._disk.sync_folder(path.parent)

    def _read_instances(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The recorded instances, and a note if the record cannot be read."""
        path = self._instances_path
        if not path.exists():
            return (), ()
        try:
            return msgspec.json.decode(path.read_bytes(), type=tuple[str, ...]), ()
        except (msgspec.MsgspecError, ValueError):
            damaged = free_name(path)
            path.replace(damaged)
            note = (
                f"{path}: could not be read and is now {damaged.name}; the leases of earlier"
                " processes end by themselves when they expire"
            )
            return (), (note,)

    def _write_instances(self, instances: tuple[str, ...]) -> None:
        self._disk.replace(self._instances_path, msgspec.json.encode(instances) + b"\n")
        self._instances = instances
