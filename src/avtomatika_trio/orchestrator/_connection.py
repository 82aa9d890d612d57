"""One connection: hypercorn's protocols between a stream and the app, made safe.

hypercorn's protocol layer knows no event loop; this is what its HTTP/1 and WebSocket stand on
instead of `hypercorn.trio.tcp_server`.  What that one does not promise, and this one does:

* **Nothing that a client sends, and nothing that an app raises, leaves its connection.**
* **Nothing waits for a client without a limit**: neither a handshake, nor the head or body of a
  request, nor the next request, nor a write, and nothing at all beyond the end of a drain.
* **What is answered can be read**: a connection that closes on a client which is still sending
  (an early 401 or 413) discards that for a while, since closing at once would reset the
  connection and take the answer along.

HTTP/2 is not spoken: hypercorn's is no faster than its HTTP/1, gathers without limit what a client
with a shut window does not take, and brought most of the packets that ended a whole server.

The time limits are deadlines of the one task that reads.  A connection is idle when no call of
the app is running, whatever the protocol believes.
"""

import math
import ssl
from typing import Any, Final

import attrs
import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from avtomatika_trio.orchestrator._exchange import PIECE_BYTES, Exchanges, logger

Stream = trio.abc.HalfCloseableStream | trio.SSLStream[trio.SocketStream]
"""Of a socket, with or without TLS; in tests also of memory."""

CLIENT_CERTIFICATE: Final = "client_certificate"
"""Where the app finds in `scope["state"]` the certificate that the client has shown, as
`ssl.SSLSocket.getpeercert` tells it; without one, and without TLS, there is no such entry."""


@attrs.frozen(kw_only=True)
class Patience:
    """How long a connection waits for its client; every limit in seconds."""

    keep_alive_seconds: float
    """For the first request, and for the next one after an answer."""
    head_seconds: float
    """For the rest of a request's head, from its first bytes on."""
    body_seconds: float
    """For the next bytes of a request's body."""
    send_seconds: float
    """For room for the next 64 KiB of an answer."""
    handshake_seconds: float
    """For the TLS handshake."""
    linger_seconds: float
    """For a client that is still sending to read the answer and close."""


class _Http1(H11Protocol):
    """hypercorn's HTTP/1 without its ways into HTTP/2; an offered upgrade is passed over."""

    async def _check_protocol(self, event: h11.Request) -> None:
        if not event.http_version.startswith(b"1."):
            raise h11.RemoteProtocolError("only HTTP/1 is spoken here")


