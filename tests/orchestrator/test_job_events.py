"""The stream of a job's events: nothing missing, nothing twice, and an end."""

import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from tests.orchestrator.clients import (
    EPOCH,
    TOKEN,
    Raw,
    Worker,
    ask_raw,
    http_scope,
    let_in,
    make_context,
    open_client,
)
from trio.testing import MockClock

from avtomatika_trio._core.access import AuditRow, Role
from avtomatika_trio._core.admission import apply
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._exchange import ClientGone
from avtomatika_trio.storage._memory import MemoryStorage
from avtomatika_trio.storage._signals import JobWaiter

HOST = (b"host", b"o")


@attrs.frozen(kw_only=True)
class Event:
    """One event, or a comment or `retry` (kind `:` or `retry`)."""

    kind: str
    id: int | None = None
    data: Any = None


def parse(text: bytes) -> list[Event]:
    """What is in *text*, which ends with a whole event."""
    blocks = text.decode().split("\n\n")
    assert blocks.pop() == ""
    return [_one(block) for block in blocks]


def _one(block: str) -> Event:
    fields: dict[str, str] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(": ")
        assert name not in fields, block
        fields[name or ":"] = value
    if "event" not in fields:
        ((name, value),) = fields.items()
        return Event(kind=name, data=value)
    number = int(fields["id"]) if "id" in fields else None
    return Event(kind=fields["event"], id=number, data=json.loads(fields["data"]))


@attrs.define
class Reader:
    """A client that reads a stream."""

    head: dict[str, Any] = attrs.field(factory=dict)
    body: bytes = b""
    pieces: int = 0
    ended_at: float = math.inf
    gone: trio.Event = attrs.field(factory=trio.Event)
    may_read: trio.Event = attrs.field(factory=trio.Event)

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if self.gone.is_set():
            raise ClientGone
        if message["type"] == "http.response.start":
            self.head = message
            return
        self.pieces += 1
        await self.may_read.wait()
        self.body += message["body"]
        if not message["more_body"]:
            self.ended_at = trio.current_time()

    @property
    def events(self) -> list[Event]:
        return parse(self.body)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    @property
    def ids(self) -> list[int]:
        return [event.id for event in self.events if event.id is not None]


@asynccontextmanager
async def open_stream(
    context: Context, job_id: str, query: bytes = b"", token: str = TOKEN, *, slow: bool = False
) -> AsyncIterator[Reader]:
    """Read the job's events until it ends by itself, or the caller is done."""
    headers = [HOST, (b"x-client-token", token.encode())]
    scope = http_scope("GET", f"/api/v1/jobs/{job_id}/events", query, headers)
    reader = Reader()
    if not slow:
        reader.may_read.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(create_app(context), scope, reader.receive, reader.send)
        await trio.sleep(0.001)
        yield reader
        nursery.cancel_scope.cancel()


async def submit(context: Context, blueprint: str = "walk", token: str = TOKEN, **data: Any) -> str:
    async with open_client(context, token=token) as client:
        answer = await client.post(f"/api/v1/jobs/{blueprint}", json={"initial_data": data})
    return str(answer.json()["job_id"])


async def history(context: Context, job_id: str) -> list[dict[str, Any]]:
    async with open_client(context) as client:
        return list((await client.get(f"/api/v1/jobs/{job_id}/history")).json())


@asynccontextmanager
async def running(context: Context) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        yield
        nursery.cancel_scope.cancel()


async def ask(context: Context, job_id: str, query: bytes = b"", *more: tuple[bytes, bytes]) -> Raw:
    headers = [HOST, (b"x-client-token", TOKEN.encode()), *more]
    path = f"/api/v1/jobs/{job_id}/events"
    return await ask_raw(create_app(context), "GET", path, query=query, headers=headers)


