"""Where attempts have their folders: one folder for each run of a worker, gone with it.

    /tmp/payloads/run-<instance>/lock
    /tmp/payloads/run-<instance>/<task id>/...

Whoever starts removes what runs that died have left: a run holds the lock in its folder for
as long as it lives.  Everything here blocks.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avtomatika_trio.errors import ConfigError, SpoolError
from avtomatika_trio.worker._spool_folder import hold_lock

_PRIVATE = 0o700

#: What the name of such a folder begins with, so that others' are not touched; and until it
#: is locked, which takes a moment.
_RUN, _NEW = "run-", ".new-run-"
_LONG_SECONDS = 3600.0


@contextmanager
def hold_payload_folder(folder: Path, instance: str) -> Iterator[Path]:
    """The folder of this run in *folder*; what died runs have left there is removed.

    Raises:
        ConfigError: it cannot be made, or is not safe.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(_PRIVATE, parents=True, exist_ok=True)
            _check_owner(folder)
            folder = folder.resolve()
            new, own = folder / f"{_NEW}{instance}", folder / f"{_RUN}{instance}"
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
            remove_tree(own)


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
                    remove_tree(path)
            elif path.name.startswith(_RUN) and (path / "lock").exists():
                with hold_lock(path):
                    remove_tree(path)


def remove_tree(folder: Path) -> None:
    """Remove *folder* and what is in it; what cannot be removed stays."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # a handler has nested folders more deeply than Python can follow
        subprocess.run(["rm", "-rf", "--", folder], check=False)  # noqa: S603, S607
