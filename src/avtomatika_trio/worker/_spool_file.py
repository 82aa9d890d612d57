"""A file that is only appended to, and survives a disk that refuses."""

import os
from contextlib import suppress
from pathlib import Path

from avtomatika_trio.worker._spool_folder import PRIVATE_FILE, Disk


class AppendFile:
    """An append-only file whose `size` counts only what was taken whole.

    All methods raise `OSError` when the disk refuses, and have then changed nothing that a
    later call could not put right.
    """

    size: int
    """How many bytes were appended without an error."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._temporary = path.with_name(f"{path.name}.tmp")
        self._disk = disk
        self._is_torn = False
        self._temporary.unlink(missing_ok=True)  # of a process that died while replacing
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
        self.size = os.fstat(self._fd).st_size
        # Also for an old file: the process that renamed it may have died before this.
        self._is_name_durable = False

    def read(self) -> bytes:
        """The whole file."""
        return self._path.read_bytes()

    def append(self, data: bytes, *, durable: bool) -> None:
        """Append *data*; if *durable*, it and all before it are on disk on return.

        A part of it that was written before the disk refused is cut off, now or, if the disk
        refuses that too, before anything else is appended.
        """
        if self._is_torn:
            self._cut()
        try:
            self._disk.write_all(self._fd, data)
            if durable:
                self._disk.fsync(self._fd)
                self._make_name_durable()
        except OSError:
            self._is_torn = True
            with suppress(OSError):
                self._cut()
            raise
        self.size += len(data)

    def replace(self, data: bytes) -> None:
        """Make *data* the whole content; a crash leaves the old content or the new one."""
        # The new file is appended to through the descriptor that wrote it.  Opening it again
        # after the rename could fail and leave us writing to a file without a name.
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        fd = os.open(self._temporary, flags, PRIVATE_FILE)
        try:
            self._disk.write_all(fd, data)
            self._disk.fsync(fd)
            self._temporary.rename(self._path)
        except OSError:
            os.close(fd)
            with suppress(OSError):
                self._temporary.unlink()
            raise
        os.close(self._fd)
        self._fd = fd
        self.size = len(data)
        self._is_torn = False
        self._is_name_durable = False
        self._make_name_durable()

    def sync(self) -> None:
        """Wait until all that was appended is on disk."""
        self._disk.fsync(self._fd)
        self._make_name_durable()

    def close(self) -> None:
        """Close it; what was not made durable may be lost with the power."""
        os.close(self._fd)

    def _cut(self) -> None:
        os.ftruncate(self._fd, self.size)
        self._is_torn = False

    def _make_name_durable(self) -> None:
        """Without this, a power failure could bring the file from before a rename back."""
        if not self._is_name_durable:
            self._disk.sync_folder(self._path.parent)
            self._is_name_durable = True
