"""A worker whose only orchestrator says nothing more, while its connections stay open."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from tests.e2e.fault_proxy import HOST, BlackHole, FaultProxy, open_fault_proxy
from tests.e2e.killing import Program, lasting_port, notes_of, sleeper
from tests.e2e.reckoning import read_runs, reckon
from tests.e2e.sites import Site, examine, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

POLL_SECONDS = 3.0
"""The poll period: heartbeats come more often."""
BEAT_SECONDS = 1.0

#: Slow machines.
SLACK_SECONDS = 1.0
#: The longest rest between two tries, with its jitter, and what one try takes.
RECOVERY_SECONDS = 15.0 * 1.2 + 10.0


@attrs.frozen(kw_only=True)
class Hole:
    """How everything is swallowed, and no more."""

    begin: Callable[[Site, FaultProxy], None]
    end: Callable[[Site, FaultProxy], None]


def _signal(site: Site, number: signal.Signals) -> None:
    assert site.program.child is not None
    os.kill(site.program.child.pid, number)


HOLES = {
    "the process stands still": Hole(
        begin=lambda site, proxy: _signal(site, signal.SIGSTOP),
        end=lambda site, proxy: _signal(site, signal.SIGCONT),
    ),
    "the network swallows": Hole(
        begin=lambda site, proxy: proxy.inject(BlackHole()),
        end=lambda site, proxy: proxy.heal(),
    ),
}


@attrs.frozen
class Health:
    """The health check of a worker."""

    port: int
    http: httpx.AsyncClient

    async def status(self, path: str = "/readyz") -> int:
        """0: nobody listens yet."""
        try:
            return (await self.http.get(f"http://{HOST}:{self.port}{path}")).status_code
        except httpx.ConnectError:
            return 0

    async def reason(self) -> str | None:
        answer = await self.http.get(f"http://{HOST}:{self.port}/health")
        reason: str | None = answer.json()["reason"]
        return reason

    async def until(self, status: int, within_seconds: float) -> None:
        """Return once `/readyz` answers with *status*."""

        async def is_so() -> bool:
            return await self.status() == status

        with trio.fail_after(within_seconds):
            await until(is_so)


@pytest.mark.parametrize("name", HOLES)
async def test_it_is_told_within_two_poll_periods_and_left_without_help(
    name: str, tmp_path: Path
) -> None:
    site, port = Site.create(tmp_path, "only"), lasting_port()
    async with (
        open_fault_proxy(site.port) as proxy,
        httpx.AsyncClient(trust_env=False, timeout=5) as http,
    ):
        program = _worker(tmp_path, proxy, port)
        with ExitStack() as programs:
            programs.callback(site.program.kill)
            programs.callback(program.kill)
            await site.start()
            program.start()
            await _fall_into(HOLES[name], site, proxy, Health(port, http))
            assert await trio.to_thread.run_sync(program.end) == 0
            assert await site.end() == 0
    violations, accounts = await examine([site])
    reckoning = reckon(accounts, list(site.accepted), read_runs(notes_of(program)))
    assert violations == []
    assert reckoning.problems == []
    assert reckoning.finished == 3


def _worker(folder: Path, proxy: FaultProxy, port: int) -> Program:
    environ = {
        "WORKER_PORT": str(port),
        "TASK_POLL_TIMEOUT": f"{POLL_SECONDS:g}",
        "HEARTBEAT_INTERVAL": f"{BEAT_SECONDS:g}",
    }
    return sleeper(folder, "w1", f"http://{HOST}:{proxy.port}", skill="sleep", environ=environ)


async def _fall_into(hole: Hole, site: Site, proxy: FaultProxy, health: Health) -> None:
    """Jobs before it, one that ends in it, and one after it."""
    await health.until(200, within_seconds=20)
    early = await site.submit({"n": 0, "skill": "sleep", "seconds": 0.1})
    assert await site.done_within(20, early) is not None
    [held] = await site.submit({"n": 1, "skill": "sleep", "seconds": 2.0})
    await trio.sleep(1)

    hole.begin(site, proxy)
    await health.until(503, within_seconds=2 * POLL_SECONDS + SLACK_SECONDS)
    assert f"http://{HOST}:{proxy.port}: " in (await health.reason() or "")
    await trio.sleep(12)  # every request that was under way has been given up
    assert await health.status() == 503
    assert await health.status("/livez") == 200

    hole.end(site, proxy)
    await health.until(200, within_seconds=RECOVERY_SECONDS)
    assert await health.reason() is None
    late = await site.submit({"n": 2, "skill": "sleep", "seconds": 0.1})
    assert await site.done_within(RECOVERY_SECONDS, [held, *late]) is not None
