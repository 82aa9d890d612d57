"""The cache of blobs: fetched once, never spoilt by a handler, never larger than it may be."""

import fcntl
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio
from tests.worker.file_cases import Desk, open_desk

from avtomatika_trio.blobs import Advance, Blob, Location
from avtomatika_trio.blobs._line import check_line
from avtomatika_trio.errors import BlobMismatch, BlobUnavailable, ConfigError
from avtomatika_trio.worker import _blob_cache
from avtomatika_trio.worker._blob_cache import BlobCache

SIZE = 300_000


class Counting:
    """A place for blobs whose content is known, and which counts what is asked of it."""

    bucket = "b"

    def __init__(self) -> None:
        self.downloads: list[str] = []
        self.gate: trio.Event | None = None
        self.fails = 0

    async def download(self, blob: Blob, path: Path, advance: Advance) -> str:
        self.downloads.append(blob.location.key)
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise BlobUnavailable(blob.uri, "not now")
        path.write_bytes(content_of(blob))
        advance(blob.size)
        return hashlib.sha256(content_of(blob)).hexdigest()


def content_of(blob: Blob) -> bytes:
    return (blob.etag * blob.size).encode()[: blob.size]


def a_blob(key: str = "k", etag: str = "e", size: int = SIZE) -> Blob:
    return Blob(location=Location("b", key), size=size, etag=etag)


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache.open(tmp_path / "cache", 3 * SIZE)


async def fetch(cache: BlobCache, blobs: Counting, blob: Blob, path: Path) -> None:
    await cache.fetch(blobs, blob, path, lambda _: None)  # type: ignore[arg-type]
    assert path.read_bytes() == content_of(blob)


async def test_a_blob_is_fetched_once(cache: BlobCache, tmp_path: Path) -> None:
    blobs = Counting()
    for number in range(3):
        await fetch(cache, blobs, a_blob(), tmp_path / str(number))
    assert blobs.downloads == ["k"]


async def test_two_that_want_it_at_the_same_time_fetch_it_once(
    cache: BlobCache, tmp_path: Path
) -> None:
    blobs = Counting()
    blobs.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(fetch, cache, blobs, a_blob(), tmp_path / str(number))
        await trio.testing.wait_all_tasks_blocked()
        blobs.gate.set()
    assert blobs.downloads == ["k"]


async def test_who_waits_goes_on_if_the_one_that_fetches_is_cancelled_or_fails(
    cache: BlobCache, tmp_path: Path
) -> None:
    blobs = Counting()
    blobs.gate = trio.Event()
    first = trio.CancelScope()

    async def fetch_first() -> None:
        with first:
            await fetch(cache, blobs, a_blob(), tmp_path / "first")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch_first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(fetch, cache, blobs, a_blob(), tmp_path / "second")
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert blobs.downloads == ["k", "k"]
        blobs.gate.set()
    blobs.fails = 1
    with pytest.raises(BlobUnavailable):
        await fetch(cache, blobs, a_blob("other"), tmp_path / "third")
    await fetch(cache, blobs, a_blob("other"), tmp_path / "fourth")


async def test_another_etag_is_another_blob(cache: BlobCache, tmp_path: Path) -> None:
    blobs = Counting()
    await fetch(cache, blobs, a_blob(etag="1"), tmp_path / "1")
    await fetch(cache, blobs, a_blob(etag="2"), tmp_path / "2")
    assert len(blobs.downloads) == 2


async def test_a_handler_that_writes_to_its_input_spoils_nothing(
    cache: BlobCache, tmp_path: Path
) -> None:
    blobs = Counting()
    await fetch(cache, blobs, a_blob(), tmp_path / "1")
    with (tmp_path / "1").open("r+b") as file:
        file.write(b"spoilt")
    await fetch(cache, blobs, a_blob(), tmp_path / "2")
    assert blobs.downloads == ["k"]


async def test_the_least_recently_used_goes_first(cache: BlobCache, tmp_path: Path) -> None:
    blobs = Counting()
    names = iter(range(100))

    async def use(key: str) -> None:
        await fetch(cache, blobs, a_blob(key), tmp_path / f"f{next(names)}")

    for key in ("a", "b", "c", "a", "d"):
        await use(key)
    assert blobs.downloads == ["a", "b", "c", "d"]
    await use("a")
    await use("b")  # went for d
    assert blobs.downloads == ["a", "b", "c", "d", "b"]
    kept = list((tmp_path / "cache").iterdir())
    assert sum(it.stat().st_size for it in kept) <= 3 * SIZE
    assert len(kept) == 3


async def test_what_is_larger_than_the_cache_passes_it_by(cache: BlobCache, tmp_path: Path) -> None:
    blobs = Counting()
    await fetch(cache, blobs, a_blob("a"), tmp_path / "a")
    await fetch(cache, blobs, a_blob("big", size=4 * SIZE), tmp_path / "big")
    assert [it.stat().st_size for it in (tmp_path / "cache").iterdir()] == [SIZE]


async def test_the_cache_outlives_the_process_and_keeps_to_a_smaller_bound(
    cache: BlobCache, tmp_path: Path
) -> None:
    blobs = Counting()
    for number, key in enumerate("abc"):
        await fetch(cache, blobs, a_blob(key), tmp_path / key)
        for path in (tmp_path / "cache").iterdir():
            if path.stat().st_mtime > 1000:
                os.utime(path, (number, number))
    (tmp_path / "cache" / "dead.part").write_bytes(b"half")
    again = BlobCache.open(tmp_path / "cache", SIZE)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    await fetch(again, blobs, a_blob("c"), tmp_path / "again")
    assert blobs.downloads == ["a", "b", "c"]


