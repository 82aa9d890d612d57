"""A disk that refuses, and a process that is killed."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.worker.spool_cases import FailingDisk, opened, result, tasks

from avtomatika_trio.errors import SpoolError
from avtomatika_trio.worker._spool_log import SpoolLog

# --- On disk: failures ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EIO, "a healthy one")]
)
async def test_a_disk_that_refuses_is_reported_and_a_later_append_succeeds(
    code: int, remedy: str, tmp_path: Path
) -> None:
    disk = FailingDisk(code=code)
    async with opened(tmp_path, disk=disk.as_disk()) as spool:
        await spool.append(result(1))
        disk.room = 30  # it takes a part of the record
        with pytest.raises(SpoolError, match=remedy) as caught:
            await spool.append(result(2))
        assert caught.value.folder == str(tmp_path)
        assert tasks(spool.pending()) == ["task-1"]
        disk.room = 1 << 40
        await spool.append(result(3))
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-1", "task-3"]
        assert spool.recovered.notes == ()


async def test_an_fsync_that_fails_takes_the_whole_batch_back(tmp_path: Path) -> None:
    disk = FailingDisk(code=errno.EIO)
    async with opened(tmp_path, disk=disk.as_disk()) as spool:
        disk.fsync_works = False
        with pytest.raises(SpoolError, match="disk reports errors"):
            await spool.append_many([result(1), result(2)])
        assert spool.pending() == ()
        disk.fsync_works = True
        await spool.append(result(3))
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-3"]


async def test_every_caller_of_a_failed_batch_is_told(tmp_path: Path) -> None:
    disk = FailingDisk()
    failures: list[SpoolError] = []
    async with opened(tmp_path, disk=disk.as_disk()) as spool:

        async def append(number: int) -> None:
            try:
                await spool.append(result(number))
            except SpoolError as exc:
                failures.append(exc)

        disk.room = 0
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(append, number)
        assert len(failures) == 20
        assert spool.pending() == ()


async def test_half_a_record_that_cannot_be_cut_off_hides_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FailingDisk()
    cut = os.ftruncate

    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async with opened(tmp_path, disk=disk.as_disk()) as spool:
        await spool.append(result(1))
        monkeypatch.setattr(os, "ftruncate", refuse)
        disk.room = 30
        with pytest.raises(SpoolError):
            await spool.append(result(2))
        disk.room = 1 << 40
        with pytest.raises(SpoolError, match="disk reports errors"):
            await spool.append(result(3))
        monkeypatch.setattr(os, "ftruncate", cut)
        await spool.append(result(4))
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-1", "task-4"]


async def test_an_acknowledgement_that_the_disk_refuses_only_brings_the_entry_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FailingDisk()
    async with opened(tmp_path, disk=disk.as_disk()) as spool:
        entry = await spool.append(result(1))
        disk.room = 0
        await spool.acknowledge([entry.id])
        assert spool.pending() == ()
    assert caplog.records[0].message == "the spool could not be written"
    async with opened(tmp_path, "i2") as spool:
        assert spool.recovered.entries == (entry,)


async def test_setting_aside_on_a_full_disk_leaves_the_entry_pending(tmp_path: Path) -> None:
    disk = FailingDisk()
    async with opened(tmp_path, disk=disk.as_disk()) as spool:
        entry = await spool.append(result(1))
        disk.room = 0
        with pytest.raises(SpoolError, match=r"set-aside\.jsonl.*free some space"):
            await spool.set_aside(entry.id, "unknown task")
        assert spool.pending() == (entry,)


async def test_forgetting_on_a_full_disk_forgets_nothing(tmp_path: Path) -> None:
    disk = FailingDisk()
    async with opened(tmp_path, "i1"):
        pass
    async with opened(tmp_path, "i2", disk=disk.as_disk()) as spool:
        disk.room = 0
        with pytest.raises(SpoolError, match=r"instances\.json"):
            await spool.forget_instances(["i1"])
    async with opened(tmp_path, "i3") as spool:
        assert spool.recovered.instances == ("i1", "i2")


async def test_a_full_disk_at_the_start_is_reported_and_lets_go_of_the_lock(
    tmp_path: Path,
) -> None:
    disk = FailingDisk(room=0)
    with pytest.raises(SpoolError, match=r"instances\.json.*free some space"):
        async with opened(tmp_path, disk=disk.as_disk()):
            pass
    async with opened(tmp_path, "i2") as spool:
        assert spool.recovered.instances == ()


async def test_a_hundred_appends_share_a_few_fsyncs(tmp_path: Path) -> None:
    disk = FailingDisk()
    async with opened(tmp_path, disk=disk.as_disk()) as spool:
        before = disk.fsyncs
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(spool.append, result(number))
        assert spool.depth("blue") == 100
        assert disk.fsyncs - before <= 5


async def test_acknowledging_alone_waits_for_no_fsync(tmp_path: Path) -> None:
    disk = FailingDisk()
    async with opened(tmp_path, disk=disk.as_disk()) as spool:
        entry = await spool.append(result(1))
        before = disk.fsyncs
        await spool.acknowledge([entry.id])
        await spool.set_aside(999, "no such entry")  # waits for the thread
        assert disk.fsyncs == before


# --- On disk: death -------------------------------------------------------------------------

APPENDER = """
import os, sys
from itertools import count
from pathlib import Path
import trio
from avtomatika_trio.worker._spool import open_spool
from avtomatika_trio.worker._spool_entry import FinishedResult

async def append_for_ever(spool, appender):
    for number in count():
        task_id = f"{appender}-{number}"
        entry = await spool.append(FinishedResult(
            cluster_id="blue", orchestrator="http://127.0.0.1", job_id="job", task_id=task_id,
            body={"data": "x" * 200}, finished_at=0.0))
        if number % 3 == 0:
            os.write(1, f"settled {task_id}\\n".encode())
            await spool.acknowledge([entry.id])
        else:
            os.write(1, f"kept {task_id}\\n".encode())

async def main():
    async with open_spool(Path(sys.argv[1]), worker_id="w", instance="dead",
                          compact_bytes=20_000) as spool:
        async with trio.open_nursery() as nursery:
            for appender in range(20):
                nursery.start_soon(append_for_ever, spool, appender)

trio.run(main)
"""


@pytest.mark.parametrize("lines", [1, 150, 777])
def test_a_killed_process_has_lost_nothing_that_was_appended(lines: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", APPENDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        said += child.stdout.readlines()
    log = SpoolLog(tmp_path, instance="successor")
    found = set(tasks(log.recovered.entries))
    log.close()
    kept = {line.split()[1].decode() for line in said if line.startswith(b"kept")}
    settled = {line.split()[1].decode() for line in said if line.startswith(b"settled")}
    assert kept <= found
    # One append of each appender may have been done without having been told.
    assert len(found - kept - settled) <= 20
    assert log.recovered.instances == ("dead",)
