"""A job's history as it is written: server-sent events, as browsers and curl read them.

Plain ASGI in front of Quart (ADR 0004), since a stream must see its client go away.  In memory
is one page of history for each stream, however slow its reader is: nothing is read from the
storage before what was read last has left.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import attrs
import trio
from werkzeug.datastructures import Headers

from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import Progress
from avtomatika_trio._wire.codec import encode
from avtomatika_trio.errors import JobNotFound, StorageUnavailable
from avtomatika_trio.orchestrator import _answers as answers
from avtomatika_trio.orchestrator._access import Client
from avtomatika_trio.orchestrator._client_request import admit, as_whole_number, owned_job
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import (
    AsgiApp,
    Receive,
    Scope,
    Send,
    address_of,
    allow_only,
    send_problem,
)
from avtomatika_trio.orchestrator._observed import is_at
from avtomatika_trio.orchestrator._problems import EXPECTED, as_problem
from avtomatika_trio.orchestrator._registry import prefixes_of
from avtomatika_trio.orchestrator._table_clients import EVENTS

#: How long a client waits before it connects again.
_RETRY_MILLISECONDS = 2000

#: So many events are read at a time.
_PAGE = 100

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),  # who packs a stream keeps it back meanwhile
    (b"x-accel-buffering", b"no"),  # nginx would keep events until its buffer is full
]


@attrs.frozen(kw_only=True)
class _Followed:
    """Which job is followed, by whom, and what of it is known there."""

    client: Client
    job_id: str
    after: int
    """The `event_id` of the last event known."""


def create_event_streams(context: Context) -> Callable[[Scope], AsgiApp | None]:
    """What finds the ASGI callable for a request by its scope; None: it is for others."""
    path = EVENTS.pattern(prefixes_of(context.blueprints))
    streams = _Streams(context)

    def find(scope: Scope) -> AsgiApp | None:
        found = path.fullmatch(scope["path"])
        return None if found is None else partial(streams.answer, found["job_id"])

    return find


class _Streams:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.storage = context.storage

    async def answer(self, job_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """`GET /jobs/{id}/events`: what has happened, then what happens, until the job ends."""
        try:
            allow_only(scope["method"], "GET", "HEAD")
            is_at(EVENTS.template)
            followed = await self._followed(job_id, scope)
        except EXPECTED as exc:
            await send_problem(send, as_problem(exc))
            return
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope["method"] != "HEAD":
            await _send(send, b"retry: %d\n\n" % _RETRY_MILLISECONDS)
            await self._follow(followed, receive, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _followed(self, job_id: str, scope: Scope) -> _Followed:
        """What a request asks for.

        Raises:
            HttpProblem: 401, 403, 429.
            InvalidMessage: what it says it knows is no number.
            JobNotFound: it is missing, or somebody else's.
        """
        headers = Headers([(n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"]])
        client = await admit(self.context, headers, address_of(scope), EVENTS.needed)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        after = _known(headers, query)
        job = await owned_job(self.context, client, job_id)
        return _Followed(client=client, job_id=job.id, after=after)

    async def _follow(self, followed: _Followed, receive: Receive, send: Send) -> None:
        """Send events until the job, the service, the token or the connection has ended.

        What ends it cancels the reading of events alone: a piece that is on its way is sent
        whole, within the time that the server has for it.
        """
        context = self.context
        reading = trio.CancelScope()
        pieces, unsent = trio.open_memory_channel[bytes](0)
        with context.access.session(partial(context.access.lets_in, followed.client), reading):
            async with trio.open_nursery() as beside:
                beside.start_soon(context.end_when_draining, reading)
                beside.start_soon(_end_when_gone, receive, reading)
                beside.start_soon(self._read, followed, pieces, reading)
                async for piece in unsent:
                    await _send(send, piece)
                beside.cancel_scope.cancel()

    async def _read(
        self,
        followed: _Followed,
        pieces: trio.MemorySendChannel[bytes],
        reading: trio.CancelScope,
    ) -> None:
        """Put what there is to say into *pieces*, and close it."""
        # After a fault the client connects again, and is told then what is the matter.
        with pieces, reading, suppress(StorageUnavailable, JobNotFound):
            await self._read_on(followed, pieces)

    async def _read_on(self, followed: _Followed, pieces: trio.MemorySendChannel[bytes]) -> None:
        after, told = followed.after, dict[str, Progress]()
        heartbeat = self.context.limits.events_heartbeat_seconds
        with self.storage.job_news(followed.job_id) as news:
            while True:
                # The job before its events: those of one that has ended are all there.
                job = await owned_job(self.context, followed.client, followed.job_id)
                after = await self._read_history(job, after, pieces)
                if job.status.is_final:
                    await pieces.send(_event("end", answers.job_details(job, ())))
                    return
                progress = {it.task_id: it for it in await self.storage.progress(job.id)}
                for said in progress.values():
                    if told.get(said.task_id) != said:
                        await pieces.send(_event("progress", answers.progress_of(said)))
                told = progress
                while True:
                    with trio.move_on_after(heartbeat) as patience:
                        await news.wait()
                    if not patience.cancelled_caught:
                        break
                    await pieces.send(b": heartbeat\n\n")

    async def _read_history(
        self, job: Job, after: int, pieces: trio.MemorySendChannel[bytes]
    ) -> int:
        """Put the events above *after* into *pieces*; returns the number of the last one."""
        while page := await self.storage.history(job.id, after=after, limit=_PAGE):
            events = [
                b"id: %d\n" % row.number + _event(row.row.type, answers.history_event(row))
                for row in page
            ]
            await pieces.send(b"".join(events))
            after = page[-1].number
            if len(page) < _PAGE:
                break
        return after


def _known(headers: Headers, query: Mapping[str, str]) -> int:
    """The last event that the client knows; 0: none.

    The header comes first: a browser that connects again asks for the same URL.

    Raises:
        InvalidMessage: it is no number.
    """
    said = headers.get("Last-Event-ID")
    if said is not None:
        return as_whole_number("Last-Event-ID", said)
    return as_whole_number("?after", query.get("after", "0"))


def _event(kind: str, data: Any) -> bytes:
    """One event; JSON has no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), encode(data))


async def _send(send: Send, piece: bytes) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _end_when_gone(receive: Receive, reading: trio.CancelScope) -> None:
    """Cancel *reading* when the client has gone; to run beside it."""
    while (await receive())["type"] != "http.disconnect":
        pass
    reading.cancel()
