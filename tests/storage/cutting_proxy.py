"""A TCP proxy that resets a connection after so many bytes of one direction."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

HOST = "127.0.0.1"


class CuttingProxy:
    """Passes everything on, until a cut is due.

    Attributes:
        port: Its own.
        requests_left: After so many bytes to the server comes one reset; None: never.
        replies_left: Likewise, of bytes to the client.
        silent: Nothing passes in any direction, and nobody is told.
        connections: How many there have been.
        cuts: How many resets.
    """

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        self.requests_left: int | None = None
        self.replies_left: int | None = None
        self.silent = False
        self.connections = 0
        self.cuts = 0
        self._upstream_port = upstream_port

    async def serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        server = await trio.open_tcp_stream(HOST, self._upstream_port)
        async with client, server, trio.open_nursery() as nursery:
            for source, sink, name in (
                (client, server, "requests_left"),
                (server, client, "replies_left"),
            ):
                nursery.start_soon(self._pump, source, sink, name, nursery.cancel_scope)

    async def _pump(
        self,
        source: trio.SocketStream,
        sink: trio.SocketStream,
        name: str,
        both: trio.CancelScope,
    ) -> None:
        try:
            while data := await source.receive_some(16 * 1024):
                while self.silent:  # noqa: ASYNC110 - it is a test that changes it
                    await trio.sleep(0.01)
                left: int | None = getattr(self, name)
                if left is not None and len(data) >= left:
                    await sink.send_all(data[:left])
                    setattr(self, name, None)
                    self.cuts += 1
                    for stream in (source, sink):
                        linger = struct.pack("ii", 1, 0)
                        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    break
                if left is not None:
                    setattr(self, name, left - len(data))
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()


@asynccontextmanager
async def open_cutting_proxy(upstream_port: int) -> AsyncIterator[CuttingProxy]:
    """A proxy that runs until the block ends."""
    proxy = CuttingProxy(upstream_port)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, proxy.serve, 0, host=HOST)
        [listener] = await nursery.start(serve)
        proxy.port = listener.socket.getsockname()[1]
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()
