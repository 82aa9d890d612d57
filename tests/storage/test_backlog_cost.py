"""To tell how much waits takes the same, however much that is."""

from contextlib import closing
from pathlib import Path

from tests.storage.redis_servers import start_server

from avtomatika_trio._core.ledger import Timer, TimerKind
from avtomatika_trio._core.task import Task, TaskStatus
from avtomatika_trio.storage import open_storage
from avtomatika_trio.storage._backlog import MOST_COUNTED
from avtomatika_trio.storage._sqlite_backlog import backlog
from avtomatika_trio.storage._sqlite_ledger import SqliteLedger
from avtomatika_trio.storage._sqlite_schema import connect, prepare
from avtomatika_trio.testing._samples import START, Record, a_task, an_attempt, an_instance, put


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
