"""What is published on a channel: one connection, and one thread that listens to it."""

import select
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import trio
from redis.exceptions import ResponseError

from avtomatika_trio.storage._redis_faults import judge
from avtomatika_trio.storage._redis_link import (
    CONNECT_SECONDS,
    PATIENCE_SECONDS,
    Broken,
    Denied,
    Link,
    cause,
    open_link,
)
from avtomatika_trio.storage._redis_master import SentinelMaster
from avtomatika_trio.storage._redis_url import RedisAddress
from avtomatika_trio.storage._redis_wire import pack

#: A link over which nothing comes for so long is dead; it is asked for a sign in between.
SILENCE_SECONDS = 10.0
PING_SECONDS = 3.0

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 1.0

#: So many messages are handed over together, at most.
_MOST_TOGETHER = 500

_PING = pack(("PING",))


class News:
    """Messages of a channel, for as long as the block of `open_news` lasts.

    Attributes:
        fault: Why there are none at present, for people; None while they come.
    """

    def __init__(
        self,
        address: RedisAddress,
        channel: str,
        on_message: Callable[[bytes], None],
        on_gap: Callable[[], None],
    ) -> None:
        self.fault: str | None = None
        self._source = _source(address)
        self._channel = channel
        self._on_message = on_message
        self._on_gap = on_gap
        self._token = trio.lowlevel.current_trio_token()
        self._link: Link | None = None
        self._stop = threading.Event()
        self._ended = trio.Event()
        self._thread = threading.Thread(target=self._run, name=f"redis-news-{channel}")
        self._thread.daemon = True
        self._thread.start()

    async def close(self) -> None:
        """End the thread; nothing is called afterwards."""
        self._stop.set()
        link = self._link
        if link is not None:
            link.shut()
        # A connection that is being made can't be cut, and is given up in time.
        with trio.CancelScope(shield=True), trio.move_on_after(3 * CONNECT_SECONDS):
            await self._ended.wait()
            self._thread.join()

    def _run(self) -> None:
        pause, reason = FIRST_PAUSE_SECONDS, ""
        with suppress(trio.RunFinishedError):  # then nobody is left to be told
            while not self._stop.is_set():
                try:
                    self._link = self._source.connect()
                    self._listen(self._link)
                except (Broken, Denied) as exc:
                    reason = exc.reason
                except OSError as exc:
                    reason = cause(exc, PATIENCE_SECONDS)
                if self._link is not None:
                    self._link.close()
                    self._link = None
                if self.fault is None:  # there was a subscription
                    pause = FIRST_PAUSE_SECONDS
                self.fault = f"no news from redis: {reason}"
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            self._token.run_sync_soon(self._ended.set)

    def _listen(self, link: Link) -> None:
        """Subscribe and pass on what comes, until the link breaks."""
        if self._stop.is_set():  # and `close` could not see this connection
            raise Broken("it is closed")
        self.fault = self.fault or "no news from redis: not subscribed yet"
        link.sock.sendall(pack(("SUBSCRIBE", self._channel)))
        readable = select.poll()
        readable.register(link.sock, select.POLLIN)
        heard = pinged = time.monotonic()
        while True:
            ready = link.pending() or readable.poll(1000 * PING_SECONDS / 2)
            now = time.monotonic()
            if ready:
                heard = now
                self._pass_on(link)
            if now - heard > SILENCE_SECONDS:
                raise Broken(f"nothing was heard for {SILENCE_SECONDS:g} s")
            if now - pinged >= PING_SECONDS:
                pinged = now
                link.sock.sendall(_PING)

    def _pass_on(self, link: Link) -> None:
        """Read what is there, and hand it over together."""
        messages: list[bytes] = []
        gap = False
        while True:
            reply = link.replies.next()
            if isinstance(reply, ResponseError):
                raise Denied(judge(reply)[1])
            kind = reply[0] if isinstance(reply, list) else None
            if kind == b"message":
                messages.append(reply[2])
            elif kind == b"subscribe":
                self.fault = None
                gap = True
            if not link.pending() or len(messages) == _MOST_TOGETHER:
                break
        if gap or messages:
            self._token.run_sync_soon(self._hand_over, gap, messages)

    def _hand_over(self, gap: bool, messages: list[bytes]) -> None:  # noqa: FBT001
        if self._stop.is_set():
            return
        if gap:
            self._on_gap()
        for message in messages:
            self._on_message(message)


class _Source(Protocol):
    def connect(self) -> Link:
        """Raises `Broken` and `Denied`."""


class _Any:
    """One server, or whichever node of a cluster answers: each gets all that is published."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._next = 0

    def connect(self) -> Link:
        places = self._address.places
        place = places[self._next % len(places)]
        try:
            return open_link(self._address, place)
        except (Broken, Denied) as exc:
            self._next += 1
            raise type(exc)(f"{place[0]}:{place[1]}: {exc.reason}") from exc


def _source(address: RedisAddress) -> _Source:
    return SentinelMaster(address) if address.kind == "sentinel" else _Any(address)


@asynccontextmanager
async def open_news(
    address: RedisAddress,
    channel: str,
    on_message: Callable[[bytes], None],
    on_gap: Callable[[], None],
) -> AsyncIterator[News]:
    """Have what is published on *channel*, until the block ends.

    Args:
        address: Where.
        channel: Its name.
        on_message: Run on Trio's thread with each message.
        on_gap: Run on Trio's thread after each subscription, the first one too: what was
            published before may not have come.
    """
    news = News(address, channel, on_message, on_gap)
    try:
        yield news
    finally:
        await news.close()
