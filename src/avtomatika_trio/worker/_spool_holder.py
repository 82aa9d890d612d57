"""Who has a spool open, found out without touching its lock.

Trying the lock would tell too, but a worker that starts at that moment would be refused.
"""

import os
import re
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import attrs

_PROC = Path("/proc")


class LockState(StrEnum):
    """Whether a process has the folder open."""

    HELD = "held"
    FREE = "free"
    UNKNOWN = "unknown"  #: this system does not tell who holds a lock


@attrs.frozen(kw_only=True)
class Holder:
    """What is known of the lock of a folder."""

    state: LockState
    pid: int | None = None
    """The process that holds it; if the state is unknown, the last one that did."""


def find_holder(folder: Path, *, proc: Path = _PROC) -> Holder:
    """Who holds the lock of *folder*, as far as processes can be seen from here.

    A process in another container is not seen; ask in the one where the worker runs.

    Args:
        folder: Of the spool.
        proc: Where the kernel tells of processes.

    Raises:
        OSError: the lock file cannot be read.
    """
    path = folder / "lock"
    try:
        status, content = path.stat(), path.read_bytes()
    except FileNotFoundError:
        return Holder(state=LockState.FREE)
    pid = int(content) if re.fullmatch(rb"[0-9]{1,9}\s*", content) else None
    if pid is not None and _has_open(pid, status, proc):
        return Holder(state=LockState.HELD, pid=pid)
    try:
        locks = (proc / "locks").read_text("ascii", "replace")
    except OSError:
        is_over = pid is None or not _is_running(pid)
        return Holder(state=LockState.FREE if is_over else LockState.UNKNOWN, pid=pid)
    holder = _find_in_locks(locks, status, pid)
    if holder is None:
        return Holder(state=LockState.FREE)
    return Holder(state=LockState.HELD, pid=holder)


def _has_open(pid: int, status: os.stat_result, proc: Path) -> bool:
    """Whether *pid* has the file of *status* open: a worker has it for as long as it holds it."""
    with suppress(OSError):  # it has ended, or is not ours to look into
        for descriptor in (proc / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(descriptor.stat(), status):
                    return True
    return False


def _find_in_locks(locks: str, status: os.stat_result, pid: int | None) -> int | None:
    """Which process *locks*, a text like /proc/locks, names for the file of *status*.

    The columns are described in proc(5).  Some file systems have another device there than
    `stat` tells; then the *pid* that is written into the file must fit.
    """
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    for line in locks.splitlines():
        found = re.match(r"\d+: FLOCK\s+\S+\s+\S+\s+(\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ", line)
        if found is None or int(found[4]) != status.st_ino:
            continue
        owner = int(found[1])
        if owner == pid or (int(found[2], 16), int(found[3], 16)) == device:
            return owner
    return None


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
