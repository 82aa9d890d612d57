"""A hundred seconds in which anything may happen to anyone, and then peace.

Play one again with `pytest -k 'storm and 17'`: everything is drawn from the seed.
"""

import random
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from tests.cluster.scene import Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio._core.rules import Rules
from avtomatika_trio.testing import Cluster, Fault, Orchestrator, WorkerMachine, calls

STORM_SECONDS = 100.0

#: A dead process' leases (40 s) and claims (40 s), one poll that nobody answers (25 s), the
#: longest back-off (15 s), and the work itself, twice over.
PEACE_SECONDS = 200.0

WORKERS = ("w1", "w2")


@pytest.mark.parametrize("seed", range(8))
async def test_all_jobs_are_done_after_a_storm(
    autojump_clock: MockClock, shop: Workshop, seed: int
) -> None:
    chance = random.Random(seed)
    rules = Rules(max_lost_attempts=50)  # they die more often than a task may kill them
    async with at_peace(seed=seed, orchestrators=2, commit_seconds=0.01, rules=rules) as cluster:
        for worker_id in WORKERS:
            await shop.add_to(
                cluster, worker_id, max_concurrent_tasks=4, shutdown_timeout_seconds=3.0
            ).start()
        await trio.sleep(1)
        jobs = [{"n": n, "seconds": chance.uniform(0, 12)} for n in range(12)]
        fans = [{"branches": 3, "seconds": chance.uniform(0, 12)} for _ in range(8)]
        job_ids = [*await cluster.submit("one", *jobs), *await cluster.submit("many", *fans)]

        with trio.move_on_after(STORM_SECONDS):
            while True:
                await trio.sleep(chance.uniform(0, 4))
                await _blow(cluster, chance)
        cluster.network.heal()
        await _start_the_dead(cluster, chance, probability=1.0)

        ended = await cluster.wait_until_final(job_ids, seconds=PEACE_SECONDS)
        await trio.sleep(30)

        assert [job.result for job in ended] == [n * 10 for n in range(12)] + [[0, 10, 20]] * 8
        assert await unexplained(cluster, shop, job_ids) == []
        assert [machine.folder.entries for machine in cluster.workers.values()] == [{}, {}]


async def _blow(cluster: Cluster, chance: random.Random) -> None:
    """One thing happens."""
    network = cluster.network
    worker = cluster.workers[chance.choice(WORKERS)]
    seconds = chance.uniform(0, 15)
    befall = partial(network.befall, lasting_seconds=chance.uniform(0, 10), seconds=seconds)
    path = chance.choice(["*/register", "/_worker/workers/w?", "*/next", "*/result", "*/return"])
    matches = calls("*", path, chance.choice([*WORKERS, "w*"]))
    gusts: list[tuple[int, Callable[[], Awaitable[None]]]] = [
        (2, worker.kill),
        (2, chance.choice(cluster.orchestrators).kill),
        (1, partial(_restart, worker)),
        (3, partial(_cut_or_mend, cluster, worker.worker_id)),
    ]
    weights = [weight for weight, _ in gusts]
    await _start_the_dead(cluster, chance, probability=0.4)
    if chance.random() < 0.7:
        befall(chance.choice(list(Fault)), matches)
    else:
        [(_, gust)] = chance.choices(gusts, weights)
        await gust()


async def _start_the_dead(cluster: Cluster, chance: random.Random, probability: float) -> None:
    machines: list[WorkerMachine | Orchestrator] = [*cluster.workers.values()]
    machines += cluster.orchestrators
    for machine in machines:
        if not machine.is_up and chance.random() < probability:
            await machine.start()


async def _restart(worker: WorkerMachine) -> None:
    if worker.is_up:
        with trio.CancelScope(shield=True):
            await worker.stop()
        await worker.start()


async def _cut_or_mend(cluster: Cluster, worker_id: str) -> None:
    if cluster.chance.random() < 0.5:
        cluster.network.cut(worker_id)
    else:
        cluster.network.mend(worker_id)
