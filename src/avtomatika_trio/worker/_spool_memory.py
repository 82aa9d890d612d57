"""A spool without files, for tests in virtual time.

A `MemoryFolder` plays the disk: it outlives the spools that are opened on it one after the
other, as a folder outlives the processes of a worker.  It keeps the promises of `Spool`,
loses nothing that was appended, and lets one in at a time.
"""

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from avtomatika_trio.errors import SpoolError
from avtomatika_trio.worker._spool import MAX_ENTRIES, Spool
from avtomatika_trio.worker._spool_entry import (
    FinishedResult,
    PendingEntries,
    Recovered,
    SpoolEntry,
    entry_of,
)


@attrs.define(kw_only=True, eq=False)
class MemoryFolder:
    """The disk under memory spools."""

    name: str = "memory"
    fsync_seconds: float = 0.0
    """How long each append, setting aside and forgetting takes."""
    fault: str | None = None
    """While it is set, everything that must be durable fails with this reason."""
    room: float = math.inf
    """How many entries fit; for more there is no space."""
    entries: dict[int, SpoolEntry] = attrs.field(factory=dict)
    instances: list[str] = attrs.field(factory=list)
    set_aside: list[tuple[SpoolEntry, str]] = attrs.field(factory=list)
    next_id: int = 1
    holder: str | None = None
    """The instance that has it open."""

    async def sync(self) -> None:
        """Take as long as a disk would, and fail if it would."""
        with trio.CancelScope(shield=True):
            await trio.sleep(self.fsync_seconds)
        if self.fault is not None:
            raise SpoolError(self.name, self.fault)


@asynccontextmanager
async def open_memory_spool(
    folder: MemoryFolder, *, worker_id: str, instance: str, max_entries: int = MAX_ENTRIES
) -> AsyncIterator[Spool]:
    """Open a spool on *folder*, as `open_spool` does on a real one.

    Raises:
        SpoolError: another spool has it open, or `MemoryFolder.fault` is set.
        ValueError: *max_entries* is below 1.
    """
    if folder.holder is not None:
        raise SpoolError(folder.name, f"instance {folder.holder} has it open; end it first")
    folder.holder = instance
    try:
        await folder.sync()
        recovered = Recovered(
            entries=tuple(folder.entries[i] for i in sorted(folder.entries)),
            instances=tuple(other for other in folder.instances if other != instance),
        )
        folder.instances[:] = [*recovered.instances, instance]
        pending = PendingEntries(max_entries, recovered.entries)
        spool = _MemorySpool(folder, recovered, pending, worker_id=worker_id, instance=instance)
        try:
            yield spool
        finally:
            spool.close()
    finally:
        folder.holder = None


class _MemorySpool:
    def __init__(
        self,
        folder: MemoryFolder,
        recovered: Recovered,
        pending: PendingEntries,
        *,
        worker_id: str,
        instance: str,
    ) -> None:
        self._folder = folder
        self._recovered = recovered
        self._pending = pending
        self._worker_id = worker_id
        self._instance = instance
        self._is_closed = False

    @property
    def recovered(self) -> Recovered:
        return self._recovered

    async def append(self, result: FinishedResult) -> SpoolEntry:
        (entry,) = await self.append_many((result,))
        return entry

    async def append_many(self, results: Sequence[FinishedResult]) -> tuple[SpoolEntry, ...]:
        await self._begin()
        entries = tuple(
            entry_of(
                result,
                entry_id=self._folder.next_id + offset,
                worker_id=self._worker_id,
                instance=self._instance,
            )
            for offset, result in enumerate(results)
        )
        self._folder.next_id += len(entries)
        await self._folder.sync()
        if len(self._folder.entries) + len(entries) > self._folder.room:
            raise SpoolError(self._folder.name, "no space left on device")
        self._folder.entries.update((entry.id, entry) for entry in entries)
        self._pending.add(entries)
        return entries

    async def acknowledge(self, ids: Sequence[int]) -> None:
        self._check_open()
        for entry_id in self._pending.remove(ids):
            del self._folder.entries[entry_id]
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def set_aside(self, entry_id: int, reason: str) -> None:
        await self._begin()
        await self._folder.sync()
        if self._pending.remove((entry_id,)):
            self._folder.set_aside.append((self._folder.entries.pop(entry_id), reason))

    def pending(self, cluster_id: str | None = None) -> tuple[SpoolEntry, ...]:
        return self._pending.of(cluster_id)

    def depth(self, cluster_id: str) -> int:
        return self._pending.depth(cluster_id)

    def is_full(self, cluster_id: str) -> bool:
        return self._pending.is_full(cluster_id)

    async def forget_instances(self, ids: Sequence[str]) -> None:
        await self._begin()
        await self._folder.sync()
        self._folder.instances[:] = [i for i in self._folder.instances if i not in ids]

    def close(self) -> None:
        self._is_closed = True

    async def _begin(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("the spool is closed")
