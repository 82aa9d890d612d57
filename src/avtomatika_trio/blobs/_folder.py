"""Blobs in a folder of this machine: buckets are folders in it, keys are paths."""

import fcntl
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import trio

from avtomatika_trio.blobs._base import Advance, Blob, Blobs, Location, Unfinished
from avtomatika_trio.blobs._digest import Digest
from avtomatika_trio.blobs._disk import check_unchanged, disk_faults, open_target
from avtomatika_trio.blobs._line import call_in_thread, check_line
from avtomatika_trio.errors import BlobChanged, BlobMismatch, BlobMissing, BlobRefused

#: The bucket of those who name none.
DEFAULT_BUCKET = "avtomatika-payloads"

#: Where files are until they are whole; no bucket has such a name.
_UNFINISHED = ".unfinished"

#: What a key that ends in `/`, the mark of an empty folder, is on the disk.
_MARK = ".folder"

#: Between the making of a file and its lock there is a moment.
_YOUNG_SECONDS = 60.0

_BLOCK_BYTES = 1024 * 1024

_LONGEST_NAME = 255

#: Of a path with all of its folders (`PATH_MAX` of linux/limits.h), and some room for ours.
_LONGEST_PATH = 4000


@asynccontextmanager
async def open_folder(
    folder: Path, *, bucket: str = DEFAULT_BUCKET, max_concurrency: int = 10
) -> AsyncIterator[Blobs]:
    """Blobs in *folder*, which several processes may use; it is made when it is needed.

    Args:
        folder: Where the buckets are.
        bucket: For what is not told another one.
        max_concurrency: How many files are copied at a time.
    """
    yield FolderBlobs(folder, bucket, trio.CapacityLimiter(max_concurrency))


@attrs.define(eq=False)
class FolderBlobs:
    """See `open_folder` and `Blobs`."""

    folder: Path
    bucket: str
    threads: trio.CapacityLimiter

    async def head(self, at: Location) -> Blob:
        path = self._file_of(at)

        def look() -> Blob:
            with disk_faults(at.uri, "it cannot be looked at"):
                try:
                    status = path.stat()
                except (FileNotFoundError, NotADirectoryError):
                    raise BlobMissing(at.uri, "there is no such file") from None
                if not path.is_file():
                    raise BlobMissing(at.uri, "there is no such file; it is a folder")
                return _blob(at, status)

        return await trio.to_thread.run_sync(look)

    async def list(self, under: Location, *, most: int = 100_000) -> Sequence[Blob]:
        root = self.path_of(under.at(""))
        path = self.path_of(under)
        start = path if under.is_folder else path.parent

        def look() -> Sequence[Blob]:
            found: list[Blob] = []
            with disk_faults(under.uri, "it cannot be looked at"):
                for path in _files(start):
                    key = path.relative_to(root).as_posix()
                    if path.name == _MARK:
                        key = key.removesuffix(_MARK)
                    if not key.startswith(under.key):
                        continue
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        found.append(_blob(under.at(key), path.stat()))
                    if len(found) > most:
                        raise BlobRefused(under.uri, f"there are more than {most} files in it")
            return sorted(found, key=lambda it: it.location.key.encode())

        return await call_in_thread(look, self.threads)

    async def download(self, blob: Blob, path: Path, advance: Advance) -> str:
        source = self._file_of(blob.location)
        async with open_target(blob.uri, path, blob.size) as descriptor:

            def fetch() -> Digest:
                with disk_faults(blob.uri, "it cannot be copied"):
                    try:
                        file = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
                    except (FileNotFoundError, NotADirectoryError):
                        raise BlobMissing(blob.uri, "there is no such file") from None
                    try:
                        if _etag(os.fstat(file)) != blob.etag:
                            raise BlobChanged(blob.uri, "it was changed while it was read")
                        return _copy(file, descriptor, Digest(blob.checksum))
                    finally:
                        os.close(file)

            digest = await call_in_thread(fetch, self.threads)
            if (fault := digest.mismatch) is not None:
                raise BlobMismatch(blob.uri, fault)
        advance(blob.size)
        return digest.sha256

    async def upload(self, descriptor: int, at: Location, advance: Advance) -> Blob:
        target = self._file_of(at)
        blob = await call_in_thread(partial(self._put, descriptor, at, target), self.threads)
        advance(blob.size)
        return blob

    def _put(self, descriptor: int, at: Location, target: Path) -> Blob:
        with disk_faults(at.uri, "it cannot be kept in the folder"):
            temporary = self.folder / _UNFINISHED / uuid.uuid4().hex
            temporary.parent.mkdir(0o700, parents=True, exist_ok=True)
            _forget_dead(temporary.parent)
            before = os.fstat(descriptor)
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it has its place, or is gone
                sha256 = _copy(descriptor, file, Digest()).sha256
                os.fsync(file)
                check_unchanged(at.uri, before, descriptor)
                _move(temporary, target)
            except (FileExistsError, IsADirectoryError, NotADirectoryError):
                temporary.unlink(missing_ok=True)
                reason = "in a folder, a file and a folder cannot have the same name"
                raise BlobRefused(at.uri, reason) from None
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            finally:
                os.close(file)
            return attrs.evolve(_blob(at, target.stat()), checksum=("sha256", sha256))

    async def delete(self, at: Location) -> int:
        path = self.path_of(at)

        def remove() -> int:
            with disk_faults(at.uri, "it cannot be deleted"):
                if not at.is_folder:
                    with suppress(FileNotFoundError, NotADirectoryError):
                        path.unlink()
                    return 1
                return _remove(path)

        return await call_in_thread(remove, self.threads)

    async def presigned(self, at: Location, *, method: str, seconds: int) -> str | None:
        del at, method, seconds
        await trio.lowlevel.checkpoint()
        return None

    def local(self, at: Location) -> Path | None:
        return self.path_of(at)

    async def unfinished(self, under: Location) -> Sequence[Unfinished]:
        del under  # nobody has to end any: what a process that died has left is forgotten
        await trio.to_thread.run_sync(_forget_dead, self.folder / _UNFINISHED)
        return ()

    async def abort(self, upload: Unfinished) -> None:
        del upload
        await trio.lowlevel.checkpoint()

    def _file_of(self, at: Location) -> Path:
        return self.path_of(at) / _MARK if at.is_folder else self.path_of(at)

    def path_of(self, at: Location) -> Path:
        """Where *at* is on the disk.

        Raises:
            BlobRefused: its key is no path: `..`, an empty part, a name that is too long.
        """
        parts = at.key.rstrip("/").split("/") if at.key.rstrip("/") else []
        for part in (at.bucket, *parts):
            if part in {"", ".", "..", _MARK, _UNFINISHED} or "\0" in part:
                raise BlobRefused(at.uri, f"a folder cannot keep a file of such a name: {part!r}")
            if len(os.fsencode(part)) > _LONGEST_NAME:
                raise BlobRefused(at.uri, f"a part of its name has more than {_LONGEST_NAME} bytes")
        path = self.folder.joinpath(at.bucket, *parts)
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise BlobRefused(at.uri, "its path in the folder would be too long")
        return path


