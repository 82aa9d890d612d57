"""Downloaded files that are kept for the next task that wants them.

An entry is never handed out itself: an attempt gets a clone (which shares the blocks where the
file system can do that) or a copy, so that a handler may write to its inputs.
"""

import fcntl
import hashlib
import os
import re
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import attrs
import trio

from avtomatika_trio.blobs import Advance, Blob, Blobs
from avtomatika_trio.blobs._digest import Digest
from avtomatika_trio.blobs._disk import disk_faults
from avtomatika_trio.blobs._line import call_in_thread, check_line
from avtomatika_trio.errors import BlobMismatch

#: `FICLONE` of linux/fs.h: let a file share the blocks of another.
_FICLONE = 0x40049409

_BLOCK_BYTES = 1024 * 1024

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})")


@attrs.define(eq=False)
class _Entry:
    path: Path
    size: int
    sha256: str
    is_trusted: bool = attrs.field(kw_only=True)
    """Whether this process has made it; another one may have died before the disk had it."""


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
                found.append(
                    (
                        status.st_mtime,
                        match[1],
                        _Entry(path, status.st_size, match[2], is_trusted=False),
                    )
                )
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
            entry = await self._kept(key)
            if entry is None:
                entry = await self._add(blobs, blob, key, advance)
            else:
                advance(blob.size)
            told = blob.sha256
            if told is not None and told != entry.sha256:
                raise BlobMismatch(blob.uri, f"its sha256 is {entry.sha256}, not {told}")
            self._entries.move_to_end(key)
            await call_in_thread(partial(_clone, blob.uri, entry.path, path), _threads())
            return entry.sha256

    async def _kept(self, key: str) -> _Entry | None:
        """The entry, if it is there and what it was."""
        entry = self._entries.get(key)
        if entry is None or not await trio.Path(entry.path).exists():
            return None
        if not entry.is_trusted:
            sha256 = await call_in_thread(partial(_sha256_of, entry.path), _threads())
            entry.is_trusted = sha256 == entry.sha256  # None if it cannot be read
        if entry.is_trusted:
            return entry
        del self._entries[key]
        with suppress(OSError):
            await trio.to_thread.run_sync(partial(entry.path.unlink, missing_ok=True))
        return None

    async def _add(self, blobs: Blobs, blob: Blob, key: str, advance: Advance) -> _Entry:
        part = self._folder / f"{uuid.uuid4().hex}.part"
        sha256 = await blobs.download(blob, part, advance)
        entry = _Entry(self._folder / f"{key}.{sha256}", blob.size, sha256, is_trusted=True)

        try:
            await trio.to_thread.run_sync(part.rename, entry.path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
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


def _threads() -> trio.CapacityLimiter:
    return trio.to_thread.current_default_thread_limiter()


def _sha256_of(path: Path) -> str | None:
    digest = Digest()
    try:
        with path.open("rb") as file:
            while data := file.read(_BLOCK_BYTES):
                check_line()
                digest.update(data)
    except ConnectionError:
        raise  # the line is cut
    except OSError:
        return None
    return digest.sha256


def _clone(uri: str, source: Path, target: Path) -> None:
    with disk_faults(uri, f"{target} cannot be written"), ExitStack() as files:
        read = files.enter_context(source.open("rb"))
        written = files.enter_context(open(target, "xb", opener=_private))
        try:
            _copy(read, written)
        except BaseException:
            target.unlink()
            raise
    with suppress(OSError):
        os.utime(source)  # when it was used last


def _copy(read: IO[bytes], written: IO[bytes]) -> None:
    try:
        fcntl.ioctl(written.fileno(), _FICLONE, read.fileno())
    except OSError:  # this file system cannot
        while data := read.read(_BLOCK_BYTES):
            check_line()
            written.write(data)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
