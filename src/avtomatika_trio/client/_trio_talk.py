"""Plans carried out with Trio: it sends, sleeps and reads, and decides nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import httpx
import trio

from avtomatika_trio.client._http import FAULTS, fault_of, reply_of, request_of
from avtomatika_trio.client._plans import Ask, Done, Fault, Give, Pause, Plan, Read, Reply

T = TypeVar("T")

#: How long it may take to part with a connection whose answer is not read to its end.
_PART_SECONDS = 1.0


def now_in_trio() -> float:
    """Trio's time.

    Raises:
        RuntimeError: this does not run in Trio.
    """
    try:
        return trio.current_time()
    except RuntimeError:
        fault = (
            "AsyncClient is for Trio, which does not run here; with asyncio, or none, use Client,"
            " as in await asyncio.to_thread(client.submit, ...)"
        )
        raise RuntimeError(fault) from None


class Items(Generic[T]):
    """What is given one after the other; `async for` takes it.

    It closes its connection at the end, and when it is cancelled or fails.  Who leaves the
    loop earlier does so in an `async with` block of it, or calls `aclose`.
    """

    def __init__(self, talk: "Talk") -> None:
        self._talk = talk
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._ended:
            raise StopAsyncIteration
        try:
            step = await self._talk.advance()
        except BaseException:
            await self.aclose()
            raise
        if isinstance(step, Give):
            return cast("T", step.item)
        await self.aclose()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave nothing open."""
        self._ended = True
        await self._talk.aclose()


class Talk:
    """A plan that is carried out."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        plan: Plan[Any],
        timeout_seconds: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._http = http
        self._plan = plan
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        self._stream: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def advance(self) -> Give | Done:
        """Take steps until one gives something, or there are no more."""
        heard: Reply | Fault | bytes | None = None
        while True:
            try:
                step = self._plan.send(heard)
            except StopIteration as stop:
                return Done(stop.value)
            match step:
                case Give():
                    return step
                case Pause(seconds):
                    await self._sleep(seconds)
                    heard = None
                case Read():
                    heard = await self._read()
                case Ask():
                    heard = await self._send(step)

    async def aclose(self) -> None:
        """Leave nothing open."""
        self._plan.close()
        await self._part()

    async def _part(self) -> None:
        stream, chunks = self._stream, self._chunks
        self._stream = self._chunks = None
        if stream is None or chunks is None:
            return
        with trio.move_on_after(_PART_SECONDS, shield=True):
            await stream.aclose()
            # httpx reads through generators in generators, of which only those that have come
            # to their end are cleaned up: they do as soon as they see that it is closed.
            with suppress(httpx.HTTPError, httpx.StreamError):
                async for _ in chunks:
                    pass

    async def _send(self, ask: Ask) -> Reply | Fault:
        await self._part()
        request = request_of(self._http.build_request, ask, self._timeout_seconds)
        try:
            answer = await self._http.send(request, stream=ask.stream)
            if ask.stream and answer.is_success:
                self._stream, self._chunks = answer, answer.aiter_bytes()
                return reply_of(answer, b"")
            try:
                return reply_of(answer, await answer.aread())
            finally:
                await answer.aclose()
        except FAULTS as exc:
            return fault_of(exc)

    async def _read(self) -> bytes | None:
        if self._chunks is None:
            return None
        try:
            return await anext(self._chunks, None)
        except FAULTS:
            return None
