"""One request or WebSocket, seen from the app: what it receives, what it sends, how it ends.

hypercorn connects an app to its stream with a bounded channel and a bare `send`.  Four things go
wrong there, and are put right here:

* An app that answers without reading the body waits for room in the channel that only it could
  make.  Here telling an app that the client is gone never waits.
* The stream tells the app of its end *while* the last `send` still makes the connection ready for
  the next request; an app that cancels its sender at once (as quart-trio does) leaves the
  connection neither open nor closed.  Here nothing after the last write waits, so that no
  cancellation can come between.
* A `send` to a client that is gone returns at once, so an endless stream spins without ever
  giving way.  Here it raises `ClientGone`.
* Bytes that follow a WebSocket's request before the app has answered it are answered in the app's
  place, and both answers break the connection.  Here they wait.

What this is not: bytes, sockets and time limits of a connection (`_connection`).
"""

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

logger = logging.getLogger("avtomatika_trio.orchestrator.server")

PIECE_BYTES = 64 * 1024
"""What is read and written at a time; hypercorn's own size of a read."""

QUEUED_MESSAGES = 10
"""Unread pieces of a body before the client is made to wait; hypercorn's `max_app_queue_size`."""

AppSend = Callable[[ASGISendEvent | None], Awaitable[None]]


class ClientGone(ConnectionResetError):
    """There is nobody to send to any more; an app need not catch it."""


class Exchange:
    """The `receive` and `send` of one call of the app.

    Args:
        stream_send: Takes the app's messages to hypercorn's stream.
        hold_head: Called before the head of an answer whose body is about to follow, so that both
            leave in one write.
    """

    def __init__(self, stream_send: AppSend, *, hold_head: Callable[[], None]) -> None:
        self._stream_send = stream_send
        self._hold_head = hold_head
        self._arrived, self._unread = trio.open_memory_channel[ASGIReceiveEvent](math.inf)
        self._room = trio.Event()
        self._handshaken = trio.Event()
        self._ended_with: ASGIReceiveEvent | None = None
        self._answered = False
        self.was_in_vain = False
        """Whether the app was told that its client is gone, whatever it makes of that."""

    async def put(self, message: ASGIReceiveEvent) -> None:
        """Hand *message* to the app; wait while it has too much unread.  An end never waits.

        What follows the request of a WebSocket waits until the app has answered that.
        """
        if self._ended_with is not None:
            return  # the rest of a body that nobody will read
        if message["type"] in {"http.disconnect", "websocket.disconnect"}:
            self._ended_with = message
            self._room.set()
            self._handshaken.set()
            self._arrived.send_nowait(message)
            return
        self._arrived.send_nowait(message)
        if message["type"] == "websocket.connect":
            await self._handshaken.wait()
        while self._is_full():
            self._room = trio.Event()
            await self._room.wait()

    async def receive(self) -> ASGIReceiveEvent:
        """The next message of the client; the last one, a disconnect, again and again."""
        if self._ended_with is not None and self._is_drained():
            await trio.lowlevel.checkpoint()
            return self._ended_with
        message = await self._unread.receive()
        self._room.set()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send *message* to the client.

        Raises:
            ClientGone: It went away, or did not read for too long.
        """
        if self._ended_with is not None and not self._answered:
            self.was_in_vain = True
            raise ClientGone("the client is gone")
        kind = message["type"]
        self._answered = kind == "http.response.body" and not message.get("more_body", False)
        if kind == "http.response.start" and _announces_length(message):
            self._hold_head()
        await self._stream_send(message)
        if _answers_handshake(message):
            self._handshaken.set()
        if kind == "http.response.body" and not self._answered:
            # A piece that needs no write (of the body of a HEAD) must still let others run.
            await trio.lowlevel.checkpoint()

    def _is_full(self) -> bool:
        unread = self._unread.statistics().current_buffer_used
        return self._ended_with is None and unread >= QUEUED_MESSAGES

    def _is_drained(self) -> bool:
        return self._unread.statistics().current_buffer_used == 0


def _announces_length(head: ASGISendEvent) -> bool:
    """Whether the body is at hand.  A stream announces none, and its head is news by itself."""
    headers: Any = head.get("headers", ())
    return any(name.lower() == b"content-length" for name, _ in headers)


def _answers_handshake(message: ASGISendEvent) -> bool:
    """Whether the request of a WebSocket has its whole answer now."""
    kind = message["type"]
    refused = kind == "websocket.http.response.body" and not message.get("more_body", False)
    return refused or kind in {"websocket.accept", "websocket.close"}


class Exchanges(TaskGroup):
    """The running calls of the app on one connection; hypercorn's protocol starts them here.

    Args:
        hold_head: See `Exchange`.
        on_change: Called when `running` has changed.
    """

    def __init__(self, *, hold_head: Callable[[], None], on_change: Callable[[], None]) -> None:
        super().__init__()
        self.running = 0
        self._hold_head = hold_head
        self._on_change = on_change

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,  # noqa: ARG002 - hypercorn's signature
        scope: Scope,
        send: AppSend,
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        """Start *app* on one request and return the way for its client's messages."""
        exchange = Exchange(send, hold_head=self._hold_head)
        self.running += 1
        self._on_change()
        self.spawn(self._run, app, scope, exchange, send)
        return exchange.put

    async def _run(self, app: AppWrapper, scope: Scope, exchange: Exchange, send: AppSend) -> None:
        spawn, call = trio.to_thread.run_sync, trio.from_thread.run
        try:
            await app(scope, exchange.receive, exchange.send, spawn, call)
        except* ClientGone:
            pass  # as good an end as any: the app had no reason to catch it
        except* Exception:  # the border to every app: one request fails, not its connection
            if not exchange.was_in_vain:  # Quart makes another error of it
                logger.exception("the app failed at %s", scope.get("path"))
        finally:
            try:
                await send(None)  # answers 500 where nothing was answered
            finally:
                self.running -= 1
                self._on_change()
