"""A network in one process, on Trio's clock: real HTTP messages, no sockets, faults on demand.

Unlike httpx's `ASGITransport`, requests run on the *server's* side: cancelling a client makes
the app see `http.disconnect` and nothing else, and killing the server resets its clients.

What TCP does is kept where it matters: a request that was sent before its client died still
arrives; across a cut, nobody learns that the other side has gone; what a cut held up arrives
when it is mended.
"""

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import httpx
import trio

from avtomatika_trio.orchestrator._exchange import ClientGone
from avtomatika_trio.orchestrator._http import AsgiApp
from avtomatika_trio.testing._faults import Call, Fault, Matches, Rule, Seen

#: A name in URLs that stands for any server that is up, as behind a load balancer.
ANY_SERVER = "cluster"


@attrs.define(eq=False)
class _Exchange:
    """A request from the client's side."""

    call: Call
    client_gone: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    outcome: "httpx.Response | _Broken | None" = None

    def end(self, outcome: "httpx.Response | _Broken") -> None:
        self.outcome = outcome
        self.ended.set()


@attrs.frozen
class _Broken:
    """The connection ended without an answer."""

    error: type[httpx.TransportError]
    message: str


@attrs.define(eq=False)
class _Connection:
    """A request from the server's side."""

    call: Call
    hung_up: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)
    answer: httpx.Response | None = None
    """None: the connection was reset."""
    _is_read: bool = False
    _status: int = 0
    _headers: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    _body: list[bytes] = attrs.field(factory=list)

    async def serve(self, app: AsgiApp) -> None:
        """Run *app* on it; an error of the app is an error of the test."""
        try:
            await app(self._scope(), self._receive, self._send)
        except ClientGone:
            pass
        finally:
            self.ended.set()

    def _scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.call.method,
            "headers": self.call.headers,
            "scheme": "http",
            "path": self.call.path,
            "raw_path": self.call.path.encode(),
            "query_string": self.call.query,
            "server": (self.call.server, 80),
            "client": (self.call.client, 12345),
            "root_path": "",
            "extensions": {},
        }

    async def _receive(self) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if not self._is_read:
            self._is_read = True
            return {"type": "http.request", "body": self.call.body, "more_body": False}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if self.hung_up.is_set() and self.answer is None:
            raise ClientGone("the client is gone")
        if message["type"] == "http.response.start":
            self._status, self._headers = message["status"], list(message["headers"])
            return
        self._body.append(message.get("body", b""))
        if not message.get("more_body", False):
            content = b"".join(self._body)
            self.answer = httpx.Response(self._status, headers=self._headers, content=content)
            self.ended.set()
            self.hung_up.set()  # servers report a disconnect after an answer, too


