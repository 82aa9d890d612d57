"""Several orchestrators, of which the first that is up is asked for work."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from tests.cluster.scene import (
    BEAT,
    HEARTBEAT,
    LEASE,
    POLL,
    Workshop,
    at_peace,
)
from trio.testing import MockClock

from avtomatika_trio.testing import Cluster, Fault, calls

#: A poll is held for two thirds of a lease.
POLL_SECONDS = LEASE * 2 / 3
STABLE_SECONDS = 5.0


@asynccontextmanager
async def two(**options: Any) -> AsyncIterator[Cluster]:
    """Two orchestrators, each with a storage of its own unless *options* say otherwise."""
    async with at_peace(**{"orchestrators": 2, "is_shared": False, **options}) as cluster:
        yield cluster


def polls(cluster: Cluster, server: str, since: float = 0.0) -> list[float]:
    """When polls to *server* ended, as their client saw it."""
    is_poll = calls("GET", "/_worker/workers/*/tasks/next", server=server)
    return [it.at for it in cluster.network.seen if is_poll(it.call) and it.at >= since]


def beats(cluster: Cluster, server: str) -> list[float]:
    is_beat = calls("PATCH", "/_worker/workers/*", server=server)
    return [it.at for it in cluster.network.seen if is_beat(it.call) and it.outcome == 200]


async def started(cluster: Cluster, shop: Workshop, **settings: Any) -> None:
    await shop.add_to(cluster, orchestrators=cluster.targets(), **settings).start()
    await trio.sleep(1)


async def test_all_are_registered_with_and_only_the_first_is_polled(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with two() as cluster:
        await started(cluster, shop)
        await trio.sleep(300)
        assert len(polls(cluster, "o1")) >= 14
        assert polls(cluster, "o2") == []
        assert len(beats(cluster, "o1")) == len(beats(cluster, "o2")) >= 30


async def test_the_order_of_the_list_decides_between_equals_and_priority_before_it(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(orchestrators=3, is_shared=False) as cluster:
        first, second, third = cluster.targets()
        targets = (first, attrs.evolve(second, priority=1), third)
        await shop.add_to(cluster, orchestrators=targets).start()
        await trio.sleep(60)
        assert [len(polls(cluster, name)) > 0 for name in ("o1", "o2", "o3")] == [
            False,
            True,
            False,
        ]
        await cluster.orchestrators[1].kill()
        await trio.sleep(60)
        assert polls(cluster, "o1") != []
        assert polls(cluster, "o3") == []


async def test_a_refusing_one_is_replaced_within_a_second(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with two() as cluster:
        await started(cluster, shop)
        await trio.sleep(30)
        died_at = trio.current_time()
        await cluster.orchestrators[0].kill()
        [job_id] = await cluster.submit("one", {"n": 1}, to="o2")
        await cluster.wait_until_final([job_id], seconds=1)
        assert trio.current_time() - died_at < 1


async def test_one_that_was_never_there_is_passed_over_within_a_second(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with two() as cluster:
        await cluster.orchestrators[0].kill()
        [job_id] = await cluster.submit("one", {"n": 1}, to="o2")
        await shop.add_to(cluster, orchestrators=cluster.targets()).start()
        await cluster.wait_until_final([job_id], seconds=1)


async def test_a_black_hole_is_left_within_ten_seconds(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    """The sockets stay open, a poll is parked, and nobody says a word."""
    for moment in range(0, 30, 3):
        async with two(seed=moment) as cluster:
            await started(cluster, shop)
            await trio.sleep(30 + moment + moment / 30)
            cluster.network.cut("o1")
            cut_at = trio.current_time()
            [job_id] = await cluster.submit("one", {"n": 1}, to="o2")
            await cluster.wait_until_final([job_id], seconds=10)
            assert trio.current_time() - cut_at < 10


@pytest.mark.parametrize("matches", [POLL, HEARTBEAT], ids=["polls", "heartbeats"])
@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER, Fault.REFUSE])
async def test_one_whose_connections_break_is_left_at_the_second_break(
    autojump_clock: MockClock, shop: Workshop, matches: Any, fault: Fault
) -> None:
    async with two() as cluster:
        await started(cluster, shop)
        cluster.network.befall(fault, lambda call: matches(call) and call.server == "o1")
        # An answer is lost after the time that the poll is held, and the first time is forgiven.
        await trio.sleep(POLL_SECONDS + BEAT)
        [job_id] = await cluster.submit("one", {"n": 1}, to="o2")
        await cluster.wait_until_final([job_id], seconds=POLL_SECONDS + BEAT)


async def test_it_goes_back_when_the_better_one_has_been_stable(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with two() as cluster:
        await started(cluster, shop)
        await cluster.orchestrators[0].kill()
        await trio.sleep(600)
        assert polls(cluster, "o2", since=500) != []
        await cluster.orchestrators[0].start()
        back_at = trio.current_time()
        [job_id] = await cluster.submit("one", {"n": 1}, to="o1")
        # A probe every 15 s finds it, then it has to be stable, then the other's poll ends.
        await cluster.wait_until_final([job_id], seconds=15 + STABLE_SECONDS + POLL_SECONDS)
        first = next(at for at in probes(cluster, "o1") if at >= back_at)
        assert trio.current_time() - first <= STABLE_SECONDS + POLL_SECONDS + 0.1
        assert trio.current_time() - first >= STABLE_SECONDS


def probes(cluster: Cluster, server: str) -> list[float]:
    is_probe = calls("GET", "/readyz", server=server)
    return [it.at for it in cluster.network.seen if is_probe(it.call) and it.outcome == 200]


async def test_what_the_parked_poll_brings_after_the_fail_back_is_done(
    autojump_clock: MockClock, shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    async with two() as cluster:
        await started(cluster, shop)
        await cluster.orchestrators[0].kill()
        await trio.sleep(60)
        await cluster.orchestrators[0].start()
        _listen(caplog)
        while not any(  # noqa: ASYNC110 - the log has no event
            line.startswith("switched back") for line in _lines(caplog)
        ):
            await trio.sleep(0.01)
        [job_id] = await cluster.submit("one", {"n": 1}, to="o2")
        await cluster.wait_until_final([job_id], seconds=0.1)


async def test_one_without_storage_is_not_up(autojump_clock: MockClock, shop: Workshop) -> None:
    """It answers everything with 503."""
    async with two() as cluster:
        await started(cluster, shop)
        cluster.orchestrators[0].lose_storage()
        [job_id] = await cluster.submit("one", {"n": 1}, to="o2")
        await cluster.wait_until_final([job_id], seconds=POLL_SECONDS + 1)


@pytest.mark.parametrize("up_seconds", [7, 30])
async def test_a_flapping_one_causes_one_switch_in_each_back_off(
    autojump_clock: MockClock, shop: Workshop, caplog: pytest.LogCaptureFixture, up_seconds: float
) -> None:
    """It is up for a while and out of reach for a second, again and again."""
    _listen(caplog)
    async with two() as cluster:
        await started(cluster, shop)
        while trio.current_time() < 1200:
            await trio.sleep(up_seconds)
            cluster.network.befall(Fault.REFUSE, calls("*", "*", server="o1"), lasting_seconds=1)
            await trio.sleep(1)
    switches = [line for line in _lines(caplog) if line.startswith("switched")]
    # Each relapse doubles the time in which it has to prove itself, until that is longer than
    # it is ever up.
    assert 2 <= len(switches) <= 2 * 4


def _listen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="avtomatika_trio.worker")


def _lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("avtomatika_trio.worker")
    ]


async def test_the_log_has_a_line_for_each_switch_with_the_reason_and_none_for_polls(
    autojump_clock: MockClock, shop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    _listen(caplog)
    async with two() as cluster:
        await started(cluster, shop)
        await trio.sleep(300)
        await cluster.orchestrators[0].kill()
        await trio.sleep(300)
        await cluster.orchestrators[0].start()
        await trio.sleep(300)
        lines = _lines(caplog)
    assert len(lines) == 2, lines
    assert lines[0].startswith("switched from http://o1 to http://o2: http://o1 is down (")
    assert "connection refused" in lines[0] or "reset" in lines[0] or "disconnected" in lines[0]
    assert lines[1] == ("switched back from http://o2 to http://o1, which has answered for 5 s")
