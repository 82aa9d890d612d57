"""`GET /health`: whether the worker has polled or renewed successfully lately.

`/healthz` and `/readyz` are the same; `/livez` only says that the loop turns.

A few lines of HTTP/1.0 instead of a server: one request for a connection, one answer.
"""

import errno
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import trio
from trio.abc import Listener, Stream

logger = logging.getLogger(__name__)

Health = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Tells whether all is well, and what to show."""

OpenHealth = Callable[[int, str], Awaitable[Sequence[Listener[Stream]]]]
"""Listens on a port of an address, or on nothing."""

_MOST_REQUEST_BYTES = 8192
_REQUEST_SECONDS = 5.0

_HEALTH = (b"/health", b"/healthz", b"/readyz")
_LIFE = b"/livez"

#: Others, also those of looking up a name, are of the address.
_FAULTS_OF_PORTS = (errno.EADDRINUSE, errno.EACCES)

_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


async def open_health_port(port: int, host: str) -> list[trio.SocketListener]:
    """Listen, or log why not: two workers on one machine must not fail over a port.

    Args:
        port: 0 lets the system choose.
        host: An address of this machine.
    """
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as exc:
        name = "WORKER_PORT" if exc.errno in _FAULTS_OF_PORTS else "WORKER_HOST"
        logger.warning("no health check on %s port %d: %s; set %s", host, port, exc, name)
        return []


async def serve_health(listeners: Sequence[Listener[Stream]], health: Health) -> NoReturn:
    """Answer on *listeners* until cancelled."""
    if not listeners:
        await trio.sleep_forever()
    await trio.serve_listeners(partial(_answer, health), list(listeners))
    raise AssertionError  # it does not end


async def _answer(health: Health, stream: Stream) -> None:
    try:
        with trio.move_on_after(_REQUEST_SECONDS):
            async with stream:
                await stream.send_all(_response(await _request_line(stream), health))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # whoever asked has gone


async def _request_line(stream: Stream) -> list[bytes]:
    """The words of the first line; the headers are read and not looked at."""
    received = b""
    while b"\r\n\r\n" not in received and len(received) < _MOST_REQUEST_BYTES:
        chunk = await stream.receive_some()
        if not chunk:
            break
        received += chunk
    return received.split(b"\r\n", 1)[0].split()


def _response(words: list[bytes], health: Health) -> bytes:
    method, target = (words[0], words[1]) if len(words) >= 2 else (b"", b"")
    body: Mapping[str, Any] = {}
    path = target.split(b"?")[0]
    if path not in (*_HEALTH, _LIFE):
        status = 404
    elif method not in (b"GET", b"HEAD"):
        status = 405
    elif path == _LIFE:
        status, body = 200, {"status": "ok"}
    else:
        is_well, body = health()
        status = 200 if is_well else 503
    content = json.dumps(body).encode()
    head = (
        f"HTTP/1.0 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if method == b"HEAD" else content)
