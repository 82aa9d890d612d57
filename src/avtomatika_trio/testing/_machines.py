"""What a cluster is made of: programs that may be started, stopped and killed again and again."""

import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import attrs
import httpx
import trio

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._counted_storage import counted
from avtomatika_trio.orchestrator._http import AsgiApp
from avtomatika_trio.orchestrator._metrics import Metrics
from avtomatika_trio.orchestrator._service import run_orchestrator
from avtomatika_trio.storage import MemoryStorage
from avtomatika_trio.testing._health_door import HealthDoor
from avtomatika_trio.testing._mortal import MortalStorage
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._skills import CallHandler
from avtomatika_trio.worker._spool_memory import MemoryFolder, open_memory_spool
from avtomatika_trio.worker._surroundings import Surroundings

#: Unix time at which every cluster begins.
EPOCH = 1_700_000_000.0


class Starter(Protocol):
    """`trio.Nursery.start`."""

    async def __call__(self, function: Callable[..., Awaitable[object]], /) -> Any: ...


class Carrier(Protocol):
    """What connects clients with servers."""

    def transport(self, client: str) -> httpx.AsyncBaseTransport:
        """What a client called *client* gives to httpx."""

    async def serve(
        self,
        server: str,
        app: AsgiApp,
        *,
        shutdown: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Be *server* until *shutdown* returns; cancelled, it is killed."""


def now() -> float:
    """Unix time of every cluster."""
    return EPOCH + trio.current_time()


class SeededChance:
    """The `Chance` of an orchestrator, which can be played again."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._jobs = 0
        self._requests = 0

    def noise(self) -> float:
        return self._chance.uniform(-1, 1)

    def in_any_order(self, names: Sequence[str]) -> Sequence[str]:
        return self._chance.sample(names, len(names)) if len(names) > 1 else names

    def job_id(self, partition: str) -> str:
        self._jobs += 1
        return f"{partition}-{self._jobs:06d}"

    def wire_ids(self, partition: str, count: int) -> Sequence[str]:
        return [f"{partition}-task-{self._chance.getrandbits(64):016x}" for _ in range(count)]

    def request_id(self) -> str:
        self._requests += 1  # draws nothing: what else is drawn does not depend on requests
        return f"request-{self._requests}"


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
    worker_token: str
    """What its workers must show."""
    commit_seconds: float = 0.0
    """How long a commit or a read takes at most."""
    on_commit: Callable[[int], None] = lambda _: None
    """Called with the number of each commit of a process (from 1), when it has happened and
    nobody knows of it yet."""
    metrics: list[Metrics] = attrs.field(factory=list)
    """What each of its processes has measured, the newest last."""
    _network: Carrier
    _shared: MemoryStorage
    _start: Starter
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
        metrics = Metrics()
        self.metrics.append(metrics)
        context = self._context(
            storage=counted(storage, metrics),
            metrics=metrics,
            chance=self._ids,
            worker_token=self.worker_token,
        )
        await self._start(partial(self._run, process, context))

    def _committed(self, number: int) -> None:
        self.on_commit(number)

    def die(self) -> None:
        """As `kill`, from within: nothing that the process does from now on has any effect."""
        if self._process is not None and self._storage is not None:
            self._storage.is_dead = True
            self._process.scope.cancel()

    def lose_storage(self) -> None:
        """Let the process live on without its storage."""
        if self._storage is not None:
            self._storage.is_dead = True

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
        try:
            with process.scope:
                await run_orchestrator(
                    context,
                    partial(self._network.serve, self.name),
                    stop=process.stopping.wait,
                    task_status=task_status,
                )
        finally:
            self._process = None
            process.ended.set()


@attrs.define(eq=False, kw_only=True)
class WorkerMachine:
    """A worker and the disk of its spool, which outlives its processes."""

    worker_id: str
    worker: Worker
    settings: WorkerSettings
    folder: MemoryFolder = attrs.field(factory=MemoryFolder)
    health: HealthDoor = attrs.field(factory=HealthDoor)
    """Its health check; it is on with any `health_port`."""
    call_handler: CallHandler | None = None
    _network: Carrier
    _start: Starter
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
            wall_clock=now,
            transport=self._network.transport(self.worker_id),
            open_health=self.health.open,
            beats_in_thread=False,
            call_handler=self.call_handler,
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
