"""The folder around a spool: its lock, its worker id, and what is durable in it.

Everything here blocks and is called from the spool's thread or before the loop runs.
"""

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import attrs

from avtomatika_trio.errors import SpoolError

PRIVATE_FILE = 0o600  # results may hold what only the worker's account should read
_PRIVATE_FOLDER = 0o700

_REMEDIES = {
    errno.ENOSPC: "free some space on that disk",
    errno.EDQUOT: "raise the disk quota of this account, or free some space",
    errno.EIO: "the disk reports errors; move the spool to a healthy one",
    errno.EROFS: "the file system is mounted read-only; make it writable or move the spool",
    errno.EACCES: "give this account the right to read and write there",
    errno.EPERM: "give this account the right to read and write there",
    errno.ENOTDIR: "remove the file that is in the way, or choose another folder",
}
_OTHER_REMEDY = "choose another folder with WORKER_SPOOL_DIR"


@attrs.frozen(kw_only=True)
class Disk:
    """The two calls by which bytes become durable; a test replaces them to fail."""

    write: Callable[[int, bytes | memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync

    def write_all(self, fd: int, data: bytes) -> None:
        """Write all of *data*; a full disk may take a part of it before it refuses."""
        left = memoryview(data)
        while left:
            left = left[self.write(fd, left) :]

    def sync_folder(self, folder: Path) -> None:
        """Make the names in *folder* durable: files that were created or renamed."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, path: Path, data: bytes) -> None:
        """Give *path* the content *data*, durably; a crash leaves the old or the new one."""
        temporary = path.with_name(f"{path.name}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        try:
            self.write_all(fd, data)
            self.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
        self.sync_folder(path.parent)


DISK = Disk()
"""The real one."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about *path* into a `SpoolError` with a remedy."""
    try:
        yield
    except OSError as exc:
        code = exc.errno or 0
        reason = f"{path.name}: {exc.strerror or exc}; {_REMEDIES.get(code, _OTHER_REMEDY)}"
        raise SpoolError(str(path.parent), reason) from exc


def free_name(path: Path) -> Path:
    """The first of `<name>.torn-1`, `<name>.torn-2`, ... beside *path* that is not taken."""
    names = (path.with_name(f"{path.name}.torn-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def make_folder(folder: Path, disk: Disk) -> None:
    """Create *folder* and what is missing above it, durably."""
    if folder.is_dir():
        return
    make_folder(folder.parent, disk)
    folder.mkdir(_PRIVATE_FOLDER, exist_ok=True)
    disk.sync_folder(folder.parent)


_locks_held: set[int] = set()


def _let_go_of_locks() -> None:
    """Close a forked child's copies: they would hold the lock after the worker has died."""
    for fd in _locks_held:
        with suppress(OSError):
            os.close(fd)
    _locks_held.clear()


os.register_at_fork(after_in_child=_let_go_of_locks)


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Keep every other process, and a second spool of this one, out of *folder*.

    The lock is of a file of its own, because the log is replaced when it is rewritten.  It
    ends with the process, however that ends; children do not inherit it.

    Raises:
        SpoolError: someone has it, or the file system knows no locks.
    """
    path = folder / "lock"
    with disk_errors(path):
        # Python opens files non-inheritable (PEP 446): a child started with exec has no copy.
        fd = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        _locks_held.add(fd)
        with disk_errors(path):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _locked(folder, fd) from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        _locks_held.discard(fd)
        os.close(fd)


def default_worker_id(
    folder: Path, *, draw: Callable[[], str] = lambda: f"worker-{secrets.token_hex(6)}"
) -> str:
    """The worker id that is kept in *folder*; made and written there the first time.

    Two processes that ask at the same time get the same answer.

    Raises:
        SpoolError: it can be neither read nor written, or the file holds no id.
    """
    path = folder / "worker-id"
    with disk_errors(path):
        make_folder(folder, DISK)
        if not path.exists():
            _create_once(path, f"{draw()}\n".encode())
        content = path.read_bytes().strip()
    if not re.fullmatch(rb"[!-~]{1,128}", content):
        raise SpoolError(
            str(folder), f"{path.name} holds no worker id; delete the file to get a new one"
        )
    return content.decode("ascii")


def _create_once(path: Path, content: bytes) -> None:
    """Create *path* whole or not at all; if another process was quicker, its file stays."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        DISK.write_all(fd, content)
        DISK.fsync(fd)
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
    finally:
        os.close(fd)
        temporary.unlink()
    DISK.sync_folder(path.parent)


def _locked(folder: Path, fd: int) -> SpoolError:
    owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    # The pid alone does not tell: in two containers both may be process 1.
    ours = (os.path.samestat(os.fstat(fd), os.fstat(held)) for held in _locks_held - {fd})
    if any(ours):
        who = f"this process ({owner}) has it open already; open it once and share it"
    else:
        who = (
            f"process {owner or 'unknown'} has it open; end that process, or give this worker"
            " a folder of its own with --spool-dir or WORKER_SPOOL_DIR"
        )
    return SpoolError(str(folder), who)
