"""Commands per second on Redis or Valkey: through the bridge, and through its peers.

The peers are redis-py with a `trio.to_thread.run_sync` hop for each command, and coredis,
which speaks to Redis on Trio itself.  All take turns in the same run, at 100 concurrent.
"""

import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import coredis
import redis
import trio
from benchmarks import report
from tests.storage.redis_servers import Kind, Server, start_server

from avtomatika_trio.storage._redis_bridge import open_bridge
from avtomatika_trio.storage._redis_url import parse
from avtomatika_trio.storage._redis_wire import Script, ScriptCall

KINDS: tuple[Kind, ...] = ("redis", "valkey")
CONCURRENT = 100

#: What the bridge must gain over a thread hop per command, and over coredis.
LEAST_RATIOS = {
    "commands": {"thread hops": 8.0, "coredis": 8.0},
    "steps": {"thread hops": 3.5, "coredis": 5.0},
}

#: A whole step of a job, with about six writes: its row, task, queue, timer and history.
STEP = Script(
    "step",
    """
    local job, task, body, now = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
    local revision = redis.call('HINCRBY', KEYS[1], job, 1)
    redis.call('HSET', KEYS[2], job, body)
    redis.call('HSET', KEYS[3], task, body)
    redis.call('ZADD', KEYS[4], now, task)
    redis.call('ZADD', KEYS[5], now, job)
    redis.call('RPUSH', KEYS[6], body)
    redis.call('LTRIM', KEYS[6], -100, -1)
    return revision
    """,
)
STEP_KEYS = tuple(
    f"{{p}}:{name}" for name in ("revs", "jobs", "tasks", "queue", "timers", "history")
)
BODY = b"x" * 800
VALUE = b"x" * 100

Do = Callable[[int], Awaitable[object]]


def step_args(number: int) -> tuple[str, str, bytes, int]:
    return (f"j{number % 1000}", f"t{number % 1000}", BODY, number)


@asynccontextmanager
async def bridge_ways(server: Server) -> AsyncIterator[dict[str, Do]]:
    async with open_bridge(parse(server.url)) as bridge:

        async def command(number: int) -> object:
            key = f"k{number % 1000}"
            return await bridge.call(("SET", key, VALUE) if number % 2 else ("GET", key), key=key)

        async def step(number: int) -> object:
            return await bridge.call(ScriptCall(STEP, STEP_KEYS, step_args(number)), key="{p}")

        yield {"commands": command, "steps": step}


@asynccontextmanager
async def thread_ways(server: Server) -> AsyncIterator[dict[str, Do]]:
    with redis.Redis(host=server.host, port=server.port) as client:
        sha = client.script_load(STEP.source)
        limiter = trio.CapacityLimiter(40)

        def command(number: int) -> object:
            key = f"k{number % 1000}"
            return client.set(key, VALUE) if number % 2 else client.get(key)

        def step(number: int) -> object:
            return client.evalsha(sha, len(STEP_KEYS), *STEP_KEYS, *step_args(number))

        yield {
            "commands": lambda number: trio.to_thread.run_sync(command, number, limiter=limiter),
            "steps": lambda number: trio.to_thread.run_sync(step, number, limiter=limiter),
        }


@asynccontextmanager
async def coredis_ways(server: Server) -> AsyncIterator[dict[str, Do]]:
    async with coredis.Redis(host=server.host, port=server.port) as client:
        sha = await client.script_load(STEP.source)

        async def command(number: int) -> object:
            key = f"k{number % 1000}"
            return await (client.set(key, VALUE) if number % 2 else client.get(key))

        async def step(number: int) -> object:
            return await client.evalsha(sha, STEP_KEYS, step_args(number))

        yield {"commands": command, "steps": step}


WAYS = {"bridge": bridge_ways, "thread hops": thread_ways, "coredis": coredis_ways}


async def run(do: Do, count: int) -> float:
    """Do it *count* times, some at a time; returns the seconds that it took."""
    numbers = iter(range(count))

    async def runner() -> None:
        for number in numbers:
            await do(number)

    begin = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(CONCURRENT):
            nursery.start_soon(runner)
    return time.perf_counter() - begin


async def measure(kind: Kind, seconds: float, rounds: int) -> dict[str, Any]:
    """Rates and ratios; the ways take turns, so that a busy moment meets them all."""
    spent: dict[tuple[str, str], list[float]] = {}
    with start_server(kind) as server:
        for _ in range(1 + rounds):
            for way, open_way in WAYS.items():
                async with open_way(server) as does:
                    for what, do in does.items():
                        times = spent.setdefault((what, way), [])
                        count = _count(times, seconds)
                        times.append(await run(do, count) / count)
    figures: dict[str, Any] = {"unit": "per second", "concurrent": CONCURRENT}
    for what, least in LEAST_RATIOS.items():
        at: dict[str, Any] = {way: report.rates(1, spent[what, way][1:]) for way in WAYS}
        for peer in least:
            pairs = zip(spent[what, peer][1:], spent[what, "bridge"][1:], strict=True)
            ratio: float = statistics.median(theirs / ours for theirs, ours in pairs)
            at[f"bridge_to_{peer}"] = round(ratio, 2)
        figures[what] = at
    return figures


def _count(times: list[float], seconds: float) -> int:
    return max(CONCURRENT, int(seconds / times[0])) if times else 2000


def shortfalls(figures: dict[str, Any]) -> list[str]:
    """The ratios that are less than they must be."""
    return [
        f"{what}, bridge to {peer}: {figures[what][f'bridge_to_{peer}']} (at least {least})"
        for what, peers in LEAST_RATIOS.items()
        for peer, least in peers.items()
        if figures[what][f"bridge_to_{peer}"] < least
    ]
