"""What heartbeats tell that is not stored: slots in use, and how busy machines are."""

import tracemalloc
from typing import Any

import attrs
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.orchestrator.clients import Worker, make_context, open_client
from trio import sleep
from trio.testing import MockClock

from avtomatika_trio import ActionFactory, Blueprint, testing
from avtomatika_trio._core.ledger import Instance, InstanceKind
from avtomatika_trio._wire.codec import MOST_LEVELS
from avtomatika_trio.orchestrator import _heard_workers
from avtomatika_trio.orchestrator._heard_workers import HeardWorkers, SlotCounts
from avtomatika_trio.worker import Worker as RealWorker

ONE = Instance(
    id="run-1",
    worker_id="w1",
    kind=InstanceKind.OURS,
    registration={"slots": 4},
    skills=("scale",),
    registered_at=0.0,
    seen_at=0.0,
    lease_until=30.0,
    due_at=30.0,
    interval_seconds=10.0,
    current_tasks=1,
)
BUSY = {"cpu_load_percent": 71.5, "ram_used_gb": 3.25}


async def slots(client: httpx.AsyncClient) -> dict[str, float]:
    text = (await client.get("/_public/metrics")).text
    [family] = [
        it for it in text_string_to_metric_families(text) if it.name == "avtomatika_worker_slots"
    ]
    return {it.labels["state"]: it.value for it in family.samples}


async def usage(client: httpx.AsyncClient) -> Any:
    [worker] = (await client.get("/api/v1/workers")).json()["workers"]
    return worker["instances"][0]["usage"]


async def beat(worker: Worker, number: int, **said: Any) -> None:
    said = {"instance": worker.instance, "beat": number, "last_poll": worker.polls, **said}
    await worker._send("PATCH", f"/_worker/workers/{worker.worker_id}", said)


async def test_slots_and_usage_are_those_of_the_newest_heartbeat(autojump_clock: MockClock) -> None:
    async with open_client(make_context()) as client:
        worker = Worker(client)
        await worker.register("scale", slots=4, heartbeat_seconds=10)
        assert await slots(client) == {"offered": 0, "used": 0, "free": 0}
        assert await usage(client) is None
        await beat(worker, 1, current_tasks=["a", "b", "c"], usage=BUSY)
        assert await slots(client) == {"offered": 0, "used": 3, "free": 1}
        assert await usage(client) == BUSY
        await beat(worker, 2, current_tasks=["a"])
        assert await slots(client) == {"offered": 0, "used": 1, "free": 3}
        assert await usage(client) == BUSY, "it says so only if it has changed"
        await beat(worker, 1, current_tasks=[], usage={})
        assert (await slots(client))["used"] == 1, "that one is late"
        await sleep(29.0)
        assert (await slots(client))["used"] == 1
        await sleep(2.0)
        assert await slots(client) == {"offered": 0, "used": 0, "free": 0}
        assert await usage(client) is None


@pytest.mark.parametrize("levels", [MOST_LEVELS + 1, 500, *range(920, 960)])
async def test_usage_that_is_nested_too_deeply_is_not_kept_and_breaks_nothing(levels: int) -> None:
    async with open_client(make_context()) as client:
        worker = Worker(client)
        await worker.register("scale", slots=2)
        deep = f"{'[' * levels}{']' * levels}"
        answer = await client.patch(
            f"/_worker/workers/{worker.worker_id}",
            content=f'{{"instance": "{worker.instance}", "beat": 1, "usage": {deep}}}',
            headers={"X-Worker-Token": worker.token, "X-Worker-ID": worker.worker_id},
        )
        # Where it cannot even be read, it is refused as a whole.
        assert answer.status_code == 200 or answer.json()["code"] == "invalid_message"
        assert await usage(client) is None
        await beat(worker, 2, current_tasks=[], usage=BUSY)
        assert await usage(client) == BUSY


async def test_who_leaves_has_no_slots(autojump_clock: MockClock) -> None:
    async with open_client(make_context()) as client:
        worker = Worker(client)
        await worker.register("scale", slots=2)
        await beat(worker, 1, current_tasks=[], usage=BUSY)
        assert (await slots(client))["free"] == 2
        await beat(worker, 2, current_tasks=[], leaving=True)
        assert (await slots(client))["free"] == 0


async def test_a_real_worker_is_shown_with_its_usage(autojump_clock: MockClock) -> None:
    walk = Blueprint("walk")

    @walk.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("step", {}, {"success": "end"})

    @walk.handler(is_end=True)
    async def end() -> None: ...

    worker = RealWorker(max_concurrent_tasks=3)
    worker.set_usage_checker(lambda: BUSY)

    @worker.skill("step")
    async def step() -> dict[str, Any]:
        await sleep(1000.0)
        return {}

    async with testing.cluster(walk, workers=[worker]) as c:
        job_id = await c.submit()
        await c.sleep(100.0)
        [shown] = await c.client.workers()
        assert shown.instances[0].usage == BUSY
        assert shown.instances[0].slots == 3
        metrics = c._cluster.orchestrator.metrics[-1]
        assert metrics.heard.slots(autojump_clock.current_time()) == SlotCounts(used=1, free=2)
        (await c.wait(job_id)).assert_finished()


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_heard_workers, "MOST_PROCESSES", 2)
    heard = HeardWorkers()
    for number in range(3):
        heard.note(attrs.evolve(ONE, id=str(number)), usage=BUSY, until=30.0, now=0.0)
    assert [heard.usage(str(number), 1.0) for number in range(3)] == [None, BUSY, BUSY]
    assert heard.slots(1.0) == SlotCounts(used=2, free=6)
    heard.note(ONE, usage={"gpus": ["x" * 5000]}, until=60.0, now=31.0)
    assert heard.usage(ONE.id, 32.0) is None
    assert heard.slots(32.0) == SlotCounts(used=1, free=3)


def test_a_worker_that_holds_more_than_it_has_room_for_has_none_free() -> None:
    heard = HeardWorkers()
    heard.note(attrs.evolve(ONE, current_tasks=9), usage=None, until=30.0, now=0.0)
    heard.note(attrs.evolve(ONE, id="foreign", registration={}), usage=None, until=30.0, now=0.0)
    assert heard.slots(1.0) == SlotCounts(used=4, free=0)


def test_what_a_process_tells_takes_no_more_room_than_is_promised() -> None:
    heard = HeardWorkers()
    tracemalloc.start()
    try:
        for number in range(10):
            # Each of these takes 64 bytes, and 3 as JSON.
            heard.note(
                attrs.evolve(ONE, id=str(number)),
                usage=[{} for _ in range(1300)],
                until=30.0,
                now=0.0,
            )
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert heard.usage("9", 1.0) == [{}] * 1300
    assert taken < 10 * 2 * _heard_workers.MOST_BYTES
