"""A whole cluster in one process, on Trio's clock: hours of outages in a fraction of a second.

The orchestrators' app, engine and janitor and the workers are the real ones; only the server's
sockets, the disks and the operating system's chance are played.
"""

import math
import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from avtomatika_trio._config import Secret, Target, WorkerSettings
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._wire.messages import CLIENT_TOKEN_HEADER
from avtomatika_trio.blobs import Blobs
from avtomatika_trio.orchestrator._context import TASK_FILES_DIR, Context, Limits, Security
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.storage import MemoryStorage
from avtomatika_trio.testing._idle import Idle
from avtomatika_trio.testing._machines import (
    Carrier,
    Orchestrator,
    SeededChance,
    Starter,
    WorkerMachine,
    now,
)
from avtomatika_trio.testing._network import ANY_SERVER, Network, open_network
from avtomatika_trio.testing._streams import StreamNetwork
from avtomatika_trio.testing.invariants import find_violations
from avtomatika_trio.worker import Worker

CLIENT = "client"
"""What the network calls the client that submits jobs."""

CLIENT_TOKEN = "client-token"  # noqa: S105 - of a network that nobody else is in
_WORKER_TOKEN = "worker-token"  # noqa: S105


@attrs.define(eq=False, kw_only=True)
class Cluster:
    """Orchestrators, workers, and a network between them; see `open_cluster`."""

    network: Network
    """Not in use in a cluster on streams."""
    storages: list[MemoryStorage]
    """One for all orchestrators, or one for each."""
    orchestrators: list[Orchestrator]
    workers: dict[str, WorkerMachine] = attrs.field(factory=dict)
    chance: random.Random
    _carrier: Carrier
    _client: httpx.AsyncClient
    _start: Starter

    @property
    def orchestrator(self) -> Orchestrator:
        """The first one."""
        return self.orchestrators[0]

    @property
    def storage(self) -> MemoryStorage:
        """The first one."""
        return self.storages[0]

    def targets(self, **weights: float) -> tuple[Target, ...]:
        """All orchestrators as a worker is told of them, the first one preferred.

        Args:
            weights: By name; 1 without one.
        """
        return tuple(
            Target(
                url=f"http://{it.name}",
                weight=weights.get(it.name, 1.0),
                token=Secret(it.worker_token),
            )
            for it in self.orchestrators
        )

    def add_worker(self, worker: Worker, worker_id: str = "w1", **settings: Any) -> WorkerMachine:
        """A machine for *worker*, not started yet.

        Args:
            worker: Its handlers must be `async`, unless the machine calls them in its own way.
            worker_id: Also its name in the network.
            settings: Fields of `WorkerSettings`, in the place of the defaults.
        """
        plain: dict[str, Any] = {
            "worker_id": worker_id,
            "orchestrators": (Target(url=f"http://{ANY_SERVER}"),),
            "token": Secret(_WORKER_TOKEN),
            "health_port": None,
        }
        machine = WorkerMachine(
            worker_id=worker_id,
            worker=worker,
            settings=WorkerSettings(**{**plain, **settings}),
            network=self._carrier,
            start=self._start,
            chance=self.chance,
        )
        self.workers[worker_id] = machine
        return machine

    async def submit(
        self,
        blueprint: str,
        *initial_data: Mapping[str, Any],
        to: str = ANY_SERVER,
        headers: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Post jobs to the orchestrator *to*, as a client does; returns their ids.

        Raises:
            httpx.HTTPError: no orchestrator took them.
        """
        jobs = [{"initial_data": dict(one)} for one in initial_data]
        url = f"http://{to}/api/v1/jobs/{blueprint}"
        answer = await self._client.post(url, json=jobs, headers=headers)
        answer.raise_for_status()
        return [accepted["job_id"] for accepted in answer.json()["jobs"]]

    async def cancel(self, job_id: str, at: str = ANY_SERVER) -> None:
        """Cancel a job at the orchestrator *at*, as a client does.

        Raises:
            httpx.HTTPError: it was not possible.
        """
        answer = await self._client.post(f"http://{at}/api/v1/jobs/{job_id}/cancel")
        answer.raise_for_status()

    async def job(self, job_id: str) -> Job:
        """The job as it is stored, also while no orchestrator runs."""
        for storage in self.storages:
            job = await storage.job(job_id)
            if job is not None:
                return job
        raise LookupError(f"there is no job {job_id}")

    async def storage_of(self, job_id: str) -> MemoryStorage:
        """Where that job is kept."""
        found = [one for one in self.storages if await one.job(job_id) is not None]
        return found[0]

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
        storage = await self.storage_of(job_id)
        with storage.job_news(job_id) as news:
            while not (job := await self.job(job_id)).status.is_final:
                await news.wait()
        return job

    async def history(self, job_id: str) -> list[str]:
        """The types of the job's history rows, in order."""
        storage = await self.storage_of(job_id)
        rows = await storage.history(job_id, limit=100_000)
        return [numbered.row.type for numbered in rows]

    async def kill_all(self) -> None:
        """Kill every process."""
        for worker in self.workers.values():
            await worker.kill()
        for orchestrator in self.orchestrators:
            await orchestrator.kill()

    async def violations(self) -> list[str]:
        """Every invariant that is broken in a storage; to be asked when all is at rest."""
        return [fault for storage in self.storages for fault in await find_violations(storage)]


@asynccontextmanager
async def open_cluster(
    blueprints: Iterable[Blueprint],
    *,
    orchestrators: int = 1,
    is_shared: bool = True,
    partitions: int = 1,
    tokens: Sequence[str] | None = None,
    seed: int = 0,
    rules: Rules | None = None,
    limits: Limits | None = None,
    security: Security | None = None,
    commit_seconds: float = 0.0,
    streams: StreamNetwork | None = None,
    is_played: bool = False,
    blobs: Blobs | None = None,
    task_files_dir: Path = TASK_FILES_DIR,
) -> AsyncIterator[Cluster]:
    """A cluster whose orchestrators, called `o1`, `o2`..., run; without workers yet.

    Leaving the block kills everything.

    Args:
        blueprints: Unless *is_played*, their handlers must be `async`: the virtual clock does not
            see threads.
        orchestrators: How many there are.
        is_shared: Whether they share one storage; else each has its own, and is a cluster of its
            own to its workers.
        tokens: What workers must show, by orchestrator; else all want the same.
        seed: Of all chance; the same seed plays the same again.
        rules: Of the orchestrators.
        limits: Of the orchestrators.
        security: Of the orchestrators.
        commit_seconds: How long a commit or a read takes at most; 0 = one checkpoint.
        streams: Connects everybody by byte streams, in the place of the cluster's network.
        is_played: Run handlers of blueprints that are not `async` in the loop, too, and let
            loops wait until something is due: a day without work takes seconds.  For one
            orchestrator.
        blobs: Where files are kept; None = nowhere.
        task_files_dir: Where files are while handlers use them; by default where they always are.
    """
    chance = random.Random(seed)  # noqa: S311 - to be played again
    names = ["cluster"] if is_shared else [f"cluster-{it + 1}" for it in range(orchestrators)]
    storages = [_storage(name, partitions) for name in names]
    idle = Idle(storages[0])
    make_context = partial(
        Context,
        handlers_in_thread=not is_played,
        pause=idle.pause if is_played else trio.sleep,
        blueprints=Blueprints(blueprints),
        client_token=CLIENT_TOKEN,
        rules=rules or Rules(),
        limits=limits or Limits(),
        security=security or Security(),
        blobs=blobs,
        task_files_dir=task_files_dir,
    )
    ids = SeededChance(chance)
    latency = 0.0 if is_played else 0.001
    async with (
        open_network(chance, latency_seconds=latency) as network,
        trio.open_nursery() as processes,
    ):
        carrier = streams or network
        machines = [
            Orchestrator(
                name=f"o{number}",
                commit_seconds=commit_seconds,
                network=carrier,
                shared=storages[0 if is_shared else number - 1],
                start=processes.start,
                chance=chance,
                ids=ids,
                worker_token=token,
                context=make_context,
                on_commit=lambda _: idle.changed(),
            )
            for number, token in enumerate(tokens or [_WORKER_TOKEN] * orchestrators, start=1)
        ]
        for machine in machines:
            await machine.start()
        async with _open_client(carrier) as client:
            yield Cluster(
                network=network,
                carrier=carrier,
                storages=storages,
                orchestrators=machines,
                chance=chance,
                client=client,
                start=processes.start,
            )
        processes.cancel_scope.cancel()


def _storage(name: str, partitions: int) -> MemoryStorage:
    """One whose partitions are hours apart in what time it is."""
    storage = MemoryStorage(now, name, partitions)
    storage.ahead = {it: (-1) ** n * 5000.0 * n for n, it in enumerate(storage.partitions)}
    return storage


def _open_client(carrier: Carrier) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=carrier.transport(CLIENT),
        headers={CLIENT_TOKEN_HEADER: CLIENT_TOKEN},
        timeout=None,
    )
