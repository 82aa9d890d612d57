"""Files that params name become paths before the handler runs."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from tests.worker.file_cases import BUCKET, Desk, open_desk
from trio.testing import MockClock

from avtomatika_trio.blobs import Advance, Blob
from avtomatika_trio.blobs._folder import FolderBlobs
from avtomatika_trio.errors import (
    BlobChanged,
    BlobError,
    BlobMismatch,
    BlobMissing,
    BlobRefused,
    DiskFault,
    TransientError,
    UnsafePath,
)
from avtomatika_trio.worker._inputs import manifest_digest
from avtomatika_trio.worker._outcome import Outcome
from avtomatika_trio.worker._quota import DiskQuota


def uri(key: str, bucket: str = BUCKET) -> str:
    return f"s3://{bucket}/{key}"


async def test_uris_anywhere_become_paths_of_their_content(desk: Desk) -> None:
    for key in ("a.txt", "deep/b.txt", "c.txt"):
        await desk.put(key, key.encode())
    params = {
        "a": uri("a.txt"),
        "nested": {"list": [1, uri("deep/b.txt"), {"c": uri("c.txt")}]},
        "text": "see s3://nothing",
        "n": None,
    }
    before = repr(params)
    files = desk.attempt()
    async with files.open():
        got = await files.fetch(params, {})
        assert Path(got["a"]).read_text() == "a.txt"
        assert Path(got["nested"]["list"][1]).read_text() == "deep/b.txt"
        assert Path(got["nested"]["list"][2]["c"]).read_text() == "c.txt"
        assert (got["text"], got["n"], got["nested"]["list"][0]) == ("see s3://nothing", None, 1)
        assert repr(params) == before
        assert all(str(got["a"]).startswith(str(it)) for it in (files.root, desk.places.folder))
    assert not files.root.exists()


async def test_names_never_collide(desk: Desk) -> None:
    keys = ["x/out.bin", "y/out.bin", "z/OUT.bin", "2-out.bin", "w/out.bin"]
    for key in keys:
        await desk.put(key, key.encode())
    files = desk.attempt()
    async with files.open():
        got = await files.fetch({"all": [uri(key) for key in keys]}, {})
        assert [Path(it).read_bytes() for it in got["all"]] == [key.encode() for key in keys]
        assert Path(got["all"][0]).name == "out.bin"
        assert len({it.casefold() for it in got["all"]}) == len(keys)


@pytest.mark.parametrize("length", [253, 254, 255])
async def test_long_names_never_collide_either(desk: Desk, length: int) -> None:
    name = "x" * (length - 4) + ".bin"
    keys = [f"{number}/{name}" for number in range(12)]
    for key in keys:
        await desk.put(key, key.encode())
    files = desk.attempt()
    async with files.open():
        got = await files.fetch({"all": [uri(key) for key in keys]}, {})
        assert [Path(it).read_bytes() for it in got["all"]] == [key.encode() for key in keys]
        assert all(it.endswith(".bin") for it in got["all"])


async def test_a_whole_bucket_is_a_folder(desk: Desk) -> None:
    await desk.put("a", b"a")
    files = desk.attempt()
    async with files.open():
        got = await files.fetch({"x": f"s3://{BUCKET}", "y": f"s3://{BUCKET}/"}, {})
        assert Path(got["x"], "a").read_bytes() == Path(got["y"], "a").read_bytes() == b"a"


async def test_one_uri_twice_is_one_file(desk: Desk) -> None:
    await desk.put("a", b"a")
    files = desk.attempt()
    async with files.open():
        got = await files.fetch({"a": uri("a"), "again": [uri("a")]}, {})
        assert got["again"] == [got["a"]]


async def test_a_prefix_becomes_a_folder(desk: Desk) -> None:
    for key in ("set/1.txt", "set/sub/2.txt", "set/sub/deeper/3.txt", "settle/no.txt"):
        await desk.put(key, key.encode())
    files = desk.attempt()
    async with files.open():
        got = await files.fetch({"set": uri("set/")}, {})
        folder = Path(got["set"])
        assert folder.name == "set"
        found = {it.relative_to(folder).as_posix() for it in folder.rglob("*") if it.is_file()}
        assert found == {"1.txt", "sub/2.txt", "sub/deeper/3.txt"}
        assert (folder / "sub/2.txt").read_text() == "set/sub/2.txt"


@pytest.mark.parametrize(
    ("key", "kind", "said"),
    [
        ("nothing.bin", BlobMissing, "there is no such file"),
        ("nothing/", BlobMissing, "there is no file in it"),
        ("", BlobMissing, "there is no file in it"),
        ("a/../../../etc/passwd", BlobRefused, "'..'"),
        ("../../../../etc/ssl/", BlobRefused, "'..'"),
        ("/etc/", BlobRefused, "''"),
        ("a\0/", BlobRefused, "a\\x00"),
        ("k" * 1025, BlobRefused, "S3 allows 1024"),
    ],
)
async def test_what_cannot_be_had_is_told_with_its_uri(
    desk: Desk, key: str, kind: type[BlobError], said: str
) -> None:
    files = desk.attempt()
    async with files.open():
        with pytest.raises(kind) as caught:
            await files.fetch({"x": uri(key)}, {})
        assert caught.value.uri == uri(key)
        assert said in str(caught.value)
        assert not any(files.root.iterdir())


@pytest.mark.parametrize("text", ["s3://", "s3:///key", "s3://a b/key", "s3://../key"])
async def test_what_is_no_uri_is_refused(desk: Desk, text: str) -> None:
    files = desk.attempt()
    async with files.open():
        with pytest.raises((BlobRefused, UnsafePath)):
            await files.fetch({"x": text}, {})


async def test_only_allowed_buckets_are_read(tmp_path: Path) -> None:
    async with open_desk(tmp_path, s3_allowed_buckets=("inputs",)) as desk:
        await desk.put("a", b"allowed", bucket="inputs")
        await desk.put("a", b"secret", bucket="payroll")
        files = desk.attempt()
        async with files.open():
            got = await files.fetch({"x": uri("a", "inputs")}, {})
            assert Path(got["x"]).read_bytes() == b"allowed"
            with pytest.raises(UnsafePath) as caught:
                await files.fetch({"x": uri("a", "payroll")}, {})
            assert "s3://payroll/a" in str(caught.value)
            assert "S3_ALLOWED_BUCKETS" in str(caught.value)
            assert caught.value.code == "SECURITY_ERROR"


async def test_one_that_is_missing_leaves_none_of_the_others(desk: Desk) -> None:
    for number in range(20):
        await desk.put(f"many/{number}", os.urandom(1000))
    files = desk.attempt()
    async with files.open():
        with pytest.raises(BlobMissing):
            await files.fetch({"all": [uri("many/"), uri("nothing")]}, {})
        assert not any(files.root.iterdir())


def known(place: str, **entry: Any) -> dict[str, Any]:
    return {place: entry}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"size": 6}, "its size is 7, not 6"),
        ({"etag": '"0123"'}, "its etag is"),
        ({"sha256": "0" * 64}, "its sha256 is"),
        ({"metadata": {"sha256": "0" * 64}}, "its sha256 is"),
    ],
)
async def test_a_file_that_is_not_what_was_told_is_a_mismatch(
    desk: Desk, entry: dict[str, Any], said: str
) -> None:
    await desk.put("a", b"content")
    files = desk.attempt()
    async with files.open():
        with pytest.raises(BlobMismatch) as caught:
            await files.fetch({"x": uri("a")}, known("x", uri=uri("a"), **entry))
        assert said in str(caught.value)
        assert not any(files.root.iterdir())


async def test_a_file_that_is_what_was_told_is_taken(desk: Desk) -> None:
    blob = await desk.put("a", b"content")
    sha256 = hashlib.sha256(b"content").hexdigest()
    files = desk.attempt()
    async with files.open():
        entry = {"uri": uri("a"), "size": 7, "etag": f'"{blob.etag}"', "sha256": sha256}
        got = await files.fetch({"x": uri("a")}, {"x": entry, "y": "nonsense", "z": {"size": 1}})
        assert Path(got["x"]).read_bytes() == b"content"


@pytest.mark.parametrize("entry", [{"size": 0, "etag": ""}, {"sha256": "0" * 63}, {"sha256": 1}])
async def test_what_is_told_to_be_unknown_is_not_compared(
    desk: Desk, entry: dict[str, Any]
) -> None:
    await desk.put("a", b"content")
    files = desk.attempt()
    async with files.open():
        got = await files.fetch({"x": uri("a")}, known("x", uri=uri("a"), **entry))
        assert Path(got["x"]).read_bytes() == b"content"


@pytest.mark.parametrize("cache", [None, "cache"])
@pytest.mark.parametrize(
    ("kinds", "calls"),
    [([BlobMismatch], 2), ([BlobMismatch, BlobMismatch], 2), ([BlobChanged], 1)],
)
async def test_what_was_spoilt_on_its_way_is_fetched_once_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: str | None,
    kinds: list[type[BlobError]],
    calls: int,
) -> None:
    real, targets = FolderBlobs.download, list[Path]()

    async def download(self: FolderBlobs, blob: Blob, path: Path, advance: Advance) -> str:
        targets.append(path)
        if len(targets) <= len(kinds):
            raise kinds[len(targets) - 1](blob.uri, "spoilt")
        return await real(self, blob, path, advance)

    async with open_desk(tmp_path, blob_cache_dir=cache and tmp_path / cache) as desk:
        await desk.put("a", b"content")
        monkeypatch.setattr(FolderBlobs, "download", download)
        files = desk.attempt()
        async with files.open():
            if len(kinds) < calls:
                got = await files.fetch({"x": uri("a")}, {})
                assert Path(got["x"]).read_bytes() == b"content"
                assert targets[1] == Path(got["x"])  # past the cache
            else:
                with pytest.raises(kinds[0]):
                    await files.fetch({"x": uri("a")}, {})
    assert len(targets) == calls


def test_the_digest_of_a_folder_is_that_of_the_lines_of_sha256sum() -> None:
    one, two = "1" * 64, "2" * 64
    lines = f"{two}  a/c\n{one}  b\n".encode()
    assert manifest_digest({"b": one, "a/c": two}) == hashlib.sha256(lines).hexdigest()


async def test_a_folder_that_has_changed_is_a_mismatch(desk: Desk) -> None:
    writer = desk.attempt("t0")
    async with writer.open():
        await writer.make()
        (writer.root / "set").mkdir()
        (writer.root / "set" / "a").write_bytes(b"a")
        (writer.root / "set" / "b").write_bytes(b"b")
        told = await outcome_metadata(writer, {"set": str(writer.root / "set")})
    params = {"set": told["set"]["uri"]}
    reader = desk.attempt("t1")
    async with reader.open():
        got = await reader.fetch(params, told)
        assert sorted(it.name for it in Path(got["set"]).iterdir()) == ["a", "b"]
    await desk.put("jobs/j1/t0/set/b", b"B")
    late = desk.attempt("t2")
    async with late.open():
        with pytest.raises(BlobMismatch) as caught:
            await late.fetch(params, told)
        assert caught.value.uri == told["set"]["uri"]


async def outcome_metadata(files: Any, data: Any) -> dict[str, Any]:
    outcome = await files.deliver(Outcome(data=data))
    told: dict[str, Any] = outcome.passed_on["data_metadata"]
    return told


async def test_inputs_beyond_the_room_of_the_worker_are_refused_before_any_is_fetched(
    tmp_path: Path,
) -> None:
    async with open_desk(tmp_path, payload_max_bytes=1000) as desk:
        await desk.put("a", bytes(600))
        await desk.put("b", bytes(600))
        files = desk.attempt()
        async with files.open():
            with pytest.raises(DiskFault) as caught:
                await files.fetch({"a": uri("a"), "b": uri("b")}, {})
            assert "1200 bytes; this worker has room for 1000" in str(caught.value)
            assert not any(files.root.iterdir())


async def test_inputs_wait_for_room_that_others_have(tmp_path: Path) -> None:
    async with open_desk(tmp_path, payload_max_bytes=1000) as desk:
        await desk.put("a", bytes(600))
        first, second = desk.attempt("t1"), desk.attempt("t2")
        fetched = trio.Event()

        async def fetch_second() -> None:
            async with second.open():
                await second.fetch({"a": uri("a")}, {})
                assert not first.root.exists()
                fetched.set()

        async with trio.open_nursery() as nursery:
            async with first.open():
                await first.fetch({"a": uri("a")}, {})
                nursery.start_soon(fetch_second)
                await trio.testing.wait_all_tasks_blocked()
                assert not fetched.is_set()
            await fetched.wait()


async def test_who_has_room_does_not_wait_for_more(tmp_path: Path) -> None:
    async with open_desk(tmp_path, payload_max_bytes=1000) as desk:
        await desk.put("a", bytes(600))
        await desk.put("b", bytes(300))
        files = desk.attempt()
        async with files.open():
            await files.fetch({"a": uri("a")}, {})
            with pytest.raises(DiskFault, match="no room for 600 more bytes now"):
                await files.fetch_one(uri("a"), files.root / "again")
            await files.fetch_one(uri("b"), files.root / "b")
        other = desk.attempt("t2")
        async with other.open():
            await other.fetch({"all": [uri("a"), uri("b")]}, {})  # all was given back


async def test_the_folder_and_the_room_go_with_a_cancelled_attempt(tmp_path: Path) -> None:
    async with open_desk(tmp_path, payload_max_bytes=1000) as desk:
        await desk.put("a", bytes(600))
        for task_id in ("t1", "t2"):
            files = desk.attempt(task_id)
            with trio.fail_after(10), trio.CancelScope() as scope:
                async with files.open():
                    await files.fetch({"a": uri("a")}, {})
                    scope.cancel()
                    await trio.sleep_forever()
            assert not files.root.exists()


async def test_a_folder_that_a_thread_may_use_stays_until_the_worker_ends(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as desk:
        files = desk.attempt()
        async with files.open():
            await files.make()
            files.is_left = True
        assert files.root.exists()
    assert not files.root.exists()


async def test_nothing_is_transferred_for_an_attempt_that_is_over(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = trio.Event()

    async def stall(self: FolderBlobs, *args: object) -> None:
        begun.set()
        await trio.sleep_forever()

    monkeypatch.setattr(FolderBlobs, "head", stall)
    monkeypatch.setattr(FolderBlobs, "upload", stall)
    files = desk.attempt()

    async def fetch() -> None:
        with pytest.raises(TransientError, match="the attempt is over"):
            await files.fetch_one(uri("a"), files.root / "a")

    with trio.fail_after(10):
        async with files.open():
            await files.make()
            (files.root / "out").write_text("x")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch)
                await begun.wait()
                files.end_transfers()
            await fetch()
            with pytest.raises(TransientError, match="the attempt is over"):
                await files.upload(files.root / "out")


async def test_downloads_of_one_attempt_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with open_desk(tmp_path, payload_max_bytes=1000) as desk:
        await desk.put("a", bytes(600))
        first, second, third = (desk.attempt(f"t{number}") for number in (1, 2, 3))
        failed: list[DiskFault] = []

        async def fetch(name: str) -> None:
            try:
                await second.fetch_one(uri("a"), second.root / name)
            except DiskFault as exc:
                failed.append(exc)

        has_room, ends = trio.Event(), trio.Event()

        async def hold() -> None:
            async with first.open():
                await first.fetch({"a": uri("a")}, {})
                has_room.set()
                await ends.wait()

        async def want() -> None:
            async with second.open(), trio.open_nursery() as downloads:
                await second.make()
                for name in ("x", "y"):
                    downloads.start_soon(fetch, name)

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hold)
                await has_room.wait()
                nursery.start_soon(want)
                await trio.testing.wait_all_tasks_blocked(0.1)
                ends.set()
            async with third.open():
                await third.fetch({"a": uri("a")}, {})
        assert len(failed) == 1


async def test_who_wants_much_room_is_not_passed_by(autojump_clock: MockClock) -> None:
    quota, order, begun = DiskQuota(10), [], trio.current_time()

    async def want(size: int, name: str) -> None:
        await quota.take("s3://b/k", size)
        order.append((name, round(trio.current_time() - begun)))
        await trio.sleep(1)
        quota.give_back(size)

    async with trio.open_nursery() as nursery:
        for size, name in ((6, "first"), (10, "much"), (2, "little"), (1, "less")):
            nursery.start_soon(want, size, name)
            await trio.testing.wait_all_tasks_blocked()
    assert order == [("first", 0), ("much", 1), ("little", 2), ("less", 2)]


async def test_progress_tells_the_bytes(desk: Desk) -> None:
    await desk.put("a", bytes(3 * 1024**2))
    await desk.put("b", bytes(1024**2))
    files = desk.attempt()
    async with files.open():
        await files.fetch({"a": uri("a"), "b": uri("b")}, {})
    assert desk.told[-1] == (1.0, "downloading: 4.0 MiB of 4.0 MiB")
    assert [share for share, _ in desk.told] == sorted(share for share, _ in desk.told)


async def test_without_a_place_for_files_uris_are_left_as_they_are(tmp_path: Path) -> None:
    async with open_desk(tmp_path, files_dir=None) as desk:
        files = desk.attempt()
        async with files.open():
            params = {"x": uri("a")}
            assert await files.fetch(params, {}) is params