async def test_what_was_used_last_outlives_the_process(cache: BlobCache, tmp_path: Path) -> None:
    blobs = Counting()
    for number, key in enumerate("abc", start=1):
        await fetch(cache, blobs, a_blob(key), tmp_path / key)
        for path in (tmp_path / "cache").iterdir():
            if path.stat().st_mtime > 1000:
                os.utime(path, (number, number))
    await fetch(cache, blobs, a_blob("a"), tmp_path / "a again")
    (tmp_path / "cache" / "mine").write_text("of somebody else")
    again = BlobCache.open(tmp_path / "cache", SIZE)
    await fetch(again, blobs, a_blob("a"), tmp_path / "a once more")
    assert blobs.downloads == ["a", "b", "c"]
    assert (tmp_path / "cache" / "mine").exists()


async def test_an_entry_that_somebody_removed_is_fetched_again(
    cache: BlobCache, tmp_path: Path
) -> None:
    blobs = Counting()
    await fetch(cache, blobs, a_blob(), tmp_path / "1")
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    await fetch(cache, blobs, a_blob(), tmp_path / "2")
    assert blobs.downloads == ["k", "k"]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path, blob_cache_dir=tmp_path / "cache") as opened:
        yield opened


async def test_a_worker_with_a_cache_uses_it(desk: Desk, tmp_path: Path) -> None:
    blob = await desk.put("a", b"content")
    for task_id in ("t1", "t2"):
        attempt = desk.attempt(task_id)
        async with attempt.open():
            got = await attempt.fetch({"a": blob.uri}, {})
            assert Path(got["a"]).read_bytes() == b"content"
            Path(got["a"]).write_bytes(b"spoilt")
        assert desk.told.pop()[0] == 1.0
        desk.told.clear()
    assert len([it for it in (tmp_path / "cache").iterdir() if it.name != "lock"]) == 1


async def test_two_workers_do_not_share_a_cache(tmp_path: Path) -> None:
    async with open_desk(tmp_path, blob_cache_dir=tmp_path / "cache"):
        with pytest.raises(ConfigError, match="give a folder of its own"):
            async with open_desk(tmp_path / "other", blob_cache_dir=tmp_path / "cache"):
                pass


async def test_what_a_crash_has_spoilt_is_fetched_again(cache: BlobCache, tmp_path: Path) -> None:
    blobs = Counting()
    await fetch(cache, blobs, a_blob(), tmp_path / "1")
    (entry,) = (tmp_path / "cache").iterdir()
    entry.write_bytes(bytes(SIZE))  # of the right length: the disk never had the content
    again = BlobCache.open(tmp_path / "cache", 3 * SIZE)
    await fetch(again, blobs, a_blob(), tmp_path / "2")
    await fetch(again, blobs, a_blob(), tmp_path / "3")
    assert blobs.downloads == ["k", "k"]


async def test_an_entry_that_cannot_be_read_is_fetched_again(
    cache: BlobCache, tmp_path: Path
) -> None:
    blobs = Counting()
    await fetch(cache, blobs, a_blob(), tmp_path / "1")
    (entry,) = (tmp_path / "cache").iterdir()
    again = BlobCache.open(tmp_path / "cache", 3 * SIZE)
    entry.unlink()
    entry.symlink_to(tmp_path)  # a folder: reading it fails as a broken disk does
    await fetch(again, blobs, a_blob(), tmp_path / "2")
    assert blobs.downloads == ["k", "k"]


async def test_what_is_kept_is_held_to_what_was_told(cache: BlobCache, tmp_path: Path) -> None:
    blobs = Counting()
    await fetch(cache, blobs, a_blob(), tmp_path / "1")
    told = attrs.evolve(a_blob(), checksum=("sha256", "0" * 64))
    with pytest.raises(BlobMismatch):
        await cache.fetch(blobs, told, tmp_path / "2", lambda _: None)  # type: ignore[arg-type]
    assert not (tmp_path / "2").exists()


async def test_a_copy_ends_when_it_is_cancelled(
    cache: BlobCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, begun = Counting(), threading.Event()
    await fetch(cache, blobs, a_blob(), tmp_path / "1")

    def ioctl(*args: object) -> None:
        raise OSError  # no clones here

    def check_slowly() -> None:
        begun.set()
        threading.Event().wait(0.001)
        check_line()

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(_blob_cache, "check_line", check_slowly)
    monkeypatch.setattr(_blob_cache, "_BLOCK_BYTES", 1)  # five minutes for a whole one
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch, cache, blobs, a_blob(), tmp_path / "2")
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
    assert not (tmp_path / "2").exists()


async def test_what_is_kept_is_held_to_the_sha256_that_is_told(desk: Desk) -> None:
    blob = await desk.put("a", b"content")
    for task_id, told in (("t1", {}), ("t2", {"a": {"uri": blob.uri, "sha256": "0" * 64}})):
        attempt = desk.attempt(task_id)
        async with attempt.open():
            if not told:
                await attempt.fetch({"a": blob.uri}, told)
                continue
            with pytest.raises(BlobMismatch):
                await attempt.fetch({"a": blob.uri}, told)
            assert not any(attempt.root.iterdir())
