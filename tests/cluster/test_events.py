"""Events of workers on their way into the history, whatever dies meanwhile (rules E1 to E6)."""

from collections import defaultdict
from typing import Any

import pytest
import trio
from tests.cluster.scene import Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio.orchestrator._context import Security
from avtomatika_trio.testing import Cluster, Fault, WorkerMachine, calls
from avtomatika_trio.worker import Worker

EVENTS = calls("POST", "/_worker/events")
RESULT = calls("POST", "/_worker/tasks/result")

FRAMES = 20


def filming(pause: float = 0.5) -> Worker:
    """Its tasks send `FRAMES` events, some of which they wait for, and take ten seconds."""
    worker = Worker()

    @worker.skill("work", events_schema={"frame": {"required": ["n"]}})
    async def work(params: dict[str, Any], attempt: int, send_event: Any) -> dict[str, Any]:
        for n in range(FRAMES):
            sent = send_event("frame", {"n": n, "attempt": attempt})
            if n % 5 == 0:
                await sent
            await trio.sleep(pause)
        return {"answer": params["n"] * 10}

    return worker


def add_to(cluster: Cluster, worker_id: str = "w1", **settings: Any) -> WorkerMachine:
    settings = {"orchestrators": cluster.targets(), **settings}
    return cluster.add_worker(filming(), worker_id, **settings)


async def frames(cluster: Cluster, job_id: str) -> dict[int, list[int]]:
    """The events in the history, by attempt and in order."""
    storage = await cluster.storage_of(job_id)
    found: dict[int, list[int]] = defaultdict(list)
    for numbered in await storage.history(job_id, limit=100_000):
        row = numbered.row
        if row.type == "worker_event":
            assert row.details is not None
            assert row.attempt is not None
            assert row.attempt == row.details["payload"]["attempt"]
            found[row.attempt].append(row.details["payload"]["n"])
    return found


async def all_there(cluster: Cluster, job_ids: list[str]) -> None:
    """Nothing is doubled or out of order, and of the attempt with the result nothing is missing."""
    for job_id in job_ids:
        found = await frames(cluster, job_id)
        assert found[max(found)] == list(range(FRAMES))
        for numbers in found.values():
            assert numbers == sorted(set(numbers))
        rows = await cluster.history(job_id)
        assert "worker_events_lost" not in rows
        assert rows.count("task_finished") == 1
        assert "worker_event" not in rows[rows.index("task_finished") :]


async def test_events_are_in_the_history_before_their_result(autojump_clock: MockClock) -> None:
    async with at_peace() as cluster:
        await add_to(cluster).start()
        ids = await cluster.submit("one", *({"n": n} for n in range(5)))
        await cluster.wait_until_final(ids, seconds=20)
        await all_there(cluster, ids)


@pytest.mark.parametrize(
    "fault", [Fault.REFUSE, Fault.LOSE_REQUEST, Fault.LOSE_ANSWER, Fault.DUPLICATE]
)
async def test_a_post_of_events_that_fails_doubles_and_loses_nothing(
    autojump_clock: MockClock, fault: Fault
) -> None:
    async with at_peace() as cluster:
        await add_to(cluster).start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1}, {"n": 2})
        for _ in range(4):
            await trio.sleep(2)
            cluster.network.befall(fault, EVENTS, times=2)
        await cluster.wait_until_final(ids, seconds=30)
        await all_there(cluster, ids)


async def test_events_that_come_with_a_result_whose_answer_is_lost_come_once(
    autojump_clock: MockClock,
) -> None:
    async with at_peace() as cluster:
        await add_to(cluster).start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1})
        await trio.sleep(5)
        cluster.network.befall(Fault.REFUSE, EVENTS, times=100)
        cluster.network.befall(Fault.LOSE_ANSWER, RESULT, times=2)
        await cluster.wait_until_final(ids, seconds=30)
        await trio.sleep(30)
        await all_there(cluster, ids)


async def test_events_that_must_be_signed_are_signed_and_may_be_sent_again(
    autojump_clock: MockClock,
) -> None:
    signed = Security(signing="required")
    async with at_peace(security=signed, orchestrators=2) as cluster:
        await add_to(cluster).start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1}, {"n": 2})
        for fault in (Fault.LOSE_ANSWER, Fault.DUPLICATE, Fault.REFUSE):
            cluster.network.befall(fault, EVENTS, times=3)
            await trio.sleep(2)
        await cluster.wait_until_final(ids, seconds=30)
        await all_there(cluster, ids)
        refused = {it.call.path for it in cluster.network.seen if it.outcome == 403}
        assert refused <= {"/_worker/workers/register"}  # only then it is known


