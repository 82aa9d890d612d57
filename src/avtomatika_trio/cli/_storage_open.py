"""Opening a storage for a command about it as a whole, and making sure that it is at rest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from avtomatika_trio._config import masked
from avtomatika_trio._core import lease
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._output import note
from avtomatika_trio.cli._places import check_folder
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.orchestrator._janitor import OBSERVE_SECONDS
from avtomatika_trio.storage import Storage, open_storage

_SQLITE = "sqlite:"


@attrs.frozen
class Opened:
    """A storage and what it is called."""

    url: str
    storage: Storage

    @property
    def name(self) -> str:
        """As it may be shown."""
        return masked(self.url)

    @property
    def kind(self) -> str:
        """`sqlite`, or `redis`."""
        return self.url.partition(":")[0].replace("rediss", "redis")

    async def served_at(self) -> float | None:
        """When somebody last noted to serve it."""
        return await self.storage.commit(lease.last_served)

    async def is_served(self) -> bool:
        """Whether an orchestrator serves it now; takes its time if there may be some."""
        if not self.storage.is_shared:
            return False  # the lock on it is ours
        before = await self.served_at()
        await trio.sleep(OBSERVE_SECONDS)
        return await self.served_at() != before

    async def check_at_rest(self, *, live: bool | None = None) -> None:
        """Make sure that nobody serves it.

        Args:
            live: Be content with a warning; None = there is no such option.

        Raises:
            CommandError: somebody does.
        """
        if not await self.is_served():
            return
        if live:
            note(
                f"warning: {self.name} is being served; what is read of it while it changes"
                " may not fit together"
            )
            return
        remedy = "stop its orchestrators first"
        if live is not None:
            remedy += ", or read it as it changes, with --live"
        raise CommandError(Exit.CONFLICT, f"{self.name} is being served; {remedy}")

    async def check_empty(self) -> None:
        """Make sure that nothing is in it.

        Raises:
            CommandError: something is.
        """
        jobs = sum((await self.storage.job_counts()).values())
        other = [
            await self.storage.instances(),
            await self.storage.access(),
            await self.storage.audit(limit=1),
            await self.served_at(),
        ]
        if jobs or any(other):
            has = "it has been served"
            if jobs:
                has = "it has 1 job" if jobs == 1 else f"it has {jobs} jobs"
            fault = f"{self.name} is not empty: {has}; nothing was changed"
            raise CommandError(Exit.CONFLICT, f"{fault}. {self.way_out}")

    @property
    def way_out(self) -> str:
        """How to come to an empty storage."""
        if self.url.startswith(_SQLITE):
            path = self.url.removeprefix(_SQLITE)
            return f"Name another file, or remove {path}, {path}-wal and {path}-shm"
        return "Name another storage, or empty this one"


@asynccontextmanager
async def opened(url: str, *, name: str, is_new: bool = False) -> AsyncIterator[Opened]:
    """The storage *url*.

    Args:
        url: Of the storage.
        name: Of the argument that it is from.
        is_new: Whether it may be made; else it must be there.

    Raises:
        CommandError: it is not there, or cannot be made.
        ConfigError: there is no such kind of storage.
        StorageUnavailable: it cannot be used, or somebody else has it.
    """
    if url.partition(":")[0] == "memory":
        fault = f"{name}: memory: is gone when its process ends"
        raise CommandError(Exit.USAGE, f"{fault}; give sqlite:PATH or redis://HOST:PORT")
    if is_new:
        check_folder(url)
    else:
        _check_there(url, name)
    try:
        opening = open_storage(url)
    except ConfigError as exc:
        problems = tuple(it.replace("STORAGE_URL:", f"{name}:", 1) for it in exc.problems)
        raise ConfigError(problems) from None
    async with opening as storage:
        yield Opened(url, storage)


def _check_there(url: str, name: str) -> None:
    """Make sure that a database is there: opening would make one.

    Raises:
        CommandError: it is not.
    """
    path = Path(url.removeprefix(_SQLITE))
    if url.startswith(_SQLITE) and not path.exists():
        remedy = "name another one (sqlite:PATH)"
        raise CommandError(Exit.NOT_FOUND, f"{name}: there is no database {path}; {remedy}")
