"""One worker and several orchestrators, of our own kind and of others', in virtual time."""

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.test_delivery import left_in
from tests.worker.worker_cases import among, running, sleep_worker, targets
from trio.testing import MockClock

from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool_memory import MemoryFolder

HOUR = 3600.0


@attrs.define
class Day:
    """A clock on the wall, which can be put forward."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return trio.current_time() + self.ahead

    def passes(self) -> None:
        self.ahead += 24 * HOUR


@asynccontextmanager
async def working(
    worker: Worker,
    *,
    folder: MemoryFolder | None = None,
    mode: str = "FAILOVER",
    instance: str = "i1",
    slots: int = 10,
    wall_clock: Callable[[], float] = trio.current_time,
    max_entries: int = 10_000,
    **fakes: FakeOrchestrator,
) -> AsyncIterator[None]:
    """Run *worker* for *fakes*, whose hosts are called as the arguments are."""
    for host, fake in fakes.items():
        fake.name = f"{host}-"
    first = next(iter(fakes.values()))
    changes = {
        "transport": among(**fakes),
        "wall_clock": wall_clock,
        "max_entries": max_entries,
    }
    async with running(
        worker,
        first,
        folder=folder,
        changes=changes,
        instance=instance,
        mode=mode,
        orchestrators=targets(*fakes),
        max_concurrent_tasks=slots,
    ):
        yield


def original(**changes: Any) -> FakeOrchestrator:
    """One that knows none of our extensions."""
    return FakeOrchestrator(extensions=(), cluster_id=None, **changes)


async def test_two_hours_with_an_outage_in_every_five_minutes(autojump_clock: MockClock) -> None:
    a, b = FakeOrchestrator(cluster_id="a"), FakeOrchestrator(cluster_id="b")
    async with working(sleep_worker(), a=a, b=b):
        for _ in range(24):
            for fake in (a, b):
                fake.submit("sleep", {"seconds": 20})
            await trio.sleep(200)
            await a.all_done()
            a.down = True
            await trio.sleep(100)
            await b.all_done()
            a.down = False
        assert trio.current_time() == pytest.approx(2 * HOUR)
    assert all(task.attempts == 1 for fake in (a, b) for task in fake.tasks.values())


async def test_what_an_orchestrator_says_of_anothers_attempts_does_not_count(
    autojump_clock: MockClock,
) -> None:
    a, b = FakeOrchestrator(cluster_id="a"), FakeOrchestrator(cluster_id="b")

    async def lie(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.method != "PATCH":
            return answer
        return httpx.Response(200, json={**answer.json(), "cancel_task_ids": ["a-k0-1"]})

    b.after = lie
    async with working(sleep_worker(), a=a, b=b):
        a.submit("sleep", {"seconds": 60})
        await a.all_done()
    assert a.results() == {"a-k0": ("success", 60.0)}


async def test_results_for_one_that_is_away_do_not_hold_up_those_for_others(
    autojump_clock: MockClock,
) -> None:
    a, b, folder = (
        FakeOrchestrator(cluster_id="a"),
        FakeOrchestrator(cluster_id="b"),
        MemoryFolder(),
    )
    day = Day()
    async with working(sleep_worker(), folder=folder, wall_clock=day, a=a, b=b):
        a.submit("sleep", {"seconds": 5}, count=5)
        await trio.sleep(1)
        a.down = True
        b.submit("sleep", {"seconds": 6}, count=5)
        at = trio.current_time()
        await b.all_done()
        assert trio.current_time() - at < 12
        assert [entry.cluster_id for entry in folder.entries.values()] == ["a"] * 5
        assert a.applied == []
        day.passes()  # home is one of ours: there is no end to patience
        await trio.sleep(1.1 * HOUR)
        assert len(folder.entries) == 5
        a.down = False
        await a.all_done()
    assert [len(results) for results in a.posts] == [5]
    assert folder.set_aside == []


async def test_a_result_that_its_cluster_does_not_know_waits_for_its_home(
    autojump_clock: MockClock,
) -> None:
    """Rule R5: only the issuer may say that it never heard of a task."""
    a, b, folder = FakeOrchestrator(), FakeOrchestrator(), MemoryFolder()
    a.down = True
    await left_in(folder, orchestrator="http://a", task_id="old-1")
    async with working(sleep_worker(), folder=folder, instance="i2", a=a, b=b):
        await trio.sleep(HOUR)
        assert [len(results) for results in b.posts] == [1]  # asked once, not all the time
        assert len(folder.entries) == 1
        a.down = False
        await trio.sleep(60)
        assert [len(results) for results in a.posts] == [1]
        assert folder.entries == {}
    assert folder.set_aside == []


async def test_after_a_day_what_any_of_its_cluster_says_is_final(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule R5."""
    a, b, folder = FakeOrchestrator(), FakeOrchestrator(), MemoryFolder()
    a.down = True
    await left_in(folder, orchestrator="http://a", task_id="old-1")
    day = Day()
    async with working(sleep_worker(), folder=folder, instance="i2", wall_clock=day, a=a, b=b):
        await trio.sleep(1.1 * HOUR)
        assert len(folder.entries) == 1
        day.passes()
        await trio.sleep(1.1 * HOUR)
        assert folder.entries == {}
    assert [len(results) for results in b.posts] == [1, 1]
    assert [entry.task_id for entry, _ in folder.set_aside] == ["old-1"]
    assert "is set aside" in caplog.text


