"""Orchestrators on one storage: what one of them has issued, any other of them takes over."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
from tests.cluster.scene import (
    LEASE,
    POLL,
    RESULT,
    RETURN,
    Workshop,
    at_peace,
    unexplained,
)
from tests.cluster.test_failover import beats, polls, started
from trio.testing import MockClock

from avtomatika_trio.testing import Call, Cluster, Fault, Matches


@asynccontextmanager
async def pair(**options: Any) -> AsyncIterator[Cluster]:
    """Two orchestrators on one storage, with nothing lost at the end."""
    async with at_peace(orchestrators=2, **options) as cluster:
        yield cluster


def to(server: str, matches: Matches) -> Matches:
    return lambda call: call.server == server and matches(call)


async def nothing_lost(cluster: Cluster, shop: Workshop, job_ids: list[str]) -> None:
    for job_id in job_ids:
        rows = await cluster.history(job_id)
        assert "attempt_lost" not in rows
        assert rows.count("task_finished") == 1
    assert await unexplained(cluster, shop, job_ids) == []


@pytest.mark.parametrize("how", ["killed", "cut"])
async def test_an_hour_of_work_does_not_die_with_its_orchestrator(
    autojump_clock: MockClock, shop: Workshop, how: str
) -> None:
    """Heartbeats go to the other one all the time; the result does, when it is there."""
    async with pair() as cluster:
        await started(cluster, shop)
        [job_id] = await cluster.submit("one", {"n": 1, "seconds": 600}, to="o1")
        await shop.until(1)
        if how == "killed":
            await cluster.orchestrators[0].kill()
        else:
            cluster.network.cut("o1")
        [job] = await cluster.wait_until_final([job_id], seconds=601)
        assert job.result == 10
        assert shop.times() == [1]
        await nothing_lost(cluster, shop, [job_id])


async def test_a_result_goes_home_while_home_is_there(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with pair() as cluster:
        await started(cluster, shop)
        ids = await cluster.submit("one", *({"n": n, "seconds": 2} for n in range(20)), to="o2")
        await cluster.wait_until_final(ids, seconds=10)
        posts = [it.call.server for it in cluster.network.seen if RESULT(it.call)]
        assert set(posts) == {"o1"}


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
async def test_a_result_that_home_does_not_take_goes_to_another_at_once(
    autojump_clock: MockClock, shop: Workshop, fault: Fault
) -> None:
    """Also when home has applied it, and only its answer was lost (rule R3)."""
    async with pair() as cluster:
        await started(cluster, shop)
        cluster.network.befall(fault, to("o1", RESULT))
        ids = await cluster.submit("one", {"n": 1, "seconds": 3}, {"n": 2, "seconds": 3})
        await cluster.wait_until_final(ids, seconds=4)
        await trio.sleep(5)
        assert cluster.workers["w1"].folder.entries == {}
        await nothing_lost(cluster, shop, ids)


async def test_a_black_hole_swallows_no_result(autojump_clock: MockClock, shop: Workshop) -> None:
    async with pair() as cluster:
        await started(cluster, shop)
        ids = await cluster.submit("one", *({"n": n, "seconds": n} for n in range(1, 9)))
        await shop.until(8)
        cluster.network.cut("o1")
        await cluster.wait_until_final(ids, seconds=10)
        assert shop.times() == [1] * 8
        await nothing_lost(cluster, shop, ids)


async def test_what_a_lost_poll_answer_brought_comes_back_by_the_other_one_at_once(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """The first has handed it out and died: the heartbeat to the second says who holds what."""
    async with pair() as cluster:
        await started(cluster, shop)
        cluster.network.befall(Fault.LOSE_ANSWER, to("o1", POLL), times=2)
        at = trio.current_time()
        ids = await cluster.submit("one", {"n": 1}, to="o2")
        await trio.sleep(0.01)
        await cluster.orchestrators[0].kill()
        await cluster.wait_until_final(ids, seconds=2)
        assert trio.current_time() - at < 2
        await nothing_lost(cluster, shop, ids)


async def test_a_switch_leaves_nothing_to_the_end_of_a_lease(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """Switches to and fro under load, by deaths and by silence."""
    for seed in range(6):
        async with pair(seed=seed, commit_seconds=0.004) as cluster:
            shop = Workshop()
            for name in ("w1", "w2"):
                await shop.add_to(
                    cluster, name, orchestrators=cluster.targets(), max_concurrent_tasks=3
                ).start()
            ids: list[str] = []
            for turn in range(8):
                await trio.sleep(cluster.chance.uniform(0, 4))
                jobs = [{"n": n, "seconds": cluster.chance.uniform(0, 3)} for n in range(10)]
                ids += await cluster.submit("one", *jobs, to="o2")
                if turn % 2:
                    cluster.network.cut("o1")
                    await trio.sleep(cluster.chance.uniform(0, 12))
                    cluster.network.mend("o1")
                else:
                    await cluster.orchestrators[0].kill()
                    await trio.sleep(cluster.chance.uniform(0, 3))
                    await cluster.orchestrators[0].start()
            await cluster.wait_until_final(ids, seconds=30 + LEASE)
            await nothing_lost(cluster, shop, ids)
            assert shop.times() == [1] * 80


async def test_a_cancel_reaches_a_worker_by_the_heartbeat_to_another_orchestrator(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with pair() as cluster:
        await started(cluster, shop)
        [job_id] = await cluster.submit("one", {"n": 1, "seconds": 600})
        await shop.until(1)
        cluster.network.cut("o1")
        await trio.sleep(15)
        await cluster.cancel(job_id, at="o2")
        await trio.sleep(11)
        assert [run.how for run in shop.runs] == ["cancelled"]


async def test_what_a_drain_cuts_off_goes_back_by_the_other_one(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with pair() as cluster:
        worker = shop.add_to(cluster, orchestrators=cluster.targets(), shutdown_timeout_seconds=1)
        await worker.start()
        [job_id] = await cluster.submit("one", {"n": 1, "seconds": 600})
        await shop.until(1)
        await cluster.orchestrators[0].kill()
        await trio.sleep(15)
        await worker.stop()
        returned = [it for it in cluster.network.seen if RETURN(it.call) and it.outcome == 200]
        assert [it.call.server for it in returned] == ["o2"]
        assert "attempt_returned" in await cluster.history(job_id)
        assert worker.folder.instances == [worker.instance]  # one could not be told goodbye


async def test_a_worker_that_died_is_buried_at_both(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """Separate clusters: what each had given it comes back at once (rule L6)."""
    async with at_peace(orchestrators=2, is_shared=False) as cluster:
        worker = shop.add_to(cluster, mode="ROUND_ROBIN", orchestrators=cluster.targets())
        await worker.start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1, "seconds": 30}, to="o1")
        ids += await cluster.submit("one", {"n": 2, "seconds": 30}, to="o2")
        await shop.until(2)
        await worker.kill()
        await trio.sleep(1)
        at = trio.current_time()
        await worker.start()
        await shop.until(4)
        assert trio.current_time() - at < 1
        await cluster.wait_until_final(ids, seconds=31)
        assert worker.folder.instances == [worker.instance]


async def test_a_dead_process_is_remembered_until_every_orchestrator_knows(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """I1 dies, I2 is heard by one of two only and dies, I3 tells the other of I1."""
    async with at_peace(orchestrators=2, is_shared=False) as cluster:
        worker = shop.add_to(cluster, mode="ROUND_ROBIN", orchestrators=cluster.targets())
        await worker.start()
        await trio.sleep(1)
        [job_id] = await cluster.submit("one", {"n": 2, "seconds": 5}, to="o2")
        await shop.until(1)
        await worker.kill()
        cluster.network.cut("o2")
        await worker.start()
        await trio.sleep(2)
        await worker.kill()
        cluster.network.mend("o2")
        at = trio.current_time()
        await worker.start()
        await shop.until(2)
        assert trio.current_time() - at < 1
        await cluster.wait_until_final([job_id], seconds=6)


@pytest.mark.parametrize("mode", ["FAILOVER", "ROUND_ROBIN", "WATERFALL"])
async def test_one_that_hangs_delays_nothing_at_the_others(
    autojump_clock: MockClock, shop: Workshop, mode: str
) -> None:
    """Heartbeats, polls and results go on at their pace."""
    async with at_peace(orchestrators=3, is_shared=False) as cluster:
        await started(cluster, shop, mode=mode, max_concurrent_tasks=2)
        cluster.network.cut("o2")
        await trio.sleep(20)
        since = trio.current_time()
        ids = await cluster.submit("one", *({"n": n, "seconds": 1} for n in range(60)), to="o1")
        await cluster.wait_until_final(ids, seconds=31.5)
        for name in ("o1", "o3"):
            times = [at for at in beats(cluster, name) if at >= since]
            assert len(times) in (3, 4)
            assert max(b - a for a, b in pairwise(times)) < 10.1
        assert polls(cluster, "o1", since=since) != [] or mode == "FAILOVER"


def heard_tokens(cluster: Cluster, server: str) -> set[bytes]:
    def token(call: Call) -> bytes:
        return dict(call.headers)[b"x-worker-token"]

    return {
        token(it.call)
        for it in cluster.network.seen
        if it.call.server == server and it.call.client == "w1"
    }


async def test_each_orchestrator_is_shown_its_own_token_and_no_other(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """In everything: registration, heartbeats, polls, results, returns, progress, probes."""
    async with at_peace(orchestrators=2, is_shared=False, tokens=["one", "two"]) as cluster:
        worker = shop.add_to(
            cluster, mode="ROUND_ROBIN", orchestrators=cluster.targets(), token=None
        )
        await worker.start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1, "seconds": 15}, to="o1")
        ids += await cluster.submit("one", {"n": 2, "seconds": 15}, to="o2")
        await cluster.wait_until_final(ids, seconds=20)
        await worker.stop()
        assert heard_tokens(cluster, "o1") == {b"one"}
        assert heard_tokens(cluster, "o2") == {b"two"}


async def test_one_that_refuses_the_worker_is_reported_and_left_alone_mostly(
    autojump_clock: MockClock, shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    async with at_peace(orchestrators=2, is_shared=False, tokens=["one", "two"]) as cluster:
        first, second = cluster.targets()
        wrong = attrs.evolve(first, token=second.token)
        await shop.add_to(cluster, orchestrators=(wrong, second)).start()
        [job_id] = await cluster.submit("one", {"n": 1}, to="o2")
        await cluster.wait_until_final([job_id], seconds=1)
        await trio.sleep(300)
        asked = [
            it for it in cluster.network.seen if it.call.server == "o1" and it.call.client == "w1"
        ]
        assert len(asked) <= 300 / 15 + 3
    told = [r.getMessage() for r in caplog.records if "link refused" in r.getMessage()]
    assert len(told) == 1
    assert "http://o1" in told[0]
    assert "WORKER_TOKEN" in told[0]
