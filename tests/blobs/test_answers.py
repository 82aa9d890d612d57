"""What servers answer, and what is made of it: real boto3, and answers that are written here."""

import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import pytest
from tests.blobs.links import access_to, answer, fault, open_script
from tests.blobs.s3_server import BUCKET

from avtomatika_trio._config import Secret
from avtomatika_trio.blobs import Blob, Blobs, Location, Patience, _client, open_s3
from avtomatika_trio.blobs._upload import PART_BYTES
from avtomatika_trio.errors import (
    BlobChanged,
    BlobDenied,
    BlobError,
    BlobMismatch,
    BlobMissing,
    BlobUnavailable,
)
from avtomatika_trio.testing._promises_blobs import _sha256

AT = Location(BUCKET, "one.bin")
A_BLOB = Blob(location=AT, size=5, etag="e")


def ignore(_: int) -> None:
    pass


@asynccontextmanager
async def _blobs_at(url: str, seconds: float = 20.0) -> AsyncIterator[Blobs]:
    patience = Patience(seconds=seconds)
    async with open_s3(access_to(url), max_concurrency=4, patience=patience) as blobs:
        yield blobs


async def test_a_server_may_take_longer_to_read_than_to_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_client, "_CONNECT_SECONDS", 0.2)
    async with open_script(answer("200 OK"), pause=1.0) as script:
        with (tmp_path / "source").open("wb+") as file:
            file.truncate(PART_BYTES)
            async with _blobs_at(script.url) as blobs:
                await blobs.upload(file.fileno(), AT, ignore)
        assert len(script.requests) == 1


async def test_a_server_that_is_busy_is_asked_again() -> None:
    busy = fault("503 Slow Down", "SlowDown")
    async with open_script(busy, busy, answer("200 OK")) as script:
        async with _blobs_at(script.url) as blobs:
            assert (await blobs.head(AT)).etag == "e"
        assert len(script.requests) == 3


@pytest.mark.parametrize(
    ("said", "error", "count"),
    [
        (fault("403 Forbidden", "AccessDenied"), BlobDenied, 1),
        (fault("401 Unauthorized", "InvalidAccessKeyId"), BlobDenied, 1),
        (fault("404 Not Found", "NoSuchKey"), BlobMissing, 1),
        (fault("404 Not Found", "NoSuchBucket"), BlobMissing, 1),
        (fault("412 Precondition Failed", "PreconditionFailed"), BlobChanged, 1),
        (fault("416 Range Not Satisfiable", "InvalidRange"), BlobChanged, 1),
        (fault("400 Bad Request", "InvalidRequest"), BlobDenied, 1),
        (fault("400 Bad Request", "ExpiredToken"), BlobDenied, 1),
        (fault("501 Not Implemented", "NotImplemented"), BlobDenied, 1),
        (fault("409 Conflict", "OperationAborted"), BlobUnavailable, 3),
        (fault("507 Insufficient Storage", "XMinioStorageFull"), BlobUnavailable, 3),
        (fault("400 Bad Request", "RequestTimeout"), BlobUnavailable, 3),
        (fault("403 Forbidden", "RequestTimeTooSkewed"), BlobUnavailable, 3),
        (fault("429 Too Many Requests", "TooManyRequests"), BlobUnavailable, 3),
        (fault("500 Internal Server Error", "InternalError"), BlobUnavailable, 3),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 2\r\n\r\nno", BlobUnavailable, 3),
        (b"hello\r\n\r\n", BlobUnavailable, 3),
        (b"", BlobUnavailable, 3),
    ],
)
async def test_what_a_server_says_is_told(
    tmp_path: Path, said: bytes, error: type[BlobError], count: int
) -> None:
    async with open_script(said) as script:
        # Tries after 0, 0.25 and 0.75 s, and the next one only after 1.75: a second to be late in.
        async with _blobs_at(script.url, seconds=1.7) as blobs:
            with pytest.raises(error) as caught:
                await blobs.download(A_BLOB, tmp_path / "a", ignore)
        assert type(caught.value) is error
        assert caught.value.uri == AT.uri
        assert len(script.requests) == count
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",  # some other server: no ETag
        b"HTTP/1.1 301 Moved\r\nLocation: https://else.where/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 307 Moved\r\nLocation: https://else.where/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
async def test_what_makes_no_sense_is_no_crash(said: bytes, tmp_path: Path) -> None:
    async with open_script(said) as script, _blobs_at(script.url, seconds=0.5) as blobs:
        for call in (
            lambda: blobs.head(AT),
            lambda: blobs.list(Location(BUCKET, "jobs/")),
            lambda: blobs.unfinished(Location(BUCKET, "jobs/")),
            lambda: blobs.delete(Location(BUCKET, "jobs/")),
            lambda: blobs.download(A_BLOB, tmp_path / "a", ignore),
        ):
            with suppress(BlobError):  # a listing may just be empty
                await call()
        with pytest.raises(BlobError):
            await blobs.head(AT)
    assert not (tmp_path / "a").exists()


