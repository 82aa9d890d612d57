"""Where attempts have their folders: one folder for each run of a worker, gone with it.

    /tmp/payloads/<instance>/lock
    /tmp/payloads/<instance>/<task id>/...

Whoever starts removes what runs that died have left: a run holds the lock in its folder for
as long as it lives.  Everything here blocks.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avtomatika_trio.errors import ConfigError, SpoolError
from avtomatika_trio.worker._spool_folder import hold_lock

_PRIVATE = 0o700

#: What is made has this before its name until it is locked; it takes a moment.
_NEW = ".new-"
_LONG_SECONDS = 3600.0


@contextmanager
def hold_payload_folder(folder: Path, instance: str) -> Iterator[Path]:
    """The folder of this run in *folder*; what died runs have left there is removed.

    Raises:
        ConfigError: it cannot be made, or is not safe.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay
    with ExitStack() as stack:
        try:
            folder.mkdir(_PRIVATE, parents=True, exist_ok=True)
            _check_owner(folder)
            new, own = folder / f"{_NEW}{instance}", folder / instance
            new.mkdir(_PRIVATE)
            stack.enter_context(hold_lock(new))
            new.rename(own)
        except (OSError, SpoolError) as exc:
            reason = getattr(exc, "strerror", None) or exc
            problem = (
                f"WORKER_PAYLOAD_DIR: {str(folder)!r} cannot be used ({reason});"
                " give a folder that this account can write to"
            )
            raise ConfigError((problem,)) from exc
        _remove_dead(folder)
        try:
            yield own
        finally:
            shutil.rmtree(own, ignore_errors=True)


def _check_owner(folder: Path) -> None:
    """Who owns a folder can put links in the place of what others made in it."""
    owner = folder.stat().st_uid
    if owner not in {os.geteuid(), 0}:
        raise PermissionError(0, f"it belongs to another account, of id {owner}")


def _remove_dead(folder: Path) -> None:
    """Remove the folders of runs that nobody holds any more."""
    for path in folder.iterdir():
        with suppress(OSError, SpoolError):
            if path.name.startswith(_NEW):
                if path.stat().st_mtime < time.time() - _LONG_SECONDS:
                    shutil.rmtree(path)
            elif (path / "lock").exists():
                with hold_lock(path):
                    shutil.rmtree(path)
