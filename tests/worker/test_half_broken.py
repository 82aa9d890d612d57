"""Orchestrators of which one part works and another does not: the others are not forgotten."""

import logging
from typing import Any

import httpx
import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.test_several import working
from tests.worker.worker_cases import sleep_worker
from trio.testing import MockClock

from avtomatika_trio.worker._spool_memory import MemoryFolder

HOUR = 3600.0


def two() -> tuple[FakeOrchestrator, FakeOrchestrator]:
    return FakeOrchestrator(cluster_id="a"), FakeOrchestrator(cluster_id="b")


def answers(status: int, *routes: str, after: float = 0.0) -> Any:
    """A fault: requests whose path ends so are answered with *status*."""

    async def fault(request: httpx.Request) -> httpx.Response | None:
        what = f"{request.method} {request.url.path}"
        is_hit = any(what.endswith(route) for route in routes) and trio.current_time() >= after
        return httpx.Response(status) if is_hit else None

    return fault


async def test_polls_that_hang_while_all_else_works_cost_less_and_less(
    autojump_clock: MockClock,
) -> None:
    """Heartbeats and probes say that all is well; each relapse has to be made good for longer."""
    a, b = two()

    async def hang(request: httpx.Request) -> None:
        if request.url.path.endswith("/next"):
            await trio.sleep(1000)

    a.fault = hang
    async with working(sleep_worker(), a=a, b=b, slots=1):
        b.submit("sleep", {"seconds": 10}, count=500)
        await trio.sleep(HOUR)
        hanging = sum(what.endswith("/next") for _, what in a.requests)
        assert hanging <= 6 + HOUR / 300
        assert 10 * len(b.applied) > HOUR - hanging * 27 - 60


@pytest.mark.parametrize("routes", [["PATCH /_worker/workers/w1"], ["/register", "/w1", "/next"]])
async def test_heartbeats_that_are_put_off_for_a_whole_lease_are_a_failure(
    autojump_clock: MockClock, routes: list[str]
) -> None:
    """429 is an answer, but renews nothing."""
    a, b = two()
    a.fault = answers(429, *routes)
    async with working(sleep_worker(), a=a, b=b):
        b.submit("sleep", {"seconds": 1})
        await b.all_done()
        assert trio.current_time() < 30 + 15


async def test_one_heartbeat_without_an_answer_is_not_the_end(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Every sixth is lost; probes and polls are answered."""
    a, b = two()
    beats = 0

    async def lose(request: httpx.Request) -> None:
        nonlocal beats
        if request.method == "PATCH":
            beats += 1
            if beats % 6 == 5:
                await trio.sleep(1000)

    a.fault = lose
    async with working(sleep_worker(), a=a, b=b):
        await trio.sleep(HOUR)
    assert "switched" not in caplog.text
    assert b.polls == []


async def test_polls_that_are_answered_not_found_again_and_again_are_a_refusal(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It registers the worker each time, and knows no such route."""
    a, b = two()
    a.fault = answers(404, "/next")
    async with working(sleep_worker(), a=a, b=b):
        b.submit("sleep", {"seconds": 1})
        await b.all_done()
        assert trio.current_time() < 5
    assert "link refused: http://a: 404" in caplog.text


async def test_a_spool_that_is_full_for_one_lets_the_next_one_be_asked(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Rule R6, in the mode `FAILOVER`."""
    caplog.set_level(logging.INFO, logger="avtomatika_trio.worker")
    a, b = two()
    a.fault = answers(503, "/result")
    async with working(sleep_worker(), a=a, b=b, max_entries=3):
        a.submit("sleep", {"seconds": 1}, count=5)
        b.submit("sleep", {"seconds": 1}, count=3)
        await b.all_done()
        assert trio.current_time() < 30
        assert len(a.applied) == 0
        a.fault = None
        await a.all_done()
    assert "switched from http://a to http://b: the spool is full of results for" in caplog.text
    assert "switched back from http://b to http://a, which takes results again" in caplog.text


async def test_one_result_that_an_orchestrator_chokes_on_holds_up_no_other(
    autojump_clock: MockClock,
) -> None:
    a, b = FakeOrchestrator(), FakeOrchestrator()
    folder = MemoryFolder()

    async def choke(request: httpx.Request) -> httpx.Response | None:
        is_bad = request.url.path.endswith("/result") and b"a-k0-1" in request.content
        return httpx.Response(500) if is_bad else None

    a.fault = b.fault = choke
    async with working(sleep_worker(), folder=folder, a=a, b=b):
        a.submit("sleep", {"seconds": 1})
        await trio.sleep(60)
        for _ in range(3):
            a.submit("sleep", {"seconds": 1}, count=20)
            await trio.sleep(40)
        assert sum(len(fake.applied) for fake in (a, b)) == 60
        assert [entry.task_id for entry in folder.entries.values()] == ["a-k0-1"]
        a.fault = b.fault = None
        await trio.sleep(20)
    assert folder.entries == {}


@pytest.mark.parametrize("lag", [0.5, 1.9, 2.2, 4.5])
async def test_however_slow_its_answers_are_its_tasks_get_done(
    autojump_clock: MockClock, lag: float
) -> None:
    """They come when their slots were lent; the next ones are waited for."""
    a, b = two()

    async def slow(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path.endswith("/next"):
            await trio.sleep(lag)
        return answer

    a.after = slow
    async with working(sleep_worker(), mode="ROUND_ROBIN", slots=4, a=a, b=b):
        await trio.sleep(8)
        a.submit("sleep", {"seconds": 1}, count=1000)
        b.submit("sleep", {"seconds": 10}, count=500)
        for task in a.tasks.values():
            task.attempts = -1000  # the fake has no patience with what is returned
        await trio.sleep(300)
        returned = sum(len(said.task_ids) for said in a.returned)
        assert len(a.applied) > 0.3 * len(b.applied) / (1 + lag)
        assert returned <= len(a.applied)


async def test_silence_is_noticed_while_every_slot_is_taken(autojump_clock: MockClock) -> None:
    """There is no poll then, but a result that is on its way."""
    a, b = two()
    is_cut = False

    async def vanish(request: httpx.Request) -> None:
        if is_cut:
            await trio.sleep(10_000)

    a.fault = vanish
    async with working(sleep_worker(), a=a, b=b, slots=1):
        a.submit("sleep", {"seconds": 6})
        await trio.sleep(5)
        is_cut = True
        b.submit("sleep", {"seconds": 1})
        await b.until(lambda: b.granted)
        assert trio.current_time() < 6 + 10
