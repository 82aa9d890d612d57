"""Uploads of several parts, on disk: what a process that died had begun is taken back.

Parts of an upload that is never completed stay in a bucket, unseen, and are paid for.  So the
id of each is written down before its first part is sent (a line of JSON, with fsync), and
crossed out when it is complete or aborted.  The file lies beside the spool and is kept by the
spool's lock.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import trio

from avtomatika_trio.blobs import Blobs, Location, Unfinished
from avtomatika_trio.errors import BlobError
from avtomatika_trio.worker._spool_folder import DISK, PRIVATE_FILE, make_folder

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0


@contextmanager
def open_journal(path: Path) -> Iterator["UploadJournal"]:
    """The journal at *path*; what it names is left from before.  Blocks."""
    make_folder(path.parent, DISK)
    left = _read(path)
    DISK.replace(path, b"".join(_line({"begun": _as_json(it)}) for it in left))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        yield UploadJournal(descriptor, left)
    finally:
        os.close(descriptor)


class UploadJournal:
    """See `blobs.Journal`.

    Args:
        descriptor: Of the file, open for appending.
        left: What nobody works on any more.
    """

    def __init__(self, descriptor: int, left: Sequence[Unfinished]) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._left = list(left)
        self._changed = trio.lowlevel.ParkingLot()

    def begun(self, upload: Unfinished) -> None:
        """Durable when it returns; in a thread."""
        with self._lock:
            DISK.write_all(self._descriptor, _line({"begun": _as_json(upload)}))
            DISK.fsync(self._descriptor)

    def ended(self, upload: Unfinished) -> None:
        """Cross it out; in a thread.  If that is lost, it is aborted once more, to no effect."""
        with self._lock, suppress(OSError):  # it is complete, whatever the disk says
            DISK.write_all(self._descriptor, _line({"ended": upload.upload_id}))

    def left(self, upload: Unfinished) -> None:
        """It could not be taken back now: see to it later."""
        self._left.append(upload)
        self._changed.unpark_all()

    async def run(self, blobs: Blobs) -> NoReturn:
        """Take back what is left, as soon as the server can be reached."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            if not self._left:
                await self._changed.park()
                pause = _FIRST_PAUSE_SECONDS
            for upload in tuple(self._left):
                try:
                    await blobs.abort(upload)
                except BlobError as exc:
                    logger.warning("an upload that was cut off cannot be taken back yet: %s", exc)
                else:
                    logger.info("took back the upload of %s that was cut off", upload.location.uri)
                    self._left.remove(upload)
            if self._left:
                await trio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _read(path: Path) -> list[Unfinished]:
    """What was begun and not ended; a line that a crash has torn had no part sent after it."""
    found: dict[str, Unfinished] = {}
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    for line in filter(None, lines):
        try:
            said = json.loads(line)
            if "ended" in said:
                found.pop(said["ended"], None)
            else:
                upload = _of_json(said["begun"])
                found[upload.upload_id] = upload
        except (ValueError, KeyError, TypeError):
            logger.warning("%s has a line that cannot be read; it is passed over", path)
    return list(found.values())


def _line(said: dict[str, Any]) -> bytes:
    # A line that a full disk has torn ends before the next one.
    return b"\n" + json.dumps(said).encode() + b"\n"


def _as_json(upload: Unfinished) -> dict[str, Any]:
    at = upload.location
    return {"bucket": at.bucket, "key": at.key, "upload_id": upload.upload_id}


def _of_json(said: dict[str, Any]) -> Unfinished:
    location = Location(str(said["bucket"]), str(said["key"]))
    return Unfinished(location=location, upload_id=str(said["upload_id"]))
