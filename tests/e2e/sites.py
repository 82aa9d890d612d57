"""Orchestrators, each on a SQLite file of its own, and what is submitted to them.

Nothing here goes through a proxy: this is the side of clients.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import httpx
import trio
from tests.e2e.killing import CLIENT_TOKEN, OPEN, Program, lasting_port, orchestrator
from tests.e2e.reckoning import Account, read_accounts

from avtomatika_trio.client import Client
from avtomatika_trio.storage import open_storage
from avtomatika_trio.testing.invariants import find_violations

_LOOK_SECONDS = 0.25


@attrs.define(eq=False)
class Site:
    """One orchestrator, which comes back at the same address, on the same file."""

    name: str
    program: Program
    url: str
    client: Client
    accepted: dict[str, str] = attrs.field(factory=dict)
    """Ids of jobs that it has accepted, and their skills."""

    @classmethod
    def create(cls, folder: Path, name: str) -> Self:
        """One that is not started yet, in a folder of its own below *folder*."""
        own, port = folder / name, lasting_port()
        own.mkdir()
        url = f"http://127.0.0.1:{port}"
        program = orchestrator(own, port, blueprints="sleep_blueprints")
        return cls(name, program, url, Client(url, CLIENT_TOKEN, retry_seconds=0))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    async def start(self) -> None:
        """Start it, and return when it serves."""
        self.program.start()
        await trio.to_thread.run_sync(self.program.said)

    async def end(self) -> int:
        """End it as it should be ended, and its client; returns the exit code."""
        self.client.close()
        return await trio.to_thread.run_sync(self.program.end)

    async def submit(self, *jobs: Mapping[str, Any]) -> list[str]:
        """Submit jobs of the blueprint `sleep`; returns their ids.

        Raises:
            OrchestratorUnavailable: it is down; they may have been accepted.
        """
        ids = await trio.to_thread.run_sync(self.client.submit_many, "sleep", map(dict, jobs))
        self.accepted.update(zip(ids, (job["skill"] for job in jobs), strict=True))
        return ids

    async def unfinished(self) -> set[str]:
        """The ids of all jobs that are open.

        Raises:
            OrchestratorUnavailable: it is down.
        """
        jobs = await trio.to_thread.run_sync(lambda: list(self.client.list(statuses=OPEN)))
        return {job.id for job in jobs}

    async def done_within(self, seconds: float, ids: Collection[str]) -> float | None:
        """How long it takes from now until the jobs *ids* are final; None if it takes longer."""

        async def are_done() -> bool:
            return (await self.unfinished()).isdisjoint(ids)

        begun_at = trio.current_time()
        with trio.move_on_after(seconds):
            await until(are_done)
            return trio.current_time() - begun_at
        return None

    async def has_heard_of(self, worker_ids: Iterable[str]) -> bool:
        """Whether all of these workers have registered.

        Raises:
            OrchestratorUnavailable: it is down.
        """
        workers = await trio.to_thread.run_sync(self.client.workers)
        return {worker.worker_id for worker in workers}.issuperset(worker_ids)

    async def examine(self) -> tuple[list[str], list[Account]]:
        """While it does not run: the invariants that its database breaks, and its accounts."""
        async with open_storage(f"sqlite:{self.program.folder}/e2e.db") as storage:
            violations = await find_violations(storage)
            return [f"{self.name}: {it}" for it in violations], await read_accounts(storage)


async def examine(sites: Iterable[Site]) -> tuple[list[str], list[Account]]:
    """While none of *sites* runs: what `Site.examine` tells of each, together."""
    violations: list[str] = []
    accounts: list[Account] = []
    for site in sites:
        broken, known = await site.examine()
        violations += broken
        accounts += known
    return violations, accounts


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again, as another process can't tell."""
    while not await is_so():  # noqa: ASYNC110
        await trio.sleep(_LOOK_SECONDS)


async def look_at(port: int) -> dict[str, Any]:
    """What a worker's health check on *port* tells, whether it is well or not."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/health")
    told: dict[str, Any] = json.loads(answer.content)
    return told
