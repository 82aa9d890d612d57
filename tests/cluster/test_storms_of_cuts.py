"""A hundred seconds in which one connection after the other breaks at a byte drawn from the seed.

Play one again with `pytest -k 'storm_of_cuts and 3'`.
"""

import random
from collections.abc import Sequence

import pytest
import trio
from tests.cluster.scene import Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio._core.rules import Rules
from avtomatika_trio.testing import (
    Break,
    Cluster,
    Cut,
    Orchestrator,
    StreamNetwork,
    Way,
    WorkerMachine,
)

STORM_SECONDS = 100.0

#: One poll that nobody answers (25 s), the longest back-off (15 s), a lease (30 s) where somebody
#: was killed, and the work itself.
PEACE_SECONDS = 120.0

#: Longer than any request or answer here: cuts behind the end of one befall nothing.
MOST_BYTES = 700


TOLD = (Break.RESET, Break.END)
"""Breaks that both sides learn of."""


def draw(chance: random.Random, breaks: Sequence[Break]) -> Cut:
    """Half of them near the beginning, where most answers are."""
    most = chance.choice([MOST_BYTES, MOST_BYTES // 4])
    return Cut(
        matches=lambda line: "/_worker" in line and chance.random() < 0.5,
        way=chance.choice(list(Way)),
        after_bytes=chance.randrange(most),
        how=chance.choice(breaks),
    )


async def blow(cluster: Cluster, streams: StreamNetwork, *, kills: bool) -> int:
    """Break connections, or with *kills* silence them and kill, too; returns how many broke."""
    chance, hits = cluster.chance, 0
    with trio.move_on_after(STORM_SECONDS):
        while True:
            streams.cut = cut = draw(chance, tuple(Break) if kills else TOLD)
            with trio.move_on_after(chance.uniform(0, 6)):
                await cut.hit.wait()
            hits += cut.hit.is_set()
            await trio.sleep(chance.choice([0, 0, 0.01, 1]))
            if kills and chance.random() < 0.1:
                await start_the_dead(cluster)
                await chance.choice(machines(cluster)).kill()
    streams.cut = None
    await start_the_dead(cluster)
    return hits


def machines(cluster: Cluster) -> list[WorkerMachine | Orchestrator]:
    return [*cluster.workers.values(), *cluster.orchestrators]


async def start_the_dead(cluster: Cluster) -> None:
    for machine in machines(cluster):
        if not machine.is_up:
            await machine.start()


@pytest.mark.parametrize("kills", [False, True], ids=["resets", "kills"])
@pytest.mark.parametrize("seed", range(3))
async def test_all_jobs_are_done_after_a_storm_of_cuts(
    autojump_clock: MockClock, shop: Workshop, seed: int, kills: bool
) -> None:
    streams = StreamNetwork(random.Random(seed))
    rules = Rules(max_lost_attempts=50)  # they die more often than a task may kill them
    async with at_peace(seed=seed, orchestrators=2, streams=streams, rules=rules) as cluster:
        targets = {"orchestrators": cluster.targets()} if seed % 2 else {}
        for worker_id in ("w1", "w2"):
            await shop.add_to(cluster, worker_id, max_concurrent_tasks=3, **targets).start()
        await trio.sleep(1)
        chance = cluster.chance
        jobs = [{"n": n, "seconds": chance.uniform(0, 25)} for n in range(18)]
        fans = [{"branches": 3, "seconds": chance.uniform(0, 25)} for _ in range(6)]
        job_ids = [*await cluster.submit("one", *jobs), *await cluster.submit("many", *fans)]

        assert await blow(cluster, streams, kills=kills) > 2

        ended = await cluster.wait_until_final(job_ids, seconds=PEACE_SECONDS)
        await trio.sleep(30)
        assert [job.result for job in ended] == [n * 10 for n in range(18)] + [[0, 10, 20]] * 6
        assert await unexplained(cluster, shop, job_ids) == []
        assert [machine.folder.entries for machine in cluster.workers.values()] == [{}, {}]
        for job_id in job_ids:
            rows = await cluster.history(job_id)
            assert rows.count("task_finished") == (1 if job_id in job_ids[:18] else 3)
            # Who is told sends again at once, so that no lease ends.
            assert kills or "attempt_lost" not in rows
