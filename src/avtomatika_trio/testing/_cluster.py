"""A whole cluster in one process, on Trio's clock: hours of outages in a fraction of a second.

The orchestrators' app, engine and janitor and the workers are the real ones; only the server's
sockets, the disks and the operating system's chance are played.
"""

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import attrs
import httpx
import trio

from avtomatika_trio._config import Secret, WorkerSettings
from avtomatika_trio._core import lease
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._wire.messages import CLIENT_TOKEN_HEADER
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context, Limits
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.storage import MemoryStorage
from avtomatika_trio.testing._mortal import MortalStorage
from avtomatika_trio.testing._network import ANY_SERVER, Network, open_network
from avtomatika_trio.testing.invariants import find_violations
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._service import Surroundings
from avtomatika_trio.worker._spool_memory import MemoryFolder, open_memory_spool

#: Unix time at which every cluster begins.
EPOCH = 1_700_000_000.0

CLIENT = "client"
"""What the network calls the client that submits jobs."""

_CLIENT_TOKEN = "client-token"  # noqa: S105 - of a network that nobody else is in
_WORKER_TOKEN = "worker-token"  # noqa: S105


class _Starter(Protocol):
    """`trio.Nursery.start`."""

    async def __call__(self, function: Callable[..., Awaitable[object]], /) -> Any: ...


def _now() -> float:
    return EPOCH + trio.current_time()


class SeededChance:
    """The `Chance` of an orchestrator, which can be played again."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._jobs = 0

    def noise(self) -> float:
        return self._chance.uniform(-1, 1)

    def job_id(self) -> str:
        self._jobs += 1
        return f"p00-{self._jobs:06d}"

    def wire_id(self) -> str:
        return f"p00-task-{self._chance.getrandbits(64):016x}"


@attrs.define(eq=False)
class _Process:
    """One run of a program."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    stopping: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False, kw_only=True)
