"""Gauges of the storage are true or not there, cost the same however many ask, and never fail."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families
from tests.orchestrator.clients import EPOCH, Worker, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.orchestrator._loop_lag import WINDOW_SECONDS, LoopLag
from avtomatika_trio.orchestrator._metrics import Metrics
from avtomatika_trio.orchestrator._metrics_storage import KEPT_SECONDS, PATIENCE_SECONDS
from avtomatika_trio.storage import MemoryStorage
from avtomatika_trio.storage._backlog import Backlog

Samples = dict[tuple[str, ...], float]


class Asked(MemoryStorage):
    """A storage that notes how often it is asked for its backlog, and may be away or mute."""

    def __init__(self) -> None:
        super().__init__(now=lambda: EPOCH + trio.current_time())
        self.asked = 0
        self.is_away = self.is_mute = False

    async def backlog(self, skills: Sequence[str]) -> Backlog:
        self.asked += 1
        if self.is_away:
            raise StorageUnavailable("gone")
        if self.is_mute:
            await trio.sleep_forever()
        await trio.sleep(0.1)
        return await super().backlog(skills)


@pytest.fixture
def storage() -> Asked:
    return Asked()


def samples(text: str) -> Samples:
    return {
        (sample.name.removeprefix("avtomatika_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(client: Any) -> Samples:
    answer = await client.get("/_public/metrics")
    assert answer.status_code == 200
    return samples(answer.text)


def of_storage(found: Samples) -> Samples:
    """Those that only the storage can tell."""
    names = {it.name for it in Metrics().families if it.scope == "storage"}
    assert len(names) == 5
    return {key: value for key, value in found.items() if key[0] in names}


IDLE = {
    ("queue_depth", "scale"): 0,
    ("queue_oldest_task_age_seconds", "scale"): 0,
    ("running_tasks",): 0,
    ("workers", "online"): 0,
    ("workers", "blocked"): 0,
    ("workers", "gone"): 0,
    ("timers_overdue",): 0,
}


async def test_gauges_tell_what_waits_and_runs(autojump_clock: MockClock, storage: Asked) -> None:
    context = make_context(storage)
    async with open_client(context) as client, trio.open_nursery() as nursery:
        assert of_storage(await scrape(client)) == IDLE
        nursery.start_soon(run_engine, context)
        await client.post("/api/v1/jobs/resize", json=[{}, {}, {}])
        await trio.sleep(30)
        found = of_storage(await scrape(client))
        assert found["queue_depth", "scale"] == 3
        assert 29 < found["queue_oldest_task_age_seconds", "scale"] < 31
        worker = Worker(client)
        await worker.register("scale")
        await worker.report((await worker.take())[0])
        await trio.sleep(KEPT_SECONDS)
        found = of_storage(await scrape(client))
        assert found == {**IDLE, ("running_tasks",): 2, ("workers", "online"): 1}
        nursery.cancel_scope.cancel()


async def test_names_from_outside_make_no_queues(autojump_clock: MockClock, storage: Asked) -> None:
    context = make_context(storage)
    async with open_client(context) as client:
        worker = Worker(client)
        await worker.register("a-skill-of-strangers")
        await worker.take()
        found = await scrape(client)
    assert [key for key in found if key[0] == "queue_depth"] == [("queue_depth", "scale")]


async def test_a_queue_that_was_seen_is_told_of_when_it_is_empty(
    autojump_clock: MockClock, storage: Asked
) -> None:
    """Blueprints may compute the names of skills: then their text does not tell."""
    metrics = Metrics()
    storage._signals.queues.changed("computed", 1)
    await metrics.storage.look(storage, ["named"])
    storage._signals.queues.changed("computed", -1)
    await trio.sleep(KEPT_SECONDS)
    await metrics.storage.look(storage, ["named"])
    found = samples(metrics.as_text().decode())
    assert found["queue_depth", "computed"] == found["queue_depth", "named"] == 0


async def test_however_many_ask_the_storage_is_asked_now_and_then(
    autojump_clock: MockClock, storage: Asked
) -> None:
    context = make_context(storage)
    seen: list[Samples] = []
    async with open_client(context) as client:

        async def ask() -> None:
            seen.append(await scrape(client))

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
        await trio.sleep(KEPT_SECONDS - 1)
        await ask()
        assert storage.asked == 1
        await trio.sleep(1)
        await ask()
        assert storage.asked == 2
    assert [it["storage_up",] for it in seen] == [1] * 52


async def _away(storage: Asked) -> None:
    storage.is_away = True


async def _mute(storage: Asked) -> None:
    storage.is_mute = True


async def _faulty(storage: Asked) -> None:
    storage.fault = "what is written is refused"


@pytest.mark.parametrize("hurt", [_away, _mute, _faulty])
async def test_what_a_storage_that_is_away_would_tell_is_left_out(
    autojump_clock: MockClock, storage: Asked, hurt: Callable[[Asked], Any]
) -> None:
    context = make_context(storage)
    async with open_client(context) as client:
        await scrape(client)  # which is counted as a request itself
        whole = await scrape(client)
        assert of_storage(whole) == IDLE
        await hurt(storage)
        await trio.sleep(KEPT_SECONDS)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(scrape, client)
        assert trio.current_time() - began <= PATIENCE_SECONDS
        found = await scrape(client)
        assert found["storage_up",] == 0
        assert of_storage(found) == {}
        assert found.keys() == whole.keys() - of_storage(whole).keys()

        storage.is_away = storage.is_mute = False
        storage.fault = None
        await trio.sleep(KEPT_SECONDS)
        found = await scrape(client)
        assert found["storage_up",] == 1
        assert of_storage(found) == IDLE


async def test_polls_that_wait_offer_slots(autojump_clock: MockClock) -> None:
    context = make_context()
    offered = "worker_slots", "offered"
    async with open_client(context) as client, trio.open_nursery() as nursery:
        worker = Worker(client)
        await worker.register("scale")
        path = "/_worker/workers/w1/tasks/next?instance=w1-run-1&poll=1&max_tasks=7"
        nursery.start_soon(worker._send, "GET", path, None)
        await trio.sleep(1)
        assert (await scrape(client))[offered] == 7
        await trio.sleep(context.limits.poll_hold_seconds)
        assert (await scrape(client))[offered] == 0


async def test_the_loop_tells_how_late_it_was(mock_clock: MockClock) -> None:
    """It is the janitor that sleeps; what happens while it should wake makes it late."""
    context = make_context()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_janitor, context)
        await trio.testing.wait_all_tasks_blocked()
        assert ("event_loop_lag_seconds",) not in samples(context.metrics.as_text().decode())
        mock_clock.jump(3.2)
        await trio.testing.wait_all_tasks_blocked()
        found = samples(context.metrics.as_text().decode())
        assert found["event_loop_lag_seconds",] == pytest.approx(3.0)
        nursery.cancel_scope.cancel()


def test_a_delay_is_forgotten_after_a_while() -> None:
    lag = LoopLag()

    def told() -> float:
        [family] = lag.collect()
        return float(family.samples[0].value)

    assert list(lag.collect()) == []
    lag.woke(due=10.0, now=10.5)
    lag.woke(due=11.0, now=11.1)
    assert told() == 0.5
    lag.woke(due=10.0 + WINDOW_SECONDS, now=10.0 + WINDOW_SECONDS)
    assert told() == 0.5
    lag.woke(due=11.0 + WINDOW_SECONDS, now=11.0 + WINDOW_SECONDS)
    assert told() == 0.5
    lag.woke(due=11.0 + 2 * WINDOW_SECONDS, now=11.0 + 2 * WINDOW_SECONDS)
    assert told() == 0.0
    lag.woke(due=100.0, now=900.0)
    assert told() == 800.0
    lag.woke(due=2000.0, now=2000.25)
    assert told() == 0.25
