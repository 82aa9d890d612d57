"""Results are applied exactly once, whatever is lost on the way (rules L2, R1 to R4)."""

import pytest
import trio
from tests.cluster.scene import RESULT, Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio.testing import Cluster, Fault


async def test_a_result_whose_acknowledgement_was_lost_is_sent_again_and_applied_once(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    lost = cluster.network.befall(Fault.LOSE_ANSWER, RESULT, times=3)
    await shop.add_to(cluster).start()

    job_ids = await cluster.submit("many", {"branches": 3, "seconds": 1})
    [job] = await cluster.wait_until_final(job_ids, seconds=10)
    await trio.sleep(10)

    assert len(lost.hits) == 3
    assert job.result == [0, 10, 20]
    assert shop.times() == [1, 1, 1]
    assert (await cluster.history(job.id)).count("task_finished") == 3
    assert cluster.workers["w1"].folder.entries == {}


async def test_a_result_that_arrives_twice_is_applied_once(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    cluster.network.befall(Fault.DUPLICATE, RESULT, seconds=3)
    await shop.add_to(cluster).start()

    job_ids = await cluster.submit("many", {"branches": 5}, {"branches": 5, "seconds": 2})
    jobs = await cluster.wait_until_final(job_ids, seconds=30)
    await trio.sleep(10)

    assert [job.result for job in jobs] == [[0, 10, 20, 30, 40]] * 2
    assert shop.times() == [1] * 10


@pytest.mark.parametrize("away_seconds", [0, 5, 20])
async def test_what_a_killed_worker_had_finished_is_delivered_by_its_next_process(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop, away_seconds: int
) -> None:
    """It died between the spool and the answer; the handler does not run again."""
    await _finish_die_and_come_back(cluster, shop, away_seconds)

    assert shop.times() == [1, 1, 1]


async def test_what_was_finished_before_a_long_absence_is_not_run_again(
    autojump_clock: MockClock,
) -> None:
    """The leases have ended meanwhile, but nobody else has taken the tasks."""
    for seed in range(3):
        async with at_peace(seed=seed) as cluster:
            shop = Workshop()
            await _finish_die_and_come_back(cluster, shop, 100)
            assert shop.times() == [1, 1, 1]


async def _finish_die_and_come_back(cluster: Cluster, shop: Workshop, away_seconds: float) -> None:
    cluster.network.befall(Fault.BLACK_HOLE, RESULT)
    worker = shop.add_to(cluster)
    await worker.start()
    job_ids = await cluster.submit("many", {"branches": 3, "seconds": 1})
    await trio.sleep(2)
    assert len(worker.folder.entries) == 3
    await worker.kill()
    cluster.network.heal()
    await trio.sleep(away_seconds)

    await worker.start()
    [job] = await cluster.wait_until_final(job_ids, seconds=5)

    assert job.result == [0, 10, 20]
    assert await unexplained(cluster, shop, job_ids) == []


async def test_a_result_whose_task_was_given_to_another_meanwhile_is_not_applied_twice(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    first = shop.add_to(cluster)
    await first.start()
    job_ids = await cluster.submit("one", {"n": 1, "seconds": 20})
    await trio.sleep(10)
    cluster.network.cut("w1")
    await shop.add_to(cluster, "w2").start()
    await shop.until(2)
    cluster.network.mend("w1")

    [job] = await cluster.wait_until_final(job_ids, seconds=60)
    await trio.sleep(30)

    assert job.result == 10
    assert (await cluster.history(job.id)).count("task_finished") == 1
    assert first.folder.entries == {}
    assert await unexplained(cluster, shop, job_ids) == []


async def test_a_disk_that_is_full_for_a_while_loses_no_result(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    worker = shop.add_to(cluster)
    await worker.start()
    await trio.sleep(1)
    worker.folder.fault = "no space left on device"
    job_ids = await cluster.submit("one", {"n": 1}, {"n": 2})
    await trio.sleep(100)
    worker.folder.fault = None

    jobs = await cluster.wait_until_final(job_ids, seconds=20)

    assert [job.result for job in jobs] == [10, 20]
    assert shop.times() == [1, 1]
