"""Downloaded files that are kept for the next task that wants them.

An entry is never handed out itself: an attempt gets a clone (which shares the blocks where the
file system can do that) or a copy, so that a handler may write to its inputs.
"""

import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import trio

from avtomatika_trio.blobs import Advance, Blob, Blobs
from avtomatika_trio.errors import BlobMismatch, DiskFault

#: `FICLONE` of linux/fs.h: let a file share the blocks of another.
_FICLONE = 0x40049409

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})")


@attrs.define(eq=False)
class _Entry:
    path: Path
    size: int
    sha256: str


class BlobCache:
    """The files in *folder*, `BlobCache.open` makes one.

    Args:
        folder: Of one worker.
        max_bytes: What it may take; the least recently used go first.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._locks: dict[str, tuple[trio.Lock, int]] = {}

    @classmethod
    def open(cls, folder: Path, max_bytes: int) -> "BlobCache":
        """The cache in *folder*, with what it has from before; blocks.

        Raises:
            OSError: the folder cannot be used.
        """
        cache = cls(folder, max_bytes)
        folder.mkdir(0o700, parents=True, exist_ok=True)
        found = []
        for path in folder.iterdir():
            status = path.stat()
            if match := _NAME.fullmatch(path.name):
                found.append((status.st_mtime, match[1], _Entry(path, status.st_size, match[2])))
            elif path.name.endswith(".part"):
                path.unlink()
        for _, key, entry in sorted(found, key=lambda it: it[:2]):
            cache._entries[key] = entry
        for path in cache._excess():
            path.unlink(missing_ok=True)
        return cache

    async def fetch(self, blobs: Blobs, blob: Blob, path: Path, advance: Advance) -> str:
        """As `Blobs.download`; two that want the same blob fetch it once."""
        if blob.size > self._max_bytes:
            return await blobs.download(blob, path, advance)
        key = _key(blob)
        async with self._alone(key):
            entry = self._entries.get(key)
            if entry is None or not await trio.Path(entry.path).exists():
                entry = await self._add(blobs, blob, key, advance)
            else:
                advance(blob.size)
            if blob.sha256 not in {None, entry.sha256}:
                raise BlobMismatch(blob.uri, f"its sha256 is {entry.sha256}, not {blob.sha256}")
            self._entries.move_to_end(key)
            await trio.to_thread.run_sync(partial(_clone, blob.uri, entry.path, path))
            return entry.sha256

    async def _add(self, blobs: Blobs, blob: Blob, key: str, advance: Advance) -> _Entry:
        part = self._folder / f"{uuid.uuid4().hex}.part"
        sha256 = await blobs.download(blob, part, advance)
        entry = _Entry(self._folder / f"{key}.{sha256}", blob.size, sha256)

        def keep() -> None:
            part.chmod(0o400)
            part.rename(entry.path)

        await trio.to_thread.run_sync(keep)
        self._entries[key] = entry
        for path in self._excess():
            await trio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
        return entry

    def _excess(self) -> list[Path]:
        """Forget the least recently used until the rest fits; returns what to remove."""
        total = sum(entry.size for entry in self._entries.values())
        removed: list[Path] = []
        for key, entry in tuple(self._entries.items()):
            if total <= self._max_bytes:
                break
            if key not in self._locks:
                del self._entries[key]
                removed.append(entry.path)
                total -= entry.size
        return removed

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (trio.Lock(), 0))
        self._locks[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = lock, users - 1


def _key(blob: Blob) -> str:
    """What the content is known by: where it lies, and its ETag there."""
    text = f"{blob.location.uri}\0{blob.etag}\0{blob.size}"
    return hashlib.sha256(text.encode()).hexdigest()


def _clone(uri: str, source: Path, target: Path) -> None:
    try:
        with source.open("rb") as read, open(target, "xb", opener=_private) as written:
            try:
                fcntl.ioctl(written.fileno(), _FICLONE, read.fileno())
            except OSError:  # this file system cannot
                shutil.copyfileobj(read, written, 1024 * 1024)
        with suppress(OSError):
            os.utime(source)  # when it was used last
    except OSError as exc:
        if not isinstance(exc, FileExistsError):
            target.unlink(missing_ok=True)
        raise DiskFault(uri, f"{target} cannot be written: {exc.strerror or exc}") from exc


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