@pytest.mark.parametrize("mode", ["FAILOVER", "ROUND_ROBIN", "WATERFALL"])
async def test_it_works_with_orchestrators_without_our_extensions(
    autojump_clock: MockClock, mode: str
) -> None:
    a, b = original(), FakeOrchestrator(cluster_id="b")
    async with working(sleep_worker(), mode=mode, slots=2, a=a, b=b):
        for fake in (a, b):
            fake.submit("sleep", {"seconds": 1}, count=10)
        await a.all_done()
        a.down = True
        await b.all_done()
        a.down = False
        a.submit("sleep", {"seconds": 1}, count=3)
        await a.all_done()
        assert trio.current_time() < 90
    assert all(task.attempts == 1 for task in b.tasks.values())
    assert all("max_tasks" not in query and "poll" not in query for query in a.polls)
    assert {query["timeout"] for query in a.polls} == {"30"}


async def test_the_original_is_probed_where_it_answers(autojump_clock: MockClock) -> None:
    a, b = original(), original()
    async with working(sleep_worker(), a=a, b=b):
        await trio.sleep(60)
    asked = Counter(what for _, what in a.requests)
    assert asked["GET /_public/status"] >= 15
    assert asked["GET /readyz"] <= 2


async def test_two_originals_in_turn_each_have_a_poll_open_and_get_their_share(
    autojump_clock: MockClock,
) -> None:
    """They cannot be asked without waiting, and take nothing back: each poll keeps a slot."""
    a, b = original(), original()
    async with working(sleep_worker(), mode="ROUND_ROBIN", slots=2, a=a, b=b):
        await trio.sleep(40)
        for fake in (a, b, a, b):
            at = trio.current_time()
            fake.submit("sleep", {"seconds": 1})
            await fake.all_done()
            assert trio.current_time() - at < 1.3
        for fake in (a, b):
            fake.submit("sleep", {"seconds": 1}, count=60)
        await trio.sleep(30)
        assert min(len(fake.applied) for fake in (a, b)) >= 25


async def test_with_one_slot_originals_are_asked_one_after_the_other(
    autojump_clock: MockClock,
) -> None:
    a, b = original(), original()
    async with working(sleep_worker(), mode="ROUND_ROBIN", slots=1, a=a, b=b):
        for _ in range(5):
            for fake in (a, b):
                fake.submit("sleep", {"seconds": 1})
                await fake.all_done()
    assert trio.current_time() < 10 * 32
    assert {task.attempts for fake in (a, b) for task in fake.tasks.values()} == {1}


async def test_one_that_does_not_hold_polls_is_not_hammered(autojump_clock: MockClock) -> None:
    a, b = FakeOrchestrator(cluster_id="a", hold_seconds=0.0), FakeOrchestrator(cluster_id="b")
    async with working(sleep_worker(), mode="ROUND_ROBIN", a=a, b=b):
        await trio.sleep(60)
    assert len(a.polls) <= 2 * 60 / 0.5 + 4


