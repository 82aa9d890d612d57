"""Several orchestrators that are asked in turn: `ROUND_ROBIN` and `WATERFALL`."""

from collections import Counter
from typing import Any

import pytest
import trio
from tests.cluster.scene import POLL, RETURN, Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio._config import Target
from avtomatika_trio.testing import Cluster, Fault, calls


def counted(cluster: Cluster, matches: Any) -> Counter[str]:
    """How many answered requests each orchestrator has got."""
    return Counter(
        it.call.server for it in cluster.network.seen if matches(it.call) and it.outcome == 200
    )


@pytest.mark.parametrize("slots", [1, 3, 10])
@pytest.mark.parametrize("seconds", ["same", "mixed"])
async def test_two_busy_ones_get_their_share_of_tasks_and_requests(
    autojump_clock: MockClock, shop: Workshop, slots: int, seconds: str
) -> None:
    """3 to 1 over 400 tasks, within 5 %."""
    async with at_peace(orchestrators=2, is_shared=False) as cluster:
        chance = cluster.chance

        def work(n: int) -> dict[str, Any]:
            return {"n": n, "seconds": 1.0 if seconds == "same" else chance.uniform(0.1, 2)}

        worker = shop.add_to(
            cluster,
            mode="ROUND_ROBIN",
            orchestrators=cluster.targets(o1=3),
            max_concurrent_tasks=slots,
        )
        await worker.start()
        await trio.sleep(1)
        await cluster.submit("one", *(work(1) for _ in range(400)), to="o1")
        await cluster.submit("one", *(work(2) for _ in range(400)), to="o2")
        await shop.until(400)
        by = Counter(run.n for run in shop.runs[:400])
        assert by[1] == pytest.approx(300, rel=0.05)
        assert by[2] == pytest.approx(100, rel=0.05)
        asked = counted(cluster, POLL)
        assert asked["o1"] / asked["o2"] == pytest.approx(3, rel=0.15)
        await cluster.kill_all()


