"""What the tests of the spool share: results, a disk that refuses, an opened folder."""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from avtomatika_trio.worker._spool import Spool, open_spool
from avtomatika_trio.worker._spool_entry import FinishedResult, SpoolEntry
from avtomatika_trio.worker._spool_folder import Disk


def result(number: int, *, cluster_id: str = "blue") -> FinishedResult:
    return FinishedResult(
        cluster_id=cluster_id,
        orchestrator="http://127.0.0.1:8080",
        job_id=f"job-{number}",
        task_id=f"task-{number}",
        body={"status": "success", "data": {"number": number}},
        finished_at=1000.0 + number,
    )


def tasks(entries: tuple[SpoolEntry, ...]) -> list[str]:
    return [entry.task_id for entry in entries]


@attrs.define
class FailingDisk:
    """A disk that takes *room* more bytes and then refuses with *code*."""

    room: int = 1 << 40
    code: int = errno.ENOSPC
    fsync_works: bool = True
    fsyncs: int = 0

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if self.room == 0 and len(data):
            raise OSError(self.code, os.strerror(self.code))
        written = os.write(fd, data[: self.room])
        self.room -= written
        return written

    def fsync(self, fd: int) -> None:
        self.fsyncs += 1
        if not self.fsync_works:
            raise OSError(self.code, os.strerror(self.code))

    def as_disk(self) -> Disk:
        return Disk(write=self.write, fsync=self.fsync)


@asynccontextmanager
async def opened(folder: Path, instance: str = "i1", **options: object) -> AsyncIterator[Spool]:
    async with open_spool(
        folder,
        worker_id="w1",
        instance=instance,
        **options,  # type: ignore[arg-type]
    ) as spool:
        yield spool
