"""The small parts of it."""

import base64
import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from avtomatika_trio.blobs import Blob, Location, Patience, parse_uri
from avtomatika_trio.blobs._digest import Digest, checksum_in, crc32_of
from avtomatika_trio.blobs._line import call_in_thread, check_line, current_line
from avtomatika_trio.blobs._patience import Passing
from avtomatika_trio.blobs._upload import _Slice
from avtomatika_trio.errors import BlobDenied, BlobRefused, BlobUnavailable


@pytest.mark.parametrize(
    ("uri", "bucket", "key"),
    [
        ("s3://films/2026/a.mp4", "films", "2026/a.mp4"),
        ("s3://films/a b/é+%20?x=y#z", "films", "a b/é+%20?x=y#z"),
        ("s3://films/folder/", "films", "folder/"),
        ("s3://films/", "films", ""),
        ("s3://films", "films", ""),
        ("s3://films//a", "films", "/a"),
        ("s3://my.films_2-x/a", "my.films_2-x", "a"),
        (f"s3://films/{'x' * 1024}", "films", "x" * 1024),
        (f"s3://films/{'é' * 512}", "films", "é" * 512),
    ],
)
def test_a_uri_names_a_location(uri: str, bucket: str, key: str) -> None:
    assert parse_uri(uri) == Location(bucket, key)
    assert parse_uri(parse_uri(uri).uri) == Location(bucket, key)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "films/a",
        "/films/a",
        "s3:/films/a",
        "S3://films/a",
        "http://films/a",
        " s3://films/a",
        "s3://",
        "s3:///a",
        "s3://fi lms/a",
        "s3://films:x/a",
        "s3://me@films/a",
        "s3://films?x/a",
        f"s3://{'x' * 256}/a",
        f"s3://films/{'x' * 1025}",
        f"s3://films/{'é' * 513}",
        "s3://films/\udc80",
    ],
)
def test_what_is_no_uri_is_refused(uri: str) -> None:
    with pytest.raises(BlobRefused) as caught:
        parse_uri(uri)
    assert caught.value.uri == uri


@pytest.mark.parametrize(
    ("key", "is_folder", "name"),
    [
        ("", True, ""),
        ("a/", True, "a"),
        ("a/b", False, "b"),
        ("a", False, "a"),
        ("a/b/", True, "b"),
    ],
)
def test_a_location_is_of_a_file_or_a_folder(key: str, is_folder: bool, name: str) -> None:
    at = Location("films", "x").at(key)
    assert (at.bucket, at.key, at.is_folder, at.name) == ("films", key, is_folder, name)


def test_a_blob_tells_its_sha256_if_that_is_what_is_known() -> None:
    at = Location("films", "x")
    assert Blob(location=at, size=0, etag="e").sha256 is None
    assert Blob(location=at, size=0, etag="e", checksum=("md5", "0")).sha256 is None
    assert Blob(location=at, size=0, etag="e", checksum=("sha256", "0")).sha256 == "0"


SHA256 = hashlib.sha256(b"x").hexdigest()
SHA256_S3 = base64.b64encode(hashlib.sha256(b"x").digest()).decode()
SHA1_S3 = base64.b64encode(bytes(20)).decode()
CRC32_S3 = base64.b64encode(b"\0\0\1\2").decode()
MD5 = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({}, None),
        ({"Metadata": {"sha256": SHA256.upper()}, "ETag": MD5}, ("sha256", SHA256)),
        ({"Metadata": {"sha256": "short"}}, None),
        ({"ChecksumSHA256": SHA256_S3, "ChecksumCRC32": CRC32_S3}, ("sha256", SHA256)),
        ({"ChecksumSHA1": SHA1_S3}, ("sha1", "0" * 40)),
        ({"ChecksumCRC32": CRC32_S3, "ETag": f'"{MD5}"'}, ("crc32", "00000102")),
        ({"ChecksumSHA256": f"{SHA256_S3}-3"}, None),
        ({"ChecksumCRC32": f"{CRC32_S3}-3", "ETag": f'"{MD5}-3"'}, None),
        ({"ETag": f'"{MD5}"'}, ("md5", MD5)),
        ({"ETag": MD5.upper()}, ("md5", MD5)),
        ({"ETag": f'"{MD5}"', "ServerSideEncryption": "AES256"}, ("md5", MD5)),
        ({"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms"}, None),
        ({"ETag": f'"{MD5}"', "ServerSideEncryption": "aws:kms:dsse"}, None),
        ({"ETag": f'"{MD5}"', "SSECustomerAlgorithm": "AES256"}, None),
        ({"ETag": f'"{MD5[:-1]}g"'}, None),
        ({"ETag": f'"{MD5[:-1]}"'}, None),
    ],
)
def test_the_best_checksum_of_an_answer(
    answer: Mapping[str, Any], found: tuple[str, str] | None
) -> None:
    assert checksum_in(answer) == found


@pytest.mark.parametrize("name", [None, "sha256", "md5", "sha1", "crc32"])
def test_a_digest_knows_what_fits(name: str | None) -> None:
    data = os.urandom(100_000)
    values = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data).hexdigest(),
        "sha1": hashlib.sha1(data).hexdigest(),
        "crc32": f"{zlib.crc32(data):08x}",
    }
    digest = Digest(None if name is None else (name, values[name]))
    digest.update(data[:7])
    if name is not None:
        assert digest.mismatch is not None
        assert values[name] in digest.mismatch
    digest.update(data[7:])
    assert digest.mismatch is None
    assert digest.sha256 == values["sha256"]