class Network:
    """Connects clients with servers by their names; see `open_network`."""

    def __init__(
        self,
        chance: random.Random,
        latency_seconds: float,
        carry: Callable[[Callable[..., Any], _Exchange], None],
    ) -> None:
        self.seen: list[Seen] = []
        """Every request that has ended, in that order."""
        self.unread: list[Call] = []
        """Requests that a server has answered when their client had gone."""
        self._chance = chance
        self._latency_seconds = latency_seconds
        self._start_carrying = carry
        self._doors: dict[str, Callable[[_Connection], None]] = {}
        self._rules: list[Rule] = []
        self._cut: set[str] = set()
        self._muted: set[str] = set()
        self._mended = trio.lowlevel.ParkingLot()

    # What a test does to it.

    def befall(
        self,
        fault: Fault,
        matches: Matches,
        *,
        seconds: float = 0.0,
        times: float = math.inf,
        lasting_seconds: float = math.inf,
    ) -> Rule:
        """Let *fault* befall requests from now on; of several rules the first one counts.

        Args:
            fault: What happens.
            matches: To which requests.
            seconds: How long a delay is, or how much later a copy arrives.
            times: How many requests it befalls.
            lasting_seconds: For how long.
        """
        until = trio.current_time() + lasting_seconds
        rule = Rule(fault=fault, matches=matches, seconds=seconds, times=times, until=until)
        self._rules.append(rule)
        return rule

    def cut(self, name: str) -> None:
        """Let nothing through to or from *name*, a client or a server."""
        self._cut.add(name)

    def mute(self, name: str) -> None:
        """Let requests to or from *name* through, and no answers."""
        self._muted.add(name)

    def mend(self, name: str) -> None:
        """Undo `cut` and `mute`; what was on its way arrives."""
        self._cut.discard(name)
        self._muted.discard(name)
        self._mended.unpark_all()

    def heal(self) -> None:
        """No cut and no fault from now on."""
        self._cut.clear()
        self._muted.clear()
        self._mended.unpark_all()
        self._rules.clear()

    # Its two ends.

    def transport(self, client: str) -> httpx.AsyncBaseTransport:
        """What a client called *client* gives to httpx."""
        return _Transport(self, client)

    async def serve(
        self,
        server: str,
        app: AsgiApp,
        *,
        shutdown: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Be *server* until *shutdown* returns, then answer what has arrived.

        Cancelled, it is killed: its connections are reset.
        """
        async with trio.open_nursery() as requests:

            def arrive(connection: _Connection) -> None:
                requests.start_soon(connection.serve, app)

            self._doors[server] = arrive
            try:
                task_status.started()
                await shutdown()
            finally:
                del self._doors[server]

    async def send(self, call: Call) -> httpx.Response:
        """Send a request and wait for its answer.

        Raises:
            httpx.TransportError: there is none.
        """
        await trio.lowlevel.checkpoint()
        exchange = _Exchange(call)
        self._start_carrying(self._carry, exchange)
        try:
            await exchange.ended.wait()
        finally:
            exchange.client_gone.set()
        outcome = exchange.outcome
        if isinstance(outcome, httpx.Response):
            self._note(call, outcome.status_code)
            return outcome
        assert outcome is not None
        self._note(call, outcome.error.__name__)
        raise outcome.error(outcome.message)

    def _note(self, call: Call, outcome: int | str) -> None:
        self.seen.append(Seen(at=trio.current_time(), call=call, outcome=outcome))

    # Between them.

    async def _carry(self, exchange: _Exchange) -> None:
        rule = next((rule for rule in self._rules if rule.befalls(exchange.call)), None)
        fault = None if rule is None else rule.fault
        later = 0.0 if rule is None else rule.seconds
        await self._travel(exchange.call)
        match fault:
            case Fault.REFUSE:
                exchange.end(_Broken(httpx.ConnectError, "connection refused"))
                return
            case Fault.LOSE_REQUEST:
                exchange.end(self._reset())
                return
            case Fault.BLACK_HOLE:
                return
            case Fault.DELAY_REQUEST:
                await trio.sleep(later)
            case Fault.DUPLICATE:
                copy = partial(self._deliver_copy, later)
                self._start_carrying(copy, _Exchange(exchange.call))
        answer = await self._deliver(exchange, keep_open=fault is Fault.KEEP_OPEN)
        if fault is Fault.DELAY_ANSWER:
            await trio.sleep(later)
        await self._travel(exchange.call, is_answer=True)
        if exchange.client_gone.is_set() and isinstance(answer, httpx.Response):
            self.unread.append(exchange.call)
        exchange.end(self._reset() if fault is Fault.LOSE_ANSWER else answer)

    async def _deliver_copy(self, later: float, exchange: _Exchange) -> None:
        await trio.sleep(later)
        await self._deliver(exchange, keep_open=True)

    async def _deliver(self, exchange: _Exchange, *, keep_open: bool) -> httpx.Response | _Broken:
        door = self._door(exchange.call.server)
        if door is None:
            return _Broken(httpx.ConnectError, "connection refused")
        connection = _Connection(exchange.call)
        door(connection)
        async with trio.open_nursery() as watchers:
            if not keep_open:
                watchers.start_soon(self._hang_up, exchange, connection)
            await connection.ended.wait()
            watchers.cancel_scope.cancel()
        return self._reset() if connection.answer is None else connection.answer

    async def _hang_up(self, exchange: _Exchange, connection: _Connection) -> None:
        await exchange.client_gone.wait()
        await self._travel(exchange.call)
        connection.hung_up.set()

    async def _travel(self, call: Call, *, is_answer: bool = False) -> None:
        await trio.sleep(self._latency_seconds * self._chance.uniform(0.5, 1.5))
        while self._is_held_up(call, is_answer=is_answer):
            await self._mended.park()

    def _is_held_up(self, call: Call, *, is_answer: bool) -> bool:
        ends = {call.client, call.server}
        return not ends.isdisjoint(self._cut) or (is_answer and not ends.isdisjoint(self._muted))

    def _door(self, server: str) -> Callable[[_Connection], None] | None:
        if server != ANY_SERVER:
            return self._doors.get(server)
        up = sorted(self._doors)
        return self._doors[self._chance.choice(up)] if up else None

    def _reset(self) -> _Broken:
        if self._chance.random() < 0.5:
            return _Broken(httpx.ReadError, "connection reset by peer")
        return _Broken(httpx.RemoteProtocolError, "server disconnected without an answer")


@asynccontextmanager
async def open_network(
    chance: random.Random, *, latency_seconds: float = 0.001
) -> AsyncIterator[Network]:
    """A network; leaving the block drops what is still on its way.

    Args:
        chance: Draws latencies, servers and kinds of resets.
        latency_seconds: How long a message travels, on average.
    """
    async with trio.open_nursery() as wires:
        yield Network(chance, latency_seconds, wires.start_soon)
        wires.cancel_scope.cancel()


@attrs.frozen
class _Transport(httpx.AsyncBaseTransport):
    network: Network
    client: str

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = Call(
            client=self.client,
            server=request.url.host,
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            headers=tuple((name.lower(), value) for name, value in request.headers.raw),
            body=await request.aread(),
        )
        return await self.network.send(call)
