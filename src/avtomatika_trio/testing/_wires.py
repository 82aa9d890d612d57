"""Connections of memory that break at the byte that a test has chosen.

Both ends keep what TCP promises: bytes that have got through are read before the news that the
connection is broken; who sends to somebody who has closed is told.  What they do not have is a
window, so that nobody ever waits to send.
"""

import enum
import operator
from collections.abc import Callable
from typing import Any

import attrs
import trio


class Way(enum.Enum):
    """A direction."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"

    @property
    def back(self) -> "Way":
        """The other one."""
        return Way.TO_CLIENT if self is Way.TO_SERVER else Way.TO_SERVER


class Break(enum.Enum):
    """How a connection ends."""

    RESET = "reset"
    """Both sides are told at once, by an error."""
    END = "end"
    """Both sides read an end, as if the other had closed: a proxy between them has."""
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
    """Set when it has happened."""


@attrs.define(kw_only=True)
class Exchange:
    """A request and its answer, as they went over the wire."""

    line: str
    sent: dict[Way, int] = attrs.field(factory=lambda: dict.fromkeys(Way, 0))
    """Bytes that got through, in each direction."""
    status: int | None = None
    """Of the answer that the server sent, however much of it got through."""


class _Pipe:
    """One direction of a connection."""

    def __init__(self) -> None:
        self.is_deserted = False
        """Whether nobody will read what it carries."""
        self._data = bytearray()
        self._is_ended = False
        self._is_broken = False
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def is_readable(self) -> bool:
        return bool(self._data) or self._is_ended or self._is_broken or self.is_deserted

    def put(self, data: bytes) -> None:
        self._data += data
        self._changed.unpark_all()

    def end(self) -> None:
        self._is_ended = True
        self._changed.unpark_all()

    def break_(self) -> None:
        self._is_broken = True
        self._changed.unpark_all()

    def desert(self) -> None:
        self.is_deserted = True
        self._changed.unpark_all()

    async def take(self, max_bytes: int | None) -> bytes:
        """Up to *max_bytes* as soon as there is one; none at the end."""
        while not self.is_readable:
            await self._changed.park()
        if self.is_deserted:
            raise trio.ClosedResourceError
        if not self._data and self._is_broken:
            raise trio.BrokenResourceError("connection reset by peer")
        size = len(self._data) if max_bytes is None else max_bytes
        data = bytes(self._data[:size])
        del self._data[:size]
        return data


@attrs.define(eq=False)
class Wire:
    """A connection, and what goes over it.

    It speaks HTTP/1.1 without pipelining, and its client sends the head of a request in one
    piece, as httpcore does: so it knows where an exchange begins.
    """

    exchanges: list[Exchange]
    """Where to note those that begin."""
    find_cut: Callable[[Exchange, Way], Cut | None]
    """What is to break an exchange that has not got past it yet."""
    pipes: dict[Way, _Pipe] = attrs.field(factory=lambda: {way: _Pipe() for way in Way})
    _is_broken: bool = False
    _is_silent: bool = False
    _exchange: Exchange = attrs.field(factory=lambda: Exchange(line=""))

    def send(self, way: Way, data: bytes) -> None:
        """Take *data* as far as it gets.

        Who sends the bytes that are cut off is not told by this call, just as a socket takes them
        before the network loses them.

        Raises:
            trio.BrokenResourceError: the connection is broken, or the other side has closed it.
        """
        if self._is_silent:
            return
        if self._is_broken or self.pipes[way].is_deserted:
            raise trio.BrokenResourceError("broken pipe")
        self._note(way, data)
        exchange = self._exchange
        cut = self.find_cut(exchange, way)
        if cut is not None:
            data = data[: cut.after_bytes - exchange.sent[way]]
        exchange.sent[way] += len(data)
        self.pipes[way].put(data)
        if cut is not None and exchange.sent[way] == cut.after_bytes:
            cut.hit.set()
            self.break_(cut.how)

    def _note(self, way: Way, data: bytes) -> None:
        if way is Way.TO_SERVER and data.startswith((b"GET ", b"POST ", b"PATCH ")):
            self._exchange = Exchange(line=data.partition(b"\r\n")[0].decode())
            self.exchanges.append(self._exchange)
        elif way is Way.TO_CLIENT and data.startswith(b"HTTP/1.1 "):
            self._exchange.status = int(data.split(maxsplit=2)[1])

    def break_(self, how: Break) -> None:
        """Break it now; what is silent stays so."""
        if self._is_silent:
            return
        match how:
            case Break.SILENCE:
                self._is_silent = True
                return
            case Break.RESET:
                for pipe in self.pipes.values():
                    pipe.break_()
            case Break.END:
                for pipe in self.pipes.values():
                    pipe.end()
        self._is_broken = True

    def end(self, way: Way) -> None:
        """Nothing more will be sent that *way*; who reads there learns it, unless it is silent."""
        if not self._is_silent:
            self.pipes[way].end()


class WireEnd(trio.abc.HalfCloseableStream):
    """One side of a connection.

    Args:
        wire: The connection.
        sends: Which way it sends.
    """

    def __init__(self, wire: Wire, sends: Way) -> None:
        self._wire = wire
        self._sends = sends
        self._incoming = wire.pipes[sends.back]
        self._is_receiving = False
        self._is_sending = False
        self._has_ended = False

    @property
    def is_readable(self) -> bool:
        """Whether to receive would not wait."""
        return self._incoming.is_readable

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._is_receiving:
            raise trio.BusyResourceError("another task is receiving")
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        self._is_receiving = True
        try:
            await trio.lowlevel.checkpoint()
            return await self._incoming.take(max_bytes)
        finally:
            self._is_receiving = False

    async def send_all(self, data: Any) -> None:
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint()
            if self._has_ended:
                raise trio.ClosedResourceError
            self._wire.send(self._sends, bytes(data))
        finally:
            self._is_sending = False

    async def wait_send_all_might_not_block(self) -> None:
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        await trio.lowlevel.checkpoint()
        if self._has_ended:
            raise trio.ClosedResourceError

    async def send_eof(self) -> None:
        if self._is_sending:
            raise trio.BusyResourceError("another task is sending")
        await trio.lowlevel.checkpoint()
        if self._incoming.is_deserted:
            raise trio.ClosedResourceError
        self._end()

    async def aclose(self) -> None:
        self._end()
        self._incoming.desert()
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        self._has_ended = True
        self._wire.end(self._sends)


def open_wire(
    exchanges: list[Exchange], find_cut: Callable[[Exchange, Way], Cut | None]
) -> tuple[Wire, WireEnd, WireEnd]:
    """A new connection, its client's and its server's end."""
    wire = Wire(exchanges, find_cut)
    return wire, WireEnd(wire, Way.TO_SERVER), WireEnd(wire, Way.TO_CLIENT)
