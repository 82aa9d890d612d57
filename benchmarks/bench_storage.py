"""Durable steps per second of each backend, and of its peer: one commit per thread hop.

A step is a whole commit of a job's life (job, task, attempt, timer and history rows).  The
peer writes the rows of an average step with plain sqlite3, synchronous=FULL, and one
`trio.to_thread.run_sync` each.  On Redis and Valkey the steps are measured through
`open_storage`, too, and the bridge beside its own peers, see `redis_ways.py`.
`python -m benchmarks.bench_storage`; the JSON goes to `results/bench_storage.json`, too.
"""

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import trio
from benchmarks import job_steps, redis_ways, report
from benchmarks.redis_jobs import OPTIONS
from tests.storage.redis_servers import Kind, start_server

from avtomatika_trio.storage import Storage, open_storage
from avtomatika_trio.storage._sqlite_schema import connect, prepare

CONCURRENT = (1, 100, 1000)

#: What group commit must gain over a commit per thread hop, at 100 concurrent.
LEAST_RATIO = 5

#: The rows of a step, on average over a job's life.
PEER_STATEMENTS = (
    "INSERT OR REPLACE INTO jobs VALUES (:id, 'c', 'bench', 'running', :n, 0, 2, :body)",
    "INSERT OR REPLACE INTO tasks VALUES (:id, :id, 1, 0, 'k', 'normal', 0, :n, 'done', 0, :body)",
    "INSERT OR REPLACE INTO timers VALUES ('retry', :id, :n)",
    "INSERT INTO history (job_id, body) VALUES (:id, :body)",
)


async def whole_jobs(storage: Storage, tag: str, jobs: int, concurrent: int) -> None:
    """Take *jobs* jobs through their life, *concurrent* at a time."""
    numbers = iter(range(jobs))

    async def runner(name: str) -> None:
        await storage.commit(job_steps.register(name))
        for poll, number in enumerate(numbers, 1):
            job_id = f"{tag}-{number:07}"
            await storage.commit(job_steps.submit(job_id))
            await storage.commit(job_steps.dispatch_task(job_id))
            operation = job_steps.hand_out(name, poll, f"w-{job_id}")
            [given] = await storage.commit(operation)
            taken = given.task.job_id
            await storage.commit(job_steps.report(given.attempt.wire_id, taken))
            await storage.commit(job_steps.finish(taken))

    async with trio.open_nursery() as nursery:
        for n in range(concurrent):
            nursery.start_soon(runner, f"i{n}")


async def peer_steps(connection: sqlite3.Connection, steps: int, concurrent: int) -> None:
    """One commit per thread hop, one at a time as SQLite needs it."""
    numbers = iter(range(steps))
    one = trio.CapacityLimiter(1)
    body = b"x" * 800

    def step(number: int) -> None:
        row = {"id": f"j{number // job_steps.STEPS_PER_JOB}", "n": number, "body": body}
        connection.execute("BEGIN IMMEDIATE")
        for statement in PEER_STATEMENTS:
            connection.execute(statement, row)
        connection.execute("COMMIT")

    async def runner() -> None:
        for number in numbers:
            await trio.to_thread.run_sync(step, number, limiter=one)

    async with trio.open_nursery() as nursery:
        for _ in range(concurrent):
            nursery.start_soon(runner)


async def timed(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    await run()
    return time.perf_counter() - begin


@contextmanager
def a_storage(kind: str) -> Iterator[str]:
    """The URL of a new one; those on Redis and Valkey sync their file every second."""
    if kind == "memory":
        yield "memory:"
    elif kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:{folder}/bench.db"
    else:
        with start_server(cast("Kind", kind), *OPTIONS) as server:
            yield server.url


async def backend_rates(kind: str, concurrent: int, seconds: float, rounds: int) -> dict[str, int]:
    """Steps per second; each round in a storage of its own."""
    took: list[float] = []
    jobs = concurrent
    for number in range(-1, rounds):
        with a_storage(kind) as url:
            async with open_storage(url, partitions=1) as storage:
                spent = await timed(partial(whole_jobs, storage, "j", jobs, concurrent))
        if number < 0:  # a trial, to learn how much fits
            jobs = max(concurrent, int(jobs * seconds / spent))
        else:
            took.append(spent)
    return report.rates(jobs * job_steps.STEPS_PER_JOB, took)


async def peer_rates(concurrent: int, seconds: float, rounds: int) -> dict[str, int]:
    took: list[float] = []
    steps = int(1000 * seconds)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "peer.db"
            with closing(connect(path)) as connection:
                prepare(connection, path, "peer")
                took.append(await timed(partial(peer_steps, connection, steps, concurrent)))
    return report.rates(steps, took)


async def rates_with_history(finished: int, rounds: int) -> dict[str, Any]:
    """The rate in an empty store and in one with *finished* jobs, measured alternately."""
    empty: list[float] = []
    full: list[float] = []
    jobs = 2000
    with tempfile.TemporaryDirectory() as folder:
        async with open_storage(f"sqlite:{folder}/full.db") as storage:
            await whole_jobs(storage, "old", finished, 500)
            for number in range(rounds):
                run = partial(whole_jobs, storage, f"new{number}", jobs, 100)
                full.append(await timed(run))
                async with open_storage(f"sqlite:{folder}/empty{number}.db") as other:
                    empty.append(await timed(partial(whole_jobs, other, "j", jobs, 100)))
    steps = jobs * job_steps.STEPS_PER_JOB
    rates = {"empty": report.rates(steps, empty), "full": report.rates(steps, full)}
    share = rates["full"]["median"] / rates["empty"]["median"]
    return {"finished_jobs": finished, **rates, "full_to_empty": round(share, 3)}


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    # What is not measured now keeps its figures.
    figures = {**report.last("bench_storage"), "rounds": arguments.rounds, "unit": "steps/s"}
    for concurrent in CONCURRENT:
        limits = (concurrent, arguments.seconds, arguments.rounds)
        at: dict[str, Any] = {}
        for kind in ("memory", "sqlite", *redis_ways.KINDS):
            at[kind] = await backend_rates(kind, *limits)
        at["peer: a commit per thread hop"] = peer = await peer_rates(*limits)
        at["sqlite_to_peer"] = round(at["sqlite"]["median"] / peer["median"], 2)
        figures[f"{concurrent} concurrent"] = at
    for kind in redis_ways.KINDS:
        figures[f"bridge to {kind}"] = await redis_ways.measure(
            kind, arguments.seconds, arguments.rounds
        )
    if arguments.finished:
        figures["with_history"] = await rates_with_history(arguments.finished, arguments.rounds)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round, about")
    parser.add_argument("--finished", type=int, default=100_000, help="of the big store; 0: not")
    figures = trio.run(measure, parser.parse_args())
    report.publish("bench_storage", figures)
    ratio = figures["100 concurrent"]["sqlite_to_peer"]
    print(f"group commit to thread hops at 100 concurrent: {ratio} (at least {LEAST_RATIO})")
    missed = [
        f"{kind}: {it}"
        for kind in redis_ways.KINDS
        for it in redis_ways.shortfalls(figures[f"bridge to {kind}"])
    ]
    print("\n".join(missed))
    if ratio < LEAST_RATIO or missed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
