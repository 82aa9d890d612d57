"""One worker in front of a faulty orchestrator and a sound one; see `test_failover.py`.

    worker -> proxy -> first orchestrator     the fault is here
           -> proxy -> second orchestrator

Each case has a worker, two proxies and a skill of its own, so all of them share two
orchestrators and run at the same time.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import trio
from tests.e2e.fault_proxy import (
    BlackHole,
    Cut,
    Fault,
    FaultProxy,
    Refuse,
    Reset,
    Slow,
    Towards,
    open_fault_proxy,
)
from tests.e2e.killing import Program, lasting_port, notes_of, sleeper
from tests.e2e.reckoning import Reckoning, Run, read_runs, reckon
from tests.e2e.sites import Site, examine, look_at, until

#: Two cases of one orchestrator do not disturb each other's numbers.
JOBS = 4

#: Running when the fault begins, and finished before it ends.
EARLY_SECONDS = 1.5

#: From the end of a fault until all is done: the longest rest that these faults earn, a short
#: time of proving, and the work.
HEALED_SECONDS = 30.0

START_SECONDS = 30.0

ENVIRON = {"FAILBACK_STABLE_SECONDS": "1"}


@attrs.frozen(kw_only=True)
class Case:
    """A fault, and how soon the second orchestrator has to be served."""

    fault: Fault
    within_seconds: float
    beat_seconds: float = 1.0
    is_passable: bool = False
    """Whether jobs at the first get done all the same, late."""


CASES: Mapping[str, Case] = {
    # Seen by whatever is sent first: within a second, the poll is at the other one.
    "refuse": Case(fault=Refuse(), within_seconds=3),
    "reset": Case(fault=Reset(), within_seconds=3),
    # Seen by two probes in a row without an answer: within ten seconds, and long before a
    # heartbeat has waited for its answer in vain.
    "black_hole": Case(fault=BlackHole(), within_seconds=12, beat_seconds=10),
    # Seen by two probes as well: that other answers come at last makes it no better.
    "slow": Case(fault=Slow(delay_seconds=4), within_seconds=12, is_passable=True),
    # Seen by a heartbeat or a result, while a poll may wait on undisturbed.  Probes have no body,
    # and go on being answered.
    "cut_to_server": Case(fault=Cut(Towards.SERVER, 20), within_seconds=6),
    "cut_to_client": Case(fault=Cut(Towards.CLIENT, 1), within_seconds=6),
}

#: Slow, but not for those who wait: there is no reason to leave.
SLOWER = Slow(delay_seconds=0.2, bytes_per_second=50_000)


@attrs.define(kw_only=True)
class Outcome:
    """What was seen in a case."""

    standby_is_served_early: bool = True
    """Whether the second one's jobs were done before there was a fault."""
    served_after_seconds: float | None = None
    """From the beginning of the fault until the second one's jobs were done."""
    standings: Sequence[str] = ()
    """Then, of the first and the second."""
    hits: int = 0
    """What the fault has done until then, see `FaultProxy`."""
    is_refused: bool = False
    """Whether connections to the first were refused then."""
    got_through: int | None = None
    """Of the jobs submitted to the first one during the fault, how many were done then."""
    healed_after_seconds: float | None = None
    """From the end of the fault until all jobs of the first one were done."""
    reckoning: Reckoning | None = None
    """Of both databases."""


@attrs.define(kw_only=True)
class Bench:
    """A worker of its own for a case."""

    skill: str
    first: Site
    second: Site
    program: Program
    proxies: tuple[FaultProxy, FaultProxy]
    health_port: int
    _number: int = 0

    async def submit(self, site: Site, seconds: float = 0.0) -> list[str]:
        """Submit so many jobs as there are in each step of a case."""
        self._number += JOBS
        numbers = range(self._number - JOBS, self._number)
        jobs = [{"n": n, "skill": self.skill, "seconds": seconds} for n in numbers]
        return await site.submit(*jobs)

    async def begin(self) -> tuple[list[str], list[str]]:
        """Start the worker; return when it is known to both and has begun jobs of the first.

        Returns the ids of the jobs at the first and at the second.
        """
        self.program.start()
        with trio.fail_after(START_SECONDS):
            await until(self._is_known)
            standby = await self.submit(self.second)
            early = await self.submit(self.first, EARLY_SECONDS)
            await until(self._has_begun)
        return early, standby

    async def _is_known(self) -> bool:
        self.program.check()
        ours = [self.program.name]
        return await self.first.has_heard_of(ours) and await self.second.has_heard_of(ours)

    async def _has_begun(self) -> bool:
        return len(self.runs()) >= JOBS

    async def standings(self) -> list[str]:
        """What the worker says of the first and the second."""
        told = {one["url"]: one for one in (await look_at(self.health_port))["orchestrators"]}
        return [told[proxy.url]["standing"] for proxy in self.proxies]

    def runs(self) -> list[Run]:
        """What the worker has begun so far."""
        return read_runs(notes_of(self.program))


