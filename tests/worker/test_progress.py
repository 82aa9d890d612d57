"""`send_progress`: coalesced, and never in a handler's way."""

import math
from typing import Any

import httpx
import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio.worker import Worker


async def test_at_most_one_a_second_and_the_last_one_wins(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def count(send_progress: Any) -> None:
        for n in range(10):
            await send_progress(n / 10, f"{n} of 10")
            await trio.sleep(0.35)

    fake.submit("count")
    async with running(worker, fake):
        await fake.all_done()
    told = [event.payload["progress"] for event in fake.events]
    assert told == [0.0, 0.2, 0.5, 0.8]
    event = fake.events[1]
    assert (event.event_type, event.target_task_id, event.target_job_id) == (
        "progress",
        "k0-1",
        "job-k0",
    )
    assert event.payload["message"] == "2 of 10"
    assert len({event.event_id for event in fake.events}) == 4


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ((0.5, "half"), {}),
        (("k0-1", "job-k0", 0.5, "half"), {}),
        ((), {"progress": 0.5, "message": "half"}),
        ((), {"task_id": "k0-1", "job_id": "j", "progress": 0.5, "message": "half"}),
        ((0.5,), {"message": "half"}),
    ],
)
async def test_it_can_be_called_in_the_old_and_the_new_way(
    autojump_clock: MockClock, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(send_progress: Any) -> None:
        send_progress(*args, **named)  # not awaiting it is fine
        await trio.sleep(1)

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert [event.payload for event in fake.events] == [{"progress": 0.5, "message": "half"}]


@pytest.mark.parametrize(
    "progress", [math.nan, "half", None, True, pytest.param(10**400, id="huge")]
)
async def test_nonsense_is_logged_and_ignored(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, progress: Any
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(send_progress: Any) -> str:
        await send_progress(progress=progress)
        await trio.sleep(1)
        return "done"

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", "done")}
    assert fake.events == []
    assert "send_progress takes" in caplog.text


async def test_no_message_is_an_empty_one(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(send_progress: Any) -> None:
        send_progress(0.5, None)
        await trio.sleep(1)

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert [event.payload for event in fake.events] == [{"progress": 0.5, "message": ""}]


async def test_an_orchestrator_that_does_not_take_it_delays_nobody(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    async def hang(request: httpx.Request) -> None:
        if request.url.path.endswith("/events"):
            await trio.sleep_forever()

    @worker.skill
    async def work(send_progress: Any) -> None:
        for n in range(5):
            await send_progress(n)
            await trio.sleep(1)

    fake.fault = hang
    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
        assert trio.current_time() < 6
