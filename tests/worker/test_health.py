"""`GET /health`."""

import json
from typing import Any

import pytest
import trio

from avtomatika_trio.worker._health import open_health_port, serve_health


async def answer(request: bytes, health: tuple[bool, dict[str, Any]]) -> tuple[bytes, bytes]:
    """The status line and the body."""
    listeners = await open_health_port(0, "127.0.0.1")
    host, port = listeners[0].socket.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_health, listeners, lambda: health)
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(request)
            received = b"".join([chunk async for chunk in stream])
        nursery.cancel_scope.cancel()
    head, _, body = received.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], body


@pytest.mark.parametrize(
    ("request_line", "is_well", "status"),
    [
        (b"GET /health HTTP/1.1", True, b"HTTP/1.0 200 OK"),
        (b"GET /health?x=1 HTTP/1.1", True, b"HTTP/1.0 200 OK"),
        (b"GET /health HTTP/1.1", False, b"HTTP/1.0 503 Service Unavailable"),
        (b"GET /healthz HTTP/1.1", False, b"HTTP/1.0 503 Service Unavailable"),
        (b"GET /readyz HTTP/1.1", True, b"HTTP/1.0 200 OK"),
        (b"GET /readyz HTTP/1.1", False, b"HTTP/1.0 503 Service Unavailable"),
        (b"GET /livez HTTP/1.1", True, b"HTTP/1.0 200 OK"),
        (b"GET /livez HTTP/1.1", False, b"HTTP/1.0 200 OK"),
        (b"POST /livez HTTP/1.1", True, b"HTTP/1.0 405 Method Not Allowed"),
        (b"HEAD /health HTTP/1.1", True, b"HTTP/1.0 200 OK"),
        (b"POST /health HTTP/1.1", True, b"HTTP/1.0 405 Method Not Allowed"),
        (b"GET /secrets HTTP/1.1", True, b"HTTP/1.0 404 Not Found"),
        (b"\x16\x03\x01", True, b"HTTP/1.0 404 Not Found"),
    ],
)
async def test_it_tells_the_truth(request_line: bytes, is_well: bool, status: bytes) -> None:
    told = {"status": "ok" if is_well else "unavailable"}
    line, body = await answer(request_line + b"\r\nHost: a\r\n\r\n", (is_well, told))
    assert line == status
    if request_line.startswith(b"GET /health"):
        assert json.loads(body) == told


async def test_a_port_that_is_taken_does_not_stop_a_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (listener,) = await open_health_port(0, "127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        assert await open_health_port(port, "127.0.0.1") == []
    assert "WORKER_PORT" in caplog.text


async def test_an_address_that_is_none_of_this_machine_is_told_as_that(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await open_health_port(0, "192.0.2.1") == []
    assert "no health check on 192.0.2.1 port 0: " in caplog.text
    assert "set WORKER_HOST" in caplog.text
