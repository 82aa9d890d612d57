"""A job is followed over connections that break at any byte: nothing is missed or told twice."""

import random
from typing import Any

import attrs
import pytest
import trio
from tests.cluster.scene import at_peace
from trio.testing import MockClock

from avtomatika_trio.client import AsyncClient, HistoryEvent, Job, Progress
from avtomatika_trio.testing import Break, Cluster, Cut, StreamNetwork, Way
from avtomatika_trio.worker import Worker

CLIENT_TOKEN = "client-token"

#: In how many places a stream is broken, in each way.
PLACES = 12

SHARES = [0.2, 0.4, 0.6, 0.8]

each_break = pytest.mark.parametrize("how", Break, ids=lambda how: how.value)


def worker() -> Worker:
    made = Worker()

    @made.skill("work")
    async def work(params: dict[str, Any], send_progress: Any) -> dict[str, Any]:
        for share in SHARES:
            send_progress(share)
            await trio.sleep(params["seconds"])
        return {"answer": params["n"]}

    return made


@attrs.define
class Told:
    """What came of following a job."""

    events: list[int] = attrs.field(factory=list)
    types: list[str] = attrs.field(factory=list)
    shares: list[float] = attrs.field(factory=list)
    ends: list[Job] = attrs.field(factory=list)

    def add(self, item: HistoryEvent | Progress | Job) -> None:
        match item:
            case HistoryEvent():
                self.events.append(item.event_id)
                self.types.append(item.event_type)
            case Progress():
                self.shares.append(item.progress or 0.0)
            case Job():
                self.ends.append(item)


async def break_streams(streams: StreamNetwork, after_bytes: int, how: Break, times: int) -> None:
    """Break the next *times* streams of events, each after so many bytes of its answer."""
    for _ in range(times):
        streams.cut = cut = Cut(
            matches=lambda line: "/api/v1/jobs/" in line and "/events" in line,
            way=Way.TO_CLIENT,
            after_bytes=after_bytes,
            how=how,
        )
        await cut.hit.wait()


async def followed(streams: StreamNetwork, job_id: str) -> Told:
    told = Told()
    async with (
        AsyncClient("http://o1", CLIENT_TOKEN, transport=streams.transport("client")) as client,
        client.follow(job_id, outage_seconds=120) as items,
    ):
        async for item in items:
            told.add(item)
    return told


async def check(cluster: Cluster, job_id: str, told: Told) -> None:
    storage = await cluster.storage_of(job_id)
    rows = await storage.history(job_id, limit=1000)
    assert told.events == [row.number for row in rows]
    assert told.types == [row.row.type for row in rows]
    assert [job.status for job in told.ends] == ["finished"]
    assert told.ends[0].result == 7
    # Progress has no id: whoever connects again is told the newest, never an older one.
    assert told.shares == sorted(told.shares)
    assert set(told.shares) <= set(SHARES)


@each_break
async def test_a_stream_that_breaks_once_goes_on(autojump_clock: MockClock, how: Break) -> None:
    """At places from its first byte to its last."""
    length = await _length()
    assert length > 1000
    for place in range(0, length, length // PLACES):
        streams = StreamNetwork(random.Random(place))
        async with at_peace(streams=streams, seed=place) as cluster:
            await cluster.add_worker(worker()).start()
            [job_id] = await cluster.submit("one", {"n": 7, "seconds": 2})
            with trio.fail_after(90):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(break_streams, streams, place, how, 1)
                    told = await followed(streams, job_id)
            await check(cluster, job_id, told)


async def _length() -> int:
    """Of the answer, if nothing breaks it."""
    streams = StreamNetwork(random.Random(0))
    async with at_peace(streams=streams) as cluster:
        await cluster.add_worker(worker()).start()
        [job_id] = await cluster.submit("one", {"n": 7, "seconds": 2})
        await check(cluster, job_id, await followed(streams, job_id))
        [stream] = [it for it in streams.exchanges if f"{job_id}/events" in it.line]
        return stream.sent[Way.TO_CLIENT]


@pytest.mark.parametrize("after_bytes", [700, 900, 1100])
@pytest.mark.parametrize("how", [Break.RESET, Break.END], ids=lambda how: how.value)
async def test_one_that_breaks_again_and_again_comes_to_its_end(
    autojump_clock: MockClock, how: Break, after_bytes: int
) -> None:
    streams = StreamNetwork(random.Random(after_bytes))
    async with at_peace(streams=streams) as cluster:
        await cluster.add_worker(worker()).start()
        [job_id] = await cluster.submit("one", {"n": 7, "seconds": 10})
        with trio.fail_after(300):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(break_streams, streams, after_bytes, how, 9)
                told = await followed(streams, job_id)
                nursery.cancel_scope.cancel()
        await check(cluster, job_id, told)
        opened = [it for it in streams.exchanges if f"{job_id}/events" in it.line]
        assert len(opened) > 2


async def test_one_is_followed_over_the_death_of_its_orchestrator(
    autojump_clock: MockClock,
) -> None:
    streams = StreamNetwork(random.Random(0))
    async with at_peace(streams=streams) as cluster, trio.open_nursery() as nursery:
        await cluster.add_worker(worker()).start()
        [job_id] = await cluster.submit("one", {"n": 7, "seconds": 10})

        async def kill() -> None:
            for _ in range(3):
                await trio.sleep(9)
                await cluster.orchestrator.kill()
                await trio.sleep(3)
                await cluster.orchestrator.start()

        nursery.start_soon(kill)
        await check(cluster, job_id, await followed(streams, job_id))
