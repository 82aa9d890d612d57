"""A job is followed over broken streams, and without streams; nothing is missed or doubled."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
from tests.client.orchestrators import (
    KINDS,
    URL,
    Hands,
    InProcess,
    Stream,
    event_json,
    job_json,
    open_client,
)
from tests.orchestrator.clients import TOKEN, make_context

from avtomatika_trio.client import AsyncClient, Client, HistoryEvent, Job, Progress
from avtomatika_trio.errors import JobFailed, JobNotFound, OrchestratorUnavailable, Refused

STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def event(number: int) -> bytes:
    data = json.dumps(event_json(number))
    return f"id: {number}\nevent: state_entered\ndata: {data}\n\n".encode()


def progress(share: float) -> bytes:
    said = {"task_id": "t", "progress": share, "message": None, "at": "2026-01-31T12:00:00Z"}
    return f"event: progress\ndata: {json.dumps(said)}\n\n".encode()


def end(status: str = "finished") -> bytes:
    return f"event: end\ndata: {json.dumps(job_json(status, result=7))}\n\n".encode()


def told(items: Any) -> list[Any]:
    """The numbers of events, the shares of progress, and the status of the job."""
    short = {
        HistoryEvent: lambda it: it.event_id,
        Progress: lambda it: it.progress,
        Job: lambda it: it.status,
    }
    return [short[type(item)](item) for item in items]


class Streams:
    """An orchestrator with a stream for each time that it is asked."""

    def __init__(self, *streams: Any) -> None:
        self.streams = list(streams)
        self.opened: list[Stream] = []
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/v1/jobs/j/events"
        self.asked.append(request.headers["last-event-id"])
        stream = self.streams.pop(0) if len(self.streams) > 1 else self.streams[0]
        if isinstance(stream, Exception):
            raise stream
        if isinstance(stream, httpx.Response):
            return stream
        self.opened.append(Stream(stream))
        return httpx.Response(200, headers=STREAM, stream=self.opened[-1])


@pytest.fixture(params=KINDS)
def following(request: pytest.FixtureRequest) -> Callable[..., Any]:
    def follow(answer: Any, hands: Hands | None = None, **options: Any) -> list[Any]:
        with open_client(request.param, httpx.MockTransport(answer), hands=hands) as client:
            return told(client.follow("j", **options))

    return follow


def test_events_and_progress_come_and_the_job_is_last(following: Callable[..., Any]) -> None:
    streams = Streams([event(1), b": heartbeat\n\n", progress(0.5), event(2), end(), event(3)])
    assert following(streams) == [1, 0.5, 2, "finished"]
    assert streams.asked == ["0"]
    assert [stream.closed for stream in streams.opened] == [True]


def test_a_stream_that_is_cut_anywhere_goes_on_where_it_was(following: Callable[..., Any]) -> None:
    whole = event(1) + event(2) + end()
    for cut in range(0, len(whole), 7):
        streams = Streams(
            [whole[:cut], httpx.ReadError("reset")],
            httpx.ConnectError("refused"),
            httpx.Response(503),
            [whole],  # from its beginning, as one who ignores Last-Event-ID would
        )
        assert following(streams) == [1, 2, "finished"], cut
        assert streams.asked[-1] == str(whole[:cut].count(b"\n\n"))
        assert all(stream.closed for stream in streams.opened)


def test_it_begins_where_it_is_told(following: Callable[..., Any]) -> None:
    streams = Streams([event(8), end()])
    assert following(streams, after=7) == [8, "finished"]
    assert streams.asked == ["7"]


def test_an_outage_that_is_long_ends_it(following: Callable[..., Any]) -> None:
    hands = Hands()
    streams = Streams([event(1)], httpx.ConnectError("refused"))
    with pytest.raises(OrchestratorUnavailable, match="refused"):
        following(streams, hands, outage_seconds=20)
    assert 15 < hands.now <= 20


def test_a_host_that_vanishes_is_looked_for_again(following: Callable[..., Any]) -> None:
    hands = Hands()

    class Vanishing(list[Any]):
        """Nobody says that the connection is gone: its silence does, after its time."""

        def __iter__(self) -> Any:
            yield event(1)
            hands.spend(45)
            raise httpx.ReadTimeout("timed out")

    streams = Streams(Vanishing(), httpx.ConnectError("refused"), [event(1), event(2), end()])
    assert following(streams, hands) == [1, 2, "finished"]


def test_a_job_that_is_not_there_and_a_page_that_is_no_stream(
    following: Callable[..., Any],
) -> None:
    missing = httpx.Response(404, json={"code": "job_not_found", "detail": "no"})
    with pytest.raises(JobNotFound):
        following(Streams(missing))
    with pytest.raises(Refused, match="not a stream of events"):
        following(Streams(httpx.Response(200, text="<html>")))


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_of_the_real_app_is_followed_to_its_end(kind: str) -> None:
    with open_client(kind, InProcess(make_context())) as client:
        job_id = client.submit("walk")
        client.cancel(job_id, "too late")
        *events, job = client.follow(job_id)
        assert [event.event_id for event in events] == [
            event.event_id for event in client.history(job_id)
        ]
    assert (events[0].event_type, job.status) == ("job_created", "cancelled")
    with pytest.raises(JobFailed, match="is cancelled: too late"):
        job.result_or_raise()


def test_without_streams_the_history_is_asked_for(following: Callable[..., Any]) -> None:
    jobs = iter(
        [
            job_json(revision=1),
            job_json(revision=1, progress=[{"task_id": "t", "progress": 0.5}]),
            job_json("finished", revision=2),
        ]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(404, json={"code": "no_such_route", "detail": "nothing"})
        if request.url.path.endswith("/history"):
            after = int(request.url.params["after"])
            return httpx.Response(200, json=[event_json(after + 1)])
        return httpx.Response(200, json=next(jobs))

    assert following(answer) == [1, 0.5, 2, "finished"]


# Leaving early.


def test_a_loop_that_is_left_closes_its_stream() -> None:
    streams = Streams([event(1), event(2), end()])
    with Client(URL, TOKEN, transport=httpx.MockTransport(streams)) as client:
        for _ in client.follow("j"):
            break
        assert [stream.closed for stream in streams.opened] == [True]


async def test_a_loop_that_is_left_closes_its_stream_in_trio(autojump_clock: object) -> None:
    streams = Streams([event(1), event(2), end()])
    async with AsyncClient(URL, TOKEN, transport=httpx.MockTransport(streams)) as client:
        async with client.follow("j") as items:
            async for _ in items:
                break
        assert [stream.closed for stream in streams.opened] == [True]
        assert [item async for item in items] == []


async def test_cancelling_closes_the_stream_in_virtual_time(autojump_clock: object) -> None:
    class Silent(Stream):
        async def __aiter__(self) -> Any:
            yield event(1)
            await trio.sleep_forever()

    silent = Silent([])

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=STREAM, stream=silent)

    got: list[Any] = []
    async with AsyncClient(URL, TOKEN, transport=httpx.MockTransport(answer)) as client:
        with trio.move_on_after(100) as scope:
            async for item in client.follow("j"):
                got.append(item)  # noqa: PERF401 - what came before is kept
        assert scope.cancelled_caught
        assert silent.closed
    assert told(got) == [1]


async def test_cancelling_ends_the_pause_between_two_tries(autojump_clock: object) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    begun_at = trio.current_time()
    async with AsyncClient(URL, TOKEN, transport=httpx.MockTransport(answer)) as client:
        with trio.move_on_after(3) as scope:
            await client.workers()
    assert scope.cancelled_caught
    assert trio.current_time() - begun_at == pytest.approx(3)
