"""Leases outlive what they should, and nothing else (rules L1 to L10, O1, O2, R2)."""

from typing import Any

import pytest
import trio
from tests.cluster.scene import BEAT, HEARTBEAT, Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio.orchestrator import _janitor
from avtomatika_trio.testing import Cluster, Fault

HOUR = 3600.0


@pytest.fixture
def slow_janitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks of a hundredth of the frequency, for tests of many hours."""
    monkeypatch.setattr(_janitor, "TICK_SECONDS", 2.0)


@pytest.mark.usefixtures("slow_janitor")
async def test_a_worker_that_beats_keeps_a_task_of_three_hours(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster).start()

    job_ids = await cluster.submit("one", {"n": 1, "seconds": 3 * HOUR})

    [job] = await cluster.wait_until_final(job_ids, seconds=3 * HOUR + 1)
    assert job.result == 10
    assert shop.times() == [1]
    assert (await cluster.history(job.id)).count("attempt_leased") == 1


async def test_a_handler_goes_on_while_the_orchestrator_is_away(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster).start()
    job_ids = await cluster.submit("one", {"n": 1, "seconds": 900})
    await trio.sleep(60)
    await cluster.orchestrator.kill()
    await trio.sleep(600)
    await cluster.orchestrator.start()

    [job] = await cluster.wait_until_final(job_ids, seconds=900 - 660 + 1)

    assert job.result == 10
    assert [run.how for run in shop.runs] == ["done"]
    assert "attempt_lost" not in await cluster.history(job.id)


@pytest.mark.parametrize("hours_of_work", [1, 9])
async def test_nothing_expires_in_an_outage_of_eight_hours(
    autojump_clock: MockClock,
    cluster: Cluster,
    shop: Workshop,
    slow_janitor: None,
    hours_of_work: int,
) -> None:
    beat: dict[str, Any] = {"heartbeat_interval_seconds": 60.0}
    await shop.add_to(cluster, max_concurrent_tasks=2, **beat).start()
    work = {"seconds": hours_of_work * HOUR}
    job_ids = await cluster.submit("one", {"n": 1, **work}, {"n": 2, **work}, {"n": 3})
    await trio.sleep(1)
    await cluster.orchestrator.kill()
    await trio.sleep(8 * HOUR)
    await cluster.orchestrator.start()

    rest = max(0, hours_of_work - 8) * HOUR
    jobs = await cluster.wait_until_final(job_ids, seconds=rest + 60)

    assert [job.result for job in jobs] == [10, 20, 30]
    assert shop.times() == [1, 1, 1]
    for job in jobs:
        assert "attempt_lost" not in await cluster.history(job.id)


async def test_the_restart_of_a_killed_worker_frees_its_tasks_at_once(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    worker = shop.add_to(cluster)
    await worker.start()
    job_ids = await cluster.submit("many", {"branches": 3, "seconds": 5})
    await shop.until(3)
    await worker.kill()
    await worker.start()

    [job] = await cluster.wait_until_final(job_ids, seconds=5 + 2)

    assert job.result == [0, 10, 20]
    assert shop.times() == [2, 2, 2]
    assert (await cluster.history(job.id)).count("attempt_lost") == 3
    assert await unexplained(cluster, shop, job_ids) == []


async def test_a_dead_worker_is_noticed_within_forty_seconds(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    dying, other = shop.add_to(cluster), shop.add_to(cluster, "w2")
    await dying.start()
    job_ids = await cluster.submit("one", {"n": 1, "seconds": 60})
    await trio.sleep(35)
    await dying.kill()
    killed_at = trio.current_time()
    await other.start()

    await shop.until(2)

    assert shop.runs[1].worker_id == "w2"
    assert trio.current_time() - killed_at <= 40
    await cluster.wait_until_final(job_ids, seconds=61)


async def test_a_worker_that_was_cut_off_for_45_seconds_keeps_working(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster).start()
    job_ids = await cluster.submit("one", {"n": 1, "seconds": 120})
    await trio.sleep(10)
    cluster.network.cut("w1")
    await trio.sleep(45)
    assert "attempt_lost" in await cluster.history(job_ids[0])
    cluster.network.mend("w1")

    [job] = await cluster.wait_until_final(job_ids, seconds=120 - 55 + 1)

    assert job.result == 10
    assert [run.how for run in shop.runs] == ["done"]
    rows = await cluster.history(job.id)
    assert rows.count("attempt_retaken") == 1
    assert rows.count("task_finished") == 1


async def test_a_worker_that_comes_back_too_late_is_told_to_stop(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster).start()
    job_ids = await cluster.submit("one", {"n": 1, "seconds": 120})
    await trio.sleep(10)
    cluster.network.cut("w1")
    await shop.add_to(cluster, "w2").start()
    await shop.until(2)
    cluster.network.mend("w1")
    mended_at = trio.current_time()

    [job] = await cluster.wait_until_final(job_ids, seconds=121)

    assert [(run.worker_id, run.how) for run in shop.runs] == [("w1", "cancelled"), ("w2", "done")]
    assert shop.runs[0].ended is not None
    assert shop.runs[0].ended - mended_at <= BEAT + 0.1
    assert job.result == 10


async def test_a_result_that_was_finished_in_a_cut_counts_when_nobody_else_has_the_task(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster).start()
    job_ids = await cluster.submit("one", {"n": 1, "seconds": 30})
    await trio.sleep(10)
    cluster.network.cut("w1")
    await trio.sleep(45)
    cluster.network.mend("w1")

    await cluster.wait_until_final(job_ids, seconds=BEAT + 16)

    assert [run.how for run in shop.runs] == ["done"]


async def test_a_cancelled_job_cancels_its_handlers_within_one_heartbeat(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    await shop.add_to(cluster).start()
    [one, many] = [
        *await cluster.submit("one", {"n": 1, "seconds": 1000}),
        *await cluster.submit("many", {"branches": 2, "seconds": 1000}),
    ]
    await shop.until(3)
    await trio.sleep(3)

    cancelled_at = trio.current_time()
    await cluster.cancel(one)
    await cluster.cancel(many)
    await trio.sleep(BEAT + 0.1)

    assert [run.how for run in shop.runs] == ["cancelled"] * 3
    assert all(run.ended is not None and run.ended <= cancelled_at + BEAT for run in shop.runs)
    [fresh] = await cluster.submit("one", {"n": 4})
    await cluster.wait_until_final([fresh], seconds=1)


async def test_a_draining_worker_reports_the_short_tasks_and_gives_the_long_ones_back(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    draining = shop.add_to(cluster, shutdown_timeout_seconds=40.0)
    await draining.start()
    job_ids = await cluster.submit(
        "one",
        {"n": 1, "seconds": 10},
        {"n": 2, "seconds": 35},
        {"n": 3, "seconds": 100},
    )
    await shop.until(3)
    await shop.add_to(cluster, "w2").start()
    await trio.sleep(1)
    await draining.stop()

    stopped_at = trio.current_time()
    assert stopped_at < 1 + 40 + 2
    jobs = await cluster.wait_until_final(job_ids, seconds=101)

    assert [job.result for job in jobs] == [10, 20, 30]
    assert sorted((run.worker_id, run.how) for run in shop.runs) == [
        ("w1", "cancelled"),
        ("w1", "done"),
        ("w1", "done"),
        ("w2", "done"),
    ]
    assert shop.runs[3].began - stopped_at < 0.5
    rows = await cluster.history(job_ids[2])
    assert rows.count("attempt_returned") == 1
    assert "attempt_lost" not in rows


async def test_two_machines_under_one_worker_id_keep_their_own_leases(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace() as cluster:
        first = shop.add_to(cluster, "twin", max_concurrent_tasks=1)
        second = shop.add_to(cluster, "twin", max_concurrent_tasks=1)
        second._runs = 100  # its instances have ids of their own
        await first.start()
        await second.start()

        job_ids = await cluster.submit("one", {"n": 1, "seconds": 100}, {"n": 2, "seconds": 100})

        await cluster.wait_until_final(job_ids, seconds=101)
        assert shop.times() == [1, 1]
        await first.kill()


async def test_a_worker_that_is_not_heard_for_a_while_is_given_work_when_it_is_heard_again(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    """Its polls get through all the time."""
    await shop.add_to(cluster).start()
    await trio.sleep(1)
    cluster.network.befall(Fault.BLACK_HOLE, HEARTBEAT, lasting_seconds=60)
    await trio.sleep(50)
    job_ids = await cluster.submit("one", {"n": 1})

    await cluster.wait_until_final(job_ids, seconds=10 + 20 + 1)


async def test_an_orchestrator_that_restarts_beside_another_does_not_prolong_dead_leases(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(orchestrators=2) as cluster:
        dying = shop.add_to(cluster)
        await dying.start()
        await cluster.submit("one", {"n": 1, "seconds": 5})
        await shop.until(1)
        await dying.kill()
        killed_at = trio.current_time()
        await shop.add_to(cluster, "w2").start()
        for _ in range(6):
            await trio.sleep(10)
            await cluster.orchestrators[1].kill()
            await cluster.orchestrators[1].start()

        with trio.fail_after(60):
            await shop.until(2)
        assert shop.runs[1].began - killed_at <= 40
