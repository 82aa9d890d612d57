"""The exchanges that carry tasks and results, cut at every byte, in both directions.

Real HTTP on both sides, the real server, a worker with one slot, and two jobs for each cut: so
the poll brings the first task and the answer to its result brings the second.  Whatever is cut,
each task is applied once, and no worker having died, nothing waits for a lease to end.
"""

import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from tests.cluster.scene import BEAT, LEASE, Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio.testing import Break, Cluster, Cut, StreamNetwork, Way

#: How long a poll is held, and how long its answer or another's may take.
POLL_SECONDS = LEASE * 2 / 3
POLL_ANSWER_SECONDS = POLL_SECONDS + 5
ANSWER_SECONDS = 10.0

PATHS = {"poll": "/tasks/next", "result": "/_worker/tasks/result"}

each_exchange = pytest.mark.parametrize("exchange", PATHS)
each_way = pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
one_or_two = pytest.mark.parametrize("orchestrators", [1, 2])

#: One half of the bytes is cut with one orchestrator, the other where the worker may switch in
#: the middle of it: what a parser makes of half a message is the same in both.
RESET_STEP = 2
END_STEP = 11
SILENCE_STEP = 30


@attrs.define
class Town:
    cluster: Cluster
    streams: StreamNetwork
    shop: Workshop

    async def two_jobs(self, seconds: float) -> list[str]:
        """Submit two jobs and wait for their end."""
        ids = await self.cluster.submit("one", {"n": 1}, {"n": 2})
        await self.cluster.wait_until_final(ids, seconds=seconds)
        return ids

    async def length(self, exchange: str, way: Way) -> int:
        """How many bytes the longest of these exchanges has in that direction."""
        await trio.sleep(1)
        await self.two_jobs(1)
        await trio.sleep(POLL_SECONDS)
        seen = [it for it in self.streams.exchanges if PATHS[exchange] in it.line]
        return max(it.sent[way] for it in seen)

    async def cut_at(self, cut: Cut, seconds: float) -> bool:
        """Two jobs, one of whose exchanges is cut; returns whether one was."""
        self.streams.cut = cut
        ids = await self.two_jobs(seconds)
        with trio.move_on_after(POLL_ANSWER_SECONDS):  # it may be the poll that follows
            await cut.hit.wait()
        for job_id in ids:
            rows = await self.cluster.history(job_id)
            assert rows.count("task_finished") == 1, cut
            assert "attempt_lost" not in rows, cut
        assert await unexplained(self.cluster, self.shop, ids) == [], cut
        return cut.hit.is_set()


@asynccontextmanager
async def town(orchestrators: int) -> AsyncIterator[Town]:
    streams = StreamNetwork(random.Random(0))
    shop = Workshop()
    async with at_peace(orchestrators=orchestrators, streams=streams) as cluster:
        worker = shop.add_to(cluster, orchestrators=cluster.targets(), max_concurrent_tasks=1)
        await worker.start()
        yield Town(cluster, streams, shop)
        streams.cut = None
        await trio.sleep(2 * BEAT + POLL_ANSWER_SECONDS)
        assert worker.folder.entries == {}


def cuts(exchange: str, way: Way, how: Break, places: Iterable[int]) -> list[Cut]:
    return [
        Cut(matches=lambda line: PATHS[exchange] in line, way=way, after_bytes=place, how=how)
        for place in places
    ]


@each_exchange
@each_way
@one_or_two
async def test_a_reset_after_any_byte_costs_no_more_than_a_heartbeat(
    autojump_clock: MockClock, exchange: str, way: Way, orchestrators: int
) -> None:
    async with town(orchestrators) as it:
        length = await it.length(exchange, way)
        assert length > 200
        places = {0, *range(orchestrators - 1, length, RESET_STEP), length}
        for cut in cuts(exchange, way, Break.RESET, places):
            assert await it.cut_at(cut, seconds=BEAT)
        assert it.shop.times() == [1] * (2 * len(places) + 2)


@each_exchange
@each_way
async def test_an_end_in_the_middle_costs_no_more_than_a_heartbeat(
    autojump_clock: MockClock, exchange: str, way: Way
) -> None:
    """Half an answer is none, however properly the connection was closed after it."""
    async with town(2) as it:
        length = await it.length(exchange, way)
        places = {*range(0, length, END_STEP), length - 1, length}
        for cut in cuts(exchange, way, Break.END, places):
            assert await it.cut_at(cut, seconds=BEAT)
        assert it.shop.times() == [1] * (2 * len(places) + 2)


@each_exchange
@each_way
@one_or_two
async def test_silence_after_any_byte_costs_no_more_than_an_answer(
    autojump_clock: MockClock, exchange: str, way: Way, orchestrators: int
) -> None:
    """One connection falls silent; others, and so the probes, still get through."""
    async with town(orchestrators) as it:
        length = await it.length(exchange, way)
        patience = POLL_ANSWER_SECONDS if exchange == "poll" else ANSWER_SECONDS
        places = range(0, length + 1, SILENCE_STEP)
        hits = 0
        for cut in cuts(exchange, way, Break.SILENCE, places):
            hits += await it.cut_at(cut, seconds=patience + BEAT)
            await trio.sleep(POLL_ANSWER_SECONDS)  # the next one shall find it at rest
        # What goes by another orchestrator is shorter by what it does not ask for.
        assert hits >= 0.8 * len(places)


async def test_a_cut_is_made_exactly_where_it_is_asked_for(autojump_clock: MockClock) -> None:
    """The network itself: what is before the place gets through, what is behind does not."""
    async with town(1) as it:
        await it.length("poll", Way.TO_CLIENT)
        for place in (0, 1, 100, 250):
            for way in Way:
                [cut] = cuts("result", way, Break.RESET, [place])
                before = len(it.streams.exchanges)
                assert await it.cut_at(cut, seconds=BEAT)
                posts = [
                    one.sent[way]
                    for one in it.streams.exchanges[before:]
                    if PATHS["result"] in one.line
                ]
                assert posts.count(place) == 1
