"""What a whole worker says of itself, and does, while its network swallows everything.

A *poll period* is the longest time in which neither a poll nor a heartbeat may be answered while
all is well: `TASK_POLL_TIMEOUT` or `HEARTBEAT_INTERVAL`, whichever is longer.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from tests.cluster.scene import Workshop, at_peace, unexplained
from trio.testing import MockClock

from avtomatika_trio.testing import Cluster, Network, WorkerMachine

POLL_PERIOD = 30.0

#: How often the health check is asked.
LOOK_SECONDS = 1.0

#: The longest rest between two tries, with its jitter, and what one answer takes.
RECOVERY_SECONDS = 15.0 * 1.2 + 1.0

each_hole = pytest.mark.parametrize(
    "swallow",
    [Network.cut, Network.mute],
    ids=["requests vanish", "requests arrive and answers vanish"],
)
each_mode = pytest.mark.parametrize("mode", ["FAILOVER", "ROUND_ROBIN"])

Swallow = Callable[[Network, str], None]


@attrs.define
class Watch:
    """Asks a worker's health check every second, and keeps what has changed."""

    machine: WorkerMachine
    changes: list[tuple[float, int]] = attrs.field(factory=list)
    """When `/readyz` first said something else than before."""

    async def run(self) -> None:
        while True:
            status, _ = await self.machine.health.ask("/readyz")
            if not self.changes or self.changes[-1][1] != status:
                self.changes.append((trio.current_time(), status))
                for path, expected in (("/health", status), ("/healthz", status), ("/livez", 200)):
                    assert (await self.machine.health.ask(path))[0] == expected
            await trio.sleep(LOOK_SECONDS)

    async def until(self, status: int, *, seconds: float) -> float:
        """Return once it says *status*; tells how long that took."""
        begun_at = trio.current_time()
        with trio.fail_after(seconds):
            while (await self.machine.health.ask("/readyz"))[0] != status:  # noqa: ASYNC110
                await trio.sleep(LOOK_SECONDS)
        return trio.current_time() - begun_at

    async def told(self) -> dict[str, Any]:
        return (await self.machine.health.ask("/health"))[1]


@asynccontextmanager
async def watched(
    cluster: Cluster, shop: Workshop, **settings: Any
) -> AsyncIterator[tuple[Watch, WorkerMachine]]:
    machine = shop.add_to(cluster, health_port=1, orchestrators=cluster.targets(), **settings)
    await machine.start()
    watch = Watch(machine)
    await watch.until(200, seconds=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        yield watch, machine
        nursery.cancel_scope.cancel()


@each_hole
@pytest.mark.parametrize("moment", [0.0, 9.99, 12.5, 20.2])
async def test_a_worker_in_a_black_hole_says_so_and_goes_on_by_itself(
    autojump_clock: MockClock, shop: Workshop, swallow: Swallow, moment: float
) -> None:
    async with at_peace() as cluster, watched(cluster, shop) as (watch, _):
        [before] = await cluster.submit("one", {"n": 1, "seconds": 50})
        await shop.until(1)
        await trio.sleep(60 + moment)
        waiting = await cluster.submit("one", {"n": 2, "seconds": 100}, {"n": 3})
        await shop.until(3)

        swallow(cluster.network, "w1")
        hole_at = trio.current_time()
        during = await cluster.submit("one", {"n": 4}, {"n": 5})
        await watch.until(503, seconds=2 * POLL_PERIOD + LOOK_SECONDS)
        told = await watch.told()
        assert told["status"] == "unavailable"
        assert "http://o1: " in told["reason"]
        assert "no answer within" in told["reason"]
        await trio.sleep_until(hole_at + 200)
        assert [status for _, status in watch.changes] == [200, 503]

        cluster.network.mend("w1")
        after = await cluster.submit("one", {"n": 6})
        await watch.until(200, seconds=RECOVERY_SECONDS)
        ids = [before, *waiting, *during, *after]
        finished = await cluster.wait_until_final(ids, seconds=200)
        await trio.sleep(200)
        assert [status for _, status in watch.changes] == [200, 503, 200]
        assert (await watch.told())["reason"] is None

        assert [job.result for job in finished] == [10, 20, 30, 40, 50, 60]
        assert await unexplained(cluster, shop, ids) == []
        for job_id in ids:
            assert (await cluster.history(job_id)).count("task_finished") == 1


@each_hole
async def test_a_worker_that_starts_in_a_black_hole_is_not_ready_and_alive(
    autojump_clock: MockClock, shop: Workshop, swallow: Swallow
) -> None:
    async with at_peace() as cluster:
        swallow(cluster.network, "w1")
        machine = shop.add_to(cluster, health_port=1, orchestrators=cluster.targets())
        await machine.start()
        await trio.sleep(100)
        assert (await machine.health.ask("/livez"))[0] == 200
        status, told = await machine.health.ask("/readyz")
        assert status == 503
        assert told["reason"].startswith("no orchestrator has answered yet: http://o1: ")
        cluster.network.mend("w1")
        await Watch(machine).until(200, seconds=RECOVERY_SECONDS)


@each_hole
@each_mode
async def test_a_worker_with_a_second_orchestrator_stays_ready_and_tells_of_the_first(
    autojump_clock: MockClock, shop: Workshop, swallow: Swallow, mode: str
) -> None:
    """Ready is who can work: it does, for the other one."""
    both = at_peace(orchestrators=2, is_shared=False)
    async with both as cluster, watched(cluster, shop, mode=mode) as (watch, _):
        await trio.sleep(60)
        swallow(cluster.network, "o1")
        ids = await cluster.submit("one", {"n": 1}, to="o2")
        await cluster.wait_until_final(ids, seconds=10)
        await trio.sleep(200)
        first, second = (await watch.told())["orchestrators"]
        assert (first["standing"], second["standing"]) == ("down", "active")
        assert "no answer within" in first["reason"]

        ids += await cluster.submit("one", {"n": 2}, to="o2")
        cluster.network.mend("o1")
        ids += await cluster.submit("one", {"n": 3}, to="o1")
        await cluster.wait_until_final(ids, seconds=RECOVERY_SECONDS + POLL_PERIOD)
        assert [status for _, status in watch.changes] == [200]
        assert await unexplained(cluster, shop, ids) == []


@each_hole
@each_mode
async def test_a_worker_whose_orchestrators_are_all_black_holes_names_each(
    autojump_clock: MockClock, shop: Workshop, swallow: Swallow, mode: str
) -> None:
    both = at_peace(orchestrators=2)
    async with both as cluster, watched(cluster, shop, mode=mode) as (watch, _):
        await trio.sleep(60)
        swallow(cluster.network, "w1")
        await watch.until(503, seconds=2 * POLL_PERIOD + LOOK_SECONDS)
        reason = (await watch.told())["reason"]
        for name in ("o1", "o2"):
            assert f"http://{name}: no answer within" in reason

        ids = await cluster.submit("one", {"n": 1}, {"n": 2})
        cluster.network.mend("w1")
        await watch.until(200, seconds=RECOVERY_SECONDS)
        await cluster.wait_until_final(ids, seconds=RECOVERY_SECONDS + POLL_PERIOD)
        assert await unexplained(cluster, shop, ids) == []
