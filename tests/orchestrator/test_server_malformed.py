"""No packet ends anything but the connection that it came in on."""

import logging
import random

import h2.config
import h2.connection
import pytest
import trio
from tests.orchestrator.serving import (
    GET,
    POLL,
    WEBSOCKET,
    PlainApp,
    ask,
    connect,
    create_quart_app,
    open_server,
    read_answer,
    read_to_end,
)

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SEEDS = range(6)
STRINGS_PER_SEED = 60


def http2(*headers: tuple[bytes, bytes]) -> bytes:
    """The first bytes of a client that knows the server to speak HTTP/2 and asks with *headers*."""
    config = h2.config.H2Configuration(
        client_side=True,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    connection = h2.connection.H2Connection(config=config)
    connection.initiate_connection()
    connection.send_headers(1, headers, end_stream=True)
    return connection.data_to_send()


def http2_request(path: bytes = b"/", method: bytes = b"GET") -> bytes:
    return http2(
        (b":method", method), (b":path", path), (b":scheme", b"http"), (b":authority", b"a")
    )


EARLY_FRAME = b"\x82\x85\x00\x00\x00\x00hello"  # masked with nothing

UPGRADE_TO_HTTP2 = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: \xff!\r\n\r\n"
)

MALFORMED = {
    "http/2, well-formed": http2_request(),
    "websocket without a key": WEBSOCKET.replace(b"Sec-WebSocket-Key", b"X-Key"),
    "websocket of a wrong version": WEBSOCKET.replace(b"13\r\n", b"\xff\r\n"),
    "http/2 path with a high byte": http2_request(path=b"/\x80"),
    "http/2 method with a high byte": http2_request(method=b"\xff\xfe"),
    "http/2 connect": http2((b":method", b"CONNECT"), (b":authority", b"a:1")),
    "http/2 without a path": http2((b":method", b"GET"), (b":scheme", b"http")),
    "http/2 preface, then noise": HTTP2_PREFACE + b"\xff" * 100,
    "http/2 data for no stream": HTTP2_PREFACE + b"\x00\x00\x01\x00\x00\x00\x00\x00\x09x",
    "a host of a high byte": b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
    "a path of a high byte": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "an absurd length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "two lengths": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
    ),
    "a chunk that is none": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
    "a head without end": b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
    "a good request, then noise": GET + b"\x00\xff\r\n\r\n",
    "tls to a plain server": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
}

OPEN = {
    "websocket, then a byte": WEBSOCKET + b"x",
    "websocket, then a frame before the handshake": WEBSOCKET + EARLY_FRAME,
    "half a head": GET[:9],
    "an upgrade to HTTP/2 with settings that are none": UPGRADE_TO_HTTP2,
}
PACKETS = MALFORMED | OPEN


async def send_and_leave(port: int, packet: bytes) -> None:
    """Say *packet*, listen for a moment, hang up."""
    async with await connect(port) as stream:
        try:
            await stream.send_all(packet)
        except trio.BrokenResourceError:
            return
        with trio.move_on_after(0.03):
            await read_to_end(stream)


@pytest.mark.parametrize("kind", ["plain", "quart"])
@pytest.mark.parametrize("packet", PACKETS.values(), ids=PACKETS.keys())
async def test_a_malformed_packet_disturbs_nobody_else(
    packet: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = PlainApp() if kind == "plain" else create_quart_app()
    async with open_server(app) as server, await connect(server.port) as other:
        await other.send_all(GET)
        assert (await read_answer(other))[0] == 200
        await send_and_leave(server.port, packet)
        await other.send_all(GET)
        assert (await read_answer(other))[0] == 200
    assert [each for each in caplog.records if each.levelno > logging.INFO] == []


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_packet_leaves_no_connection_behind(packet: bytes) -> None:
    async with (
        open_server(
            PlainApp(),
            keep_alive_seconds=0.05,
            body_timeout_seconds=0.05,
            linger_seconds=0.05,
        ) as server,
        await connect(server.port) as stream,
    ):
        await stream.send_all(packet)
        with trio.fail_after(2):
            await read_to_end(stream)


async def test_a_frame_that_comes_before_the_handshake_is_answered_waits_for_it() -> None:
    async with (
        open_server(PlainApp()) as server,
        await connect(server.port) as stream,
    ):
        await stream.send_all(WEBSOCKET + EARLY_FRAME)
        data = b""
        with trio.fail_after(2):
            while not data.endswith(b"hello"):
                data += await stream.receive_some(4096)
        assert data.startswith(b"HTTP/1.1 101 ")


async def test_an_offered_upgrade_to_http2_is_passed_over() -> None:
    async with open_server(PlainApp()) as server:
        assert await ask(server.port, UPGRADE_TO_HTTP2) == (200, b'{"received": 0}')


@pytest.mark.parametrize("seed", SEEDS)
async def test_noise_disturbs_nobody_else(seed: int) -> None:
    rng = random.Random(seed)
    app = PlainApp()
    openings = [b"", b"", GET[:18], GET, WEBSOCKET, HTTP2_PREFACE, http2_request()]
    limiter = trio.CapacityLimiter(20)

    async def one(port: int, packet: bytes) -> None:
        async with limiter:
            await send_and_leave(port, packet)

    async with open_server(app) as server, await connect(server.port) as other:
        await other.send_all(POLL)
        await app.parked.wait()
        async with trio.open_nursery() as nursery:
            for _ in range(STRINGS_PER_SEED):
                packet = rng.choice(openings) + rng.randbytes(rng.randrange(1, 300))
                nursery.start_soon(one, server.port, packet)
        assert "http.disconnect" not in app.ended
        assert (await ask(server.port))[0] == 200