async def test_a_job_is_told_as_it_goes_and_the_stream_ends_with_it(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    async with running(context):
        job_id = await submit(context, pause=5)
        async with open_stream(context, job_id) as reader:
            await trio.sleep(1)
            begun = reader.kinds
            assert begun[0] == "retry"
            assert "end" not in begun
            await trio.sleep(9)
        assert reader.ended_at == pytest.approx(5, abs=0.1)
    assert reader.head["status"] == 200
    headers = dict(reader.head["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-cache, no-transform"
    assert headers[b"x-accel-buffering"] == b"no"
    rows = await history(context, job_id)
    told = [event.data for event in reader.events[1:-1]]
    assert told == rows
    assert reader.ids == [row["event_id"] for row in rows]
    assert reader.kinds == ["retry", *(row["event_type"] for row in rows), "end"]
    assert reader.events[0].data == "2000"
    end = reader.events[-1]
    assert (end.id, end.data["status"], end.data["result"]) == (None, "finished", {"walked": True})


async def test_what_a_task_does_is_told_at_once_with_its_progress(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    async with running(context), open_client(context) as client:
        job_id = await submit(context, "resize", size=3)
        worker = Worker(client)
        await worker.register("scale")
        await trio.sleep(1)
        async with open_stream(context, job_id) as reader:
            (task,) = await worker.take()
            await trio.sleep(0.001)
            assert reader.kinds[-1] == "attempt_leased"
            await worker.report_progress(task, 0.5)
            await trio.sleep(0.001)
            said = reader.events[-1]
            assert (said.kind, said.id) == ("progress", None)
            assert (said.data["progress"], said.data["message"]) == (0.5, "half way")
            await worker.report(task, data={"size": 3})
            await trio.sleep(0.1)
            assert reader.kinds[-1] == "end"
            assert reader.kinds.count("progress") == 1
            assert trio.current_time() < 2  # and nothing of it waited for a heartbeat


@pytest.mark.parametrize("by_header", [True, False])
async def test_it_goes_on_after_every_event_without_a_gap_or_anything_twice(
    autojump_clock: MockClock, by_header: bool
) -> None:
    context = make_context()
    async with running(context):
        job_id = await submit(context)
        await trio.sleep(1)
    rows = [row["event_id"] for row in await history(context, job_id)]
    assert len(rows) >= 3
    for at in [0, *rows]:
        number = b"%d" % at
        if by_header:  # which counts more than the URL
            answer = await ask(context, job_id, b"after=1", (b"last-event-id", number))
        else:
            answer = await ask(context, job_id, b"after=" + number)
        events = parse(answer.body)
        assert [it.id for it in events if it.id is not None] == [it for it in rows if it > at]
        assert events[-1].kind == "end"


async def test_a_history_of_many_pages_is_told_whole_to_a_slow_reader_a_page_at_a_time(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avtomatika_trio.orchestrator._job_events._PAGE", 2)
    context = make_context()
    async with running(context):
        job_id = await submit(context)
        await trio.sleep(1)
    rows = await history(context, job_id)
    assert len(rows) > 2
    async with open_stream(context, job_id, slow=True) as reader:
        await trio.sleep(100)
        assert reader.pieces == 1  # nothing piles up while it does not read
        reader.may_read.set()
        await trio.sleep(1)
    assert reader.ids == [row["event_id"] for row in rows]
    assert reader.kinds[-1] == "end"


async def test_silence_is_broken_by_heartbeats(autojump_clock: MockClock) -> None:
    context = make_context()
    job_id = await submit(context)
    async with open_stream(context, job_id) as reader:
        before = reader.kinds
        await trio.sleep(14.9)
        assert reader.kinds == before
        await trio.sleep(0.2)
        assert reader.body.endswith(b"\n\n: heartbeat\n\n")
        await trio.sleep(30)
        assert reader.body.endswith(b": heartbeat\n\n" * 3)
        assert reader.ended_at == math.inf


async def test_it_ends_when_the_service_does(autojump_clock: MockClock) -> None:
    context = make_context()
    job_id = await submit(context)
    async with open_stream(context, job_id) as reader:
        await trio.sleep(3)
        context.draining.set()
        await trio.sleep(0.001)
        assert reader.ended_at == pytest.approx(3, abs=0.1)
        assert "end" not in reader.kinds


async def test_it_ends_when_the_token_is_withdrawn(autojump_clock: MockClock) -> None:
    context = make_context()
    await let_in(context, "me", roles=(Role.SUBMITTER,))
    job_id = await submit(context, token="token-of-me")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(context.access.run, context.rules)
        async with open_stream(context, job_id, token="token-of-me") as reader:
            await trio.sleep(5)
            assert reader.ended_at == math.inf
            audit = AuditRow(at=0, who="test", action="test", origin="")
            await context.storage.commit(partial(apply, workers=None, clients=(), audit=audit))
            await trio.sleep(2)
            assert reader.ended_at < 7.1
            assert "end" not in reader.kinds
        nursery.cancel_scope.cancel()


class Counting(MemoryStorage):
    """A storage that knows how many follow jobs."""

    followers = 0

    @contextmanager
    def job_news(self, job_id: str) -> Iterator[JobWaiter]:
        with super().job_news(job_id) as news:
            self.followers += 1
            try:
                yield news
            finally:
                self.followers -= 1


async def test_it_ends_when_the_client_goes_away(autojump_clock: MockClock) -> None:
    storage = Counting(now=lambda: EPOCH + trio.current_time())
    context = make_context(storage)
    job_id = await submit(context)
    async with open_stream(context, job_id) as reader:
        assert storage.followers == 1
        reader.gone.set()
        await trio.sleep(0.001)
        assert storage.followers == 0


class Breaks(MemoryStorage):
    """A storage that can be away."""

    away = False

    async def history(self, job_id: str, *, after: int = 0, limit: int = 1000) -> Any:
        if self.away:
            raise StorageUnavailable("the disk is gone")
        return await super().history(job_id, after=after, limit=limit)


async def test_it_ends_without_an_end_when_the_storage_goes_away(
    autojump_clock: MockClock,
) -> None:
    storage = Breaks(now=lambda: EPOCH + trio.current_time())
    context = make_context(storage)
    job_id = await submit(context)
    async with open_stream(context, job_id) as reader:
        storage.away = True
        async with open_client(context) as client:
            await client.post(f"/api/v1/jobs/{job_id}/cancel")
        await trio.sleep(0.001)
        assert reader.ended_at < 1
        assert "end" not in reader.kinds
    storage.away = False
    assert parse((await ask(context, job_id)).body)[-1].kind == "end"


@pytest.mark.parametrize("said", [b"", b"x", b"-1", b"1.5", b"\xb2", b"1" * 19])
async def test_what_is_no_event_id_is_refused(said: bytes) -> None:
    context = make_context()
    job_id = await submit(context)
    answer = await ask(context, job_id, b"", (b"last-event-id", said))
    assert answer.status == 400
    assert json.loads(answer.body)["errors"][0]["path"] == "Last-Event-ID"
    answer = await ask(context, job_id, b"after=%ff")
    assert json.loads(answer.body)["errors"][0]["path"] == "?after"


async def test_a_foreign_job_is_none() -> None:
    context = make_context()
    job_id = await submit(context)
    await let_in(context, "you", roles=(Role.VIEWER,))
    async with open_client(context, token="token-of-you") as client:
        for id_ in (job_id, "p00-none", "x" * 999):
            answer = await client.get(f"/api/v1/jobs/{id_}/events")
            assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


async def test_only_get_and_head_are_answered() -> None:
    context = make_context()
    job_id = await submit(context)
    async with open_client(context) as client:
        path = f"/api/jobs/{job_id}/events"
        answer = await client.post(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        answer = await client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
