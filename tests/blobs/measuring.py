"""Files of random bytes, and how much memory a process has needed (on Linux)."""

import hashlib
import os
from pathlib import Path

_BLOCK_BYTES = 1024 * 1024

MIB = 1024 * 1024


def write_random(path: Path, size: int) -> str:
    """Make a file of *size* random bytes, with no holes; returns its sha256, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for start in range(0, size, _BLOCK_BYTES):
            block = os.urandom(min(_BLOCK_BYTES, size - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """What `sha256sum` says: read anew from the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Memory:
    """How far this process's resident memory grows, from the moment when this is made.

    `getrusage` knows only the peak since the process began, which hides what comes after a
    costly start; the kernel's mark, set back at the beginning, misses nothing and costs nothing.
    """

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM becomes VmRSS
        self._before = _peak_bytes()

    @property
    def growth(self) -> int:
        """In bytes, at its highest."""
        return _peak_bytes() - self._before


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel tells no VmHWM")
