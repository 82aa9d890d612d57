"""Removes what nobody needs any more: files of jobs that ended, uploads that nobody ends.

Each thing done here may be done again, by this process after a crash or by another one at
the same time.  What fails is tried again later, and keeps nothing else waiting.
"""

import logging
from collections.abc import Sequence
from functools import partial
from itertools import chain

import trio

from avtomatika_trio._core import files
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.blobs import Blobs, Location, Unfinished
from avtomatika_trio.errors import BlobError, StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._file_names import ALL_JOBS, folder_of
from avtomatika_trio.orchestrator._partitions import commit_in_all

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How late the files of a job may be removed, while there are not many."""

SWEEP_SECONDS = 600.0
"""How often unfinished uploads are looked for; the first time at once."""

#: Jobs whose files are removed at the same time.
_AT_A_TIME = 20


async def run_file_sweeper(context: Context) -> None:
    """Sweep until cancelled; survives an outage of the storage or of where files are.

    Returns at once where no files are kept.
    """
    if context.blobs is None:
        return
    async with trio.open_nursery() as loops:
        if context.rules.files_retention_seconds is not None:
            loops.start_soon(_remove_files_again_and_again, context, context.blobs)
        loops.start_soon(_abort_uploads_again_and_again, context, context.blobs)


async def _remove_files_again_and_again(context: Context, blobs: Blobs) -> None:
    while True:
        try:
            while await remove_files(context, blobs):
                pass
        except StorageUnavailable as exc:
            logger.warning("files of jobs that have ended must wait: %s", exc)
        await trio.sleep(LOOK_SECONDS)


async def _abort_uploads_again_and_again(context: Context, blobs: Blobs) -> None:
    while True:
        try:
            await abort_uploads(context, blobs)
        except (BlobError, StorageUnavailable) as exc:
            logger.warning("unfinished uploads must wait: %s", exc)
        await trio.sleep(SWEEP_SECONDS)


async def remove_files(context: Context, blobs: Blobs) -> bool:
    """Remove the files of some of the jobs that are due; whether there may be more at once.

    Raises:
        StorageUnavailable: in some partition it is not known whose files are due, or not noted
            that they are gone, which they may be.
    """
    more = False
    error: StorageUnavailable | None = None
    for partition in context.storage.partitions:
        try:
            more |= await _remove_files_of(context, blobs, partition)
        except StorageUnavailable as exc:
            error = exc
    if error is not None:
        raise error
    return more


async def _remove_files_of(context: Context, blobs: Blobs, partition: str) -> bool:
    retention = context.rules.files_retention_seconds
    assert retention is not None, "else files stay"
    operation = partial(files.take_due, most=_AT_A_TIME, retention_seconds=retention)
    job_ids = await context.storage.commit(operation, partition)
    removed: list[str] = []

    async def remove(job_id: str) -> None:
        try:
            await blobs.delete(folder_of(blobs.bucket, job_id))
        except Exception as exc:
            expected = isinstance(exc, BlobError)
            logger.warning(
                "files of job %s stay for now: %s", job_id, exc, exc_info=None if expected else exc
            )
        else:
            removed.append(job_id)

    async with trio.open_nursery() as nursery:
        for job_id in job_ids:
            nursery.start_soon(remove, job_id)
    if removed:
        await context.storage.commit(partial(_were_removed, job_ids=removed), partition)
    return len(removed) == _AT_A_TIME


def _were_removed(ledger: Ledger, job_ids: list[str]) -> None:
    for job_id in job_ids:
        files.were_removed(ledger, job_id)


async def abort_uploads(context: Context, blobs: Blobs) -> int:
    """Abort every unfinished upload that nobody will end; returns how many there were.

    Raises:
        BlobError: they cannot be listed.
        StorageUnavailable: it is not known whose they are.
    """
    found = await blobs.unfinished(Location(blobs.bucket, ALL_JOBS))
    by_partition: dict[str, list[Unfinished]] = {}
    for upload in found:
        partition = context.storage.partition_of(_pending(upload).job_id)
        by_partition.setdefault(partition, []).append(upload)
    operations = {it: partial(_abandoned, found=some) for it, some in by_partition.items()}
    answers = await commit_in_all(context.storage, operations) if operations else {}
    abandoned = list(chain.from_iterable(answers.values()))
    for upload in abandoned:
        try:
            await blobs.abort(upload)
        except BlobError as exc:
            logger.warning("an unfinished upload stays for now: %s", exc)
        else:
            logger.info("aborted an upload that nobody ends: %s", upload.location.uri)
    return len(abandoned)


def _abandoned(ledger: Ledger, found: Sequence[Unfinished]) -> list[Unfinished]:
    return [it for it in found if files.is_abandoned(ledger, _pending(it))]


def _pending(upload: Unfinished) -> files.PendingUpload:
    job_id, _, name = upload.location.key.removeprefix(ALL_JOBS).partition("/")
    wire_id = name.partition("/")[0]
    return files.PendingUpload(job_id=job_id, wire_id=wire_id, begun_at=upload.begun_at)
