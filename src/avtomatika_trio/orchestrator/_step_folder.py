"""A folder for the local copies of one step, made when it is needed and gone after it."""

import errno
import os
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from avtomatika_trio.blobs._disk import disk_faults

_START = "step-"

#: What is older is nobody's any more: its process has died.
_OLD_SECONDS = 86_400.0


class StepFolder:
    """See the head of the module.

    Args:
        folder: Where it is made.
        uri: What it is for, for errors.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self._folder = folder
        self._uri = uri
        self._path: Path | None = None
        self._lock = threading.Lock()
        self.is_over = False

    @property
    def path(self) -> Path:
        """Where it is; from any thread.

        Raises:
            RuntimeError: the step is over.
            DiskFault: it cannot be made.
        """
        with self._lock:
            if self.is_over:
                raise RuntimeError("the step is over: task_files cannot be used any more")
            if self._path is None:
                self._path = self._make()
            return self._path

    def _make(self) -> Path:
        with disk_faults(self._uri, f"{self._folder} cannot be written to"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _forget_old(self._folder)
            made = Path(tempfile.mkdtemp(prefix=_START, dir=self._folder)).resolve()
            (made / "files").mkdir()
            return made

    async def close(self) -> None:
        """Remove it; it cannot be used any more."""
        with self._lock:
            self.is_over = True
        if self._path is not None:
            with trio.CancelScope(shield=True):
                remove = partial(shutil.rmtree, self._path, ignore_errors=True)
                await trio.to_thread.run_sync(remove)


def _forget_old(folder: Path) -> None:
    """Remove what steps of processes that died have left.

    Raises:
        PermissionError: the folder is another account's, which could put links into it.
    """
    if folder.stat().st_uid not in {os.geteuid(), 0}:
        raise PermissionError(errno.EPERM, "it belongs to another account")
    for path in folder.glob(f"{_START}*"):
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - _OLD_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
