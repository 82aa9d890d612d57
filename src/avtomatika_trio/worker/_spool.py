"""The spool: a worker's log on disk of results that no orchestrator has accepted yet.

A result is appended before it is sent and acknowledged when an orchestrator has answered, so
a worker that dies in between delivers it after its restart and runs nothing again.  Why the
log looks as it does is told in `_spool_format`, which files there are in `_spool_log`.

The loop decides and one thread of the spool's own does the file work.  While the thread
writes and syncs one batch, appends gather for the next: a hundred of them cost one fsync and
one hop between loop and thread.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import attrs
import trio

from avtomatika_trio.errors import SpoolError
from avtomatika_trio.worker._spool_entry import (
    FinishedResult,
    PendingEntries,
    Recovered,
    SpoolEntry,
    entry_of,
)
from avtomatika_trio.worker._spool_folder import DISK, Disk
from avtomatika_trio.worker._spool_format import encode_entry
from avtomatika_trio.worker._spool_log import COMPACT_BYTES, SpoolLog
from avtomatika_trio.worker._spool_mounts import file_system_of

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_ENTRIES = 10_000
"""Entries of one cluster from which on the worker stops polling it."""


class Spool(Protocol):
    """What every spool promises; `open_spool` and `open_memory_spool` make them."""

    @property
    def recovered(self) -> Recovered:
        """What earlier processes left."""
        ...

    async def append(self, result: FinishedResult) -> SpoolEntry:
        """Keep *result*; when this returns it survives the process and the power.

        Cancellation: checked before anything is done, and not afterwards.  A caller that
        gets `trio.Cancelled` knows that nothing was kept; one that gets an entry, that it
        was.  The wait for the disk between is shielded, some milliseconds on a healthy one.

        Raises:
            SpoolError: the disk refused it, and it is not pending.  Call again when the
                remedy was applied.  After a crash at this moment it may yet be found, and is
                then delivered once more, which an orchestrator answers as the first time.
            ValueError: its body cannot be written as JSON.
            trio.ClosedResourceError: the spool is closed.
        """
        ...

    async def append_many(self, results: Sequence[FinishedResult]) -> tuple[SpoolEntry, ...]:
        """Keep *results* as `append` does, in their order and with one fsync: all or none."""
        ...

    async def acknowledge(self, ids: Sequence[int]) -> None:
        """Settle the entries *ids*: an orchestrator has answered them.

        They are not pending any more on return, but this is not yet durable: if it is lost,
        an entry is sent again and answered as the first time.  A disk that refuses is logged,
        not raised.  Ids that are not pending are ignored.  Cannot be cancelled.

        Raises:
            trio.ClosedResourceError: the spool is closed.
        """
        ...

    async def set_aside(self, entry_id: int, reason: str) -> None:
        """Settle an entry that nobody wants, and keep it with *reason* for a person to see.

        An id that is not pending is ignored.  Not cancelled once begun.

        Raises:
            SpoolError: the disk refused; the entry is still pending.
            trio.ClosedResourceError: the spool is closed.
        """
        ...

    def pending(self, cluster_id: str | None = None) -> tuple[SpoolEntry, ...]:
        """The entries that wait for one cluster, or for any, the oldest first."""
        ...

    def depth(self, cluster_id: str) -> int:
        """How many entries wait for that cluster."""
        ...

    def is_full(self, cluster_id: str) -> bool:
        """Whether to stop polling that cluster.  Appending goes on: nothing is dropped."""
        ...

    async def forget_instances(self, ids: Sequence[str]) -> None:
        """Remove *ids* from the record of instances, durably, and from nothing else.

        For earlier instances, when an orchestrator has answered that it knows them dead; for
        one's own, when it has answered the goodbye.  Ids that are not recorded are ignored.
        Not cancelled once begun.

        Raises:
            SpoolError: the disk refused; the next process will find them again.
            trio.ClosedResourceError: the spool is closed.
        """
        ...


@asynccontextmanager
async def open_spool(
    folder: Path,
    *,
    worker_id: str,
    instance: str,
    max_entries: int = MAX_ENTRIES,
    disk: Disk = DISK,
    file_system: Callable[[Path], str | None] = file_system_of,
    compact_bytes: int = COMPACT_BYTES,
) -> AsyncIterator[Spool]:
    """Open the spool in *folder*, which is made if it is missing.

    Args:
        folder: Where it lies; on a local disk, and for one process at a time.
        worker_id: Written into each new entry.  Entries of other ids stay what they are.
        instance: This process, written into each entry and, before this returns, into the
            record that the next process finds as `Recovered.instances`.
        max_entries: From how many entries on a cluster's share counts as full.
        disk: How bytes become durable.
        file_system: Tells the type of the file system under a folder.
        compact_bytes: From which size on a log that is mostly settled is rewritten.

    Resource handling: one thread and the folder's lock, both ended on leaving.  Leaving waits,
    shielded, until all that was appended and acknowledged is on disk.

    Raises:
        SpoolError: the folder is in use, lies on a network file system, or the disk fails.
        ValueError: *max_entries* is below 1.
    """
    open_log = partial(
        SpoolLog,
        folder,
        instance=instance,
        disk=disk,
        file_system=file_system,
        compact_bytes=compact_bytes,
    )
    with ThreadPoolExecutor(1, thread_name_prefix="avtomatika-spool") as thread:
        log = await _in_thread(thread, open_log)
        try:
            pending = PendingEntries(max_entries, log.recovered.entries)
            spool = _FileSpool(log, thread, pending, worker_id=worker_id, instance=instance)
            try:
                yield spool
            finally:
                await spool.settle()
        finally:
            await _in_thread(thread, log.close)


@attrs.define(eq=False)
class _Batch:
    """What the thread writes at one go, and the news for those who wait for it."""

    entries: list[tuple[SpoolEntry, bytes]] = attrs.field(factory=list)
    acknowledged: list[int] = attrs.field(factory=list)
    written: trio.Event = attrs.field(factory=trio.Event)
    error: SpoolError | None = None


class _FileSpool:
    """The loop's side of a spool on disk.  All its state belongs to the loop."""

    def __init__(
        self,
        log: SpoolLog,
        thread: ThreadPoolExecutor,
        pending: PendingEntries,
        *,
        worker_id: str,
        instance: str,
    ) -> None:
        self._log = log
        self._thread = thread
        self._token = trio.lowlevel.current_trio_token()
        self._pending = pending
        self._next_id = log.next_id
        self._worker_id = worker_id
        self._instance = instance
        self._gathering = _Batch()
        self._writing: _Batch | None = None
        self._is_closed = False

    @property
    def recovered(self) -> Recovered:
        return self._log.recovered

    async def append(self, result: FinishedResult) -> SpoolEntry:
        (entry,) = await self.append_many((result,))
        return entry

    async def append_many(self, results: Sequence[FinishedResult]) -> tuple[SpoolEntry, ...]:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        entries = tuple(
            entry_of(
                result,
                entry_id=self._next_id + offset,
                worker_id=self._worker_id,
                instance=self._instance,
            )
            for offset, result in enumerate(results)
        )
        if not entries:
            return ()
        self._next_id += len(entries)
        batch = self._gathering
        batch.entries += [(entry, encode_entry(entry)) for entry in entries]
        self._write_if_idle()
        with trio.CancelScope(shield=True):
            await batch.written.wait()
        if batch.error is not None:
            # A new one for each caller: an exception that is raised twice mixes tracebacks.
            raise SpoolError(batch.error.folder, batch.error.reason) from batch.error
        return entries

    async def acknowledge(self, ids: Sequence[int]) -> None:
        self._check_open()
        self._gathering.acknowledged += self._pending.remove(ids)
        self._write_if_idle()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def set_aside(self, entry_id: int, reason: str) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        await _in_thread(self._thread, partial(self._log.set_aside, entry_id, reason))
        self._pending.remove((entry_id,))

    def pending(self, cluster_id: str | None = None) -> tuple[SpoolEntry, ...]:
        return self._pending.of(cluster_id)

    def depth(self, cluster_id: str) -> int:
        return self._pending.depth(cluster_id)

    def is_full(self, cluster_id: str) -> bool:
        return self._pending.is_full(cluster_id)

    async def forget_instances(self, ids: Sequence[str]) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        await _in_thread(self._thread, partial(self._log.forget_instances, tuple(ids)))

    async def settle(self) -> None:
        """Take nothing more and wait, shielded, until all that was taken is written."""
        self._is_closed = True
        with trio.CancelScope(shield=True):
            while self._writing is not None:
                await self._writing.written.wait()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("the spool is closed")

    def _write_if_idle(self) -> None:
        batch = self._gathering
        if self._writing is not None or not (batch.entries or batch.acknowledged):
            return
        self._writing, self._gathering = batch, _Batch()
        work = self._thread.submit(self._log.write, batch.entries, batch.acknowledged)
        work.add_done_callback(lambda done: self._token.run_sync_soon(self._written, batch, done))

    def _written(self, batch: _Batch, work: Future[None]) -> None:
        """Back in the loop: tell those who wait, and start on what has gathered."""
        try:
            work.result()
        except SpoolError as exc:
            batch.error = exc
            logger.warning("the spool could not be written", extra={"reason": str(exc)})
        else:
            self._pending.add(entry for entry, _ in batch.entries)
        self._writing = None
        batch.written.set()
        self._write_if_idle()


async def _in_thread(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """Do *work* there, after what was given to it before; shielded from cancellation."""
    token = trio.lowlevel.current_trio_token()
    done = trio.Event()
    future = thread.submit(work)
    future.add_done_callback(lambda _: token.run_sync_soon(done.set))
    with trio.CancelScope(shield=True):
        await done.wait()
    return future.result()
