"""Uploads of several parts that were cut off are taken back, by this process or the next."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from avtomatika_trio.blobs import Blobs, Location, Unfinished
from avtomatika_trio.errors import BlobUnavailable
from avtomatika_trio.worker import _upload_journal
from avtomatika_trio.worker._spool_folder import Disk
from avtomatika_trio.worker._upload_journal import open_journal


def an_upload(number: int) -> Unfinished:
    return Unfinished(location=Location("b", f"jobs/j/t/ü {number}"), upload_id=f"id-{number}")


class Aborting:
    """A place for blobs that fails so many times before it aborts."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.aborted: list[Unfinished] = []
        self.at: list[float] = []

    async def abort(self, upload: Unfinished) -> None:
        await trio.lowlevel.checkpoint()
        self.at.append(trio.current_time())
        if self.fails:
            self.fails -= 1
            raise BlobUnavailable(upload.location.uri, "not now")
        self.aborted.append(upload)


async def run_for(
    path: Path, blobs: Aborting, seconds: float, left: Sequence[Unfinished] = ()
) -> None:
    with open_journal(path) as journal, trio.move_on_after(seconds):
        for upload in left:
            journal.left(upload)
        place: Blobs = blobs  # type: ignore[assignment]
        await journal.run(place)


async def test_what_was_begun_and_not_ended_is_aborted_by_the_next_process(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "spool" / "uploads"
    with open_journal(path) as journal:
        for number in range(4):
            journal.begun(an_upload(number))
        journal.ended(an_upload(1))
        journal.ended(an_upload(3))
    blobs = Aborting()
    await run_for(path, blobs, 1)
    assert blobs.aborted == [an_upload(0), an_upload(2)]
    # It was not crossed out (the place for blobs does that): aborted once more, to no effect.
    again = Aborting()
    await run_for(path, again, 1)
    assert again.aborted == blobs.aborted


async def test_what_cannot_be_aborted_is_tried_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    blobs = Aborting(fails=3)
    await run_for(tmp_path / "uploads", blobs, 100, [an_upload(1)])
    assert blobs.aborted == [an_upload(1)]
    pauses = [after - before for before, after in zip(blobs.at, blobs.at[1:], strict=False)]
    assert pauses == [1.0, 2.0, 4.0]


async def test_what_is_left_while_it_runs_is_seen_to_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    blobs = Aborting(fails=9)
    with open_journal(tmp_path / "uploads") as journal:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run, blobs)  # type: ignore[arg-type]
            await trio.sleep(5)
            journal.left(an_upload(1))
            await trio.sleep(1000)
            assert blobs.aborted == [an_upload(1)]
            assert blobs.at == pytest.approx([5, 6, 8, 12, 20, 36, 68, 128, 188, 248])
            begun, blobs.fails = trio.current_time(), 1
            journal.left(an_upload(2))
            await trio.sleep(10)
            assert blobs.at[10:] == pytest.approx([begun, begun + 1])
            nursery.cancel_scope.cancel()


def test_an_upload_that_is_complete_stays_so_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with open_journal(tmp_path / "uploads") as journal:
        journal.begun(an_upload(1))
        monkeypatch.setattr(_upload_journal, "DISK", Disk(write=refuse))
        journal.ended(an_upload(1))
        with pytest.raises(OSError, match="No space left"):
            journal.begun(an_upload(2))


async def test_an_upload_under_way_is_left_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    blobs = Aborting()
    with open_journal(tmp_path / "uploads") as journal:
        journal.begun(an_upload(1))
        with trio.move_on_after(100):
            await journal.run(blobs)  # type: ignore[arg-type]
    assert blobs.aborted == []


async def test_a_line_that_a_full_disk_has_torn_costs_only_itself(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "uploads", Disk.write_all

    def write_half(disk: Disk, descriptor: int, data: bytes) -> None:
        write(disk, descriptor, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_journal(path) as journal:
        journal.begun(an_upload(1))
        with monkeypatch.context() as full:
            full.setattr(Disk, "write_all", write_half)
            with pytest.raises(OSError, match="No space left"):
                journal.begun(an_upload(2))
            journal.ended(an_upload(1))  # no error: it is complete, whatever the disk says
        journal.begun(an_upload(3))
    blobs = Aborting()
    await run_for(path, blobs, 1)
    assert [it.upload_id for it in blobs.aborted] == ["id-1", "id-3"]


@pytest.mark.parametrize("cut", range(1, 40))
async def test_a_torn_line_costs_only_itself(
    tmp_path: Path, autojump_clock: MockClock, cut: int
) -> None:
    path = tmp_path / "uploads"
    with open_journal(path) as journal:
        journal.begun(an_upload(1))
        journal.begun(an_upload(2))
    path.write_bytes(path.read_bytes()[:-cut])
    with open_journal(path) as journal:
        journal.begun(an_upload(3))
    blobs = Aborting()
    await run_for(path, blobs, 1)
    found = [it.upload_id for it in blobs.aborted]
    assert found == (["id-1", "id-2", "id-3"] if cut == 1 else ["id-1", "id-3"])
