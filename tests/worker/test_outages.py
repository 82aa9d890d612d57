"""What the network and other people's servers do to a worker, in virtual time."""

import logging
from itertools import pairwise
from typing import Any

import httpx
import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import echo_worker, running, sleep_worker
from trio.testing import MockClock

from avtomatika_trio.worker._spool_memory import MemoryFolder


async def test_a_handler_goes_on_while_nobody_answers(autojump_clock: MockClock) -> None:
    """Rule O2: an hour of work is not thrown away by minutes of outage."""
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 3600})
    async with running(sleep_worker(), fake):
        await trio.sleep(10)
        fake.down = True
        await trio.sleep(3600)
        assert fake.results() == {}
        fake.down = False
        await fake.all_done()
        assert trio.current_time() < 3630
    assert fake.results() == {"k0": ("success", 3600.0)}
    assert len(fake.granted) == 1


async def test_a_link_says_once_that_it_is_down_and_once_that_it_is_up(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fake = FakeOrchestrator()
    async with running(echo_worker(), fake):
        await trio.sleep(40)
        fake.down = True
        await trio.sleep(300)
        fake.down = False
        await trio.sleep(100)
    lines = [record.getMessage() for record in caplog.records if "link" in record.getMessage()]
    assert [line.split(":")[0] for line in lines] == ["link down", "link up"]
    assert "refused" in lines[0]


async def test_retries_back_off_to_fifteen_seconds(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator(down=True)
    async with running(echo_worker(), fake):
        await trio.sleep(600)
        times = [at for at, _ in fake.requests]
    waits = [later - sooner for sooner, later in pairwise(times)]
    assert waits[:5] == pytest.approx([0.5, 1, 2, 4, 8])
    assert set(waits[5:]) == {15.0}


async def test_the_first_activity_that_works_again_wakes_the_others(
    autojump_clock: MockClock,
) -> None:
    """A result does not wait for its own back-off while polls go through again."""
    fake = FakeOrchestrator()
    fake.submit("sleep", {"seconds": 12})
    async with running(sleep_worker(), fake):
        await trio.sleep(5)
        fake.down = True
        await trio.sleep(121)
        fake.down = False
        back_at = trio.current_time()
        await fake.all_done()
        first_at = next(at for at, _ in fake.requests if at >= back_at)
        assert trio.current_time() - first_at < 0.5


async def test_wrong_credentials_are_reported_once_and_tried_slowly(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeOrchestrator()

    async def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"error": "Unauthorized: No valid token found"})

    fake.fault = refuse
    async with running(echo_worker(), fake):
        await trio.sleep(301)
    assert len(fake.requests) <= 23
    assert caplog.text.count("No valid token found") == 1
    assert "WORKER_TOKEN" in caplog.text


async def test_an_orchestrator_that_forgot_the_worker_gets_a_new_registration(
    autojump_clock: MockClock,
) -> None:
    fake = FakeOrchestrator()
    async with running(echo_worker(), fake):
        await trio.sleep(5)
        fake.forget()
        fake.submit()
        await fake.all_done()
        assert trio.current_time() < 25
    assert [said.instance for said in fake.registrations] == ["i1", "i1"]


async def test_a_server_that_never_knows_us_is_not_hammered(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()

    async def forget(request: httpx.Request) -> None:
        if request.method == "PATCH":
            fake.forget()

    fake.fault = forget
    async with running(echo_worker(), fake):
        await trio.sleep(300)
    assert len(fake.registrations) < 40


async def test_a_dropped_connection_is_tried_once_more_at_once_with_a_new_number(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The server closed an idle connection while the poll was on its way (rule H2)."""
    fake = FakeOrchestrator()
    dropped: list[dict[str, str]] = []

    async def drop(request: httpx.Request) -> None:
        if request.url.path.endswith("/next") and len(dropped) < 1:
            dropped.append(dict(request.url.params))
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")

    fake.fault = drop
    fake.submit()
    async with running(echo_worker(), fake):
        await fake.all_done()
        assert trio.current_time() < 0.2
    assert int(fake.polls[0]["poll"]) > int(dropped[0]["poll"])
    assert "link down" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>a captive portal</html>"),
        httpx.Response(200, json=[1, 2]),
        httpx.Response(200, json={"tasks": [{"task_id": 5}]}),
        httpx.Response(200, json={"tasks": "many", "results": 7, "cancel_task_ids": 1}),
        httpx.Response(200, content=b"[" * 100_000),
        httpx.Response(500, json={"error": "boom"}),
        httpx.Response(302, headers={"Location": "http://elsewhere/"}),
        httpx.Response(429, headers={"Retry-After": "3"}),
        httpx.Response(404, text="nothing here"),
        httpx.Response(409, text="no"),
    ],
    ids=lambda response: f"{response.status_code}-{response.content[:12]!r}",
)
async def test_no_answer_kills_a_worker(autojump_clock: MockClock, answer: httpx.Response) -> None:
    """Every route answers nonsense for five minutes, before and after the registration."""
    fake = FakeOrchestrator()

    async def nonsense(request: httpx.Request) -> httpx.Response | None:
        if trio.current_time() < 300 or 310 < trio.current_time() < 600:
            return httpx.Response(
                answer.status_code, content=answer.content, headers=answer.headers
            )
        return None

    fake.fault = nonsense
    fake.submit("sleep", {"seconds": 3})
    async with running(sleep_worker(), fake):
        await trio.sleep(305)
        fake.submit("sleep", {"seconds": 60})
        await fake.all_done()
        fake.submit("sleep", {"seconds": 1}, count=3)
        await fake.all_done()
        assert trio.current_time() < 680
    assert {status for status, _ in fake.results().values()} == {"success"}


async def test_a_lost_answer_to_a_poll_comes_back_with_the_next_heartbeat(
    autojump_clock: MockClock,
) -> None:
    """Rule L3."""
    fake = FakeOrchestrator()
    lost: list[Any] = []

    async def lose(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path.endswith("/next") and answer.status_code == 200 and not lost:
            lost.append(answer.json())
            raise httpx.ReadError("reset")
        return answer

    fake.after = lose
    async with running(echo_worker(), fake):
        await trio.sleep(5)
        fake.submit(count=3)
        await fake.all_done()
        assert trio.current_time() < 12
    assert len(lost[0]["tasks"]) == 3
    assert [fake.leases[f"k{n}-1"].ended for n in range(3)] == ["unclaimed"] * 3


async def test_a_lost_answer_to_results_is_answered_the_same_again(
    autojump_clock: MockClock,
) -> None:
    """Rule R3: and the tasks that came with it are given back by the next heartbeat."""
    fake, folder = FakeOrchestrator(), MemoryFolder()
    lost: list[int] = []

    async def lose(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if request.url.path.endswith("/result") and not lost:
            lost.append(1)
            raise httpx.ReadError("reset")
        return answer

    fake.after = lose
    fake.submit("sleep", {"seconds": 2}, count=4)
    async with running(sleep_worker(), fake, folder=folder, max_concurrent_tasks=2):
        await fake.all_done()
    assert len(fake.applied) == 4
    assert [result.task_id for result in fake.posts[0]] == [r.task_id for r in fake.posts[1]]
    numbers = [query["poll"] for query in fake.queries if "poll" in query]
    assert len(set(numbers)) == len(numbers)
    assert folder.entries == {}


async def test_a_silent_orchestrator_is_an_unavailable_one(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    silent = [True]

    async def say_nothing(request: httpx.Request) -> None:
        if silent and request.url.path.endswith("/next"):
            await trio.sleep_forever()

    fake.fault = say_nothing
    fake.submit()
    async with running(echo_worker(), fake):
        await trio.sleep(10)
        silent.clear()
        await fake.all_done()
        # The poll was given up after its 20 s and 5 s of grace.
        assert trio.current_time() == pytest.approx(25.5, abs=0.3)
