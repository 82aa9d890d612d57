"""The processes of the drill of a cluster: one Redis, orchestrators and workers."""

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import attrs
import trio
from tests.drills.drilling import bad_end
from tests.drills.lateness import Outage
from tests.e2e.killing import (
    CLIENT_TOKEN,
    Program,
    lasting_port,
    notes_of,
    orchestrator,
    sleeper,
)
from tests.e2e.reckoning import Run, read_runs
from tests.e2e.sites import Site
from tests.storage.redis_servers import Kind, Server

from avtomatika_trio.client import Client

ORCHESTRATORS = 3
WORKERS = 6
SLOTS = 8
HEARTBEAT_SECONDS = 5.0
#: Of the rules, and more than three heartbeats.
LEASE_SECONDS = 30.0

#: Nothing that was acknowledged is lost with the process.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")

_UNFENCED = Path(__file__).with_name("unfenced.py")
_AGAIN_SECONDS = 0.5


@attrs.define
class Kill:
    """A process was killed, and is back."""

    kind: str
    name: str
    at: float
    """Unix seconds, as the others."""
    started_at: float = 0.0
    back_at: float = 0.0
    """When it answered: Redis a PING, an orchestrator by what it prints."""


@attrs.define(kw_only=True)
class Machines:
    """All processes, and what has happened to them."""

    redis: Server
    orchestrators: list[Site]
    workers: list[Program]
    say: Callable[[str], None] = print
    kills: list[Kill] = attrs.field(factory=list)
    failed_starts: Counter[str] = attrs.field(factory=Counter)
    problems: list[str] = attrs.field(factory=list)

    @classmethod
    def create(cls, folder: Path, *, fenced: bool) -> "Machines":
        """Some that do not run yet, with their files in *folder*."""
        kind: Kind = "redis" if shutil.which("redis-server") else "valkey"
        redis = Server(kind, lasting_port(), folder / "redis", DURABLE)
        redis.folder.mkdir()
        sites = [_site(folder, f"o{n}", redis.url, fenced=fenced) for n in range(ORCHESTRATORS)]
        urls = [site.url for site in sites]
        environ = {
            "MAX_CONCURRENT_TASKS": str(SLOTS),
            "HEARTBEAT_INTERVAL": str(HEARTBEAT_SECONDS),
        }
        workers = [
            sleeper(
                folder,
                f"w{n}",
                *urls[n % len(urls) :],
                *urls[: n % len(urls)],
                skill="work",
                environ=environ,
            )
            for n in range(WORKERS)
        ]
        return cls(redis=redis, orchestrators=sites, workers=workers)

    @property
    def outages(self) -> list[Outage]:
        """When Redis was away."""
        return [Outage(kill.at, kill.back_at) for kill in self.kills if kill.kind == "redis"]

    def runs(self) -> list[Run]:
        """What the workers have begun so far."""
        return [run for program in self.workers for run in read_runs(notes_of(program))]

    async def start(self) -> None:
        """Start everything; returns when all orchestrators serve."""
        await trio.to_thread.run_sync(self.redis.start)
        async with trio.open_nursery() as nursery:
            for site in self.orchestrators:
                nursery.start_soon(site.start)
        for program in self.workers:
            program.start()

    async def have_met(self) -> bool:
        """Whether all workers have registered."""
        for program in self.workers:
            program.check()
        return await self.orchestrators[0].has_heard_of(it.name for it in self.workers)

    @property
    def away(self) -> set[str]:
        """Who was killed, and is not back."""
        return {kill.name for kill in self.kills if not kill.back_at}

    async def end(self) -> None:
        """End workers and orchestrators, which should all run; Redis stays."""
        for site in self.orchestrators:
            site.client.close()
        for program in [*self.workers, *(site.program for site in self.orchestrators)]:
            has_run = program.runs
            try:
                code = await trio.to_thread.run_sync(program.end)
            except subprocess.TimeoutExpired as exc:
                self.problems.append(f"{program.name} has not ended within {exc.timeout} s")
            else:
                self.problems += bad_end(program.name, program, code, has_run=has_run)

    async def kill_all(self) -> None:
        """Kill whatever still runs of them."""
        for program in [*self.workers, *(site.program for site in self.orchestrators)]:
            await trio.to_thread.run_sync(program.kill)

    async def kill_orchestrator(self, site: Site, down_seconds: float) -> None:
        """Kill it, and start it again until it serves, as a supervisor would."""
        kill = await self._kill("orchestrator", site.name, site.program, down_seconds)
        while True:
            try:
                await site.start()
                break
            except AssertionError:
                # It says why in its log and ends, such as while Redis is away.
                self.failed_starts[site.name] += 1
                await trio.to_thread.run_sync(site.program.end)
                await trio.sleep(_AGAIN_SECONDS)
        self._is_back(kill)

    async def kill_worker(self, program: Program, down_seconds: float) -> None:
        """Kill it, and start it again after a while."""
        kill = await self._kill("worker", program.name, program, down_seconds)
        program.start()
        self._is_back(kill)

    async def kill_redis(self, down_seconds: float) -> None:
        """Kill it, and start it again on its file."""
        kill = Kill("redis", "redis", time.time())
        self.kills.append(kill)
        await trio.to_thread.run_sync(self.redis.kill)
        self.say(f"killed redis, for {down_seconds:.1f} s")
        await trio.sleep(down_seconds)
        kill.started_at = time.time()
        await trio.to_thread.run_sync(self.redis.start)
        self._is_back(kill)

    async def _kill(self, kind: str, name: str, program: Program, down_seconds: float) -> Kill:
        if not program.runs:
            self.problems.append(f"{name} had ended before its kill; see {program.folder}")
        kill = Kill(kind, name, time.time())
        self.kills.append(kill)
        await trio.to_thread.run_sync(program.kill)
        self.say(f"killed {name}, for {down_seconds:.1f} s")
        await trio.sleep(down_seconds)
        kill.started_at = time.time()
        return kill

    def _is_back(self, kill: Kill) -> None:
        kill.back_at = time.time()
        self.say(f"{kill.name} is back")


def _site(folder: Path, name: str, storage: str, *, fenced: bool) -> Site:
    own, port = folder / name, lasting_port()
    own.mkdir()
    program = orchestrator(own, port, blueprints="mixed_blueprints", storage=storage)
    program.name = name
    if not fenced:
        program.entry = (str(_UNFENCED),)
    url = f"http://127.0.0.1:{port}"
    return Site(name, program, url, Client(url, CLIENT_TOKEN, retry_seconds=0))