async def test_one_that_asks_to_come_again_later_is_not_left(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """429 is an answer."""
    a, b = FakeOrchestrator(cluster_id="a"), FakeOrchestrator(cluster_id="b")

    async def later(request: httpx.Request) -> httpx.Response | None:
        is_poll = request.url.path.endswith("/next") and trio.current_time() < 30
        return httpx.Response(429, headers={"Retry-After": "3"}) if is_poll else None

    a.fault = later
    async with working(sleep_worker(), a=a, b=b):
        await trio.sleep(60)
    assert b.polls == []
    assert len(a.polls) >= 1
    assert "switched" not in caplog.text


async def test_heartbeats_tell_each_cluster_its_own_and_few_of_the_others(
    autojump_clock: MockClock,
) -> None:
    """The backlog of one cluster does not make the other's heartbeats too large to be read."""
    holdings = Holdings({f"a-{n}": "a" for n in range(30_000)} | {"b-1": "b"})
    told = holdings.current.held_for("b")
    assert "b-1" in told
    assert len(json.dumps(told)) < 100_000
    assert len(holdings.current.held_for("a")) == 30_001


async def test_numbers_of_heartbeats_grow_over_all_links(autojump_clock: MockClock) -> None:
    """One storage behind both: it takes no notice of a number below the last one."""
    a, b = FakeOrchestrator(), FakeOrchestrator()
    async with working(sleep_worker(), a=a, b=b):
        await trio.sleep(100)
    numbers = [beat.beat for beat in (*a.beats, *b.beats)]
    assert len(set(numbers)) == len(numbers) >= 20
    assert [beat.beat for beat in a.beats] == sorted(beat.beat for beat in a.beats)


async def test_a_worker_without_any_orchestrator_waits_for_one(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="avtomatika_trio.worker")
    a = FakeOrchestrator(cluster_id="a", down=True)
    b = FakeOrchestrator(cluster_id="b", down=True)
    async with working(sleep_worker(), a=a, b=b):
        await trio.sleep(600)
        assert len(a.requests) + len(b.requests) < 4 * 600 / 7
        b.submit("sleep", {"seconds": 1})
        b.down = False
        at = trio.current_time()
        await b.all_done()
        assert trio.current_time() - at < 18
    lines = [r.getMessage() for r in caplog.records if "asking" in r.getMessage()]
    assert lines[0].startswith("asking nobody for work: http://")
    assert lines[1] == "asking http://b for work: it answers again"


async def test_who_was_not_asked_for_a_full_spool_is_asked_as_soon_as_there_is_room(
    autojump_clock: MockClock,
) -> None:
    """Rule R6."""
    a, b = FakeOrchestrator(cluster_id="a"), FakeOrchestrator(cluster_id="b")
    clogged = [True]

    async def refuse(request: httpx.Request) -> httpx.Response | None:
        is_result = request.url.path.endswith("/result")
        return httpx.Response(503) if clogged and is_result else None

    a.fault = refuse
    async with working(sleep_worker(), mode="ROUND_ROBIN", max_entries=3, a=a, b=b):
        a.submit("sleep", {"seconds": 1}, count=3)
        await trio.sleep(100)
        a.submit("sleep", {"seconds": 1}, count=3)
        await trio.sleep(100)
        assert len(a.granted) == 3
        clogged.clear()
        await a.until(lambda: a.applied)
        at = trio.current_time()
        await a.all_done()
        assert trio.current_time() - at < 1.5


@pytest.mark.parametrize("mode", ["FAILOVER", "ROUND_ROBIN", "WATERFALL"])
@pytest.mark.parametrize("limits", [None, {"sleep": 3}])
async def test_nobody_is_asked_while_the_disk_takes_no_results_and_all_are_again_at_once(
    autojump_clock: MockClock, mode: str, limits: dict[str, int] | None
) -> None:
    """In every mode, and with a poll beside that which is parked."""
    folder, a, b = MemoryFolder(), FakeOrchestrator(), FakeOrchestrator()
    worker = Worker(skill_type_limits=limits)

    @worker.skill
    async def sleep(params: dict[str, Any]) -> None:
        await trio.sleep(params["seconds"])

    @worker.skill
    async def other(params: dict[str, Any]) -> None: ...

    async with working(worker, mode=mode, folder=folder, slots=4, a=a, b=b):
        a.submit("sleep", {"seconds": 1})
        await trio.sleep(0.5)
        folder.fault = "no space left on device"
        await trio.sleep(60)  # the polls that were parked have ended
        for fake in (a, b):
            fake.submit("sleep", {"seconds": 1})
            fake.submit("other")
        await trio.sleep(300)
        assert [len(fake.granted) for fake in (a, b)] == [1, 0]
        folder.fault = None
        await a.until(lambda: a.applied)
        at = trio.current_time()
        await a.all_done()
        if mode != "FAILOVER":
            await b.all_done()
        assert trio.current_time() - at < 3.0


@pytest.mark.parametrize("route", ["/next", "/result"])
async def test_what_a_lost_answer_brought_comes_back_at_once(
    autojump_clock: MockClock, route: str
) -> None:
    """The worker knows that it does not know; it does not wait for the next heartbeat."""
    a = FakeOrchestrator()
    lost: list[int] = []

    async def lose(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        brings = request.url.path.endswith(route) and answer.content and answer.json()["tasks"]
        if brings and not lost:
            lost.append(1)
            raise httpx.ReadError("reset")
        return answer

    a.after = lose
    async with working(sleep_worker(), slots=1, a=a):
        await trio.sleep(3)
        a.submit("sleep", {"seconds": 1}, count=2)
        await a.all_done()
        assert lost
        assert trio.current_time() < 3 + 2.5