def test_a_digest_reads_files(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    with (tmp_path / "a").open("wb+") as file:
        file.write(data)
        file.flush()
        digest = Digest()
        digest.read(file.fileno(), 5, 2_500_000)
        assert digest.sha256 == hashlib.sha256(data[5:2_500_000]).hexdigest()
        crc32 = zlib.crc32(data[5:2_500_000]).to_bytes(4, "big")
        assert crc32_of(file.fileno(), 5, 2_500_000) == base64.b64encode(crc32).decode()
        with pytest.raises(OSError, match="shorter"):
            digest.read(file.fileno(), 2_500_000, 3_000_001)


def test_a_slice_is_a_file_of_its_own(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb+") as file:
        file.write(b"0123456789")
        file.flush()
        one = _Slice(file.fileno(), 2, 8)
        assert (len(one), one.read(2), one.tell(), one.read(), one.read()) == (
            *(6, b"23", 2),
            *(b"4567", b""),
        )
        assert (one.seek(-2, os.SEEK_END), one.read(100)) == (4, b"67")
        assert (one.seek(1), one.seek(1, os.SEEK_CUR), one.read(None)) == (1, 2, b"4567")
        one.seek(0)
        file.truncate(5)
        assert one.read(6) == b"234"
        with pytest.raises(ConnectionAbortedError, match="shorter"):
            one.read(3)


class Calls:
    """What is called, and when; what it raises, until there is nothing left of that."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.times: list[float] = []
        self.mark = 0

    async def __call__(self) -> str:
        await trio.lowlevel.checkpoint()
        self.times.append(round(trio.current_time(), 6))
        if self.failures:
            raise self.failures.pop(0)
        return "done"

    @property
    def pauses(self) -> list[float]:
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]


async def persist(patience: Patience, calls: Calls) -> str:
    return await patience.persist("s3://a/b", calls, mark=lambda: calls.mark)


async def test_pauses_double_up_to_a_limit(autojump_clock: trio.testing.MockClock) -> None:
    calls = Calls(*[Passing()] * 9)
    assert await persist(Patience(seconds=120), calls) == "done"
    assert calls.pauses == [0.25, 0.5, 1, 2, 4, 8, 10, 10, 10]


async def test_noise_moves_the_pauses(autojump_clock: trio.testing.MockClock) -> None:
    noises = iter([-1.0, 0.5, 0.0])
    calls = Calls(*[Passing()] * 3)
    await persist(Patience(noise=lambda: next(noises)), calls)
    assert calls.pauses == pytest.approx([0.1875, 0.5625, 1.0])


async def test_patience_ends(autojump_clock: trio.testing.MockClock) -> None:
    calls = Calls(*[Passing("no luck")] * 99)
    with pytest.raises(BlobUnavailable, match="could not be used for 10 s: no luck") as caught:
        await persist(Patience(seconds=10), calls)
    assert caught.value.uri == "s3://a/b"
    assert calls.times[-1] - calls.times[0] <= 10
    assert calls.pauses == [0.25, 0.5, 1, 2, 4]


async def test_patience_begins_anew_when_something_moves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Moving(Calls):
        async def __call__(self) -> str:
            self.mark += len(self.times) < 20
            return await super().__call__()

    calls = Moving(*[Passing()] * 99)
    with pytest.raises(BlobUnavailable):
        await persist(Patience(seconds=2), calls)
    assert calls.pauses == [0.25] * 20 + [0.5, 1]


async def test_no_patience_asks_once(autojump_clock: trio.testing.MockClock) -> None:
    calls = Calls(Passing())
    with pytest.raises(BlobUnavailable):
        await persist(Patience(seconds=0), calls)
    assert len(calls.times) == 1


async def test_what_stays_is_raised_at_once(autojump_clock: trio.testing.MockClock) -> None:
    calls = Calls(Passing(), BlobDenied("s3://a/b", "so"))
    with pytest.raises(BlobDenied):
        await persist(Patience(), calls)
    assert len(calls.times) == 2


async def test_a_thread_has_a_line_that_is_cut_when_it_is_cancelled() -> None:
    limiter = trio.CapacityLimiter(1)
    began, said = trio.Event(), []
    token = trio.lowlevel.current_trio_token()

    def work() -> None:
        token.run_sync_soon(began.set)
        try:
            while True:
                check_line()
        except ConnectionAbortedError as exc:
            said.append(str(exc))
            raise

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_in_thread, work, limiter)
        await began.wait()
        nursery.cancel_scope.cancel()
    assert said == ["the transfer was cancelled"]
    assert limiter.borrowed_tokens == 0
    assert current_line() is None
    check_line()  # of no call: nothing


async def test_a_call_tells_what_it_returns_or_raises_as_it_is() -> None:
    def fail() -> None:
        raise ValueError("so")

    assert await call_in_thread(lambda: 5, trio.CapacityLimiter(1)) == 5
    with pytest.raises(ValueError, match="so"):
        await call_in_thread(fail, trio.CapacityLimiter(1))


async def test_a_call_may_be_given_grace() -> None:
    began, values = trio.Event(), list[int]()
    token = trio.lowlevel.current_trio_token()
    limiter = trio.CapacityLimiter(1)

    def work() -> None:
        token.run_sync_soon(began.set)
        for _ in range(100):  # it is cancelled meanwhile, and may end
            check_line()
            trio.from_thread.run_sync(lambda: None, trio_token=token)
        values.append(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: call_in_thread(work, limiter, grace=30))
        await began.wait()
        nursery.cancel_scope.cancel()
    assert values == [1]
