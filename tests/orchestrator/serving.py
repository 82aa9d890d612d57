"""Real servers on free ports of 127.0.0.1, small apps, and clients that speak bare bytes."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import attrs
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    Scope,
)
from quart import Quart, request
from quart_trio import QuartTrio

from avtomatika_trio.orchestrator._body_limit import limit_body
from avtomatika_trio.orchestrator._server import ServerSettings, serve

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POLL = b"GET /poll HTTP/1.1\r\nHost: a\r\n\r\n"
WEBSOCKET = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@attrs.frozen(kw_only=True)
class Running:
    """A server that is up."""

    url: str
    port: int
    stop: Callable[[], None]


@contextlib.asynccontextmanager
async def open_server(app: ASGIFramework, **changes: Any) -> AsyncIterator[Running]:
    """*app*, served; the block's end stops it and waits until it has drained."""
    settings = ServerSettings(**{"port": 0, "grace_seconds": 0.2, **changes})
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        limited = limit_body(app, settings.max_message_bytes)
        urls = await nursery.start(partial(serve, limited, settings, shutdown=stop.wait))
        port = int(urls[0].rpartition(":")[2])
        try:
            yield Running(url=urls[0], port=port, stop=stop.set)
        finally:
            stop.set()


async def read_answer(stream: trio.abc.ReceiveStream) -> tuple[int, bytes]:
    """Status and body of one answer that announces its length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await _some(stream)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += await _some(stream)
    return int(head.split()[1]), body


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    """All that still comes; a reset is an end too."""
    data = b""
    with contextlib.suppress(trio.BrokenResourceError):
        while piece := await stream.receive_some(65536):
            data += piece
    return data


async def _some(stream: trio.abc.ReceiveStream) -> bytes:
    piece = await stream.receive_some(65536)
    assert piece, "the server closed the connection before its answer was whole"
    return bytes(piece)


async def connect(port: int) -> trio.SocketStream:
    """A new connection to the server."""
    return await trio.open_tcp_stream("127.0.0.1", port)


async def ask(port: int, packet: bytes = GET) -> tuple[int, bytes]:
    """Send *packet* over a connection of its own and return the answer."""
    async with await connect(port) as stream:
        await stream.send_all(packet)
        return await read_answer(stream)


async def speak_lifespan(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Start and stop without doing anything."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def answer(send: ASGISendCallable, body: bytes, status: int = 200) -> None:
    """One whole answer."""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@attrs.define
class PlainApp:
    """A bare ASGI app; it remembers what the paths below made of their clients.

    `/` answers after the whole body, with its length; `/early` answers without reading; `/poll`
    waits for its client to go; `/stream` sends for ever; `/crash` raises; `/slow` takes 0.1 s;
    `/ws` is a WebSocket that echoes.
    """

    ended: list[str] = attrs.field(factory=list)
    """What ended the polls and streams, in order."""
    gone: trio.Event = attrs.field(factory=trio.Event)
    """Set with the first of these."""
    parked: trio.Event = attrs.field(factory=trio.Event)
    """Set when a poll, stream, slow request or WebSocket has begun."""

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        if scope["type"] == "lifespan":
            await speak_lifespan(receive, send)
            return
        name = "root" if scope["path"] == "/" else scope["path"].strip("/")
        await getattr(self, f"_{name}")(receive, send)

    def _end(self, reason: str) -> None:
        self.ended.append(reason)
        self.gone.set()

    async def _root(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        length, more = 0, True
        while more:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                self._end(message["type"])
                return
            length, more = length + len(message["body"]), message["more_body"]
        await answer(send, json.dumps({"received": length}).encode())

    async def _early(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await trio.sleep(0.05)  # more of the body arrives than the server keeps for the app
        await answer(send, b"early", 401)

    async def _poll(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert (await receive())["type"] == "http.request"
        self.parked.set()
        self._end((await receive())["type"])
        assert (await receive())["type"] == "http.disconnect"  # it may be asked again

    async def _stream(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self.parked.set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                piece = b"x" * 1_000_000
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except OSError as exc:
            self._end(type(exc).__name__)
            raise

    async def _crash(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        raise LookupError("a fault of the app")

    async def _slow(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self.parked.set()
        await trio.sleep(0.1)
        await answer(send, b"at last")

    async def _ws(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        self.parked.set()
        while True:
            message: Any = await receive()
            if message["type"] == "websocket.disconnect":
                self._end(message["type"])
                return
            await send({"type": "websocket.send", "bytes": message["bytes"], "text": None})


def create_quart_app() -> Quart:
    """The same in Quart, as far as needed: `/` answers after the body, `/early` before."""
    app = QuartTrio("served")

    @app.route("/", methods=["GET", "POST"])
    async def root() -> dict[str, int]:
        return {"received": len(await request.get_data())}

    @app.post("/early")
    async def early() -> tuple[str, int]:
        await trio.sleep(0.05)
        return "early", 401

    return app


def create_app(kind: str) -> Any:
    """A bare ASGI app or a Quart one; both are called in the same way."""
    return PlainApp() if kind == "plain" else create_quart_app()
