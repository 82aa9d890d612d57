"""To tell how much waits takes the same, however much that is."""

from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import msgspec
from tests.storage.redis_servers import Server, start_server

from avtomatika_trio._core.ledger import Instance, Timer, TimerKind, WorkerState
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task, TaskStatus
from avtomatika_trio.storage import open_storage
from avtomatika_trio.storage._backlog import MOST_COUNTED
from avtomatika_trio.storage._redis import RedisStorage
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_known import TOKEN_BYTES
from avtomatika_trio.storage._redis_reads import RedisReads
from avtomatika_trio.storage._redis_strays import MOST_DRAWN, drop_strays
from avtomatika_trio.storage._sqlite_backlog import backlog
from avtomatika_trio.storage._sqlite_ledger import SqliteLedger
from avtomatika_trio.storage._sqlite_schema import connect, prepare
from avtomatika_trio.testing._samples import START, Record, a_task, an_attempt, an_instance, put

keys = Keys("p00")


def waiting(count: int) -> list[Task]:
    """So many queued tasks, of three priorities."""
    return [a_task(f"j{at}", created_at=START - at, priority=float(at % 3)) for at in range(count)]


def _steps_on_sqlite(path: Path, count: int) -> int:
    """How many steps SQLite's machine takes when so many tasks are queued, and have ended."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with closing(connect(path)) as connection:
        prepare(connection, path, "c")
        connection.execute("BEGIN")
        ledger = SqliteLedger(connection)
        ledger.begin_operation(START)
        ended = [a_task(f"e{at}", status=TaskStatus.DONE) for at in range(count)]
        put(*waiting(count), *ended)(ledger)
        ledger.flush()
        connection.set_progress_handler(step, 1)
        found = backlog(connection, {"k": count}, {}, START).queues["k"]
        connection.set_progress_handler(None, 0)
    assert (found.depth, found.oldest_seconds) == (count, count - 1)
    return steps


def test_sqlite_takes_as_many_steps_for_a_long_queue(tmp_path: Path) -> None:
    few = _steps_on_sqlite(tmp_path / "few.db", 6)
    assert few > 20
    assert _steps_on_sqlite(tmp_path / "many.db", 6_000) <= few + 5


def test_sqlite_counts_no_further_than_so_far(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "a.db")) as connection:
        prepare(connection, tmp_path / "a.db", "c")
        connection.execute("BEGIN")
        rows = [(f"w{at}", "j", "i", 1, b"{}") for at in range(MOST_COUNTED + 50)]
        connection.executemany("INSERT INTO attempts VALUES (?, ?, ?, ?, ?)", rows)
        due = [(TimerKind.RETRY, f"t{at}", 0.0) for at in range(MOST_COUNTED + 50)]
        connection.executemany("INSERT INTO timers VALUES (?, ?, ?)", due)
        found = backlog(connection, {}, {}, START)
    assert (found.running, found.timers_overdue) == (MOST_COUNTED, MOST_COUNTED)


async def _commands_of_redis(count: int) -> int:
    """How many commands Redis carries out when there is so much of everything."""
    with start_server("valkey") as server:
        async with open_storage(server.url, partitions=1, now=lambda: START) as storage:
            records: list[Record] = [*waiting(count)]
            records += [an_attempt(f"w{at}", f"j{at}") for at in range(count)]
            records += [an_instance(f"i{at}", worker_id=f"w{at}") for at in range(count)]
            records += [
                Timer(kind=TimerKind.RETRY, subject=f"t{at}", due_at=0.0) for at in range(count)
            ]
            for first in range(0, len(records), 500):
                await storage.commit(put(*records[first : first + 500]))
            with server.client() as client:
                client.config_resetstat()
            found = await storage.backlog(["k"])
            with server.client() as client:
                stats = client.info("commandstats")
    assert found.queues["k"].depth == found.running == found.timers_overdue == count
    assert found.queues["k"].oldest_seconds == count - 1
    names = ("scard", "zcard", "zcount", "zrangebyscore", "smembers", "get", "mget", "evalsha")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names)


async def test_redis_carries_out_as_many_commands_for_a_long_queue() -> None:
    few = await _commands_of_redis(6)
    assert few > 8
    assert await _commands_of_redis(3_000) == few


# What a process of the release before, which knows no `running` and no `workers:<state>`, leaves.


def _as_it_was_stored(server: Server, *records: Attempt | Instance) -> None:
    with server.client() as client:
        for it in records:
            key = keys.attempt(it.wire_id) if isinstance(it, Attempt) else keys.instance(it.id)
            before = client.get(key)
            assert isinstance(before, bytes)
            client.set(key, b"x" * TOKEN_BYTES + msgspec.json.encode(it))


async def test_what_an_older_release_has_ended_runs_no_more(server: Server, url: str) -> None:
    async with open_storage(url, partitions=1, now=lambda: START) as storage:
        attempts = [an_attempt(f"w{at}", f"j{at}") for at in range(9)]
        instances = [an_instance(f"i{at}", worker_id=f"w{at}") for at in range(9)]
        await storage.commit(put(*attempts, *instances))
        ended = [attrs.evolve(it, status=AttemptStatus.LOST) for it in attempts[:4]]
        _as_it_was_stored(server, *ended, *(attrs.evolve(it, gone=True) for it in instances[:3]))
        with server.client() as client:
            client.delete(keys.attempt("w4"), keys.instance("i3"))
    async with open_storage(url, now=lambda: START) as storage:
        await storage.backlog([])
        found = await storage.backlog([])
        assert found.running == 4
        expected = {WorkerState.ONLINE: 5, WorkerState.GONE: 3, WorkerState.BLOCKED: 0}
        assert found.workers == expected
        again = await storage.backlog([])
        assert (again.running, again.workers) == (4, expected)


async def test_strays_among_many_vanish_bit_by_bit(server: Server, url: str) -> None:
    async with open_storage(url, partitions=1, now=lambda: START) as storage:
        await storage.commit(put(*(an_attempt(f"w{at}", f"j{at}") for at in range(100))))
        with server.client() as client:
            client.sadd(keys.running, *(f"stray-{at}" for at in range(200)))
            counts = [(await storage.backlog([])).running]
            client.config_resetstat()
            counts += [(await storage.backlog([])).running]
            assert client.info("commandstats")["cmdstat_mget"]["calls"] <= 3
        while counts[-1] > 100 and len(counts) < 300:
            counts.append((await storage.backlog([])).running)
    assert counts[0] == 300
    assert all(later <= sooner for sooner, later in pairwise(counts))
    assert all(sooner - later <= MOST_DRAWN for sooner, later in pairwise(counts))
    assert counts[-1] == 100


class LooksTooEarly(RedisReads):
    """It has looked when nothing was stored yet."""

    async def records(self, at: Keys, names: Iterable[str], cls: type[Any]) -> list[Any]:
        return []


async def test_what_is_leased_meanwhile_is_no_stray(url: str) -> None:
    async with open_storage(url, partitions=1, now=lambda: START) as storage:
        assert isinstance(storage, RedisStorage)
        await storage.commit(put(an_attempt("w1"), an_instance("i1")))
        reads = LooksTooEarly(storage._bridge, storage._places)
        await drop_strays(reads, storage._root, [[b"w1"], [b"i1"], [], []])
        found = await storage.backlog([])
        assert (found.running, found.workers[WorkerState.ONLINE]) == (1, 1)
