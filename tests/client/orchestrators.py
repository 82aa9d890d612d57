"""What clients talk to in tests, and both kinds of clients behind one face."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Self, cast

import httpx
import trio
from tests.orchestrator.clients import TOKEN
from trio.testing import MockClock

from avtomatika_trio.client import AsyncClient, Client
from avtomatika_trio.client._trio_talk import Items
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context

URL = "http://orchestrator:8080"
KINDS = ("sync", "trio")
Answer = Callable[[httpx.Request], httpx.Response]
Open = Callable[..., Any]


class InProcess(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """The network's place: each request is answered by the app, in virtual time of its own.

    Args:
        context: Of the orchestrator.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.app = create_app(context)
        self.requests: list[httpx.Request] = []
        self.answers: list[httpx.Response] = []

    @property
    def bodies(self) -> list[bytes]:
        """Those of all requests."""
        return [request.content for request in self.requests]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return trio.run(self._answer, request, clock=MockClock(autojump_threshold=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return await self._answer(request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        async with httpx.ASGITransport(app=cast("Any", self.app)) as transport:
            again = httpx.Request(
                request.method, request.url, headers=request.headers, content=request.content
            )
            answer = await transport.handle_async_request(again)
            told = httpx.Response(
                answer.status_code, headers=answer.headers, content=await answer.aread()
            )
            self.answers.append(told)
            return told


class Hands:
    """A clock that only `sleep` and `spend` move."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Blocking:
    """An `AsyncClient` with the face of a `Client`: each call is a run of Trio."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._call, name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return trio.run(
            partial(self._talk, name, *args, **kwargs), clock=MockClock(autojump_threshold=0)
        )

    async def _talk(self, name: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncClient(**self._options) as client:
            made = getattr(client, name)(*args, **kwargs)
            if isinstance(made, Items):
                return [item async for item in made]
            return await made


def open_client(
    kind: str,
    transport: Any,
    *,
    hands: Hands | None = None,
    token: str = TOKEN,
    **options: Any,
) -> Any:
    """A client of *kind* over *transport*, whose time is that of *hands*."""
    hands = hands or Hands()
    told = {
        "url": URL,
        "token": token,
        "transport": transport,
        "clock": hands.clock,
        "noise": lambda: 1.0,
        **options,
    }
    if kind == "sync":
        return Client(**{"sleep": hands.spend, **told})
    return Blocking(**{"sleep": hands.sleep, **told})


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in pieces; one that is an error breaks the connection."""

    def __init__(self, pieces: Sequence[bytes | Exception]) -> None:
        self.pieces = pieces
        self.closed = False

    def __iter__(self) -> Any:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            await trio.lowlevel.checkpoint()
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def job_json(status: str = "running", **more: Any) -> dict[str, Any]:
    """A job as an orchestrator tells it."""
    return {
        "id": "j",
        "blueprint_name": "walk",
        "status": status,
        "state": "middle",
        "revision": 3,
        "labels": {},
        "error": None,
        "progress": [],
        "created_at": "2026-01-31T12:00:00.250Z",
        "updated_at": "2026-01-31T12:00:01.000Z",
        **more,
    }


def event_json(number: int, kind: str = "state_entered") -> dict[str, Any]:
    """A line of a history as an orchestrator tells it."""
    return {
        "event_id": number,
        "event_type": kind,
        "timestamp": "2026-01-31T12:00:00.250Z",
        "revision": number,
    }
