"""Three orchestrators on one Redis, six workers, and one kill every twenty seconds.

    python -m tests.drills.cluster [--seconds 300] [--seed N] [--unfenced] [--json FILE]

Each kill takes an orchestrator or a worker, and twice Redis itself, which writes everything to
its file before it answers.  Clients hand in single tasks, branches with an aggregator, and jobs
whose next move is up to a timer; they go on trying while nobody answers.

The exit code is 1 if a job was lost or is stuck or has ended as it must not, if a result was
applied twice, if an attempt was begun without a reason, if a timer fired too late, or if an
invariant does not hold, in the end or after any of the kills.  With --unfenced commits do not
look at what they have read, and the drill must end like that.
"""

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio
from tests.drills.cluster_report import all_problems, as_json, as_text
from tests.drills.cluster_run import Drill, Plan, reckon_drill


async def run(plan: Plan, folder: Path, report: Path | None = None) -> bool:
    """Run the drill with its files in *folder*; returns whether all is well."""
    drill = Drill.create(plan, folder)
    try:
        await drill.run()
        await drill.end()
        reckoning = await reckon_drill(drill)
    finally:
        with trio.CancelScope(shield=True):
            await drill.machines.kill_all()
            await trio.to_thread.run_sync(drill.machines.redis.kill)
    if report is not None:
        report.write_text(json.dumps(as_json(drill, reckoning), indent=2) + "\n")
    print(f"\n{as_text(drill, reckoning)}", flush=True)
    return not all_problems(drill, reckoning)


def _plan(arguments: Sequence[str] | None) -> tuple[Plan, argparse.Namespace]:
    parser = argparse.ArgumentParser(prog="drill-cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="how long kills go on (300)")
    parser.add_argument("--every", type=float, default=20.0, help="between two kills (20)")
    parser.add_argument("--redis-kills", type=int, default=2, help="how many besides (2)")
    parser.add_argument("--rate", type=float, default=3.0, help="jobs submitted per second (3)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="to repeat one")
    parser.add_argument("--unfenced", action="store_true", help="see that the drill finds it")
    parser.add_argument("--json", type=Path, help="a file for the result as JSON")
    parser.add_argument("--folder", type=Path, help="where to keep spools, notes and logs")
    given = parser.parse_args(arguments)
    plan = Plan(
        seconds=given.seconds,
        every=given.every,
        kills=max(0, math.ceil(given.seconds / given.every) - 1),
        redis_kills=given.redis_kills,
        jobs=round(given.seconds * given.rate),
        seed=given.seed,
        fenced=not given.unfenced,
    )
    return plan, given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drill; returns the exit code."""
    plan, given = _plan(arguments)
    folder = (given.folder or Path(tempfile.mkdtemp(prefix="drill-cluster-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    told = ", ".join(f"{name} {value}" for name, value in attrs.asdict(plan).items())
    print(f"{told}, in {folder}", flush=True)
    is_well = trio.run(run, plan, folder, given.json)
    if is_well and given.folder is None:
        shutil.rmtree(folder)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