async def run_cases(folder: Path) -> tuple[dict[str, Outcome], list[str]]:
    """Run all cases; returns their outcomes, and which invariants the databases break."""
    sites = [Site.create(folder, "first"), Site.create(folder, "second")]
    outcomes = {name: Outcome() for name in (*CASES, "slower")}
    runs: dict[str, list[Run]] = {}
    try:
        async with trio.open_nursery() as nursery:
            for site in sites:
                nursery.start_soon(site.start)
        async with trio.open_nursery() as nursery:
            for name, outcome in outcomes.items():
                nursery.start_soon(_at_bench, folder, name, sites, outcome, runs)
    finally:
        with trio.CancelScope(shield=True):
            for site in sites:
                await site.end()
    violations, accounts = await examine(sites)
    for name, outcome in outcomes.items():
        own = [account for account in accounts if account.skill == name]
        accepted = [id_ for site in sites for id_, s in site.accepted.items() if s == name]
        outcome.reckoning = reckon(own, accepted, runs[name])
    return outcomes, violations


async def _at_bench(
    folder: Path,
    name: str,
    sites: Sequence[Site],
    outcome: Outcome,
    runs: dict[str, list[Run]],
) -> None:
    """Run the case *name*; what is seen goes into *outcome* and *runs*."""
    first, second = sites
    health_port = lasting_port()
    async with open_fault_proxy(first.port) as one, open_fault_proxy(second.port) as two:
        beat_seconds = CASES[name].beat_seconds if name in CASES else 1.0
        environ = {
            **ENVIRON,
            "HEARTBEAT_INTERVAL": str(beat_seconds),
            "WORKER_PORT": str(health_port),
        }
        program = sleeper(folder, f"w-{name}", one.url, two.url, skill=name, environ=environ)
        bench = Bench(
            skill=name,
            first=first,
            second=second,
            program=program,
            proxies=(one, two),
            health_port=health_port,
        )
        try:
            if name in CASES:
                await _fail_over(bench, CASES[name], outcome)
            else:
                await _stay(bench, outcome)
        finally:
            runs[name] = bench.runs()
            with trio.CancelScope(shield=True):  # before the proxies close: it says goodbye
                await trio.to_thread.run_sync(program.end)


async def _fail_over(bench: Bench, case: Case, outcome: Outcome) -> None:
    early, standby = await bench.begin()
    outcome.standby_is_served_early = not (await bench.second.unfinished()).issuperset(standby)
    proxy = bench.proxies[0]
    proxy.inject(case.fault)
    during = await bench.submit(bench.first)
    outcome.served_after_seconds = await bench.second.done_within(case.within_seconds, standby)
    outcome.standings = await bench.standings()
    outcome.hits = proxy.hits
    outcome.is_refused = await proxy.refuses()
    outcome.got_through = len(during) - len((await bench.first.unfinished()) & set(during))
    proxy.heal()
    outcome.healed_after_seconds = await bench.first.done_within(HEALED_SECONDS, [*early, *during])
    # Whatever is done, the second one has been, too; else it would be missing at the end.
    await bench.second.done_within(HEALED_SECONDS, standby)


async def _stay(bench: Bench, outcome: Outcome) -> None:
    """The case `slower`: everything goes on at the first, and the second is left alone."""
    early, standby = await bench.begin()
    proxy = bench.proxies[0]
    proxy.inject(SLOWER)
    during = await bench.submit(bench.first)
    outcome.served_after_seconds = await bench.first.done_within(12, [*early, *during])
    outcome.standings = await bench.standings()
    outcome.standby_is_served_early = not (await bench.second.unfinished()).issuperset(standby)
    outcome.hits = proxy.hits
    proxy.inject(Refuse())  # the second one's jobs are not left behind
    await bench.second.done_within(HEALED_SECONDS, standby)
