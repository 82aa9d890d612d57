"""A disk that is full, or fails, while files are fetched and put."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from tests.blobs.s3_server import S3Server

from avtomatika_trio.blobs import Blob, Blobs, Location, Patience, _folder, open_folder, open_s3
from avtomatika_trio.blobs._download import PIECE_BYTES
from avtomatika_trio.errors import BlobRefused, DiskFault
from avtomatika_trio.testing._promises_blobs import _content, _ignore, _put

SIZES = [100_000, PIECE_BYTES + 100_000]


@pytest.fixture(params=["folder", "s3"])
async def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server
) -> AsyncIterator[Blobs]:
    opened = (
        open_folder(tmp_path / "kept")
        if request.param == "folder"
        else open_s3(s3_server.access(), max_concurrency=10, patience=Patience(seconds=5))
    )
    async with opened as blobs:
        yield blobs


@pytest.fixture(params=SIZES)
async def blob(request: pytest.FixtureRequest, blobs: Blobs, tmp_path: Path) -> Blob:
    return await _put(blobs, tmp_path, "one.bin", _content(request.param))


@contextmanager
def longest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond *size*: the system itself says so."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def is_there(path: Path) -> bool:
    return os.path.lexists(path)


async def _expect_fault(blobs: Blobs, blob: Blob, target: Path, reason: str) -> None:
    with pytest.raises(DiskFault, match=reason) as caught:
        await blobs.download(blob, target, _ignore)
    assert caught.value.uri == blob.uri
    assert not is_there(target)


async def test_room_is_asked_for_before_anything_is_fetched(
    blobs: Blobs, blob: Blob, tmp_path: Path
) -> None:
    asked = attrs.evolve(blob, location=Location(blob.location.bucket, "not there"))
    with longest_file(50_000):
        await _expect_fault(blobs, asked, tmp_path / "a", "File too large")


@pytest.mark.parametrize("said", [errno.EOPNOTSUPP, errno.EINVAL])
async def test_a_disk_that_cannot_keep_room_fills_up_later(
    blobs: Blobs, blob: Blob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(said, os.strerror(said))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with longest_file(blob.size - 50_000):
        await _expect_fault(blobs, blob, tmp_path / "a", "File too large")
    await blobs.download(blob, tmp_path / "a", _ignore)  # that it cannot keep room is no fault
    assert (tmp_path / "a").read_bytes() == _content(blob.size)


async def test_a_disk_without_room(
    blobs: Blobs, blob: Blob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", fail)
        await _expect_fault(blobs, blob, tmp_path / "a", "No space left")


async def test_a_disk_that_fails_in_the_middle(
    blobs: Blobs, blob: Blob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, write = os.pwrite, os.write
    target, hits = tmp_path / "a", []

    def is_ours(descriptor: int) -> bool:
        if os.path.samestat(os.fstat(descriptor), target.stat()):
            hits.append(descriptor)
        return len(hits) > blob.size // PIECE_BYTES

    def failing_pwrite(descriptor: int, data: memoryview, at: int) -> int:
        if is_ours(descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pwrite(descriptor, data[:70_000], at)  # part of it: that is allowed

    def failing_write(descriptor: int, data: memoryview) -> int:
        if is_ours(descriptor):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", failing_pwrite)
        patched.setattr(os, "write", failing_write)
        await _expect_fault(blobs, blob, target, "Input/output error")


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_cannot_be_read(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "a").write_bytes(_content(size))
    pread = os.pread
    at = Location(blobs.bucket, "one.bin")
    with (tmp_path / "a").open("rb") as file, monkeypatch.context() as patched:

        def failing_pread(descriptor: int, length: int, start: int) -> bytes:
            if descriptor == file.fileno() and start + length > size - 10:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return pread(descriptor, length, start)

        patched.setattr(os, "pread", failing_pread)
        with pytest.raises(DiskFault, match="Input/output error") as caught:
            await blobs.upload(file.fileno(), at, _ignore)
    assert caught.value.uri == at.uri
    assert list(await blobs.list(at)) == []
    assert list(await blobs.unfinished(at)) == []


async def test_folders_of_blobs_may_be_nested_very_deeply(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    key = "/".join(["d"] * 500)
    async with open_folder(tmp_path / "kept") as blobs:
        at = Location(blobs.bucket, f"{key}/one.bin")
        with (tmp_path / "a").open("rb") as file:
            await blobs.upload(file.fileno(), at, _ignore)
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(250)
        try:
            assert [it.location for it in await blobs.list(Location(blobs.bucket, ""))] == [at]
            assert await blobs.delete(Location(blobs.bucket, "d/")) == 1
        finally:
            sys.setrecursionlimit(limit)
    assert not (tmp_path / "kept" / blobs.bucket / "d").exists()


DIES = """
import os, sys, trio
from pathlib import Path
from avtomatika_trio.blobs import Location, _digest, open_folder

def stop(self, data):  # in the middle of the copy
    print("up", flush=True)
    sys.stdin.read()  # until it is killed

async def main():
    _digest.Digest.update = stop
    async with open_folder(Path(sys.argv[1])) as blobs:
        descriptor = os.open(sys.argv[2], os.O_RDONLY)
        await blobs.upload(descriptor, Location(blobs.bucket, "a"), lambda _: None)

trio.run(main)
"""


async def test_what_a_killed_process_had_half_written_goes_and_what_a_living_one_has_stays(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").write_bytes(_content(100_000))
    kept = tmp_path / "kept"
    command = [sys.executable, "-c", DIES, str(kept), str(tmp_path / "a")]
    child = await trio.to_thread.run_sync(
        partial(subprocess.Popen, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    )
    try:
        assert child.stdout is not None
        await trio.to_thread.run_sync(child.stdout.readline)
        (half,) = (kept / ".unfinished").iterdir()
        os.utime(half, (1, 1))  # long ago
        async with open_folder(kept) as blobs:
            everything = Location(blobs.bucket, "")
            assert await blobs.unfinished(everything) == ()
            assert half.exists()
            child.kill()
            child.wait()
            await blobs.unfinished(everything)
            assert not half.exists()
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


async def test_what_is_whole_is_not_taken_for_left_over_before_it_has_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    move = _folder._move

    def late(temporary: Path, target: Path) -> None:
        os.utime(temporary, (1, 1))  # its fsync took long
        _folder._forget_dead(temporary.parent)
        move(temporary, target)

    monkeypatch.setattr(_folder, "_move", late)
    async with open_folder(tmp_path / "kept") as blobs:
        at = Location(blobs.bucket, "one.bin")
        with (tmp_path / "a").open("rb") as file:
            await blobs.upload(file.fileno(), at, _ignore)
        assert (await blobs.head(at)).size == 1


async def test_a_path_that_is_too_long_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["x" * 200] * 19)
    async with open_folder(folder) as blobs:
        with pytest.raises(BlobRefused, match="too long"):
            await blobs.head(Location(blobs.bucket, "y" * 200))


async def test_a_folder_of_blobs_that_is_full(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(_content(100_000))
    async with open_folder(tmp_path / "kept") as blobs:
        at = Location(blobs.bucket, "one.bin")
        with (
            (tmp_path / "a").open("rb") as file,
            longest_file(50_000),
            pytest.raises(DiskFault, match="File too large"),
        ):
            await blobs.upload(file.fileno(), at, _ignore)
        assert list(await blobs.list(at)) == []
    assert [path for path in (tmp_path / "kept").rglob("*") if path.is_file()] == []
