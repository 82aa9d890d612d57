"""Work reaches a worker, whoever comes, goes or does not hear (rules H1 to H6)."""

import pytest
import trio
from tests.cluster.scene import (
    BEAT,
    POLL,
    RESULT,
    Workshop,
    at_peace,
    leased as held_by,
    unexplained,
)
from trio.testing import MockClock

from avtomatika_trio._core.rules import Rules
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.testing import Cluster, Fault, calls


async def test_work_that_is_queued_while_no_worker_is_there_is_taken_when_one_comes(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    job_ids = await cluster.submit("one", {"n": 1}, {"n": 2})
    await trio.sleep(600)

    await shop.add_to(cluster).start()

    jobs = await cluster.wait_until_final(job_ids, seconds=1)
    assert [job.result for job in jobs] == [10, 20]
    assert shop.times() == [1, 1]


@pytest.mark.parametrize("seed", range(5))
async def test_no_wake_up_is_missed_between_looking_and_parking(
    autojump_clock: MockClock, shop: Workshop, seed: int
) -> None:
    async with at_peace(seed=seed, commit_seconds=0.02) as cluster:
        await shop.add_to(cluster, max_concurrent_tasks=100).start()
        job_ids: list[str] = []
        for n in range(40):
            job_ids += await cluster.submit("one", {"n": n})
            await trio.sleep(cluster.chance.uniform(0, 0.05))

        jobs = await cluster.wait_until_final(job_ids, seconds=1)

        assert [job.result for job in jobs] == [n * 10 for n in range(40)]
        assert shop.times() == [1] * 40


async def test_a_task_is_not_leased_to_a_parked_poll_whose_client_has_gone(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    killed, other = shop.add_to(cluster), shop.add_to(cluster, "w2")
    await killed.start()
    await trio.sleep(1)
    await killed.kill()
    await trio.sleep(1)

    [job_id] = await cluster.submit("one", {"n": 1})
    await trio.sleep(1)
    assert "attempt_leased" not in await cluster.history(job_id)

    await other.start()
    await cluster.wait_until_final([job_id], seconds=1)
    assert [run.worker_id for run in shop.runs] == ["w2"]


async def test_a_task_whose_client_goes_during_the_commit_comes_back_at_once(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(commit_seconds=0.05) as cluster:
        assert await _began_at_once_elsewhere(cluster, shop, dies_after_seconds=0)


async def test_a_task_whose_client_goes_before_the_first_byte_comes_back_at_once(
    autojump_clock: MockClock,
) -> None:
    """The client dies a few milliseconds after the commit that leases the task to it."""
    for milliseconds in range(0, 60, 4):
        async with at_peace(seed=milliseconds, commit_seconds=0.05) as cluster:
            shop = Workshop()
            at_once = await _began_at_once_elsewhere(
                cluster, shop, dies_after_seconds=milliseconds / 1000
            )
            # Once the first byte was sent, or even read, only the lease's end can tell.
            is_too_late = cluster.network.unread or [run.worker_id for run in shop.runs] == ["w1"]
            assert at_once or is_too_late


async def _began_at_once_elsewhere(
    cluster: Cluster, shop: Workshop, *, dies_after_seconds: float
) -> bool:
    dying, other = shop.add_to(cluster), shop.add_to(cluster, "w2")
    await dying.start()
    await trio.sleep(1)
    leased = trio.Event()

    def notice(number: int) -> None:
        if not leased.is_set() and held_by(cluster, dying.instance):
            leased.set()
            if not dies_after_seconds:
                dying.die()

    cluster.orchestrator.on_commit = notice
    [job_id] = await cluster.submit("one", {"n": 1, "seconds": 100})
    await leased.wait()
    await trio.sleep(dies_after_seconds)
    dying.die()
    await other.start()
    await trio.sleep(1)
    rows = await cluster.history(job_id)
    return "attempt_unclaimed" in rows and [run.worker_id for run in shop.runs] == ["w2"]


async def test_a_proxy_that_keeps_the_poll_of_a_killed_worker_open_loses_nothing(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    cluster.network.befall(Fault.KEEP_OPEN, calls("GET", "*", "w1"))
    killed, other = shop.add_to(cluster), shop.add_to(cluster, "w2")
    await killed.start()
    await trio.sleep(1)
    await other.start()
    await killed.kill()
    killed_at = trio.current_time()

    [job_id] = await cluster.submit("one", {"n": 1})

    [job] = await cluster.wait_until_final([job_id], seconds=40)
    assert trio.current_time() - killed_at <= 40
    assert [run.worker_id for run in shop.runs] == ["w2"]
    assert job.result == 10


async def test_tasks_in_an_answer_that_was_lost_come_back_with_the_next_heartbeat(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    worker = shop.add_to(cluster)
    lost = cluster.network.befall(Fault.LOSE_ANSWER, POLL, times=1)
    await worker.start()
    await trio.sleep(1)

    job_ids = await cluster.submit("one", {"n": 1}, {"n": 2})
    await cluster.wait_until_final(job_ids, seconds=BEAT + 0.1)

    assert len(lost.hits) == 1
    assert shop.times() == [1, 1]
    histories = [await cluster.history(job_id) for job_id in job_ids]
    assert [rows.count("attempt_unclaimed") for rows in histories].count(1) >= 1
    assert not any("attempt_lost" in rows for rows in histories)


async def test_an_answer_that_is_older_than_a_lease_is_dropped_and_never_started(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(rules=Rules(lease_seconds=3)) as cluster:
        worker = shop.add_to(cluster, heartbeat_interval_seconds=1.0)
        late = cluster.network.befall(Fault.DELAY_ANSWER, POLL, seconds=4, times=1)
        [job_id] = await cluster.submit("one", {"n": 1})
        await worker.start()

        await cluster.wait_until_final([job_id], seconds=4 + 1 + 1)

        assert len(late.hits) == 1
        [run] = shop.runs
        assert run.began > 4
        rows = await cluster.history(job_id)
        assert rows.count("attempt_leased") == 2
        assert rows.count("attempt_unclaimed") == 1


async def test_tasks_that_arrive_during_a_drain_are_given_back_unstarted(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    """The answer to the last post of results brings work that nobody here will begin."""
    draining, other = shop.add_to(cluster, max_concurrent_tasks=1), shop.add_to(cluster, "w2")
    cluster.network.befall(Fault.DELAY_ANSWER, RESULT, seconds=1, times=1)
    job_ids = await cluster.submit("one", {"n": 1, "seconds": 1}, {"n": 2})
    await draining.start()
    await trio.sleep(1.5)

    await draining.stop()
    stopped_at = trio.current_time()
    await other.start()

    jobs = await cluster.wait_until_final(job_ids, seconds=1)
    assert [job.result for job in jobs] == [10, 20]
    assert [run.worker_id for run in shop.runs] == ["w1", "w2"]
    assert shop.runs[1].began - stopped_at < 0.5
    assert "attempt_returned" in await cluster.history(job_ids[1])
    assert await unexplained(cluster, shop, job_ids) == []


async def test_a_poll_that_nobody_listens_to_takes_no_wake_up_from_those_who_do(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    """A worker that was cut off has a new poll; the old one is still parked at the server."""
    cluster.network.befall(Fault.KEEP_OPEN, POLL, times=1)
    silent = shop.add_to(cluster)
    await silent.start()
    await trio.sleep(1)
    await silent.kill()
    await silent.start()  # it says that the earlier process is dead
    await trio.sleep(1)

    job_ids = await cluster.submit("one", {"n": 1})

    await cluster.wait_until_final(job_ids, seconds=1)


@pytest.mark.parametrize("seed", range(5))
async def test_a_storage_that_does_not_tell_what_it_has_done_loses_and_doubles_nothing(
    autojump_clock: MockClock, shop: Workshop, seed: int
) -> None:
    """Of every few commits one happens, and its caller is told that the storage is away."""
    async with at_peace(seed=seed, commit_seconds=0.02) as cluster:

        def forget(_: int) -> None:
            if cluster.chance.random() < 0.2:
                raise StorageUnavailable("nobody knows what it has done")

        worker = shop.add_to(cluster, max_concurrent_tasks=10)
        await worker.start()
        job_ids: list[str] = []
        for n in range(10):
            job_ids += await cluster.submit("one", {"n": n, "seconds": 2})
        cluster.orchestrator.on_commit = forget
        await trio.sleep(60)
        cluster.orchestrator.on_commit = lambda _: None

        jobs = await cluster.wait_until_final(job_ids, seconds=60)

        assert [job.result for job in jobs] == [n * 10 for n in range(10)]
        assert shop.times() == [1] * 10
        assert await unexplained(cluster, shop, job_ids) == []
