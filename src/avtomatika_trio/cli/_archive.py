"""The file of a backup: lines of JSON, compressed; it is good as a whole or not at all.

{"format": "avtomatika-archive", "version": 1, ...}    the header
["facts", {...}]                                       a record a line
["job", {...}]
{"records": 2, "sha256": "..."}                        over all the lines before it
"""

import gzip
import hashlib
import os
import secrets
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import attrs
import msgspec

from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.errors import InvalidMessage
from avtomatika_trio.storage._records import (
    StorageFacts,
    StoredRecord,
    decode_record,
    encode_record,
)

_FORMAT = "avtomatika-archive"

#: Grows when what is stored changes so that an older program would lose something.
VERSION = 1

#: A better one takes ten times as long for a tenth of the size.
_COMPRESSION = 6


@attrs.frozen(kw_only=True)
class _Mark:
    """What every version of the header says."""

    format: str
    version: int


@attrs.frozen(kw_only=True)
class Header:
    """Where a backup comes from."""

    format: str = _FORMAT
    version: int = VERSION
    schema: int
    cluster_id: str
    made_at: float
    """Unix seconds, of the host."""
    storage: str
    """Its kind: `sqlite`, `redis`."""


@attrs.frozen(kw_only=True)
class Trailer:
    """What shows that a backup is whole."""

    records: int
    sha256: str


class ArchiveWriter:
    """Adds records to a backup; see `write_archive`."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.records = 0

    def begin(self, header: Header) -> None:
        """Write the header, before all else."""
        self._write(msgspec.json.encode(header))

    def add(self, records: Sequence[StoredRecord]) -> None:
        """Write *records* after those before."""
        for record in records:
            self._write(encode_record(record))
        self.records += len(records)

    def _write(self, line: bytes) -> None:
        self._digest.update(line + b"\n")
        self._file.write(line + b"\n")

    def finish(self) -> None:
        """Write the trailer, after all else."""
        trailer = Trailer(records=self.records, sha256=self._digest.hexdigest())
        self._file.write(msgspec.json.encode(trailer) + b"\n")


def check_place(path: Path, *, force: bool) -> None:
    """Make sure that a backup may be written to *path*.

    Raises:
        CommandError: there is something already, which nobody has said to replace.
    """
    if path.exists() and not path.is_file():
        raise CommandError(Exit.USAGE, f"{path} is not a file; name one")
    if path.exists() and not force:
        remedy = "name another file, or replace it with --force"
        raise CommandError(Exit.CONFLICT, f"{path} is there already; {remedy}")


@contextmanager
def write_archive(path: Path, *, force: bool) -> Iterator[ArchiveWriter]:
    """A backup that gets its name once it is whole and on the disk.

    Only its owner can read it: it has hashes of credentials.

    Args:
        path: Of the backup.
        force: Let it take the place of another file.

    Raises:
        CommandError: it cannot be written; nothing is left of it.
    """
    check_place(path, force=force)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with gzip.GzipFile("", "wb", _COMPRESSION, fileobj=file) as packed:
                    writer = ArchiveWriter(packed)
                    yield writer
                    writer.finish()
                file.flush()
                os.fsync(file.fileno())
            _put_in_place(draft, path, force=force)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as exc:
        fault = f"{path} cannot be written: {exc.strerror}; nothing was changed"
        raise CommandError(Exit.FAILED, fault) from exc


def _put_in_place(draft: Path, path: Path, *, force: bool) -> None:
    if force:
        draft.replace(path)
    else:
        try:
            os.link(draft, path)
        except FileExistsError:
            check_place(path, force=False)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Archive:
    """A backup that is read; see `open_archive`."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file

    def records(self) -> Iterator[StoredRecord]:
        """Its records, the facts first; it is known to be whole when they have ended.

        Raises:
            CommandError: it is cut off, damaged, or of a newer version.
        """
        digest, count = hashlib.sha256(), 0
        lines = self._lines()
        for number, line in enumerate(lines, 1):
            if number == 1:
                self._check_header(line)
            elif line.startswith(b"{"):
                self._check_trailer(line, digest.hexdigest(), count)
                if next(lines, None) is not None:
                    raise self._refused("it goes on after its end")
                return
            else:
                yield self._record(line, number)
                count += 1
            digest.update(line)
        raise self._refused("it is cut off")

    def _lines(self) -> Iterator[bytes]:
        self._file.seek(0)
        try:
            with gzip.GzipFile(fileobj=self._file) as unpacked:
                for line in unpacked:
                    if not line.endswith(b"\n"):
                        raise self._refused("it is cut off")
                    yield line
        except EOFError:
            raise self._refused("it is cut off") from None
        except (gzip.BadGzipFile, zlib.error) as exc:
            if self._file.tell() == 0 or "Not a gzipped file" in str(exc):
                raise self._is_none() from None
            raise self._refused(f"it is damaged ({exc})") from None
        except OSError as exc:
            raise CommandError(Exit.FAILED, f"{self._path} cannot be read: {exc.strerror}") from exc

    def _check_header(self, line: bytes) -> None:
        try:
            mark = msgspec.json.decode(line, type=_Mark)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._is_none() from None
        if mark.format != _FORMAT:
            raise self._is_none()
        if mark.version > VERSION:
            raise CommandError(
                Exit.USAGE,
                f"{self._path} was written by a newer version (its format is {mark.version}, this"
                f" program knows {VERSION}); upgrade avtomatika-trio",
            )
        try:
            msgspec.json.decode(line, type=Header)
        except msgspec.DecodeError as exc:
            raise self._refused(f"its header is damaged ({exc})") from None

    def _check_trailer(self, line: bytes, sha256: str, count: int) -> None:
        try:
            trailer = msgspec.json.decode(line, type=Trailer)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise self._refused(f"its end is damaged ({exc})") from None
        if trailer != Trailer(records=count, sha256=sha256):
            raise self._refused("it is damaged: its checksum is that of something else")

    def _record(self, line: bytes, number: int) -> StoredRecord:
        try:
            record = decode_record(line.removesuffix(b"\n"), number)
        except InvalidMessage as exc:
            raise self._refused(str(exc)) from None
        if isinstance(record, StorageFacts) != (number == 2):  # after the header, and only there
            raise self._refused(f"line {number}: the facts must come first, and once")
        return record

    def _refused(self, fault: str) -> CommandError:
        remedy = "nothing was restored; take another backup"
        return CommandError(Exit.USAGE, f"{self._path} cannot be used: {fault}; {remedy}")

    def _is_none(self) -> CommandError:
        remedy = "name a file that `avtomatika storage backup` has written"
        return CommandError(Exit.USAGE, f"{self._path} is no backup; {remedy}")


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The backup in *path*, to be read, more than once if need be.

    Raises:
        CommandError: there is no such file, or it cannot be opened.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        remedy = "name one that `avtomatika storage backup` has written"
        raise CommandError(Exit.NOT_FOUND, f"there is no file {path}; {remedy}") from None
    except OSError as exc:
        raise CommandError(Exit.FAILED, f"{path} cannot be read: {exc.strerror}") from exc
    with file:
        yield Archive(path, file)
