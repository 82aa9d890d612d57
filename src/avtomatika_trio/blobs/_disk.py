"""What the local disk says, and the file that a blob is written to."""

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio

from avtomatika_trio.errors import BlobChanged, DiskFault

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def disk_faults(uri: str, what: str) -> Iterator[None]:
    """Make a `DiskFault` of what the operating system says."""
    try:
        yield
    except ConnectionError:
        raise  # of a socket, or of a line that was cut
    except OSError as exc:
        raise DiskFault(uri, f"{what}: {exc.strerror or exc}") from exc


def check_unchanged(uri: str, before: os.stat_result, descriptor: int) -> None:
    """Raise BlobChanged if the open file is not as it was *before*: what was read is no file."""
    after = os.fstat(descriptor)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise BlobChanged(uri, "the file was changed while it was uploaded")


@asynccontextmanager
async def open_target(uri: str, path: Path, size: int) -> AsyncIterator[int]:
    """The descriptor of a new file at *path* with room for *size* bytes.

    The file is removed if the block raises or is cancelled.

    Args:
        uri: What is to be written there, for the errors.
        path: Must not exist; its folder must.
        size: Asked of the disk at once, so that a full one says so now.

    Raises:
        DiskFault: it cannot be made, or there is no room.
    """
    descriptor = await trio.to_thread.run_sync(_create, uri, path, size)
    try:
        yield descriptor
    except BaseException:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - a moment, and nothing here may be cancelled
        raise
    finally:
        os.close(descriptor)


def _create(uri: str, path: Path, size: int) -> int:
    with disk_faults(uri, f"{path} cannot be written"):
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            if size:
                _reserve(descriptor, size)
        except BaseException:
            os.close(descriptor)
            path.unlink()
            raise
        return descriptor


def _reserve(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as exc:
        if exc.errno not in {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}:
            raise
