"""Starts a command that the kernel kills as soon as the process that asked for it is dead.

    python -I -S _tether.py PARENT_PID COMMAND [ARGUMENT ...]

A program of its own, without imports from this package: it makes the one call that must be made
in the child, and becomes the command (same process id).  Doing that between fork and exec, as
with `preexec_fn`, would run Python in the copy of a process that may have threads.

Linux alone can do this.  Elsewhere the command is run all the same; its parent then has to end it,
and cannot if it is itself killed with SIGKILL.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""From Linux's `prctl.h`.  The setting outlives `exec`, not `fork`."""


def _tie_to(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl: {os.strerror(error)}")
    if os.getppid() != parent:  # it died before the call, of which the kernel told nobody
        sys.exit(f"the parent process {parent} has ended")


if __name__ == "__main__":
    if sys.platform == "linux":
        _tie_to(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is wanted
