"""A TCP proxy on 127.0.0.1 that does to connections what networks and dying hosts do to them.

It runs in the test's own Trio loop, and its fault is changed while it runs:

    async with open_fault_proxy(port) as proxy:
        proxy.inject(BlackHole())
        ...
        proxy.heal()

It passes bytes on and knows of HTTP only where bodies begin, so that `Cut` cuts in one.  What
keeps a connection's two ends in step, such as TLS or compression, is none of its business.
"""

import contextlib
import enum
import socket
import struct
from collections.abc import AsyncIterator
from functools import partial

import attrs
import trio
from tests.e2e.bodies import Bodies

HOST = "127.0.0.1"

_CHUNK_BYTES = 16 * 1024

#: So much is under way in a slow network before the sender has to wait.
_CHUNKS_UNDER_WAY = 64


class Towards(enum.Enum):
    """A direction."""

    SERVER = "to the server"
    CLIENT = "to the client"


@attrs.frozen
class Refuse:
    """The process is gone: nobody listens, and what was connected is reset."""


@attrs.frozen
class Reset:
    """Connections are accepted and reset at once; those that there are, too."""


@attrs.frozen
class BlackHole:
    """Connections are accepted, and nothing passes; nobody is told, not even of an end.

    What is held goes on its way when the fault is healed, as TCP sends again what was lost.
    """


@attrs.frozen(kw_only=True)
class Slow:
    """Everything arrives late, and in order; the delay does not limit how much is under way."""

    delay_seconds: float = 0.0
    """Each way."""
    bytes_per_second: float = float("inf")
    """Each way, for each connection."""


@attrs.frozen
class Cut:
    """A body that is longer than so many bytes is passed on so far, and then comes a reset."""

    towards: Towards
    body_bytes: int


Fault = Refuse | Reset | BlackHole | Slow | Cut


