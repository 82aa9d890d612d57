"""Two virtual hours of a worker's loops with outages, in about a second: no HTTP, no handlers."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import settings, world
from trio.testing import MockClock

from avtomatika_trio._config import Target
from avtomatika_trio._wire.codec import encode
from avtomatika_trio._wire.messages import EXTENSIONS, Registered, Registration
from avtomatika_trio.errors import OrchestratorUnavailable
from avtomatika_trio.worker._api import Address, Reply, Request, Silent
from avtomatika_trio.worker._payloads import open_payloads
from avtomatika_trio.worker._requests import Identity
from avtomatika_trio.worker._service import _Service
from avtomatika_trio.worker._spool_memory import MemoryFolder

HOUR = 3600.0
POLL_SECONDS = 20.0


@attrs.define(eq=False)
class Orchestrator:
    """The `Http` of an orchestrator that has no work."""

    url: str
    outages: list[tuple[float, float]]
    is_silent: bool = False
    """Whether it says nothing in an outage; else it refuses."""
    polled: list[tuple[float, float]] = attrs.field(factory=list)
    """When polls began and ended that were answered."""
    renewed_at: list[float] = attrs.field(factory=list)

    @property
    def is_away(self) -> bool:
        now = trio.current_time()
        return any(begin <= now < end for begin, end in self.outages)

    async def send(self, request: Request, *, within_seconds: float = 10.0) -> Reply:
        await trio.lowlevel.checkpoint()
        begun_at = trio.current_time()
        hold = POLL_SECONDS if request.path.endswith("/next") else 0.0
        with trio.move_on_after(within_seconds):
            while (now := trio.current_time()) < begun_at + hold or self.is_away:
                if self.is_away and not self.is_silent:
                    raise OrchestratorUnavailable(self.url, "refused")
                changes = [*itertools.chain(*self.outages), begun_at + hold]
                await trio.sleep_until(min(at for at in changes if at > now))
            return self._reply(request, begun_at)
        raise Silent(self.url, "no answer")

    def _reply(self, request: Request, begun_at: float) -> Reply:
        now = trio.current_time()
        if request.path.endswith("/next"):
            self.polled.append((begun_at, now))
            return Reply(status=204, body=b"")
        if request.path.endswith("/register"):
            said = Registered(extensions=list(EXTENSIONS), cluster_id=self.url, lease_seconds=30.0)
            return Reply(status=200, body=encode(said))
        if request.method == "PATCH":
            self.renewed_at.append(now)
        return Reply(status=200, body=b"{}")


async def test_two_hours_of_failover(autojump_clock: MockClock) -> None:
    """The first is away every ten minutes, the second now and then, also both at a time."""
    first = Orchestrator("http://a", [(n * 600.0, n * 600.0 + 100) for n in range(1, 12)])
    second = Orchestrator("http://b", [(n * 1500.0, n * 1500.0 + 40) for n in range(1, 5)])
    first.is_silent = True
    async with running_for(first, second):
        await trio.sleep(2 * HOUR)

    times = sorted([*first.polled, *second.polled])
    for (_, ended), (begun, _) in itertools.pairwise(times):
        assert begun >= ended - 0.001  # never two at a time
    gaps = [begun - ended for (_, ended), (begun, _) in itertools.pairwise(times)]
    # Nine seconds for silence on top of the poll that was given up; 40 s if both are away.
    assert sum(gap > POLL_SECONDS + 10 for gap in gaps) <= 4
    assert max(gaps) < POLL_SECONDS + 10 + 40 + 16
    shares = [len(one.polled) for one in (first, second)]
    assert shares[0] > 3 * shares[1] > 30
    assert len(first.renewed_at) > 550
    assert len(second.renewed_at) > 650


@asynccontextmanager
async def running_for(*orchestrators: Orchestrator) -> AsyncIterator[None]:
    """A worker for *orchestrators*."""
    its_world = world(FakeOrchestrator(), MemoryFolder())
    identity = Identity(
        instance="i1",
        registration=Registration(worker_id="w1", supported_skills=[], instance="i1"),
    )
    chosen = settings(orchestrators=tuple(Target(url=one.url) for one in orchestrators))
    clients = [(Address(url=it.url, worker_id="w1", token=None), it) for it in orchestrators]
    stop = trio.Event()
    async with (
        its_world.open_spool("i1") as spool,
        open_payloads(chosen, "i1", wants_files=False) as payloads,
        trio.open_nursery() as nursery,
    ):
        service = _Service(identity, chosen, {}, spool, payloads, clients, its_world, {})
        await nursery.start(service.run, stop)
        yield
        stop.set()
