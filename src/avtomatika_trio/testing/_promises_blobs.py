"""What every place for blobs keeps."""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import httpx
import pytest
import trio

from avtomatika_trio.blobs._base import Blob, Blobs, Location
from avtomatika_trio.blobs._download import PIECE_BYTES
from avtomatika_trio.blobs._upload import PART_BYTES
from avtomatika_trio.errors import (
    BlobChanged,
    BlobMismatch,
    BlobMissing,
    BlobRefused,
    DiskFault,
)

#: Several parts of an upload and several pieces of a download, and something over.
_LARGE = 2 * PIECE_BYTES + PART_BYTES + 12_345

_SIZES = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, PIECE_BYTES, PIECE_BYTES + 1, _LARGE]

_KEYS = [
    "a b/ c .txt",
    "фильмы/дождь 雨 🌧.mp4",
    "1+1=2&x=y?z#w;v",
    "100%/%41%2Fb",
    'it\'s "quoted" <tag> & [more] {x} ~ ^ ` |',
    "..a/b..",
    "x" * 200,
    "/".join(["part" * 12] * 20),
]


def _content(size: int, seed: int = 0) -> bytes:
    """Bytes that differ everywhere, so that no two parts could be exchanged unnoticed."""
    block = hashlib.shake_256(seed.to_bytes(4, "big")).digest(min(size, 1_000_003))
    return (block * (size // max(len(block), 1) + 1))[:size]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _ignore(_: int) -> None:
    pass


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _put(blobs: Blobs, folder: Path, key: str, data: bytes) -> Blob:
    source = folder / f"source-{hashlib.sha256(key.encode()).hexdigest()}"
    source.write_bytes(data)
    try:
        with _opened(source) as descriptor:
            return await blobs.upload(descriptor, Location(blobs.bucket, key), _ignore)
    finally:
        source.unlink()


async def _get(blobs: Blobs, folder: Path, blob: Blob) -> bytes:
    target = folder / "fetched"
    sha256 = await blobs.download(blob, target, _ignore)
    data = target.read_bytes()
    target.unlink()
    assert sha256 == _sha256(data)
    return data


def _busy_threads() -> set[str]:
    """Those of Trio that have work; it keeps others, of another name, for later."""
    return {it.name for it in threading.enumerate() if not it.name.startswith("Trio thread ")}


def _keys(found: Iterable[Blob]) -> list[str]:
    return [blob.location.key for blob in found]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class _WithFiles:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        """A folder for files of the test."""
        made = tmp_path / "files"
        made.mkdir()
        return made


class BlobPromises(_WithFiles):
    """What goes up comes down, and nothing else does."""

    @pytest.mark.parametrize("size", _SIZES)
    async def test_a_file_comes_back_as_it_was(self, blobs: Blobs, files: Path, size: int) -> None:
        data = _content(size)
        (files / "a").write_bytes(data)
        at, up, down = Location(blobs.bucket, "a/b.bin"), [0], [0]
        with _opened(files / "a") as descriptor:
            os.lseek(descriptor, 0, os.SEEK_END)  # where it stands does not matter
            put = await blobs.upload(descriptor, at, up.append)
        found = await blobs.head(at)
        assert (put.location, put.size, put.sha256) == (at, size, _sha256(data))
        assert (found.location, found.size, found.etag) == (at, size, put.etag)
        assert found.sha256 in {None, _sha256(data)}
        assert await blobs.download(found, files / "b", down.append) == _sha256(data)
        assert (files / "b").read_bytes() == data
        assert sum(up) == sum(down) == size
        (listed,) = await blobs.list(at)
        assert (listed.location, listed.size, listed.etag) == (at, size, put.etag)
        assert await _get(blobs, files, listed) == data
        assert await _get(blobs, files, put) == data

    @pytest.mark.parametrize("key", _KEYS)
    async def test_any_key_names_a_file(self, blobs: Blobs, files: Path, key: str) -> None:
        data = key.encode()
        put = await _put(blobs, files, key, data)
        assert put.location.key == key
        assert (await blobs.head(put.location)).etag == put.etag
        assert await _get(blobs, files, put) == data
        assert _keys(await blobs.list(Location(blobs.bucket, ""))) == [key]
        assert _keys(await blobs.list(put.location)) == [key]
        assert await blobs.delete(put.location) == 1
        with pytest.raises(BlobMissing):
            await blobs.head(put.location)

    async def test_a_new_content_replaces_the_old(self, blobs: Blobs, files: Path) -> None:
        contents = [_content(10, 1), _content(10, 2), _content(PART_BYTES + 1, 3), b""]
        etags = set()
        for data in contents:
            put = await _put(blobs, files, "one", data)
            found = await blobs.head(put.location)
            assert found.etag == put.etag
            assert await _get(blobs, files, found) == data
            etags.add(put.etag)
        assert len(etags) == len(contents)
        assert _keys(await blobs.list(Location(blobs.bucket, ""))) == ["one"]

    async def test_two_who_write_leave_one_whole_content(self, blobs: Blobs, files: Path) -> None:
        contents = [_content(PART_BYTES * 2 + 5, seed) for seed in range(3)]
        async with trio.open_nursery() as nursery:
            for at, data in enumerate(contents):
                folder = files / str(at)
                folder.mkdir()
                nursery.start_soon(_put, blobs, folder, "one", data)
        (found,) = await blobs.list(Location(blobs.bucket, ""))
        assert await _get(blobs, files, found) in contents
        assert list(await blobs.unfinished(Location(blobs.bucket, ""))) == []

    async def test_what_is_not_there_is_missing(self, blobs: Blobs, files: Path) -> None:
        put = await _put(blobs, files, "a/b", b"x")
        for at in (
            Location(blobs.bucket, "a/c"),
            Location(blobs.bucket, "a"),
            Location(blobs.bucket, "c/d"),
            Location("no-such-bucket", "a/b"),
        ):
            with pytest.raises(BlobMissing) as caught:
                await blobs.head(at)
            assert caught.value.uri == at.uri
            with pytest.raises((BlobMissing, BlobChanged)):  # "a" is something, for some
                await blobs.download(attrs.evolve(put, location=at), files / "f", _ignore)
        assert list(await blobs.list(Location(blobs.bucket, "b"))) == []
        assert _names(files) == []

    async def test_a_listing_is_of_one_prefix_in_order(self, blobs: Blobs, files: Path) -> None:
        keys = ["a/x", "a/B", "a/y/z", "ab/x", "a.txt", "a/é", "b", "a/a-b", "a/a/b"]
        for key in keys:
            await _put(blobs, files, key, key.encode())
        under = partial(Location, blobs.bucket)
        in_a = sorted((key for key in keys if key.startswith("a/")), key=str.encode)
        assert _keys(await blobs.list(under("a/"))) == in_a
        assert _keys(await blobs.list(under("a/y/"))) == ["a/y/z"]
        assert _keys(await blobs.list(under("a/x"))) == ["a/x"]
        assert _keys(await blobs.list(under("ab/"))) == ["ab/x"]
        assert _keys(await blobs.list(under("c/"))) == []
        assert _keys(await blobs.list(under("a"))) == sorted(keys[:6] + keys[7:], key=str.encode)
        assert _keys(await blobs.list(under(""))) == sorted(keys, key=str.encode)
        for blob in await blobs.list(under("")):
            assert blob.size == len(blob.location.key.encode())

    async def test_a_listing_that_is_too_long_is_refused(self, blobs: Blobs, files: Path) -> None:
        for at in range(4):
            await _put(blobs, files, f"a/{at}", b"")
        under = Location(blobs.bucket, "a/")
        assert len(await blobs.list(under, most=4)) == 4
        with pytest.raises(BlobRefused, match="more than 3"):
            await blobs.list(under, most=3)

    async def test_thousands_of_files_are_listed_and_deleted(
        self, blobs: Blobs, files: Path
    ) -> None:
        count = 1_003  # what S3 tells in one answer is a thousand
        (files / "a").write_bytes(b"x")
        with _opened(files / "a") as descriptor:
            names = iter(range(count))

            async def put_some() -> None:
                for at in names:
                    await blobs.upload(descriptor, Location(blobs.bucket, f"a/{at:04}"), _ignore)

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(put_some)
        keys = [f"a/{at:04}" for at in range(count)]
        assert _keys(await blobs.list(Location(blobs.bucket, "a/"))) == keys
        assert await blobs.delete(Location(blobs.bucket, "a/")) == count
        assert list(await blobs.list(Location(blobs.bucket, ""))) == []

    async def test_one_or_a_folder_is_deleted(self, blobs: Blobs, files: Path) -> None:
        for key in ("a/x", "a/y/z", "ab", "b"):
            await _put(blobs, files, key, b"x")
        under = partial(Location, blobs.bucket)
        assert await blobs.delete(under("b")) == 1
        assert _keys(await blobs.list(under(""))) == ["a/x", "a/y/z", "ab"]
        await blobs.delete(under("b"))  # not there: no error
        await blobs.delete(under("b/c"))
        await blobs.delete(under("ab/c"))  # below a file
        assert await blobs.delete(under("c/")) == 0
        assert await blobs.delete(under("ab/")) == 0
        assert _keys(await blobs.list(under(""))) == ["a/x", "a/y/z", "ab"]
        assert await blobs.delete(under("a/")) == 2
        assert _keys(await blobs.list(under(""))) == ["ab"]
        await _put(blobs, files, "a/x", b"again")
        assert await blobs.delete(under("")) == 2
        assert _keys(await blobs.list(under(""))) == []

    async def test_urls_work_for_anybody(self, blobs: Blobs, files: Path) -> None:
        at = Location(blobs.bucket, "a b/é+%.txt")
        put_url = await blobs.presigned(at, method="PUT", seconds=60)
        get_url = await blobs.presigned(at, method="GET", seconds=60)
        assert (put_url is None) == (get_url is None)
        if put_url is None or get_url is None:
            return
        async with httpx.AsyncClient() as client:
            (await client.put(put_url, content=b"by url")).raise_for_status()
            assert (await client.get(get_url)).content == b"by url"
            assert (await client.put(get_url, content=b"not so")).status_code == 403
        assert await _get(blobs, files, await blobs.head(at)) == b"by url"


class BlobFailurePromises(_WithFiles):
    """Whatever goes wrong, it is told for what it is, and nothing is left behind."""

    async def test_a_file_that_exists_is_not_written_to(self, blobs: Blobs, files: Path) -> None:
        put = await _put(blobs, files, "one", b"new")
        (files / "mine").write_bytes(b"mine")
        (files / "link").symlink_to(files / "nowhere")
        for name in ("mine", "link"):
            with pytest.raises(DiskFault) as caught:
                await blobs.download(put, files / name, _ignore)
            assert caught.value.uri == put.uri
        assert (files / "mine").read_bytes() == b"mine"
        assert (files / "link").is_symlink()
        assert not (files / "nowhere").exists()

    async def test_a_folder_that_cannot_be_written_to(self, blobs: Blobs, files: Path) -> None:
        put = await _put(blobs, files, "one", b"new")
        (files / "file").write_bytes(b"")
        for path in (files / "none" / "x", files / "file" / "x", Path("/proc/x")):
            with pytest.raises(DiskFault):
                await blobs.download(put, path, _ignore)
        assert _names(files) == ["file"]

    @pytest.mark.parametrize("size", [10, PIECE_BYTES + 1])
    async def test_a_blob_that_was_changed(self, blobs: Blobs, files: Path, size: int) -> None:
        put = await _put(blobs, files, "one", _content(size, 1))
        found = await blobs.head(put.location)
        await _put(blobs, files, "one", _content(size, 2))
        for old in (put, found):
            with pytest.raises(BlobChanged) as caught:
                await blobs.download(old, files / "b", _ignore)
            assert caught.value.uri == put.uri
        await _put(blobs, files, "one", _content(size // 2, 2))
        with pytest.raises(BlobChanged):
            await blobs.download(found, files / "b", _ignore)
        await blobs.delete(put.location)
        with pytest.raises(BlobMissing):
            await blobs.download(found, files / "b", _ignore)
        assert _names(files) == []

    @pytest.mark.parametrize("size", [10, PIECE_BYTES + 1])
    @pytest.mark.parametrize(
        "checksum", [("sha256", "0" * 64), ("md5", "1" * 32), ("crc32", "2" * 8)]
    )
    async def test_content_that_does_not_fit_its_checksum(
        self, blobs: Blobs, files: Path, size: int, checksum: tuple[str, str]
    ) -> None:
        put = attrs.evolve(await _put(blobs, files, "one", _content(size)), checksum=checksum)
        with pytest.raises(BlobMismatch, match=checksum[1]) as caught:
            await blobs.download(put, files / "b", _ignore)
        assert caught.value.uri == put.uri
        assert _names(files) == []

    @pytest.mark.parametrize("size", [10, 2 * PART_BYTES])
    async def test_other_checksums_are_heeded(self, blobs: Blobs, files: Path, size: int) -> None:
        data = _content(size)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        put = await _put(blobs, files, "one", data)
        assert await _get(blobs, files, attrs.evolve(put, checksum=("md5", md5))) == data

    @pytest.mark.parametrize("size", [PART_BYTES, _LARGE])
    async def test_a_file_that_is_changed_while_it_is_uploaded(
        self, blobs: Blobs, files: Path, size: int
    ) -> None:
        (files / "a").write_bytes(_content(size))
        at, is_over = Location(blobs.bucket, "one"), threading.Event()
        with _opened(files / "a") as descriptor:

            def change() -> None:
                moment = 0
                while not is_over.is_set():
                    moment += 1
                    os.pwrite(descriptor, moment.to_bytes(8, "big"), size // 2)
                    os.utime(descriptor, ns=(moment, moment))

            thread = threading.Thread(target=change)
            thread.start()
            try:
                with pytest.raises(BlobChanged):
                    await blobs.upload(descriptor, at, _ignore)
            finally:
                is_over.set()
                thread.join()
        assert list(await blobs.unfinished(at)) == []

    async def test_a_cancelled_upload_leaves_nothing(self, blobs: Blobs, files: Path) -> None:
        data = _content(_LARGE)
        (files / "a").write_bytes(data)
        at, threads = Location(blobs.bucket, "one"), _busy_threads()
        with _opened(files / "a") as descriptor:
            for pause in (0.0, 0.001, 0.01, 0.03):
                with trio.move_on_after(pause) as scope:
                    await blobs.upload(descriptor, at, _ignore)
                assert _busy_threads() == threads
                assert list(await blobs.unfinished(at)) == []
                if not scope.cancelled_caught or await blobs.list(at):  # in the last moment
                    assert await _get(blobs, files, await blobs.head(at)) == data
                await blobs.delete(at)

    async def test_a_cancelled_download_leaves_nothing(self, blobs: Blobs, files: Path) -> None:
        put = await _put(blobs, files, "one", _content(_LARGE))
        threads = _busy_threads()
        for pause in (0.0, 0.001, 0.01, 0.03):
            with trio.move_on_after(pause) as scope:
                await blobs.download(put, files / "b", _ignore)
            assert _busy_threads() == threads
            assert (files / "b").exists() != scope.cancelled_caught
            (files / "b").unlink(missing_ok=True)
