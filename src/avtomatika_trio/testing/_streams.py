"""A network of byte streams in one process, on Trio's clock, that can be cut at any byte.

The client's side is httpx with httpcore's own connections, the server's side the real server;
only the sockets between them are memory.  An exchange is a request and its answer; where one of
them is to be cut is said by a `Cut`.
"""

import enum
import math
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import attrs
import httpcore
import httpx
import trio

from avtomatika_trio.orchestrator._http import AsgiApp
from avtomatika_trio.orchestrator._server import ServerSettings, serve_streams
from avtomatika_trio.testing._network import ANY_SERVER


class Way(enum.Enum):
    """A direction."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class Break(enum.Enum):
    """How a connection ends."""

    RESET = "reset"
    """Both sides are told at once."""
    SILENCE = "silence"
    """Nothing gets through any more, in either direction, and nobody is told."""


@attrs.define(kw_only=True)
class Cut:
    """Where a connection is to break; once."""

    matches: Callable[[str], bool]
    """Of the line that begins the request: `GET /path HTTP/1.1`."""
    way: Way
    after_bytes: int
    """How many bytes of the exchange still get through in that direction."""
    how: Break = Break.RESET
    hit: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(kw_only=True)
class Exchange:
    """A request and its answer, as they went over the wire."""

    line: str
    sent: dict[Way, int] = attrs.field(factory=lambda: dict.fromkeys(Way, 0))
    """Bytes in each direction."""


class _Pipe:
    """One direction of a connection."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_ended = False
        self._is_broken = False
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def is_readable(self) -> bool:
        return bool(self._data) or self._is_ended or self._is_broken

    def put(self, data: bytes) -> None:
        self._data += data
        self._changed.unpark_all()

    def end(self) -> None:
        self._is_ended = True
        self._changed.unpark_all()

    def break_(self) -> None:
        self._is_broken = True
        self._changed.unpark_all()

    async def receive_some(self, max_bytes: int | None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self.is_readable:
            await self._changed.park()
        if not self._data and self._is_broken:
            raise trio.BrokenResourceError("connection reset by peer")
        size = len(self._data) if max_bytes is None else max_bytes
        data = bytes(self._data[:size])
        del self._data[:size]
        return data


class _Wire:
    """A connection, and what has gone over it."""

    def __init__(self, network: "StreamNetwork") -> None:
        self.pipes = {way: _Pipe() for way in Way}
        self.is_broken = False
        self._is_silent = False
        self._network = network
        self._exchange = Exchange(line="")

    def send(self, way: Way, data: bytes) -> None:
        """Take *data* as far as it gets.

        Raises:
            trio.BrokenResourceError: the connection is broken.
        """
        if self.is_broken:
            raise trio.BrokenResourceError("broken pipe")
        if self._is_silent:
            return
        if way is Way.TO_SERVER and data.startswith((b"GET ", b"POST ", b"PATCH ")):
            self._exchange = Exchange(line=data.partition(b"\r\n")[0].decode())
            self._network.exchanges.append(self._exchange)
        room = self._network.room_for(self._exchange, way)
        through = data if room >= len(data) else data[: int(room)]
        self.pipes[way].put(through)
        self._exchange.sent[way] += len(through)
        cut = self._network.cut_now(self._exchange, way)
        if cut is not None:
            self.break_(cut.how)

    def break_(self, how: Break) -> None:
        if how is Break.SILENCE:
            self._is_silent = True
            return
        self.is_broken = True
        for pipe in self.pipes.values():
            pipe.break_()

    def close(self, way: Way) -> None:
        """The side that sends *way* wants nothing more of it."""
        if not self._is_silent:
            self.pipes[way].end()


class _ServerEnd(trio.abc.HalfCloseableStream):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._is_closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._is_closed:
            raise trio.ClosedResourceError
        return await self._wire.pipes[Way.TO_SERVER].receive_some(max_bytes)

    async def send_all(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()
        if self._is_closed:
            raise trio.ClosedResourceError
        self._wire.send(Way.TO_CLIENT, bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self._wire.close(Way.TO_CLIENT)

    async def aclose(self) -> None:
        self._is_closed = True
        self._wire.close(Way.TO_CLIENT)
        await trio.lowlevel.checkpoint()


class _ClientEnd(httpcore.AsyncNetworkStream):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - httpcore's
        try:
            return await self._wire.pipes[Way.TO_CLIENT].receive_some(max_bytes)
        except trio.BrokenResourceError as exc:
            raise httpcore.ReadError(str(exc)) from exc

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - httpcore's
        await trio.lowlevel.checkpoint()
        try:
            self._wire.send(Way.TO_SERVER, buffer)
        except trio.BrokenResourceError as exc:
            raise httpcore.WriteError(str(exc)) from exc

    async def aclose(self) -> None:
        self._wire.close(Way.TO_SERVER)
        await trio.lowlevel.checkpoint()

    def get_extra_info(self, info: str) -> Any:
        return self._wire.pipes[Way.TO_CLIENT].is_readable if info == "is_readable" else None


class _Listener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    def __init__(self) -> None:
        self._connect, self._arrived = trio.open_memory_channel[_ServerEnd](math.inf)
        self._wires: list[_Wire] = []

    def connect(self, wire: _Wire) -> None:
        self._wires.append(wire)
        self._connect.send_nowait(_ServerEnd(wire))

    async def accept(self) -> trio.abc.HalfCloseableStream:
        return await self._arrived.receive()

    def reset_all(self) -> None:
        for wire in self._wires:
            wire.break_(Break.RESET)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class StreamNetwork:
    """Connects clients with servers by their names, for `open_cluster`.

    Args:
        chance: Draws the server where any will do.
    """

    def __init__(self, chance: random.Random) -> None:
        self.exchanges: list[Exchange] = []
        """All that have begun, in order."""
        self.cut: Cut | None = None
        """The next break."""
        self._chance = chance
        self._doors: dict[str, _Listener] = {}

    # What a test looks at.

    def room_for(self, exchange: Exchange, way: Way) -> float:
        """How many more bytes get through in that direction."""
        cut = self._waiting(exchange, way)
        return math.inf if cut is None else max(0, cut.after_bytes - exchange.sent[way])

    def cut_now(self, exchange: Exchange, way: Way) -> Cut | None:
        """The cut, if it is there that the exchange has got to."""
        cut = self._waiting(exchange, way)
        if cut is None or exchange.sent[way] != cut.after_bytes:
            return None
        cut.hit.set()
        return cut

    def _waiting(self, exchange: Exchange, way: Way) -> Cut | None:
        cut = self.cut
        if cut is None or cut.hit.is_set() or cut.way is not way or not cut.matches(exchange.line):
            return None
        # An exchange that is past the place already is not meant.
        return cut if exchange.sent[way] <= cut.after_bytes else None

    # Its two ends.

    def transport(self, client: str) -> httpx.AsyncBaseTransport:  # noqa: ARG002 - as a `Network`
        """What a client gives to httpx."""
        return _Transport(self)

    async def serve(
        self,
        server: str,
        app: AsgiApp,
        *,
        shutdown: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Be *server* until *shutdown* returns; cancelled, it is killed."""
        self._doors[server] = listener = _Listener()

        async def close_and_shut_down() -> None:
            await shutdown()
            self._doors.pop(server, None)

        try:
            await serve_streams(
                app,
                ServerSettings(),
                listener,
                shutdown=close_and_shut_down,
                task_status=task_status,
            )
        finally:
            self._doors.pop(server, None)
            listener.reset_all()

    def connect(self, server: str) -> _ClientEnd:
        """A new connection.

        Raises:
            httpcore.ConnectError: nobody listens.
        """
        name = self._chance.choice(sorted(self._doors)) if server == ANY_SERVER else server
        door = self._doors.get(name)
        if door is None:
            raise httpcore.ConnectError("connection refused")
        wire = _Wire(self)
        door.connect(wire)
        return _ClientEnd(wire)


@attrs.frozen
class _Backend(httpcore.AsyncNetworkBackend):
    network: StreamNetwork

    async def connect_tcp(
        self,
        host: str,
        port: int,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        await trio.lowlevel.checkpoint()
        return self.network.connect(host)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Transport(httpx.AsyncBaseTransport):
    """httpx's own transport with connections of ours, for each server another."""

    def __init__(self, network: StreamNetwork) -> None:
        self._network = network
        self._by_host: dict[str, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if host not in self._by_host:
            transport = httpx.AsyncHTTPTransport(verify=False)
            # httpx has no way to be given a pool.
            transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001
                network_backend=_Backend(self._network), max_connections=20
            )
            self._by_host[host] = transport
        return await self._by_host[host].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._by_host.values():
            await transport.aclose()
