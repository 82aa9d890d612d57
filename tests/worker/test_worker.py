"""The worker from end to end, in virtual time."""

from typing import Any

import trio
from trio.testing import MockClock

from avtomatika_trio.worker import Worker
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import echo_worker, running, sleep_worker


async def test_a_task_is_polled_run_and_reported(autojump_clock: MockClock) -> None:
    fake = FakeOrchestrator()
    fake.submit("echo", {"a": [1, None, 2.5]})
    async with running(echo_worker(), fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", {"a": [1, None, 2.5]})}
    assert fake.registrations[0].worker_id == "w1"
    assert fake.registrations[0].instance == "i1"
    assert [skill.name for skill in fake.registrations[0].supported_skills] == ["echo"]
    assert fake.headers[0]["X-Worker-Token"] == "t0ken"
    assert fake.headers[0]["X-RXON-Version"] == "1.0b17"