class Connection:
    """One accepted connection; `run` is its whole life.

    Args:
        stream: Owned from now on; it is closed when `run` returns.
        app: What answers.
        config: hypercorn's settings for the protocol.
        context: hypercorn's idea of the server; `terminated` when it drains.
        state: The lifespan's state; copied, so that no connection sees another's.
        patience: The time limits.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        state: dict[str, Any],
        patience: Patience,
    ) -> None:
        self._stream = stream
        self._app = app
        self._config = config
        self._context = context
        self._state = ConnectionState(dict(state))
        self._patience = patience
        self._exchanges = Exchanges(hold_head=self._hold_next_write, on_change=self._note_activity)
        self._protocol: H11Protocol
        self._life = trio.CancelScope()  # of the reader; cancelled when the client is lost
        self._waiting = trio.CancelScope()  # of the reader's present wait for bytes
        self._writing = trio.CancelScope()  # of the present write
        self._write_lock = trio.Lock()
        self._hold_next = False
        self._held = b""
        self._wait_until = trio.current_time() + patience.keep_alive_seconds
        self._cutoff = math.inf
        self._draining = False
        self._closing = False

    async def run(self) -> None:
        """Serve until the client or the server ends it; only cancellation comes out."""
        try:
            await self._serve()
        except* OSError:
            pass  # the network's way of saying goodbye
        except* Exception:  # noqa: BLE001 - the border to hypercorn: this fails, not the server
            logger.exception("a connection crashed; the others go on")

    def drain(self, cutoff: float) -> None:
        """Close as soon as no request is running; wait for nobody beyond *cutoff* (trio's time)."""
        self._draining = True
        self._cutoff = cutoff
        self._writing.deadline = min(self._writing.deadline, cutoff)
        if not self._exchanges.running and not self._closing:
            self._wait_only_until(-math.inf)

    async def _serve(self) -> None:
        tls = isinstance(self._stream, trio.SSLStream)
        if isinstance(self._stream, trio.SSLStream) and not await self._shake_hands(self._stream):
            return
        client, server = _addresses(self._stream)
        async with self._exchanges:
            self._protocol = _Http1(
                self._app,
                self._config,
                self._context,
                self._exchanges,
                self._state,
                tls,
                client,
                server,
                self._take_from_protocol,
            )
            with self._life:
                await self._read()
            self._closing = True
            await self._end_calls()
        if tls:
            with trio.move_on_after(self._patience.linger_seconds):
                await self._stream.aclose()  # says goodbye; the bare socket needs no word

    async def _shake_hands(self, stream: trio.SSLStream[trio.SocketStream]) -> bool:
        try:
            with trio.fail_after(self._patience.handshake_seconds):
                await stream.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError, ssl.SSLError):
            return False
        certificate = stream.getpeercert()  # that one of our authorities has signed
        if certificate:
            self._state[CLIENT_CERTIFICATE] = certificate
        return True

    async def _read(self) -> None:
        while True:
            deadline = self._next_deadline()
            with trio.CancelScope(deadline=deadline) as self._waiting:
                try:
                    data = bytes(await self._stream.receive_some(PIECE_BYTES))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
            if self._waiting.cancelled_caught:
                return
            if not self._closing:
                await self._feed(data)
            if not data:
                return

    async def _feed(self, data: bytes) -> None:
        """Let the protocol digest *data*.  What it chokes on was sent by the client."""
        try:
            await self._protocol.handle(RawData(data))
            if self._has_oversized_message():
                await self._close()  # it was told, but could go on filling our memory
        except Exception as exc:  # noqa: BLE001 - the border to the parsers and to any client
            logger.info("closing a connection that makes no sense (%s)", type(exc).__name__)
            logger.debug("the bytes that made no sense", exc_info=exc)
            await self._close()

    async def _end_calls(self) -> None:
        """Tell a running call of the app that its client is gone; harmless to repeat."""
        try:
            await self._protocol.handle(Closed())
        except Exception:  # noqa: BLE001 - see `_feed`; a call that was never made cannot be told
            logger.debug("a half-made stream could not be closed", exc_info=True)

    def _next_deadline(self) -> float:
        """When the reader's next wait ends.  Only the reader calls it, before it waits."""
        if self._closing:
            return self._wait_until
        now = trio.current_time()
        parser = self._parser()
        if self._exchanges.running:
            if parser is not None and parser.their_state is h11.SEND_BODY:
                return now + self._patience.body_seconds
            return math.inf
        if parser is not None and parser.their_state is h11.IDLE and parser.trailing_data[0]:
            # Half a head: however slowly the rest drips, this only ever gets earlier.
            self._wait_until = min(self._wait_until, now + self._patience.head_seconds)
        return self._wait_until

    def _has_oversized_message(self) -> bool:
        stream = self._protocol.stream
        return isinstance(stream, WSStream) and stream.buffer.length > stream.buffer.max_length

    def _parser(self) -> h11.Connection | None:
        connection = self._protocol.connection
        return connection if isinstance(connection, h11.Connection) else None  # a WebSocket

    def _note_activity(self) -> None:
        """A call of the app has begun or ended: the reader's patience changes with it."""
        if self._closing:
            return
        if self._exchanges.running:
            self._waiting.deadline = math.inf
        elif self._draining:
            self._wait_only_until(-math.inf)
        else:
            self._wait_only_until(trio.current_time() + self._patience.keep_alive_seconds)

    def _wait_only_until(self, deadline: float) -> None:
        self._wait_until = deadline
        self._waiting.deadline = deadline

    async def _take_from_protocol(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            await self._close()

    def _hold_next_write(self) -> None:
        """The next bytes are the head of an answer: they leave together with what follows."""
        self._hold_next = True

    async def _write(self, data: bytes) -> None:
        """Write *data* whole, or give the client up.

        Half an answer would spoil a connection that goes on, so no cancellation ends a write; its
        own deadline does, which starts anew with every piece and is never after the cutoff.
        """
        data, self._held = self._held + data, b""
        if self._hold_next:
            self._hold_next, self._held = False, data
            return
        if not data or self._life.cancel_called:
            return
        with trio.CancelScope(shield=True):
            await self._write_lock.acquire()
        try:
            with trio.CancelScope(shield=True) as self._writing:
                for start in range(0, len(data), PIECE_BYTES):
                    patient_until = trio.current_time() + self._patience.send_seconds
                    self._writing.deadline = min(patient_until, self._cutoff)
                    await self._stream.send_all(data[start : start + PIECE_BYTES])
            lost = self._writing.cancelled_caught
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            lost = True
        finally:
            self._write_lock.release()
        if lost:
            self._closing = True
            self._life.cancel()
            await self._end_calls()

    async def _close(self) -> None:
        """Answer nothing more; let a client that is still sending read what was answered."""
        if self._closing:
            return
        self._closing = True
        parser = self._parser()
        if parser is not None and parser.their_state in {h11.SEND_BODY, h11.ERROR}:
            self._wait_only_until(trio.current_time() + self._patience.linger_seconds)
            await self._end_of_answers()
        else:
            self._wait_only_until(-math.inf)
        await self._end_calls()

    async def _end_of_answers(self) -> None:
        if isinstance(self._stream, trio.SSLStream):
            return  # TLS cannot say it without closing
        with trio.CancelScope(shield=True):
            async with self._write_lock:
                try:
                    await self._stream.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._life.cancel()


def _addresses(stream: Stream) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    """The client's and the server's; what is no socket has none."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return None, None
    family = stream.socket.family
    client = parse_socket_addr(family, stream.socket.getpeername())
    return client, parse_socket_addr(family, stream.socket.getsockname())
