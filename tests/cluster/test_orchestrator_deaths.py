"""Orchestrators die in the middle of fifty jobs; nothing is lost, nobody works twice in vain."""

import pytest
import trio
from tests.cluster.scene import Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio.testing import Cluster

#: A step that a dead process had claimed is free again after its claim (30 s), which is looked
#: at every third of that.
CLAIM_SECONDS = 30.0 + 10.0


async def _fifty_jobs(cluster: Cluster) -> list[str]:
    singles = [{"n": n, "seconds": cluster.chance.uniform(0, 2)} for n in range(30)]
    fans = [{"branches": 3, "seconds": cluster.chance.uniform(0, 2)} for _ in range(20)]
    return [*await cluster.submit("one", *singles), *await cluster.submit("many", *fans)]


async def _all_is_done(cluster: Cluster, shop: Workshop, job_ids: list[str]) -> None:
    jobs = await cluster.wait_until_final(job_ids, seconds=CLAIM_SECONDS + 20)
    assert [job.result for job in jobs] == [n * 10 for n in range(30)] + [[0, 10, 20]] * 20
    assert await unexplained(cluster, shop, job_ids) == []
    histories = [await cluster.history(job_id) for job_id in job_ids]
    # Every worker lives: whatever comes back was never begun, or its worker gave it back.
    assert [rows for rows in histories if "attempt_lost" in rows] == []
    assert shop.times() == [1] * 90


@pytest.mark.parametrize("seed", range(30))
async def test_fifty_jobs_outlive_an_orchestrator_that_dies_after_any_commit(
    autojump_clock: MockClock, shop: Workshop, seed: int
) -> None:
    async with at_peace(seed=seed, commit_seconds=0.005) as cluster:
        for worker_id in ("w1", "w2"):
            await shop.add_to(cluster, worker_id, max_concurrent_tasks=7).start()
        await trio.sleep(1)
        orchestrator = cluster.orchestrator
        job_ids = await _fifty_jobs(cluster)
        last = 1 + seed * 5
        commits = 0
        died = trio.Event()

        def die_after_the_last(number: int) -> None:
            nonlocal commits
            commits += 1
            if commits == last:
                orchestrator.die()
                died.set()

        orchestrator.on_commit = die_after_the_last
        await died.wait()
        await orchestrator.kill()
        await trio.sleep(cluster.chance.uniform(0, 3))
        await orchestrator.start()

        await _all_is_done(cluster, shop, job_ids)


@pytest.mark.parametrize("seed", range(3))
async def test_fifty_jobs_outlive_orchestrators_that_die_in_turn(
    autojump_clock: MockClock, shop: Workshop, seed: int
) -> None:
    async with at_peace(seed=seed, orchestrators=2, commit_seconds=0.005) as cluster:
        for worker_id in ("w1", "w2"):
            await shop.add_to(cluster, worker_id, max_concurrent_tasks=7).start()
        await trio.sleep(1)
        job_ids = await _fifty_jobs(cluster)
        for turn in range(6):
            await trio.sleep(cluster.chance.uniform(0, 1.5))
            dying = cluster.orchestrators[turn % 2]
            await dying.kill()
            await trio.sleep(cluster.chance.uniform(0, 0.5))
            await dying.start()

        await _all_is_done(cluster, shop, job_ids)


async def test_an_orchestrator_that_is_stopped_answers_its_parked_polls_at_once(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(orchestrators=2) as cluster:
        await shop.add_to(cluster).start()
        await trio.sleep(1)
        stopped_at = trio.current_time()
        for orchestrator in cluster.orchestrators:
            await orchestrator.stop()
        assert trio.current_time() - stopped_at < 0.1
        await cluster.orchestrators[1].start()

        job_ids = await cluster.submit("one", {"n": 1})

        await cluster.wait_until_final(job_ids, seconds=5)