async def test_an_upload_that_others_aborted_before_its_end_is_no_fault_of_the_input(
    tmp_path: Path,
) -> None:
    begun = answer("200 OK", b"<X><UploadId>u</UploadId></X>")
    gone = fault("404 Not Found", "NoSuchUpload")
    nothing = fault("404 Not Found", "NoSuchKey")
    with (tmp_path / "source").open("wb+") as file:
        file.truncate(PART_BYTES + 1)
        said = (begun, answer("200 OK"), answer("200 OK"), gone, nothing, gone)
        async with open_script(*said) as script, _blobs_at(script.url, seconds=0.5) as blobs:
            with pytest.raises(BlobUnavailable, match="aborted by somebody else"):
                await blobs.upload(file.fileno(), AT, ignore)


async def test_no_session_token_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with open_script(answer("200 OK")) as script:
        access = attrs.evolve(access_to(script.url), session_token=Secret("never-shown"))
        async with open_s3(access, max_concurrency=1, patience=Patience()) as blobs:
            await blobs.head(AT)
        assert b"never-shown" in script.requests[0]
    assert "never-shown" not in caplog.text


async def test_what_is_configured_for_others_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[no config")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "of-another-program")
    async with open_script(answer("200 OK")) as script, _blobs_at(script.url) as blobs:
        assert (await blobs.head(AT)).etag == "e"


async def test_a_machine_without_ipv6_uses_the_other_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_script(answer("200 OK")) as script:
        port = int(script.url.rpartition(":")[2])

        def getaddrinfo(*args: object, **named: object) -> list[object]:
            first = (-7, socket.SOCK_STREAM, 0, "", ("::1", port, 0, 0))  # no such family here
            return [first, (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        async with _blobs_at(script.url, seconds=0.5) as blobs:
            assert (await blobs.head(AT)).etag == "e"


async def test_an_answer_that_is_too_short_goes_on_where_it_ended(tmp_path: Path) -> None:
    short = answer("200 OK", b"hel", length=5)
    rest = answer("206 Partial Content", b"lo", "Content-Range: bytes 3-4/5")
    async with open_script(short, rest) as script:
        async with _blobs_at(script.url) as blobs:
            sha256 = await blobs.download(A_BLOB, tmp_path / "a", ignore)
        assert sha256 == _sha256(b"hello")
        assert (tmp_path / "a").read_bytes() == b"hello"
        assert [b"range: bytes=3-4" in it.lower() for it in script.requests] == [False, True]


async def test_an_answer_that_is_always_too_short_is_no_file(tmp_path: Path) -> None:
    async with (
        open_script(answer("200 OK", b"", length=5)) as script,
        _blobs_at(script.url, seconds=0.5) as blobs,
    ):
        with pytest.raises(BlobUnavailable):
            await blobs.download(A_BLOB, tmp_path / "a", ignore)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("length", [0, 4, 6])
async def test_an_answer_of_another_size_is_of_another_file(tmp_path: Path, length: int) -> None:
    async with open_script(answer("200 OK", b"x" * length)) as script:
        async with _blobs_at(script.url) as blobs:
            with pytest.raises(BlobChanged, match="5 were asked for"):
                await blobs.download(A_BLOB, tmp_path / "a", ignore)
        assert len(script.requests) == 1
    assert not (tmp_path / "a").exists()


MD5 = hashlib.md5(b"hello").hexdigest()


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ((f'ETag: "{MD5}"',), True),
        ((f'ETag: "{MD5[::-1]}"',), False),
        ((f'ETag: "{MD5[::-1]}"', "x-amz-server-side-encryption: aws:kms"), True),
        ((f'ETag: "{MD5[::-1]}-3"',), True),
        ((f"x-amz-meta-sha256: {_sha256(b'hello')}",), True),
        ((f"x-amz-meta-sha256: {_sha256(b'other')}",), False),
    ],
)
async def test_what_was_listed_is_held_to_the_checksum_that_comes_with_it(
    tmp_path: Path, fields: tuple[str, ...], fits: bool
) -> None:
    said = answer("200 OK", b"hello", *fields).replace(b'ETag: "e"\r\n', b"")
    async with open_script(said) as script, _blobs_at(script.url) as blobs:
        if fits:
            assert await blobs.download(A_BLOB, tmp_path / "a", ignore) == _sha256(b"hello")
        else:
            with pytest.raises(BlobMismatch):
                await blobs.download(A_BLOB, tmp_path / "a", ignore)
    assert (tmp_path / "a").exists() == fits