class FaultProxy:
    """One port of 127.0.0.1 in front of another, which may change.

    Args:
        upstream_port: Where connections are passed on to; one that finds nobody there is reset.

    Attributes:
        upstream_port: May be set at any time, for connections to come.
        port: Its own; the same for as long as it runs, and nobody else's while it refuses.
        hits: What the present fault has done so far: connections that were reset, or pieces
            of data that were held or delayed.  The kernel refuses without telling.
        passed_bytes: What has gone through so far, in both directions.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.fault: Fault | None = None
        self.hits = 0
        self.passed_bytes = 0
        self._changed = trio.Event()
        self._connections: set[_Connection] = set()
        # A socket that is bound and does not listen keeps the port, and refuses.
        self._holder = _bound(0)
        self.port: int = self._holder.getsockname()[1]
        self._listener = self._listen()

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"http://{HOST}:{self.port}"

    def inject(self, fault: Fault | None) -> None:
        """Have *fault* from now on, instead of the one before."""
        self.fault, self.hits = fault, 0
        if isinstance(fault, Refuse):
            self._listener.socket.close()
        elif self._listener.socket.fileno() < 0:
            self._listener = self._listen()
        self._changed.set()
        self._changed = trio.Event()
        if isinstance(fault, Refuse | Reset):
            self.hits += self.reset_connections()

    def heal(self) -> None:
        """Pass everything on from now on."""
        self.inject(None)

    def reset_connections(self) -> int:
        """Reset what is connected now, once; returns how many connections those were."""
        connections = list(self._connections)
        for connection in connections:
            connection.reset()
        return len(connections)

    async def refuses(self) -> bool:
        """Whether the kernel refuses, as a client sees it; `hits` can't tell."""
        with trio.socket.socket() as client:
            try:
                await client.connect((HOST, self.port))
            except ConnectionRefusedError:
                return True
        return False

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    if self._listener.socket.fileno() < 0:
                        await self._changed.wait()
                        continue
                    with contextlib.suppress(trio.ClosedResourceError):
                        nursery.start_soon(self._serve, await self._listener.accept())
        finally:
            self.reset_connections()
            self._listener.socket.close()
            self._holder.close()

    def _listen(self) -> trio.SocketListener:
        listening = _bound(self.port)
        listening.listen(128)
        return trio.SocketListener(trio.socket.from_stdlib_socket(listening))

    async def _serve(self, client: trio.SocketStream) -> None:
        if isinstance(self.fault, Refuse | Reset):  # also if it was accepted a moment before
            self.hits += 1
            _reset(client)
            return
        connection = _Connection(client)
        self._connections.add(connection)
        try:
            await self._until_it_passes()
            server = await trio.open_tcp_stream(HOST, self.upstream_port)
            if connection.add(server):
                async with trio.open_nursery() as nursery:
                    pump = partial(self._pump, connection)
                    nursery.start_soon(pump, client, server, Towards.SERVER)
                    nursery.start_soon(pump, server, client, Towards.CLIENT)
        except OSError:
            connection.reset()
        finally:
            self._connections.discard(connection)
            connection.close()

    async def _pump(
        self,
        connection: "_Connection",
        source: trio.SocketStream,
        sink: trio.SocketStream,
        towards: Towards,
    ) -> None:
        """Pass everything from *source* on to *sink*, an end or a reset, too."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](_CHUNKS_UNDER_WAY)
        bodies = Bodies()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._collect, source, send)
                async for due, data in receive:
                    await trio.sleep_until(due)
                    await self._until_it_passes()
                    if data:
                        await self._deliver(data, bodies, sink, towards)
                    else:
                        await sink.send_eof()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._until_it_passes()
            connection.reset()

    async def _collect(
        self, source: trio.SocketStream, send: trio.MemorySendChannel[tuple[float, bytes]]
    ) -> None:
        """Take everything from *source*, and say when it is due."""
        link_free_at = 0.0
        async with send:
            data = b"any"
            while data:
                await self._until_it_passes()
                data = await source.receive_some(_CHUNK_BYTES)
                due = trio.current_time()
                if isinstance(self.fault, Slow):
                    self.hits += 1
                    sent_at = max(due, link_free_at)
                    link_free_at = sent_at + len(data) / self.fault.bytes_per_second
                    due = link_free_at + self.fault.delay_seconds
                await send.send((due, data))

    async def _deliver(
        self, data: bytes, bodies: Bodies, sink: trio.SocketStream, towards: Towards
    ) -> None:
        for before, piece in bodies.split(data):
            fault = self.fault
            if isinstance(fault, Cut) and fault.towards is towards and before is not None:
                room = max(0, fault.body_bytes - before)
                if len(piece) > room:
                    self.hits += 1
                    await sink.send_all(piece[:room])
                    raise trio.BrokenResourceError("cut")
            await sink.send_all(piece)
            self.passed_bytes += len(piece)

    async def _until_it_passes(self) -> None:
        if isinstance(self.fault, BlackHole):
            self.hits += 1
        while isinstance(self.fault, BlackHole):
            await self._changed.wait()


@contextlib.asynccontextmanager
async def open_fault_proxy(upstream_port: int) -> AsyncIterator[FaultProxy]:
    """A proxy that runs until the block ends."""
    async with trio.open_nursery() as nursery:
        proxy = FaultProxy(upstream_port)
        nursery.start_soon(proxy.run)
        try:
            yield proxy
        finally:
            nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class _Connection:
    """The two ends of a connection, for as long as they are connected."""

    client: trio.SocketStream
    server: trio.SocketStream | None = None
    is_reset: bool = False

    def add(self, server: trio.SocketStream) -> bool:
        """The other end; False, and nothing is left of it, if it comes too late."""
        self.server = server
        if self.is_reset:
            _reset(server)
        return not self.is_reset

    def reset(self) -> None:
        """Both ends are told that the other one has broken off."""
        self.is_reset = True
        for stream in self._streams():
            _reset(stream)

    def close(self) -> None:
        """Both ends are told that the other one has ended, unless they were reset."""
        for stream in self._streams():
            stream.socket.close()

    def _streams(self) -> list[trio.SocketStream]:
        return [stream for stream in (self.client, self.server) if stream is not None]


def _reset(stream: trio.SocketStream) -> None:
    if stream.socket.fileno() >= 0:
        # To linger for no time is to throw away what is unsent and to reset.
        linger = struct.pack("ii", 1, 0)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        stream.socket.close()


def _bound(port: int) -> socket.socket:
    """A socket on *port*, which it shares with others of this user that share it."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, port))
    return bound
