"""Jobs per second over real HTTP on loopback: orchestrators and workers as processes.

One no-op task per job, the workers' spools on; from the first submit to the last finished
job.  On memory, on SQLite, and on Redis with one and with two orchestrators (see
`redis_jobs.py`), each with a worker of its own.  `python -m benchmarks.bench_jobs --help`
tells the options; the JSON goes to `benchmarks/results/bench_jobs.json` and to standard
output.
"""

import argparse
import json
import sys
import time
from typing import Any

from benchmarks import report
from benchmarks.job_load import Bench, open_bench
from benchmarks.redis_jobs import run_redis


def run(kind: str, chosen: argparse.Namespace) -> dict[str, Any]:
    jobs, waiting = chosen.jobs, chosen.waiting
    with open_bench("memory:" if kind == "memory" else "sqlite:bench.db") as bench:
        with bench.workers():
            figures = {"lists_of_100": bench.lists(jobs)}
            rate = figures["lists_of_100"]["jobs_per_second"]
            figures |= bench.figures(rate, chosen.singles, chosen.lone)
            if chosen.grown:
                bench.lists(chosen.grown - jobs)
                grown = bench.lists(jobs)
                grown["of_the_rate_when_empty"] = round(grown["jobs_per_second"] / rate, 2)
                figures[f"after_{chosen.grown}_finished"] = grown
        if waiting:
            figures["waiting_jobs"] = waiting_jobs(bench, waiting)
    return figures


def waiting_jobs(bench: Bench, count: int) -> dict[str, Any]:
    [orchestrator] = bench.orchestrators
    empty = orchestrator.rss_bytes()
    bench.submit(count, 1000)
    time.sleep(2)
    return {
        "jobs": count,
        "rss_mib": round(orchestrator.rss_bytes() / 2**20),
        "rss_before_mib": round(empty / 2**20),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", choices=("memory", "sqlite", "redis"), action="append")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--singles", type=int, default=2_000)
    parser.add_argument("--lone", type=int, default=200)
    parser.add_argument("--waiting", type=int, default=100_000, help="0 leaves it out")
    parser.add_argument(
        "--grown", type=int, default=100_000, help="finished jobs to measure again with; 0: not"
    )
    parser.add_argument(
        "--idle", type=int, default=1000, help="workers without work, on Redis; 0: not measured"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of what is compared on Redis")
    chosen = parser.parse_args()
    figures = report.last("bench_jobs")  # storages that are not measured now keep theirs
    for kind in chosen.storage or ("memory", "sqlite", "redis"):
        figures[kind] = run_redis(chosen) if kind == "redis" else run(kind, chosen)
        print(kind, json.dumps(figures[kind]), file=sys.stderr)
    report.publish("bench_jobs", figures)


if __name__ == "__main__":
    main()
