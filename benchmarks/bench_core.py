"""Steps per second of the core alone: memory ledger, no loop, no I/O.

`python -m benchmarks.bench_core`; the JSON goes to `results/bench_core.json`, too.
"""

import argparse
import time

from benchmarks import job_steps, report

from avtomatika_trio.storage import MemoryStorage


def whole_jobs(count: int) -> dict[str, float]:
    """Seconds that each kind of step took for *count* jobs, one kind after the other."""
    storage = MemoryStorage(time.time)
    storage.run(job_steps.register("i"))
    took: dict[str, float] = {}
    begin = time.perf_counter()
    for n in range(count):
        storage.run(job_steps.submit(f"j{n:06}"))
    took["submit"] = time.perf_counter() - begin
    begin = time.perf_counter()
    for n in range(count):
        storage.run(job_steps.dispatch_task(f"j{n:06}"))
    took["dispatch_task"] = time.perf_counter() - begin
    begin = time.perf_counter()
    handed = [storage.run(job_steps.hand_out("i", n + 1, f"w{n:06}")) for n in range(count)]
    took["hand_out"] = time.perf_counter() - begin
    begin = time.perf_counter()
    for [given] in handed:
        storage.run(job_steps.report(given.attempt.wire_id, given.task.job_id))
    took["report"] = time.perf_counter() - begin
    begin = time.perf_counter()
    for n in range(count):
        storage.run(job_steps.finish(f"j{n:06}"))
    took["finish"] = time.perf_counter() - begin
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rounds = [whole_jobs(arguments.jobs) for _ in range(arguments.rounds)]
    jobs = arguments.jobs
    figures = {
        f"{kind} steps/s": report.rates(jobs, [took[kind] for took in rounds]) for kind in rounds[0]
    }
    whole = [sum(took.values()) for took in rounds]
    figures["steps/s"] = report.rates(jobs * job_steps.STEPS_PER_JOB, whole)
    figures["jobs/s"] = report.rates(jobs, whole)
    report.publish("bench_core", {"jobs": jobs, "rounds": arguments.rounds, **figures})


if __name__ == "__main__":
    main()
