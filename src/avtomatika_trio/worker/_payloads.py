"""What a worker needs for the files of its attempts, opened when it starts."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio.blobs import Blobs, Patience, open_folder, open_s3
from avtomatika_trio.errors import ConfigError, SpoolError
from avtomatika_trio.worker._attempt_files import FilePlaces
from avtomatika_trio.worker._blob_cache import BlobCache
from avtomatika_trio.worker._payload_folder import hold_payload_folder
from avtomatika_trio.worker._quota import DiskQuota
from avtomatika_trio.worker._spool_folder import hold_lock
from avtomatika_trio.worker._upload_journal import UploadJournal, open_journal

#: Of the journal, beside the spool.
_JOURNAL = "uploads"


@attrs.frozen(kw_only=True, eq=False)
class Payloads:
    """The files of a worker at work."""

    places: FilePlaces
    journal: UploadJournal | None = None

    async def run(self) -> None:
        """Take back uploads that were cut off, until cancelled."""
        if self.journal is not None and self.places.blobs is not None:
            await self.journal.run(self.places.blobs)


def capabilities_of(settings: WorkerSettings) -> dict[str, Any]:
    """What is told of the place for files, so that an orchestrator notices another one."""
    access = settings.s3()
    config_hash = None if access is None else access.config_hash
    return {} if config_hash is None else {"s3_config_hash": config_hash}


@asynccontextmanager
async def open_payloads(
    settings: WorkerSettings, instance: str, *, wants_files: bool
) -> AsyncIterator[Payloads]:
    """What the attempts of this run share; nothing is made where there can be no files.

    Args:
        settings: Of the worker; its spool is open, and held by this process.
        instance: The random id of this run.
        wants_files: Whether a handler asks for `task_files`.

    Raises:
        ConfigError: a folder cannot be used, or the settings of S3 are not complete.
    """
    access = settings.s3()
    quota = DiskQuota(settings.payload_max_bytes)
    nowhere = FilePlaces(folder=None, payload_dirs=(), blobs=None, quota=quota)
    if access is None and settings.files_dir is None and not wants_files:
        yield Payloads(places=nowhere)
        return
    journal: UploadJournal | None = None
    blobs: Blobs | None = None
    async with AsyncExitStack() as stack:
        local = stack.enter_context(ExitStack())
        open_local = partial(_open_local, local, settings, instance)
        folder, cache = await trio.to_thread.run_sync(open_local)
        threads = settings.s3_max_concurrency
        if access is not None:
            open_notes = open_journal(settings.spool_dir / _JOURNAL)
            journal = await trio.to_thread.run_sync(local.enter_context, open_notes)
            patience = Patience(noise=lambda: random.uniform(-1, 1))  # noqa: S311 - jitter
            opening = open_s3(access, max_concurrency=threads, patience=patience, journal=journal)
            blobs = await stack.enter_async_context(opening)
        elif settings.files_dir is not None:
            opening = open_folder(settings.files_dir, max_concurrency=threads)
            blobs = await stack.enter_async_context(opening)
        as_told = Path.cwd() / settings.payload_dir  # its links stay
        places = attrs.evolve(
            nowhere,
            folder=folder,
            payload_dirs=tuple({folder.parent, as_told}),
            cache=cache,
            blobs=blobs,
        )
        if blobs is not None:
            buckets = frozenset({blobs.bucket, *settings.s3_allowed_buckets})
            places = attrs.evolve(places, buckets=buckets)
        yield Payloads(places=places, journal=journal)


def _open_local(
    local: ExitStack, settings: WorkerSettings, instance: str
) -> tuple[Path, BlobCache | None]:
    """The folder of this run, and the cache."""
    folder = local.enter_context(hold_payload_folder(settings.payload_dir, instance))
    if settings.blob_cache_dir is None:
        return folder, None
    try:
        settings.blob_cache_dir.mkdir(0o700, parents=True, exist_ok=True)
        local.enter_context(hold_lock(settings.blob_cache_dir))  # two would not know of each other
        cache = BlobCache.open(settings.blob_cache_dir, settings.blob_cache_max_bytes)
    except (OSError, SpoolError) as exc:
        problem = (
            f"WORKER_BLOB_CACHE_DIR: {str(settings.blob_cache_dir)!r} cannot be used"
            f" ({getattr(exc, 'strerror', None) or exc}); give a folder of its own that this"
            " account can write to"
        )
        raise ConfigError((problem,)) from exc
    return folder, cache
