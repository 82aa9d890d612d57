"""A storm over workers that work for several orchestrators, in every mode, and then peace.

Two orchestrators share a storage or have one each; anything may happen to any of them, to the
workers, and to the network between.  Play one again with its name: all is drawn from the seed.
"""

import math
import random
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import pytest
import trio
from tests.cluster.scene import Workshop, at_peace, unexplained
from tests.cluster.test_storms import PEACE_SECONDS, STORM_SECONDS
from trio.testing import MockClock

from avtomatika_trio._core.rules import Rules
from avtomatika_trio.testing import Cluster, Fault, Orchestrator, WorkerMachine, calls

MODES = ("FAILOVER", "ROUND_ROBIN", "WATERFALL")
SERVERS = ("o1", "o2")

#: In `FAILOVER` each worker prefers another one, so that jobs at both get done.
PREFERRED = {"w1": 0, "w2": 1, "w3": 0}


@attrs.define
class Storm:
    cluster: Cluster
    chance: random.Random

    async def blow(self) -> None:
        """One thing happens."""
        cluster, chance = self.cluster, self.chance
        worker = cluster.workers[chance.choice(list(PREFERRED))]
        server = chance.choice(SERVERS)
        orchestrator = cluster.orchestrators[SERVERS.index(server)]
        gusts: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (2, worker.kill),
            (2, partial(self.restart, worker)),
            (3, orchestrator.kill),
            (2, partial(self.restart, orchestrator)),
            (4, partial(self.cut_or_mend, chance.choice([server, worker.worker_id]))),
        ]
        await self.start_the_dead(probability=0.4)
        if chance.random() < 0.6:
            self.trouble(server)
            return
        [(_, gust)] = chance.choices(gusts, [weight for weight, _ in gusts])
        await gust()

    def trouble(self, server: str) -> None:
        """Something is wrong between the workers and one orchestrator for a while."""
        chance = self.chance
        paths = ["*/register", "/_worker/workers/w?", "*/next", "*/result", "*/return", "/readyz"]
        self.cluster.network.befall(
            chance.choice(list(Fault)),
            calls("*", chance.choice(paths), chance.choice([*PREFERRED, "w*"]), server),
            seconds=chance.uniform(0, 15),
            lasting_seconds=chance.uniform(0, 15),
        )

    async def restart(self, machine: "WorkerMachine | Orchestrator") -> None:
        if machine.is_up:
            with trio.CancelScope(shield=True):
                await machine.stop()
            await machine.start()

    async def cut_or_mend(self, name: str) -> None:
        network = self.cluster.network
        (network.cut if self.chance.random() < 0.5 else network.mend)(name)

    async def start_the_dead(self, probability: float) -> None:
        machines: list[WorkerMachine | Orchestrator] = [*self.cluster.workers.values()]
        machines += self.cluster.orchestrators
        for machine in machines:
            if not machine.is_up and self.chance.random() < probability:
                await machine.start()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_shared", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize("mode", MODES)
async def test_all_jobs_are_done_after_a_storm_over_several(
    autojump_clock: MockClock, shop: Workshop, mode: str, *, is_shared: bool, seed: int
) -> None:
    rules = Rules(max_lost_attempts=50)  # they die more often than a task may kill them
    async with at_peace(
        seed=seed, orchestrators=2, is_shared=is_shared, commit_seconds=0.01, rules=rules
    ) as cluster:
        for worker_id, first in PREFERRED.items():
            targets = cluster.targets(o1=2)
            await shop.add_to(
                cluster,
                worker_id,
                mode=mode,
                orchestrators=(*targets[first:], *targets[:first]),
                max_concurrent_tasks=3,
                shutdown_timeout_seconds=3.0,
            ).start()
        await trio.sleep(1)
        storm = Storm(cluster, random.Random(seed))
        job_ids: list[str] = []
        for server in SERVERS:
            jobs = [{"n": n, "seconds": storm.chance.uniform(0, 12)} for n in range(12)]
            fan = {"branches": 3, "seconds": storm.chance.uniform(0, 12)}
            job_ids += await cluster.submit("one", *jobs, to=server)
            job_ids += await cluster.submit("many", fan, fan, to=server)

        with trio.move_on_after(STORM_SECONDS):
            while True:
                await trio.sleep(storm.chance.uniform(0, 4))
                await storm.blow()
        cluster.network.heal()
        await storm.start_the_dead(probability=1.0)

        ended = await cluster.wait_until_final(job_ids, seconds=PEACE_SECONDS)
        await trio.sleep(60)

        expected = ([n * 10 for n in range(12)] + [[0, 10, 20]] * 2) * 2
        assert [job.result for job in ended] == expected
        assert await unexplained(cluster, shop, job_ids) == []
        assert [machine.folder.entries for machine in cluster.workers.values()] == [{}] * 3
        for server in SERVERS if not is_shared else SERVERS[:1]:
            await _every_slot_is_free(
                cluster, server, _slots_for(server, mode, is_shared=is_shared)
            )


def _slots_for(server: str, mode: str, *, is_shared: bool) -> int:
    """How many slots jobs at *server* can get."""
    if mode != "FAILOVER" or is_shared:
        return 3 * len(PREFERRED)
    return 3 * list(PREFERRED.values()).count(SERVERS.index(server))


async def _every_slot_is_free(cluster: Cluster, server: str, slots: int) -> None:
    """Nine tasks take as many rounds as they must, and not one more."""
    ids = await cluster.submit("one", *({"n": n, "seconds": 5} for n in range(9)), to=server)
    await cluster.wait_until_final(ids, seconds=5 * math.ceil(9 / slots) + 1)
