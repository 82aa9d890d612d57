"""How busy the machine is: told when it changes, and never made up."""

import math
import sys
from typing import Any

import pytest
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import echo_worker, running
from trio.testing import MockClock

from avtomatika_trio.worker._telemetry import Telemetry, Usage


def test_it_is_told_first_then_by_changes_then_by_time() -> None:
    now, load, ram = 0.0, 10.0, 10.0
    usage = Usage()
    usage.checker = lambda: {"cpu_load_percent": load, "ram_used_gb": ram}
    telemetry = Telemetry(usage, 5.0, 60.0, lambda: now)

    def told() -> Any:
        return telemetry.members().get("usage")

    assert told() == {"cpu_load_percent": 10.0, "ram_used_gb": 10.0}
    load = 15.0
    assert told() is None
    load = 15.1
    assert told() == {"cpu_load_percent": 15.1, "ram_used_gb": 10.0}
    ram = 10.6
    assert told() == {"cpu_load_percent": 15.1, "ram_used_gb": 10.6}
    now = 59.0
    assert told() is None
    now = 60.0
    assert told() == {"cpu_load_percent": 15.1, "ram_used_gb": 10.6}


async def test_each_heartbeat_decides_for_itself(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), echo_worker()
    worker.set_usage_checker(lambda: {"cpu_load_percent": 50.0})
    async with running(worker, fake):
        await fake.until(lambda: len(fake.beats) == 5)
    assert [it.usage for it in fake.beats[:5]] == [
        {"cpu_load_percent": 50.0},
        None,
        None,
        None,
        None,
    ]


async def test_what_cannot_be_measured_is_not_told(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), echo_worker()

    def broken() -> Any:
        raise OSError("no sensor")

    worker.set_usage_checker(broken)
    async with running(worker, fake):
        await fake.until(lambda: len(fake.beats) == 3)
    assert [it.usage for it in fake.beats[:3]] == [None, None, None]


def test_psutil_measures_where_nobody_else_does() -> None:
    usage = Usage()
    usage.open()
    telemetry = Telemetry(usage, 5.0, 60.0, lambda: 0.0)
    told = telemetry.members()["usage"]
    assert told.keys() == {"cpu_load_percent", "ram_used_gb"}
    assert 0 <= told["cpu_load_percent"] <= 100
    assert 0 < told["ram_used_gb"] < 1e6


def test_what_the_author_measures_with_wins_over_psutil() -> None:
    usage = Usage()
    usage.checker = lambda: {"gpu_percent": 7}
    usage.open()
    assert usage.measure() == {"gpu_percent": 7}


def test_without_psutil_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    usage = Usage()
    usage.open()
    assert Telemetry(usage, 5.0, 60.0, lambda: 0.0).members() == {}


async def test_in_virtual_time_the_real_machine_is_not_measured(autojump_clock: MockClock) -> None:
    """What a cluster sends must not depend on how busy the machine is that plays it."""
    fake, worker = FakeOrchestrator(), echo_worker()
    async with running(worker, fake):
        await fake.until(lambda: len(fake.beats) == 2)
    assert [it.usage for it in fake.beats[:2]] == [None, None]


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        (5, "returns a dict or None, not int"),
        ({"gpu": object()}, "usage.gpu: a object is not JSON"),
        ({"gpu": math.nan}, "usage.gpu: nan is not a JSON number"),
        ({1: 2.0}, "usage: the key 1 is not a string"),
    ],
)
async def test_what_cannot_be_sent_of_a_measurement_is_logged_and_not_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, measured: Any, told: str
) -> None:
    fake, worker = FakeOrchestrator(), echo_worker()
    worker.set_usage_checker(lambda: measured)
    async with running(worker, fake):
        await fake.until(lambda: len(fake.beats) == 3)
    assert [it.usage for it in fake.beats[:3]] == [None, None, None]
    assert caplog.text.count("the usage cannot be measured") == 1
    assert told in caplog.text


async def test_a_number_beyond_all_measuring_ends_no_heartbeats(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), echo_worker()
    worker.set_usage_checker(lambda: {"odd": 10**400})
    async with running(worker, fake):
        await fake.until(lambda: len(fake.beats) == 3)
    assert fake.beats[0].usage == {"odd": 10**400}
