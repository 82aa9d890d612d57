"""What the tests of the worker share: a worker in a world without network, disk and chance."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import httpx
import trio
from tests.worker.fake_orchestrator import URL, FakeOrchestrator

from avtomatika_trio._config import Secret, Target, WorkerSettings
from avtomatika_trio._wire.messages import Registration
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._api import Reply, Request
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._link import Link
from avtomatika_trio.worker._requests import Identity
from avtomatika_trio.worker._routes import Routes
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool_memory import MemoryFolder, open_memory_spool
from avtomatika_trio.worker._surroundings import Surroundings
from avtomatika_trio.worker._switchboard import Switchboard

IDENTITY = Identity(instance="i1", registration=Registration(worker_id="w1", instance="i1"))


def settings(**changes: Any) -> WorkerSettings:
    plain: dict[str, Any] = {
        "worker_id": "w1",
        "orchestrators": (Target(url=URL),),
        "token": Secret("t0ken"),
        "health_port": None,
        "shutdown_timeout_seconds": 20.0,
    }
    return WorkerSettings(**{**plain, **changes})


def among(**fakes: FakeOrchestrator) -> httpx.MockTransport:
    """A network of orchestrators; their hosts are called as the arguments are."""

    async def handle(request: httpx.Request) -> httpx.Response:
        return await fakes[request.url.host].answer(request)

    return httpx.MockTransport(handle)


def targets(*hosts: str) -> tuple[Target, ...]:
    return tuple(Target(url=f"http://{host}") for host in hosts)


def world(
    fake: FakeOrchestrator, folder: MemoryFolder, instance: str = "i1", **changes: Any
) -> Surroundings:
    max_entries = changes.pop("max_entries", 10_000)
    plain: dict[str, Any] = {
        "open_spool": lambda own: open_memory_spool(
            folder, worker_id="w1", instance=own, max_entries=max_entries
        ),
        "instance": instance,
        "noise": lambda: 0.0,
        "transport": fake.transport(),
        "beats_in_thread": False,
        "wall_clock": trio.current_time,
    }
    return Surroundings(**{**plain, **changes})


@asynccontextmanager
async def running(
    worker: Worker,
    fake: FakeOrchestrator,
    *,
    folder: MemoryFolder | None = None,
    instance: str = "i1",
    changes: dict[str, Any] | None = None,
    **settings_changes: Any,
) -> AsyncIterator[None]:
    """Run *worker*; on leaving it is stopped and waited for."""
    its_world = world(fake, folder or MemoryFolder(), instance, **(changes or {}))
    chosen = settings(**settings_changes)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker.serve_in, its_world, chosen, "w1"))
        yield
        worker.stop()


@asynccontextmanager
async def killed_at_the_end(
    worker: Worker, fake: FakeOrchestrator, folder: MemoryFolder, instance: str, **changes: Any
) -> AsyncIterator[None]:
    """Run *worker*; on leaving it is gone, without a last word."""
    async with trio.open_nursery() as nursery:
        its_world = world(fake, folder, instance, **changes)
        await nursery.start(partial(worker.serve_in, its_world, settings(), "w1"))
        yield
        nursery.cancel_scope.cancel()


def echo_worker() -> Worker:
    worker = Worker()

    @worker.skill
    async def echo(params: dict[str, Any]) -> dict[str, Any]:
        return params

    return worker


def sleep_worker() -> Worker:
    """Its tasks sleep for `seconds` and return how long that was."""
    worker = Worker()

    @worker.skill("sleep")
    async def sleep(params: dict[str, Any]) -> float:
        await trio.sleep(params["seconds"])
        return float(params["seconds"])

    return worker


@attrs.frozen
class Nowhere:
    """The `Http` of an orchestrator that nobody talks to."""

    url: str

    async def send(self, request: Request, *, within_seconds: float = 0.0) -> Reply:
        raise AssertionError(f"nobody should say {request} here")


def a_board(*urls: str, switches: bool = True, stable_seconds: float = 5.0) -> Switchboard:
    return Switchboard(urls, stable_seconds=stable_seconds, switches=switches, noise=lambda: 0.0)


def a_home(url: str) -> Home:
    """An orchestrator that nobody talks to, for parts that only pass it on."""
    link = Link(Nowhere(url), a_board(url))
    routes = Routes([link])
    return Home.of(link, routes, Holdings(), IDENTITY, settings(), lambda: 0.0)
