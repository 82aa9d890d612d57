"""What the tests of files on a worker share: an attempt with a place for files, on real disks."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from tests.worker.worker_cases import settings

from avtomatika_trio.blobs import Blob, Blobs, Location
from avtomatika_trio.worker._attempt_files import AttemptFiles, FilePlaces
from avtomatika_trio.worker._payloads import open_payloads

BUCKET = "avtomatika-payloads"


@attrs.frozen
class Desk:
    """A worker's place for files."""

    places: FilePlaces
    folder: Path
    told: list[tuple[float, str]]

    @property
    def blobs(self) -> Blobs:
        assert self.places.blobs is not None
        return self.places.blobs

    def attempt(self, task_id: str = "t1", job_id: str = "j1") -> AttemptFiles:
        return AttemptFiles(
            self.places, job_id, task_id, lambda share, text: self.told.append((share, text))
        )

    async def put(self, key: str, content: bytes, bucket: str = BUCKET) -> Blob:
        """Put *content* where params can name it."""
        path = self.folder / "to-put"
        path.write_bytes(content)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return await self.blobs.upload(descriptor, Location(bucket, key), lambda _: None)
        finally:
            os.close(descriptor)

    async def content(self, uri: str) -> bytes:
        """What there is at *uri*."""
        path = self.folder / "got"
        path.unlink(missing_ok=True)
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        blob = await self.blobs.head(Location(bucket, key))
        await self.blobs.download(blob, path, lambda _: None)
        return path.read_bytes()


@asynccontextmanager
async def open_desk(folder: Path, **changes: Any) -> AsyncIterator[Desk]:
    """A place for files below *folder*."""
    plain: dict[str, Any] = {
        "files_dir": folder / "files",
        "payload_dir": folder / "payloads",
        "spool_dir": folder / "spool",
    }
    chosen = settings(**{**plain, **changes})
    async with open_payloads(chosen, "i1", wants_files=True) as payloads:
        yield Desk(payloads.places, folder, [])