async def test_work_at_one_is_picked_up_while_the_other_holds_its_poll(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(orchestrators=2, is_shared=False) as cluster:
        await shop.add_to(cluster, mode="ROUND_ROBIN", orchestrators=cluster.targets()).start()
        for round_ in range(20):
            await trio.sleep(7.3)
            at = trio.current_time()
            [job_id] = await cluster.submit("one", {"n": 1}, to=f"o{1 + round_ % 2}")
            await shop.until(round_ + 1)
            assert trio.current_time() - at < 0.2
            await cluster.wait_until_final([job_id], seconds=1)


@pytest.mark.parametrize("how", ["dead", "silent", "refusing"])
async def test_one_that_is_away_takes_no_share_and_costs_the_other_nothing(
    autojump_clock: MockClock, shop: Workshop, how: str
) -> None:
    async with at_peace(orchestrators=2, is_shared=False) as cluster:
        worker = shop.add_to(
            cluster,
            mode="ROUND_ROBIN",
            orchestrators=cluster.targets(o1=3),
            max_concurrent_tasks=2,
        )
        await worker.start()
        await trio.sleep(30)
        if how == "dead":
            await cluster.orchestrators[0].kill()
        elif how == "silent":
            cluster.network.cut("o1")
        else:
            cluster.network.befall(Fault.REFUSE, calls("*", "*", server="o1"))
        at = trio.current_time()
        jobs = [{"n": n, "seconds": 1} for n in range(200)]
        await cluster.wait_until_final(await cluster.submit("one", *jobs, to="o2"), seconds=110)
        # A hundred seconds of work, and not more than a moment for finding out.
        assert trio.current_time() - at < 102
        assert shop.times() == [1] * 200


async def test_what_is_too_much_is_given_back_at_once(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """Both parked polls are answered in the same moment, and there is one slot."""
    async with at_peace(orchestrators=2, is_shared=False) as cluster:
        await shop.add_to(
            cluster, mode="ROUND_ROBIN", orchestrators=cluster.targets(), max_concurrent_tasks=1
        ).start()
        await trio.sleep(5)
        other = shop.add_to(cluster, "w2", orchestrators=(Target(url="http://o2"),))
        first = await cluster.submit("one", {"n": 1, "seconds": 60}, to="o1")
        second = await cluster.submit("one", {"n": 2, "seconds": 1}, to="o2")
        await trio.sleep(0.2)
        assert counted(cluster, RETURN) == {"o2": 1}
        await other.start()
        await cluster.wait_until_final(second, seconds=2)
        await cluster.wait_until_final(first, seconds=61)
        assert shop.times() == [1, 1]
        assert await unexplained(cluster, shop, [*first, *second]) == []


async def test_a_slow_one_gets_its_share_too(autojump_clock: MockClock, shop: Workshop) -> None:
    """Its answers take 0.4 s: longer than anybody waits at first, but it is got used to."""
    async with at_peace(orchestrators=2, is_shared=False) as cluster:
        cluster.network.befall(Fault.DELAY_ANSWER, calls("*", "*", server="o2"), seconds=0.4)
        for name in ("o1", "o2"):
            n = int(name[1])
            await cluster.submit("one", *({"n": n, "seconds": 5} for _ in range(200)), to=name)
        await shop.add_to(
            cluster, mode="ROUND_ROBIN", orchestrators=cluster.targets(), max_concurrent_tasks=4
        ).start()
        await shop.until(200)
        by = Counter(run.n for run in shop.runs[:200])
        assert by[2] == pytest.approx(100, rel=0.2)
        assert counted(cluster, RETURN)["o2"] < 10
        await cluster.kill_all()


@pytest.mark.parametrize("seed", range(6))
async def test_waterfall_asks_the_next_one_when_the_preferred_has_no_more(
    autojump_clock: MockClock, shop: Workshop, seed: int
) -> None:
    """Whoever has registered the worker first is asked first: here it is the preferred one."""
    async with at_peace(seed=seed, orchestrators=2, is_shared=False) as cluster:
        registering = calls("POST", "/_worker/workers/register", server="o2")
        cluster.network.befall(Fault.DELAY_ANSWER, registering, seconds=0.5)
        await cluster.submit("one", *({"n": 1, "seconds": 1} for _ in range(40)), to="o1")
        await cluster.submit("one", *({"n": 2, "seconds": 1} for _ in range(40)), to="o2")
        await shop.add_to(
            cluster, mode="WATERFALL", orchestrators=cluster.targets(), max_concurrent_tasks=4
        ).start()
        await shop.until(80)
        order = [run.n for run in shop.runs]
        assert order == [1] * 40 + [2] * 40
        [job_id] = await cluster.submit("one", {"n": 1}, to="o1")
        await cluster.wait_until_final([job_id], seconds=2)


async def test_a_full_spool_of_one_cluster_does_not_stop_the_others(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """Rule R6."""
    async with at_peace(orchestrators=2, is_shared=False) as cluster:
        worker = shop.add_to(
            cluster,
            mode="ROUND_ROBIN",
            orchestrators=cluster.targets(),
            max_concurrent_tasks=1,
            spool_max_entries=3,
        )
        await worker.start()
        cluster.network.befall(
            Fault.LOSE_REQUEST, calls("POST", "/_worker/tasks/result", server="o1")
        )
        await cluster.submit("one", *({"n": 1} for _ in range(20)), to="o1")
        ids = await cluster.submit("one", *({"n": 2, "seconds": 1} for _ in range(20)), to="o2")
        await cluster.wait_until_final(ids, seconds=40)
        left = [it for it in worker.folder.entries.values() if it.cluster_id == "cluster-1"]
        assert len(left) == Counter(run.n for run in shop.runs)[1] == 3
        cluster.network.heal()
        await shop.until(40)
        await trio.sleep(20)
        assert worker.folder.entries == {}
