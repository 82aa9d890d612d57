"""The course of the drill of a cluster."""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import trio
from tests.drills.cluster_load import CLIENTS, Submitter, jobs
from tests.drills.cluster_machines import LEASE_SECONDS, Machines
from tests.drills.cluster_reckoning import ClusterReckoning, reckon_cluster
from tests.e2e.reckoning import read_accounts
from tests.e2e.sites import until

from avtomatika_trio._core.job import FINAL, Job, JobStatus
from avtomatika_trio.errors import OrchestratorUnavailable, StorageUnavailable
from avtomatika_trio.storage import open_storage
from avtomatika_trio.storage._base import JobQuery, Storage
from avtomatika_trio.testing.invariants import find_violations

START_SECONDS = 60.0

#: After the last kill: a lease, another one after an outage of Redis, and the work.
SETTLE_SECONDS = 2 * LEASE_SECONDS + 60.0

#: Most outages are short; some workers are away for longer than their lease.
_SHORT_SECONDS = 5.0
_LONG_SECONDS = LEASE_SECONDS + 5.0
_LONG_SHARE = 0.25
#: A gap of more than five seconds is an outage by the rules, a shorter one is not.
_REDIS_SECONDS = 2.0, 9.0
_BEFORE_ANOTHER_SECONDS = 0.5

_STATUS_SECONDS = 5.0
_LOOK_SECONDS = 3.0
#: What others change between two reads of one job passes; what is told each time does not.
_LOOKS = 4
_BETWEEN_LOOKS_SECONDS = 0.3

_OPEN = frozenset(JobStatus) - FINAL


@attrs.frozen(kw_only=True)
class Plan:
    """What the drill was asked to do."""

    seconds: float
    every: float
    kills: int
    redis_kills: int
    jobs: int
    seed: int
    fenced: bool


