"""What links and servers do to transfers: real boto3, through a proxy, to a real server."""

import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from tests.blobs.links import (
    AT,
    Site,
    access_to,
    open_site,
    until,
)
from tests.blobs.s3_server import BUCKET, S3Server
from tests.e2e.fault_proxy import HOST, BlackHole, Cut, Refuse, Reset, Slow, Towards
from urllib3.exceptions import NewConnectionError

from avtomatika_trio.blobs import Blob, Blobs, Patience, open_s3
from avtomatika_trio.blobs._connections import POOLS
from avtomatika_trio.blobs._download import PIECE_BYTES
from avtomatika_trio.blobs._line import Line
from avtomatika_trio.blobs._s3 import S3Blobs
from avtomatika_trio.blobs._upload import PART_BYTES
from avtomatika_trio.errors import (
    BlobChanged,
    BlobMissing,
    BlobUnavailable,
)
from avtomatika_trio.testing._promises_blobs import _busy_threads, _content, _sha256

SIZE = 3 * PIECE_BYTES
#: A cancellation has ended by then, whatever the link does.
PROMPT_SECONDS = 2.0


def ignore(_: int) -> None:
    pass


@pytest.fixture(scope="module")
def data() -> bytes:
    return _content(SIZE)


@pytest.fixture
def source(tmp_path: Path, data: bytes) -> Iterator[int]:
    """A file that is open."""
    (tmp_path / "source").write_bytes(data)
    descriptor = os.open(tmp_path / "source", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
async def site(s3_server: S3Server) -> AsyncIterator[Site]:
    async with open_site(s3_server) as opened:
        yield opened


@pytest.fixture(params=["http", "https"])
async def any_site(
    request: pytest.FixtureRequest,
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    context = None
    if request.param == "https":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(context)
    async with open_site(s3_server, tls=context) as opened:
        yield opened


Call = Callable[[Blobs, Path, int], Awaitable[object]]
A_BLOB = Blob(location=AT, size=SIZE, etag="e")
CALLS: dict[str, Call] = {
    "head": lambda blobs, target, source: blobs.head(AT),
    "list": lambda blobs, target, source: blobs.list(AT),
    "delete": lambda blobs, target, source: blobs.delete(AT.at("a/")),
    "unfinished": lambda blobs, target, source: blobs.unfinished(AT),
    "download": lambda blobs, target, source: blobs.download(A_BLOB, target, ignore),
    "upload": lambda blobs, target, source: blobs.upload(source, AT, ignore),
}


@contextmanager
def prompt(blobs: Blobs, target: Path, threads: set[str]) -> Iterator[None]:
    """The block ends at once, and nothing goes on after it."""
    begin = trio.current_time()
    yield
    assert trio.current_time() - begin < PROMPT_SECONDS
    assert isinstance(blobs, S3Blobs)
    assert blobs.threads.borrowed_tokens == 0
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    assert _busy_threads() == threads
    assert not target.exists()


async def cancel_when(
    call: Callable[[], Awaitable[object]],
    ready: Callable[[], object],
    ends_promptly: Callable[[], "Iterator[None] | object"],
) -> None:
    """Start *call*, wait until *ready*, and cancel it."""
    async with trio.open_nursery() as nursery:
        has_ended = trio.Event()

        async def run() -> None:
            try:
                await call()
            finally:
                has_ended.set()

        nursery.start_soon(run)
        await until(ready)
        with ends_promptly():  # type: ignore[attr-defined]
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await has_ended.wait()


async def test_a_download_that_is_cut_goes_on_where_it_was(
    site: Site, tmp_path: Path, data: bytes
) -> None:
    blob = site.stored(data)
    site.proxy.inject(Cut(Towards.CLIENT, PIECE_BYTES * 6 // 10))
    done = [0]
    assert await site.blobs.download(blob, tmp_path / "a", done.append) == _sha256(data)
    assert (tmp_path / "a").read_bytes() == data
    assert sum(done) == SIZE
    assert site.proxy.hits == 3
    assert SIZE <= site.proxy.passed[Towards.CLIENT] < 1.6 * SIZE


async def test_an_upload_that_is_cut_ends_well(site: Site, source: int, data: bytes) -> None:
    site.proxy.inject(Cut(Towards.SERVER, PART_BYTES * 6 // 10))
    done = [0]
    async with trio.open_nursery() as nursery:

        async def heal() -> None:
            await until(lambda: site.proxy.hits >= 4)
            site.proxy.heal()

        nursery.start_soon(heal)
        put = await site.blobs.upload(source, AT, done.append)
    assert put.sha256 == _sha256(data)
    assert sum(done) == SIZE
    assert site.content() == data
    assert (site.journal.open, site.journal.count) == ([], 1)
    assert list(await site.blobs.unfinished(AT)) == []


async def test_resets_in_between_do_no_harm(
    site: Site, source: int, tmp_path: Path, data: bytes
) -> None:
    async with trio.open_nursery() as nursery:

        async def reset() -> None:
            for towards in (Towards.SERVER, Towards.CLIENT):
                passed = site.proxy.passed
                await until(lambda: passed[towards] > SIZE // 3)  # noqa: B023
                assert site.proxy.reset_connections() > 0

        nursery.start_soon(reset)
        await site.blobs.upload(source, AT, ignore)
        found = await site.blobs.head(AT)
        assert await site.blobs.download(found, tmp_path / "a", ignore) == _sha256(data)


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_on_a_dead_link_can_be_cancelled(
    any_site: Site, source: int, tmp_path: Path, name: str
) -> None:
    threads, blobs, target = _busy_threads(), any_site.blobs, tmp_path / "target"
    any_site.proxy.inject(BlackHole())
    await cancel_when(
        lambda: CALLS[name](blobs, target, source),
        lambda: any_site.proxy.hits > 0,
        lambda: prompt(blobs, target, threads),
    )
    any_site.proxy.heal()
    with pytest.raises(BlobMissing):  # the place can be used as before
        await blobs.head(AT.at("none"))


@pytest.mark.parametrize("is_reused", [False, True])
async def test_a_download_that_stalls_can_be_cancelled(
    any_site: Site, tmp_path: Path, data: bytes, is_reused: bool
) -> None:
    threads, blobs, target = _busy_threads(), any_site.blobs, tmp_path / "target"
    blob, passed = any_site.stored(data), any_site.proxy.passed
    if is_reused:  # connections that were used before
        await blobs.download(blob, tmp_path / "other", ignore)
    before = passed[Towards.CLIENT]

    def is_stalled() -> bool:
        if passed[Towards.CLIENT] - before > SIZE // 4 and any_site.proxy.fault is None:
            any_site.proxy.inject(BlackHole())
        return any_site.proxy.hits > 0

    await cancel_when(
        lambda: blobs.download(blob, target, ignore),
        is_stalled,
        lambda: prompt(blobs, target, threads),
    )


async def test_an_upload_that_stalls_can_be_cancelled_and_is_taken_back_later(
    any_site: Site, source: int, tmp_path: Path
) -> None:
    threads, blobs, target = _busy_threads(), any_site.blobs, tmp_path / "target"
    passed, journal = any_site.proxy.passed, any_site.journal

    def is_stalled() -> bool:
        if passed[Towards.SERVER] > SIZE // 4 and any_site.proxy.fault is None:
            any_site.proxy.inject(BlackHole())
        return any_site.proxy.hits > 0

    await cancel_when(
        lambda: blobs.upload(source, AT, ignore),
        is_stalled,
        lambda: prompt(blobs, target, threads),
    )
    (left,) = journal.open
    assert left.location == AT
    any_site.proxy.reset_connections()  # what is held is lost
    any_site.proxy.heal()
    assert [it.upload_id for it in await blobs.unfinished(AT)] == [left.upload_id]
    await blobs.abort(left)
    assert journal.open == []
    assert list(await blobs.unfinished(AT)) == []
    await blobs.abort(left)  # not there any more: no error
    assert list(await blobs.list(AT)) == []


async def test_an_upload_that_is_cancelled_while_it_begins_is_not_left(
    site: Site, source: int
) -> None:
    site.proxy.inject(Slow(delay_seconds=0.1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(site.blobs.upload, source, AT, ignore)
        await until(lambda: site.proxy.passed[Towards.SERVER])  # and the answer is on its way
        nursery.cancel_scope.cancel()
    assert (site.journal.open, site.journal.count) == ([], 1)
    assert list(await site.blobs.unfinished(AT)) == []


async def test_a_small_upload_that_stalls_can_be_cancelled(any_site: Site, tmp_path: Path) -> None:
    threads, blobs, target = _busy_threads(), any_site.blobs, tmp_path / "target"
    any_site.proxy.inject(BlackHole())
    with (tmp_path / "small").open("wb+") as file:
        file.write(b"x" * 1_000_000)
        file.flush()
        await cancel_when(
            lambda: blobs.upload(file.fileno(), AT, ignore),
            lambda: any_site.proxy.hits > 0,
            lambda: prompt(blobs, target, threads),
        )


@contextmanager
def port_that_nobody_accepts_at() -> Iterator[int]:
    """And there is no room to wait: who connects there does so for long."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((HOST, 0))
        listening.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("name", CALLS)
async def test_connecting_can_be_cancelled(source: int, tmp_path: Path, name: str) -> None:
    threads, target = _busy_threads(), tmp_path / "target"
    with port_that_nobody_accepts_at() as port:
        access = access_to(f"http://{HOST}:{port}")
        async with open_s3(access, max_concurrency=10, patience=Patience()) as blobs:
            assert isinstance(blobs, S3Blobs)
            await cancel_when(
                lambda: CALLS[name](blobs, target, source),
                lambda: _has_asked(blobs),
                lambda: prompt(blobs, target, threads),
            )


class CutAsSoonAsWatched(Line):
    """A cancellation arrives at the worst moment: when the thread has just told of its socket."""

    def watch(self, descriptor: int) -> None:
        super().watch(descriptor)
        self.cut()


def test_a_connection_that_is_just_being_made_can_be_cancelled() -> None:
    with port_that_nobody_accepts_at() as port:
        made: Any = POOLS["http"].ConnectionCls  # type: ignore[attr-defined]  # botocore has no types
        connection = made(HOST, port, timeout=PROMPT_SECONDS)
        ask = partial(connection.request, "GET", "/")
        begin = time.monotonic()
        with pytest.raises(NewConnectionError):
            copy_context().run(CutAsSoonAsWatched().run, ask)  # as a thread has one of its own
        assert time.monotonic() - begin < PROMPT_SECONDS


def _has_asked(blobs: S3Blobs) -> bool:
    return blobs.threads.borrowed_tokens > 0


@pytest.mark.parametrize("name", ["head", "upload", "download"])
async def test_a_server_that_comes_back_is_waited_for(
    site: Site, source: int, tmp_path: Path, data: bytes, name: str
) -> None:
    blob = site.stored(data)
    calls: dict[str, Call] = {
        **CALLS,
        "download": lambda blobs, target, source: blobs.download(blob, target, ignore),
    }
    site.proxy.inject(Refuse())
    assert await site.proxy.refuses()
    async with trio.open_nursery() as nursery:

        async def heal() -> None:
            await until(lambda: len(site.attempts) >= 2)
            site.proxy.inject(Reset())
            await until(lambda: site.proxy.hits >= 1)
            site.proxy.heal()

        nursery.start_soon(heal)
        await calls[name](site.blobs, tmp_path / "a", source)
    assert site.content() == data


@pytest.mark.parametrize("name", CALLS)
async def test_a_server_that_does_not_come_back_is_told(
    s3_server: S3Server, source: int, tmp_path: Path, name: str
) -> None:
    async with open_site(s3_server, seconds=0.5) as site:
        site.proxy.inject(Refuse())
        with pytest.raises(BlobUnavailable, match=r"0\.5 s: ") as caught:
            await CALLS[name](site.blobs, tmp_path / "a", source)
        assert caught.value.uri.startswith(f"s3://{BUCKET}/")
        assert len(site.attempts) >= 1
    assert not (tmp_path / "a").exists()


async def test_a_slow_link_does_no_harm(site: Site, source: int, tmp_path: Path) -> None:
    site.proxy.inject(Slow(delay_seconds=0.02, bytes_per_second=20e6))
    put = await site.blobs.upload(source, AT, ignore)
    assert await site.blobs.download(put, tmp_path / "a", ignore) == put.sha256
    assert site.attempts == []


async def test_a_file_that_becomes_shorter_has_changed(site: Site, source: int) -> None:
    site.proxy.inject(BlackHole())
    async with trio.open_nursery() as nursery:

        async def shorten() -> None:
            await until(lambda: site.proxy.hits > 0)
            os.truncate(source, PART_BYTES // 2)
            site.proxy.heal()

        nursery.start_soon(shorten)
        with pytest.raises(BlobChanged, match="changed while it was uploaded"):
            await site.blobs.upload(source, AT, ignore)
    assert list(await site.blobs.unfinished(AT)) == []
    assert list(await site.blobs.list(AT)) == []