class Orchestrator:
    """One orchestrator, which may be started, stopped and killed again and again."""

    name: str
    """Also its host in URLs."""
    commit_seconds: float = 0.0
    """How long a commit or a read takes at most."""
    on_commit: Callable[[int], None] = lambda _: None
    """Called with the number of each commit of a process (from 1), when it has happened and
    nobody knows of it yet."""
    _network: Network
    _shared: MemoryStorage
    _start: _Starter
    _chance: random.Random
    _ids: SeededChance
    _context: Callable[..., Context]
    _process: _Process | None = None
    _storage: MortalStorage | None = None

    @property
    def is_up(self) -> bool:
        return self._process is not None

    async def start(self) -> None:
        """Start a process; it must not be running."""
        assert not self.is_up, f"{self.name} is running"
        storage = MortalStorage(
            shared=self._shared,
            chance=self._chance,
            commit_seconds=self.commit_seconds,
            on_commit=self._committed,
        )
        process = _Process()
        self._process, self._storage = process, storage
        context = self._context(storage=storage, chance=self._ids)
        await self._start(partial(self._run, process, context))

    def _committed(self, number: int) -> None:
        self.on_commit(number)

    def die(self) -> None:
        """As `kill`, from within: nothing that the process does from now on has any effect."""
        if self._process is not None and self._storage is not None:
            self._storage.is_dead = True
            self._process.scope.cancel()

    async def kill(self) -> None:
        """End the process, as `kill -9` does; its connections are reset."""
        process = self._process
        self.die()
        if process is not None:
            await process.ended.wait()

    async def stop(self) -> None:
        """End the process as SIGTERM does."""
        process = self._process
        if process is not None:
            process.stopping.set()
            await process.ended.wait()

    async def _run(
        self,
        process: _Process,
        context: Context,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        # As `run_orchestrator` does, with the network's door in the place of a socket.
        try:
            with process.scope:
                async with trio.open_nursery() as engine:
                    async with trio.open_nursery() as serving:
                        accepting = trio.CancelScope()
                        app = create_app(context)
                        serve = partial(self._network.serve, self.name, app, process.stopping)
                        await serving.start(serve)
                        await context.storage.commit(lease.begin_serving)
                        engine.start_soon(run_engine, context)
                        serving.start_soon(_run_janitor_in, accepting, context)
                        task_status.started()
                        await process.stopping.wait()
                        accepting.cancel()
                        context.draining.set()
                    engine.cancel_scope.cancel()
        finally:
            self._process = None
            process.ended.set()


async def _run_janitor_in(accepting: trio.CancelScope, context: Context) -> None:
    with accepting:
        await run_janitor(context)


@attrs.define(eq=False, kw_only=True)
class WorkerMachine:
    """A worker and the disk of its spool, which outlives its processes."""

    worker_id: str
    worker: Worker
    settings: WorkerSettings
    folder: MemoryFolder = attrs.field(factory=MemoryFolder)
    _network: Network
    _start: _Starter
    _chance: random.Random
    _process: _Process | None = None
    _runs: int = 0

    @property
    def is_up(self) -> bool:
        return self._process is not None

    @property
    def instance(self) -> str:
        """The id of the newest process."""
        return f"{self.worker_id}-run{self._runs}"

    async def start(self) -> None:
        """Start a process; it must not be running."""
        assert not self.is_up, f"{self.worker_id} is running"
        self._runs += 1
        self._process = process = _Process()
        await self._start(partial(self._run, process, self.instance))

    def die(self) -> None:
        """As `kill`, without waiting for its end."""
        if self._process is not None:
            self._process.scope.cancel()

    async def kill(self) -> None:
        """End the process, as `kill -9` does; what is in the spool is kept."""
        process = self._process
        self.die()
        if process is not None:
            await process.ended.wait()

    async def stop(self) -> None:
        """End the process as SIGTERM does."""
        process = self._process
        if process is not None:
            self.worker.stop()
            await process.ended.wait()

    async def _run(
        self,
        process: _Process,
        instance: str,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        world = Surroundings(
            open_spool=self._open_spool,
            instance=instance,
            noise=lambda: self._chance.uniform(-1, 1),
            wall_clock=_now,
            transport=self._network.transport(self.worker_id),
            beats_in_thread=False,
        )
        try:
            with process.scope:
                await self.worker.serve_in(
                    world, self.settings, self.worker_id, task_status=task_status
                )
        finally:
            self._process = None
            process.ended.set()

    def _open_spool(self, instance: str) -> Any:
        return open_memory_spool(
            self.folder,
            worker_id=self.worker_id,
            instance=instance,
            max_entries=self.settings.spool_max_entries,
        )


@attrs.define(eq=False, kw_only=True)
class Cluster:
    """Orchestrators on one storage, workers, and a network between them; see `open_cluster`."""

    network: Network
    storage: MemoryStorage
    orchestrators: list[Orchestrator]
    workers: dict[str, WorkerMachine] = attrs.field(factory=dict)
    chance: random.Random
    _client: httpx.AsyncClient
    _start: _Starter

    @property
    def orchestrator(self) -> Orchestrator:
        """The first one."""
        return self.orchestrators[0]

    def add_worker(self, worker: Worker, worker_id: str = "w1", **settings: Any) -> WorkerMachine:
        """A machine for *worker*, not started yet.

        Args:
            worker: Its handlers must be `async`: the virtual clock does not see threads.
            worker_id: Also its name in the network.
            settings: Fields of `WorkerSettings`, in the place of the defaults.
        """
        plain: dict[str, Any] = {
            "worker_id": worker_id,
            "orchestrator_url": f"http://{ANY_SERVER}",
            "token": Secret(_WORKER_TOKEN),
            "health_port": None,
        }
        machine = WorkerMachine(
            worker_id=worker_id,
            worker=worker,
            settings=WorkerSettings(**{**plain, **settings}),
            network=self.network,
            start=self._start,
            chance=self.chance,
        )
        self.workers[worker_id] = machine
        return machine

    async def submit(self, blueprint: str, *initial_data: Mapping[str, Any]) -> list[str]:
        """Post jobs as a client does; returns their ids.

        Raises:
            httpx.HTTPError: no orchestrator took them.
        """
        jobs = [{"initial_data": dict(one)} for one in initial_data]
        answer = await self._client.post(f"/api/v1/jobs/{blueprint}", json=jobs)
        answer.raise_for_status()
        return [accepted["job_id"] for accepted in answer.json()["jobs"]]

    async def cancel(self, job_id: str) -> None:
        """Cancel a job as a client does.

        Raises:
            httpx.HTTPError: it was not possible.
        """
        answer = await self._client.post(f"/api/v1/jobs/{job_id}/cancel")
        answer.raise_for_status()

    async def job(self, job_id: str) -> Job:
        """The job as it is stored, also while no orchestrator runs."""
        job = await self.storage.job(job_id)
        assert job is not None, f"there is no job {job_id}"
        return job

    async def wait_until_final(
        self, job_ids: Iterable[str], *, seconds: float = math.inf
    ) -> list[Job]:
        """The jobs, once each has ended.

        Raises:
            trio.TooSlowError: that took longer than *seconds* of virtual time.
        """
        with trio.fail_after(seconds):
            return [await self._final(job_id) for job_id in job_ids]

    async def _final(self, job_id: str) -> Job:
        with self.storage.job_news(job_id) as news:
            while not (job := await self.job(job_id)).status.is_final:
                await news.wait()
        return job

    async def history(self, job_id: str) -> list[str]:
        """The types of the job's history rows, in order."""
        rows = await self.storage.history(job_id, limit=100_000)
        return [numbered.row.type for numbered in rows]

    async def kill_all(self) -> None:
        """Kill every process."""
        for worker in self.workers.values():
            await worker.kill()
        for orchestrator in self.orchestrators:
            await orchestrator.kill()

    async def violations(self) -> list[str]:
        """Every invariant that is broken in the storage; to be asked when all is at rest."""
        return await find_violations(self.storage)


@asynccontextmanager
async def open_cluster(
    blueprints: Iterable[Blueprint],
    *,
    orchestrators: int = 1,
    seed: int = 0,
    rules: Rules | None = None,
    limits: Limits | None = None,
    commit_seconds: float = 0.0,
) -> AsyncIterator[Cluster]:
    """A cluster whose orchestrators, called `o1`, `o2`..., run; without workers yet.

    Leaving the block kills everything.

    Args:
        blueprints: Their handlers must be `async`: the virtual clock does not see threads.
        orchestrators: How many share the storage.
        seed: Of all chance; the same seed plays the same again.
        rules: Of the orchestrators.
        limits: Of the orchestrators.
        commit_seconds: How long a commit or a read takes at most; 0 = one checkpoint.
    """
    chance = random.Random(seed)  # noqa: S311 - to be played again
    storage = MemoryStorage(now=_now, cluster_id="cluster")
    make_context = partial(
        Context,
        blueprints=Blueprints(blueprints),
        client_token=_CLIENT_TOKEN,
        worker_token=_WORKER_TOKEN,
        rules=rules or Rules(),
        limits=limits or Limits(),
    )
    ids = SeededChance(chance)
    async with open_network(chance) as network, trio.open_nursery() as processes:
        client = httpx.AsyncClient(
            transport=network.transport(CLIENT),
            base_url=f"http://{ANY_SERVER}",
            headers={CLIENT_TOKEN_HEADER: _CLIENT_TOKEN},
            timeout=None,
        )
        machines = [
            Orchestrator(
                name=f"o{number}",
                commit_seconds=commit_seconds,
                network=network,
                shared=storage,
                start=processes.start,
                chance=chance,
                ids=ids,
                context=make_context,
            )
            for number in range(1, orchestrators + 1)
        ]
        for machine in machines:
            await machine.start()
        async with client:
            yield Cluster(
                network=network,
                storage=storage,
                orchestrators=machines,
                chance=chance,
                client=client,
                start=processes.start,
            )
        processes.cancel_scope.cancel()