@attrs.define(kw_only=True)
class Drill:
    """The processes, what was submitted, and what was found."""

    plan: Plan
    machines: Machines
    chance: random.Random
    submitters: Sequence[Submitter] = ()
    accepted: dict[str, float] = attrs.field(factory=dict)
    """When the jobs whose ids were told were first tried to be submitted."""
    broken: list[str] = attrs.field(factory=list)
    """Invariants that did not hold."""
    looks: int = 0
    started_at: float = 0.0
    over: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @classmethod
    def create(cls, plan: Plan, folder: Path) -> "Drill":
        """One whose processes do not run yet."""
        machines = Machines.create(folder, fenced=plan.fenced)
        drill = cls(plan=plan, machines=machines, chance=random.Random(plan.seed))
        machines.say = drill.tell
        urls = [site.url for site in machines.orchestrators]
        drill.submitters = [
            Submitter.create(urls, random.Random(drill.chance.random())) for _ in range(CLIENTS)
        ]
        return drill

    def tell(self, what: str) -> None:
        """Print a line of progress."""
        print(f"{trio.current_time() - self.started_at:6.1f} s  {what}", flush=True)

    async def run(self) -> None:
        """Work and kill, until all is done, it takes too long, or something has broken."""
        self.started_at = trio.current_time()
        await self.machines.start()
        with trio.fail_after(START_SECONDS):
            await until(self._have_met)
        self.tell("everybody is there")
        async with open_storage(self.machines.redis.url) as storage:
            with self.over:
                async with trio.open_nursery() as watching:
                    watching.start_soon(self._tell_status, storage)
                    watching.start_soon(self._keep_looking, storage)
                    await self._work()
                    await self._settle(storage)
                    watching.cancel_scope.cancel()
        for submitter in self.submitters:
            submitter.close()

    async def _work(self) -> None:
        self.started_at = trio.current_time()
        todo = list(jobs(self.plan.jobs, self.chance))
        async with trio.open_nursery() as nursery:
            for n, submitter in enumerate(self.submitters):
                nursery.start_soon(self._submit, submitter, todo[n::CLIENTS])
            nursery.start_soon(self._keep_killing, nursery)
            nursery.start_soon(self._keep_killing_redis)

    async def _submit(self, submitter: Submitter, todo: Sequence[dict[str, Any]]) -> None:
        """Hand in jobs, evenly, so that the last ones meet the last kills."""
        for data in todo:
            await trio.sleep_until(self.started_at + data["n"] * self.plan.seconds / self.plan.jobs)
            await submitter.submit(data, self.accepted.__setitem__)

    async def _keep_killing(self, nursery: trio.Nursery) -> None:
        """An orchestrator and a worker, in any order, and again."""
        kinds: list[str] = []
        for n in range(self.plan.kills):
            await trio.sleep_until(self.started_at + (n + 1) * self.plan.every)
            kinds = kinds or self.chance.sample(["orchestrator", "worker"], k=2)
            down_seconds = self.chance.uniform(0, _SHORT_SECONDS)
            machines = self.machines
            if kinds.pop() == "orchestrator":
                sites = [it for it in machines.orchestrators if it.name not in machines.away]
                site = self.chance.choice(sites)
                nursery.start_soon(machines.kill_orchestrator, site, down_seconds)
            else:
                if self.chance.random() < _LONG_SHARE and self.plan.seconds > _LONG_SECONDS:
                    down_seconds = _LONG_SECONDS
                programs = [it for it in machines.workers if it.name not in machines.away]
                program = self.chance.choice(programs)
                nursery.start_soon(machines.kill_worker, program, down_seconds)

    async def _keep_killing_redis(self) -> None:
        """At any time; every second time a moment before something else is killed."""
        plan = self.plan
        longest = min(_REDIS_SECONDS[1], max(_REDIS_SECONDS[0], plan.seconds / 10))
        for n in range(plan.redis_kills):
            share = (n + self.chance.uniform(0.25, 0.75)) / plan.redis_kills
            at = share * plan.seconds
            if n % 2:
                at = round(at / plan.every) * plan.every - _BEFORE_ANOTHER_SECONDS
            await trio.sleep_until(self.started_at + at)
            await self.machines.kill_redis(self.chance.uniform(_REDIS_SECONDS[0], longest))

    async def _settle(self, storage: Storage) -> None:
        self.tell("the last kill is over")

        async def is_done() -> bool:
            try:
                return not await storage.jobs(JobQuery(statuses=_OPEN, limit=1))
            except StorageUnavailable:
                return False

        with trio.move_on_after(SETTLE_SECONDS) as settling:
            await until(is_done)
        self.tell("TOO LATE: jobs are open" if settling.cancelled_caught else "all is done")

    async def _tell_status(self, storage: Storage) -> None:
        while True:
            await trio.sleep(_STATUS_SECONDS)
            try:
                counts = await storage.job_counts()
            except StorageUnavailable:
                told = "Redis does not answer"
            else:
                told = ", ".join(f"{n} {status.value}" for status, n in counts.items() if n)
            begun = len(self.machines.runs())
            self.tell(f"  {len(self.accepted)} accepted, {begun} attempts begun; {told}")

    async def _keep_looking(self, storage: Storage) -> None:
        """Look again and again whether an invariant is broken; then there is nothing to add."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            try:
                found = await _lasting_violations(storage)
            except StorageUnavailable:
                continue
            self.looks += 1
            if found:
                self.broken += found
                self.tell(f"BROKEN: {found[0]}")
                self.over.cancel()

    async def _have_met(self) -> bool:
        try:
            return await self.machines.have_met()
        except OrchestratorUnavailable:
            return False

    async def end(self) -> None:
        """End everything but Redis; where something has broken that is of no interest any more."""
        if self.broken:
            await self.machines.kill_all()
        else:
            await self.machines.end()


@attrs.frozen
class _OpenJobs:
    """A storage in which only open jobs are found."""

    storage: Storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        return await self.storage.jobs(attrs.evolve(query, statuses=_OPEN))


async def _lasting_violations(storage: Storage) -> list[str]:
    """Those of open jobs that are told each time, while others go on."""
    view: Any = _OpenJobs(storage)
    found = await find_violations(view)
    for _ in range(_LOOKS - 1):
        if not found:
            break
        await trio.sleep(_BETWEEN_LOOKS_SECONDS)
        again = set(await find_violations(view))
        found = [violation for violation in found if violation in again]
    return found


async def reckon_drill(drill: Drill) -> ClusterReckoning:
    """What has come of it, when nobody but Redis runs any more."""
    if not drill.machines.redis.is_running:  # it was broken off while Redis was away
        await trio.to_thread.run_sync(drill.machines.redis.start)
    for kill in drill.machines.kills:
        kill.back_at = kill.back_at or time.time()
    async with open_storage(drill.machines.redis.url) as storage:
        violations = await find_violations(storage)
        drill.broken += [it for it in violations if it not in drill.broken]
        accounts = await read_accounts(storage)
    return reckon_cluster(
        accounts,
        drill.accepted,
        drill.machines.runs(),
        drill.machines.outages,
        LEASE_SECONDS,
    )