def _files(folder: Path) -> Iterator[Path]:
    """Every file below *folder*, however deeply they are nested."""
    for entry, is_folder in _entries(folder):
        if not is_folder:
            yield entry


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """All that is below *folder*, and whether it is a folder; what is in one comes after it."""
    left = [folder]
    while left:
        check_line()
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(left.pop()) as found:
            for entry in found:
                is_folder = entry.is_dir(follow_symlinks=False)
                yield Path(entry.path), is_folder
                if is_folder:
                    left.append(Path(entry.path))


def _remove(folder: Path) -> int:
    """Remove *folder* and all that is in it; returns how many files there were."""
    count, folders = 0, [folder]
    for path, is_folder in _entries(folder):
        if is_folder:
            folders.append(path)
        else:
            path.unlink(missing_ok=True)
            count += 1
    for path in reversed(folders):
        with suppress(FileNotFoundError, NotADirectoryError):
            path.rmdir()
    return count


def _copy(source: int, target: int, digest: Digest) -> Digest:
    """Copy all of *source*, from its beginning, and show it to *digest*."""
    at = 0
    while data := os.pread(source, _BLOCK_BYTES, at):
        check_line()
        digest.update(data)
        at += len(data)
        left = memoryview(data)
        while left:
            left = left[os.write(target, left) :]
    return digest


def _move(temporary: Path, target: Path) -> None:
    """Put a whole file into its place; its folder may be deleted at the same moment."""
    for last_try in (False, True):
        made = [it for it in target.parents if not it.exists()]
        target.parent.mkdir(0o700, parents=True, exist_ok=True)
        try:
            temporary.replace(target)
        except FileNotFoundError:
            if last_try:
                raise
        else:
            for folder in {target.parent, *(it.parent for it in made)}:
                _sync(folder)
            return


def _sync(folder: Path) -> None:
    """Make the names in it durable: results tell of the file as of one that is there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _forget_dead(folder: Path) -> None:
    """Remove what processes that died have left: nobody holds its lock."""
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            with suppress(OSError):  # it is locked, or it has just been finished
                if path.stat().st_mtime < time.time() - _YOUNG_SECONDS:
                    with path.open("rb") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()


def _blob(at: Location, status: os.stat_result) -> Blob:
    return Blob(location=at, size=status.st_size, etag=_etag(status), modified_at=status.st_mtime)


def _etag(status: os.stat_result) -> str:
    """Files are replaced, never written to, so a new content is a new file."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
