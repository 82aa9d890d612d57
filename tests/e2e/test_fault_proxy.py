"""The proxy does what it says: a fault that does not hit makes every test behind it worthless."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
from tests.e2e.bodies import Bodies
from tests.e2e.fault_proxy import (
    HOST,
    BlackHole,
    Cut,
    FaultProxy,
    Refuse,
    Reset,
    Slow,
    Towards,
    open_fault_proxy,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(20)]

HEAD = b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n"
BODY = b"0123456789"

#: Long for a byte on loopback.
SOON_SECONDS = 0.3


@attrs.define
class Echo:
    """A server that sends everything back."""

    port: int
    received: bytes = b""
    end: str = "none"
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def serve(self, stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                self.received += data
                await stream.send_all(data)
            self.end = "closed"
        except trio.BrokenResourceError:
            self.end = "reset"
        self.ended.set()


@asynccontextmanager
async def open_echo() -> AsyncIterator[Echo]:
    async with trio.open_nursery() as nursery:
        echo = Echo(0)
        serve = partial(trio.serve_tcp, echo.serve, 0, host=HOST)
        listeners: list[trio.SocketListener] = await nursery.start(serve)
        echo.port = listeners[0].socket.getsockname()[1]
        yield echo
        nursery.cancel_scope.cancel()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with open_echo() as served:
        yield served


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    async with open_fault_proxy(echo.port) as running:
        yield running


async def connect(proxy: FaultProxy) -> trio.SocketStream:
    return await trio.open_tcp_stream(HOST, proxy.port)


async def exchange(stream: trio.SocketStream, data: bytes) -> bytes:
    await stream.send_all(data)
    return await read(stream, len(data))


async def read(stream: trio.SocketStream, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = await stream.receive_some()
        if not data:
            break
        received += data
    return received


async def is_silent(ask: Callable[[], Awaitable[object]]) -> bool:
    with trio.move_on_after(SOON_SECONDS) as scope:
        await ask()
    return scope.cancelled_caught


async def read_until_reset(stream: trio.SocketStream) -> bytes:
    received = b""
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        return received
    raise AssertionError("it was not reset")


async def end_of(echo: Echo) -> str:
    with trio.fail_after(5):
        await echo.ended.wait()
    return echo.end


async def test_everything_passes_both_ways_and_so_does_the_end(
    echo: Echo, proxy: FaultProxy
) -> None:
    data = bytes(range(256)) * 4096
    async with await connect(proxy) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, data)
        assert await read(stream, len(data)) == data
    assert await end_of(echo) == "closed"


async def test_refused_is_refused_by_the_kernel_and_resets_what_is_connected(
    echo: Echo, proxy: FaultProxy
) -> None:
    async with await connect(proxy) as stream:
        assert await exchange(stream, b"before") == b"before"
        proxy.inject(Refuse())
        assert await read_until_reset(stream) == b""
    assert proxy.hits == 1
    assert await end_of(echo) == "reset"
    assert await proxy.refuses()
    proxy.heal()
    assert not await proxy.refuses()
    async with await connect(proxy) as stream:
        assert await exchange(stream, b"after") == b"after"


async def test_reset_ends_old_connections_and_new_ones(echo: Echo, proxy: FaultProxy) -> None:
    async with await connect(proxy) as stream:
        assert await exchange(stream, b"before") == b"before"
        proxy.inject(Reset())
        assert await read_until_reset(stream) == b""
    async with await connect(proxy) as stream:
        assert await read_until_reset(stream) == b""
    assert proxy.hits == 2
    proxy.heal()
    async with await connect(proxy) as stream:
        assert await exchange(stream, b"after") == b"after"


async def test_connections_can_be_reset_once(proxy: FaultProxy) -> None:
    async with await connect(proxy) as stream:
        assert await exchange(stream, b"before") == b"before"
        assert proxy.reset_connections() == 1
        assert await read_until_reset(stream) == b""
    async with await connect(proxy) as stream:
        assert await exchange(stream, b"after") == b"after"


async def test_a_black_hole_swallows_until_it_is_healed(echo: Echo, proxy: FaultProxy) -> None:
    async with await connect(proxy) as old:
        assert await exchange(old, b"before") == b"before"
        proxy.inject(BlackHole())
        assert await is_silent(partial(exchange, old, b"held"))
        async with await connect(proxy) as new:
            assert await is_silent(partial(exchange, new, b"new"))
            assert echo.received == b"before"
            assert proxy.hits >= 2
            proxy.heal()
            assert await read(old, 4) == b"held"
            assert await read(new, 3) == b"new"


async def test_nobody_is_told_of_an_end_behind_a_black_hole(echo: Echo, proxy: FaultProxy) -> None:
    async with await connect(proxy) as stream:
        assert await exchange(stream, b"before") == b"before"
        proxy.inject(BlackHole())
    await trio.sleep(SOON_SECONDS)
    assert echo.end == "none"
    proxy.heal()
    assert await end_of(echo) == "closed"


async def test_slow_delays_each_way_and_keeps_the_order(proxy: FaultProxy) -> None:
    proxy.inject(Slow(delay_seconds=0.2))
    async with await connect(proxy) as stream:
        begun_at = trio.current_time()
        await stream.send_all(b"one ")
        await trio.sleep(0.05)
        await stream.send_all(b"two")
        assert await read(stream, 7) == b"one two"
        assert 0.4 < trio.current_time() - begun_at < 0.4 + SOON_SECONDS
    assert proxy.hits >= 2


async def test_slow_limits_the_rate(proxy: FaultProxy) -> None:
    proxy.inject(Slow(bytes_per_second=100_000))
    async with await connect(proxy) as stream:
        begun_at = trio.current_time()
        assert len(await exchange(stream, bytes(50_000))) == 50_000
        assert trio.current_time() - begun_at > 0.5


async def test_cut_to_the_server_ends_in_a_body(echo: Echo, proxy: FaultProxy) -> None:
    proxy.inject(Cut(Towards.SERVER, 4))
    async with await connect(proxy) as stream:
        assert await exchange(stream, b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
        await stream.send_all(HEAD + BODY)
        await read_until_reset(stream)
    assert await end_of(echo) == "reset"
    assert echo.received.endswith(HEAD + BODY[:4])
    assert proxy.hits == 1


async def test_cut_to_the_client_ends_in_a_body(echo: Echo, proxy: FaultProxy) -> None:
    proxy.inject(Cut(Towards.CLIENT, 4))
    async with await connect(proxy) as stream:
        await stream.send_all(HEAD + BODY)
        assert await read_until_reset(stream) == HEAD + BODY[:4]
    assert echo.received == HEAD + BODY
    assert proxy.hits == 1


async def test_short_bodies_are_not_cut(proxy: FaultProxy) -> None:
    proxy.inject(Cut(Towards.SERVER, len(BODY)))
    async with await connect(proxy) as stream:
        for _ in range(3):
            assert await exchange(stream, HEAD + BODY) == HEAD + BODY
    assert proxy.hits == 0


async def test_the_server_may_move(proxy: FaultProxy) -> None:
    async with open_echo() as other:
        proxy.upstream_port = other.port
        async with await connect(proxy) as stream:
            assert await exchange(stream, b"moved") == b"moved"
        assert other.received == b"moved"


async def test_where_there_is_no_server_connections_are_reset(proxy: FaultProxy) -> None:
    async with open_echo() as other:
        proxy.upstream_port = other.port
    async with await connect(proxy) as stream:
        assert await read_until_reset(stream) == b""


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_bodies_are_found_however_the_data_arrive(size: int) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = HEAD + BODY + b"GET / HTTP/1.1\r\n\r\n" + HEAD + BODY + chunked + b"5\r\nhello\r\n"
    bodies, heads, found = Bodies(), b"", b""
    befores: list[int] = []
    for at in range(0, len(sent), size):
        for before, piece in bodies.split(sent[at : at + size]):
            if before is None:
                heads += piece
            else:
                befores += range(before, before + len(piece))
                found += piece
    assert heads == HEAD + b"GET / HTTP/1.1\r\n\r\n" + HEAD + chunked
    assert found == BODY + BODY + b"5\r\nhello\r\n"
    assert befores == [*range(10), *range(10), *range(10)]