@pytest.mark.parametrize("how", ["killed", "cut"])
async def test_events_go_on_at_another_orchestrator(autojump_clock: MockClock, how: str) -> None:
    """Two orchestrators on one storage; the one that has issued the task goes away."""
    async with at_peace(orchestrators=2) as cluster:
        await add_to(cluster).start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1}, to="o1")
        await trio.sleep(4)
        if how == "killed":
            await cluster.orchestrators[0].kill()
        else:
            cluster.network.cut("o1")
        await cluster.wait_until_final(ids, seconds=30)
        await all_there(cluster, ids)
        assert [it for it in cluster.network.seen if EVENTS(it.call) and it.call.server == "o2"]


async def test_events_outlive_a_restart_of_the_orchestrator(autojump_clock: MockClock) -> None:
    async with at_peace() as cluster:
        await add_to(cluster).start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1})
        await trio.sleep(3)
        await cluster.orchestrator.kill()
        await trio.sleep(4)
        await cluster.orchestrator.start()
        await cluster.wait_until_final(ids, seconds=60)
        await all_there(cluster, ids)


async def test_events_are_in_the_spool_of_a_worker_that_dies(autojump_clock: MockClock) -> None:
    """It has finished while the orchestrator was away, and dies before that one is back."""
    async with at_peace() as cluster:
        machine = add_to(cluster)
        await machine.start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1})
        await trio.sleep(3)
        await cluster.orchestrator.kill()
        await trio.sleep(20)
        await machine.kill()
        await cluster.orchestrator.start()
        await machine.start()
        await cluster.wait_until_final(ids, seconds=60)
        await all_there(cluster, ids)
        assert len(await frames(cluster, ids[0])) == 1


async def test_of_two_attempts_that_overlap_one_goes_into_the_history_at_a_time(
    autojump_clock: MockClock,
) -> None:
    """The first worker is cut off and goes on; the second one gets the task."""
    async with at_peace() as cluster:
        slow = cluster.add_worker(filming(10.0), "w1", orchestrators=cluster.targets())
        await slow.start()
        await trio.sleep(1)
        ids = await cluster.submit("one", {"n": 1})
        await trio.sleep(25)
        cluster.network.cut("w1")
        await trio.sleep(45)
        await add_to(cluster, "w2").start()
        await trio.sleep(3)
        cluster.network.mend("w1")
        await cluster.wait_until_final(ids, seconds=120)
        await trio.sleep(60)
        found = await frames(cluster, ids[0])
        assert found[1] == [0, 1, 2]
        assert found[2] == list(range(FRAMES))
        storage = await cluster.storage_of(ids[0])
        rows = [it.row for it in await storage.history(ids[0], limit=1000)]
        order = [row.attempt for row in rows if row.type == "worker_event"]
        assert order == sorted(order, key=lambda it: it or 0)


async def test_a_cancelled_jobs_events_stop(autojump_clock: MockClock) -> None:
    async with at_peace() as cluster:
        await add_to(cluster).start()
        await trio.sleep(1)
        [job_id] = await cluster.submit("one", {"n": 1})
        await trio.sleep(3)
        await cluster.cancel(job_id)
        before = await frames(cluster, job_id)
        await trio.sleep(30)
        assert await frames(cluster, job_id) == before
        assert (await cluster.history(job_id))[-1] == "job_cancelled"


@pytest.mark.parametrize("seed", range(12))
async def test_events_outlive_a_storm(autojump_clock: MockClock, shop: Workshop, seed: int) -> None:
    """Orchestrators and workers die in turn, and the network loses what it likes."""
    async with at_peace(seed=seed, orchestrators=2, commit_seconds=0.005, partitions=2) as cluster:
        machines = [add_to(cluster, name, max_concurrent_tasks=4) for name in ("w1", "w2")]
        for machine in machines:
            await machine.start()
        await trio.sleep(1)
        ids = await cluster.submit("one", *({"n": n} for n in range(8)))
        for turn in range(8):
            await trio.sleep(cluster.chance.uniform(0, 2))
            for fault in (Fault.LOSE_ANSWER, Fault.REFUSE, Fault.LOSE_REQUEST, Fault.DUPLICATE):
                cluster.network.befall(fault, EVENTS, times=cluster.chance.randrange(3))
            cluster.network.befall(Fault.LOSE_ANSWER, RESULT, times=cluster.chance.randrange(2))
            dying: Any = cluster.orchestrators[turn % 2] if turn % 3 else machines[turn % 2]
            await dying.kill()
            await trio.sleep(cluster.chance.uniform(0, 1))
            await dying.start()
        await cluster.wait_until_final(ids, seconds=300)
        await all_there(cluster, ids)
        assert await unexplained(cluster, shop, ids) == []
