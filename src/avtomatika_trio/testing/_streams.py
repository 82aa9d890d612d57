"""A network of byte streams in one process, on Trio's clock, that can be cut at any byte.

The client's side is httpx with httpcore's own connections, the server's side the real server;
only the sockets between them are memory.  An exchange is a request and its answer; where one of
them is to be cut is said by a `Cut`.
"""

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
from avtomatika_trio.testing._wires import Break, Cut, Exchange, Way, Wire, WireEnd, open_wire


class _HttpcoreStream(httpcore.AsyncNetworkStream):
    """The client's end, as httpcore wants it."""

    def __init__(self, stream: WireEnd) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        try:
            with trio.fail_after(math.inf if timeout is None else timeout):
                return await self._stream.receive_some(max_bytes)
        except trio.TooSlowError as exc:
            raise httpcore.ReadTimeout("nothing was read in time") from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise httpcore.ReadError(str(exc)) from exc

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - httpcore's
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise httpcore.WriteError(str(exc)) from exc

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.is_readable if info == "is_readable" else None


class _Listener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """A server's door."""

    def __init__(self) -> None:
        self._connect, self._arrived = trio.open_memory_channel[WireEnd](math.inf)
        self._wires: list[Wire] = []

    def connect(self, wire: Wire, end: WireEnd) -> None:
        self._wires.append(wire)
        self._connect.send_nowait(end)

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

        async with trio.open_nursery() as process:
            process.start_soon(self._end_at_once, server, listener)
            await serve_streams(
                app,
                ServerSettings(),
                listener,
                shutdown=close_and_shut_down,
                task_status=task_status,
            )
            process.cancel_scope.cancel()

    async def _end_at_once(self, server: str, listener: _Listener) -> None:
        """Take *server* from the network in the moment of its kill.

        What is cancelled with it speaks on: where nothing was answered it answers 500, and no
        cancellation keeps it from that.  After `kill -9`, nobody hears it.
        """
        try:
            await trio.sleep_forever()
        finally:
            self._doors.pop(server, None)
            listener.reset_all()

    def connect(self, server: str) -> httpcore.AsyncNetworkStream:
        """A new connection.

        Raises:
            httpcore.ConnectError: nobody listens.
        """
        if server == ANY_SERVER and self._doors:
            server = self._chance.choice(sorted(self._doors))
        door = self._doors.get(server)
        if door is None:
            raise httpcore.ConnectError("connection refused")
        wire, client_end, server_end = open_wire(self.exchanges, self._find_cut)
        door.connect(wire, server_end)
        return _HttpcoreStream(client_end)

    def _find_cut(self, exchange: Exchange, way: Way) -> Cut | None:
        cut = self.cut
        if cut is None or cut.hit.is_set() or cut.way is not way or not cut.matches(exchange.line):
            return None
        # An exchange that is past the place already is not meant.
        return cut if exchange.sent[way] <= cut.after_bytes else None


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
