"""Two orchestrators, three workers that work for both, and one kill every five seconds.

    python -m tests.drills.failover [--seconds 60] [--tasks 300] [--seed N] [--mode FAILOVER]

Each orchestrator has a SQLite file and a client of its own, who hands in jobs of one task of up
to two seconds for as long as the kills go on, and goes on trying while nobody answers.  Workers
prefer one orchestrator or the other in turn, so that each always has one whose first it is.

The exit code is 1 if anything was lost, applied twice, or begun without a reason, or if an
invariant does not hold, in the end or after any of the kills.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import trio
from tests.drills.drilling import bad_end, percentiles
from tests.e2e.killing import Program, notes_of, sleeper
from tests.e2e.reckoning import Reckoning, Run, read_runs, reckon
from tests.e2e.sites import Site, examine, until

from avtomatika_trio.errors import OrchestratorUnavailable

KILL_EVERY_SECONDS = 5.0
MOST_DOWN_SECONDS = 2.0
MOST_TASK_SECONDS = 2.0
START_SECONDS = 30.0
WORKERS = 3
SLOTS = 4

#: After the last kill: the longest rest that a worker gives an orchestrator that keeps dying
#: (15 s), the proof that it has to give (5 s), a dead lease (30 s), and the work.
SETTLE_SECONDS = 90.0

_RETRY_SECONDS = 0.2


@attrs.frozen(kw_only=True)
class Plan:
    """What the drill was asked to do."""

    seconds: float
    tasks: int
    seed: int
    mode: str

    @property
    def kills(self) -> int:
        """How many there will be."""
        return int(self.seconds / KILL_EVERY_SECONDS)


@attrs.define(kw_only=True)
class Drill:
    """The processes, and what has happened to them."""

    plan: Plan
    sites: Sequence[Site]
    workers: Sequence[Program]
    chance: random.Random
    kills: Counter[str] = attrs.field(factory=Counter)
    retries: int = 0
    problems: list[str] = attrs.field(factory=list)
    started_at: float = 0.0

    @classmethod
    def create(cls, plan: Plan, folder: Path) -> "Drill":
        """One whose processes do not run yet."""
        sites = [Site.create(folder, "first"), Site.create(folder, "second")]
        urls = [site.url for site in sites]
        environ = {"MULTI_ORCHESTRATOR_MODE": plan.mode, "MAX_CONCURRENT_TASKS": str(SLOTS)}
        workers = [
            sleeper(folder, f"w{n}", *order, skill="sleep", environ=environ)
            for n, order in enumerate([urls, urls[::-1]] * WORKERS, start=1)
            if n <= WORKERS
        ]
        return cls(plan=plan, sites=sites, workers=workers, chance=random.Random(plan.seed))

    def tell(self, what: str) -> None:
        """Print a line of progress."""
        accepted = sum(len(site.accepted) for site in self.sites)
        seconds = trio.current_time() - self.started_at
        counts = f"{accepted:4} accepted, {len(self.runs()):4} begun"
        print(f"{seconds:6.1f} s  {counts}  {what}", flush=True)

    def runs(self) -> list[Run]:
        """What the workers have begun so far."""
        return [run for program in self.workers for run in read_runs(notes_of(program))]

    async def run(self) -> None:
        """Kill and work, until all is done or it takes too long; all processes run then."""
        for site in self.sites:
            await site.start()
        for program in self.workers:
            program.start()
        with trio.fail_after(START_SECONDS):
            await until(self._is_up)
        self.started_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for site, jobs in zip(self.sites, self._jobs(), strict=True):
                nursery.start_soon(self._submit, site, jobs)
            nursery.start_soon(self._keep_killing)
        self.tell("the last kill is over")
        with trio.move_on_after(SETTLE_SECONDS) as settling:
            await until(self._is_done)
        self.tell("TOO LATE: jobs are open" if settling.cancelled_caught else "all is done")

    async def end(self) -> None:
        """End all processes; one that had ended by itself, or ends badly, is a problem."""
        for program in self.workers:
            has_run = program.runs
            code = await trio.to_thread.run_sync(program.end)
            self.problems += bad_end(program.name, program, code, has_run=has_run)
        for site in self.sites:
            has_run = site.program.runs
            code = await site.end()
            self.problems += bad_end(site.name, site.program, code, has_run=has_run)

    def _jobs(self) -> list[list[dict[str, Any]]]:
        jobs = [
            {"n": n, "skill": "sleep", "seconds": self.chance.uniform(0, MOST_TASK_SECONDS)}
            for n in range(self.plan.tasks)
        ]
        return [jobs[::2], jobs[1::2]]

    async def _submit(self, site: Site, jobs: Sequence[dict[str, Any]]) -> None:
        """Hand in *jobs*, evenly, so that the last ones meet the last kills."""
        for n, job in enumerate(jobs):
            await trio.sleep_until(self.started_at + n * self.plan.seconds / len(jobs))
            while True:
                try:
                    await site.submit(job)
                    break
                except OrchestratorUnavailable:
                    self.retries += 1
                    await trio.sleep(_RETRY_SECONDS)

    async def _keep_killing(self) -> None:
        """Each in turn, so that a short drill also meets both."""
        order = self.chance.sample(self.sites, k=len(self.sites))
        for n in range(self.plan.kills):
            await trio.sleep_until(self.started_at + (n + 1) * KILL_EVERY_SECONDS)
            victim = order[n % len(order)]
            back_at = trio.current_time() + self.chance.uniform(0, MOST_DOWN_SECONDS)
            if not victim.program.runs:
                self.problems.append(f"{victim.name} had ended before its kill")
            await trio.to_thread.run_sync(victim.program.kill)
            self.kills[victim.name] += 1
            self.tell(f"killed the {victim.name} ({n + 1} of {self.plan.kills})")
            violations, _ = await victim.examine()
            self.problems += (f"after kill {n + 1}: {violation}" for violation in violations)
            await trio.sleep_until(back_at)
            await victim.start()
            self.tell(f"the {victim.name} serves again")

    async def _is_up(self) -> bool:
        for program in self.workers:
            program.check()
        names = [program.name for program in self.workers]
        return all([await site.has_heard_of(names) for site in self.sites])

    async def _is_done(self) -> bool:
        return not any([await site.unfinished() for site in self.sites])


def summary(drill: Drill, reckoning: Reckoning) -> str:
    """What has come of it."""
    plan, problems = drill.plan, [*drill.problems, *reckoning.problems]
    lines = [
        f"{'finished':12} {reckoning.finished} of {plan.tasks + reckoning.unanswered}",
        f"{'kills':12} {', '.join(f'{count} of the {who}' for who, count in drill.kills.items())}",
        f"{'lost':12} {reckoning.lost}",
        f"{'doubled':12} {reckoning.doubled}",
        f"{'submissions':12} {drill.retries} tried again, {reckoning.unanswered} came twice",
        f"{'executions':12} {reckoning.executions}",
        f"{'repeated':12} {sum(reckoning.repeats.values())} attempts",
        *(f"{count:16} {why}" for why, count in sorted(reckoning.repeats.items())),
        f"{'latency':12} {percentiles(reckoning.latencies, 0.5, 0.9, 0.99)}",
        f"{'problems':12} {len(problems)}",
        *(f"{'':12} {problem}" for problem in problems),
    ]
    return "\n".join(lines)


async def run(plan: Plan, folder: Path) -> bool:
    """Run the drill with its files in *folder*; returns whether all is well."""
    drill = Drill.create(plan, folder)
    try:
        await drill.run()
    finally:
        with trio.CancelScope(shield=True):
            await drill.end()
    violations, accounts = await examine(drill.sites)
    drill.problems += violations
    accepted = [job_id for site in drill.sites for job_id in site.accepted]
    reckoning = reckon(accounts, accepted, drill.runs())
    if len(accepted) != plan.tasks:
        drill.problems.append(f"{len(accepted)} jobs of {plan.tasks} were accepted")
    print(f"\n{summary(drill, reckoning)}", flush=True)
    return not drill.problems and not reckoning.problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; returns the exit code."""
    parser = argparse.ArgumentParser(prog="drill-failover", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long kills go on (60)")
    parser.add_argument("--tasks", type=int, default=300, help="how many (300)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="to repeat one")
    parser.add_argument("--mode", default="FAILOVER", help="MULTI_ORCHESTRATOR_MODE (FAILOVER)")
    parser.add_argument("--folder", type=Path, help="where to keep databases, spools and logs")
    given = parser.parse_args(arguments)
    plan = Plan(seconds=given.seconds, tasks=given.tasks, seed=given.seed, mode=given.mode)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="drill-failover-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(
        f"{plan.tasks} tasks, {plan.kills} kills in {plan.seconds:g} s, {WORKERS} workers, "
        f"{plan.mode}, seed {plan.seed}, in {folder}",
        flush=True,
    )
    is_well = trio.run(run, plan, folder)
    if is_well and given.folder is None:
        shutil.rmtree(folder)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
