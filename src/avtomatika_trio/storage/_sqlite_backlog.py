"""What waits and runs, out of the indexes of the SQLite storage."""

import sqlite3
from collections.abc import Iterator, Mapping
from math import inf

from avtomatika_trio._core.ledger import WorkerState
from avtomatika_trio._core.task import Lane
from avtomatika_trio.storage._backlog import (
    MOST_COUNTED,
    MOST_LOOKS,
    MOST_PRIORITIES,
    OVERDUE_SECONDS,
    Backlog,
    QueueBacklog,
)

_OLDEST_BELOW = (
    "SELECT priority, created_at FROM tasks INDEXED BY tasks_queued"
    " WHERE skill=? AND lane=? AND status='queued' AND priority<?"
    " ORDER BY priority DESC, created_at LIMIT 1"
)

_RUNNING = "SELECT 1 FROM attempts INDEXED BY attempts_leased WHERE leased"

_OVERDUE = (
    "SELECT 1 FROM timers INDEXED BY timers_due"
    " WHERE kind!='files' AND kind!='forget' AND due_at<=?"
)


def backlog(
    connection: sqlite3.Connection,
    lengths: Mapping[str, int],
    workers: Mapping[WorkerState, int],
    now: float,
) -> Backlog:
    """See `Storage.backlog`; the process knows *lengths* of queues and *workers* already."""
    looks = iter(range(MOST_LOOKS))
    return Backlog(
        queues={
            skill: _queue(connection, skill, depth, now, looks) for skill, depth in lengths.items()
        },
        running=_count(connection, _RUNNING),
        workers=workers,
        timers_overdue=_count(connection, _OVERDUE, now - OVERDUE_SECONDS),
    )


def _queue(
    connection: sqlite3.Connection, skill: str, depth: int, now: float, looks: Iterator[int]
) -> QueueBacklog:
    oldest = min(_oldest(connection, skill, lane, looks) for lane in Lane) if depth else inf
    age = max(0.0, now - oldest) if oldest < inf else 0.0
    return QueueBacklog(depth=depth, oldest_seconds=age)


def _oldest(connection: sqlite3.Connection, skill: str, lane: Lane, looks: Iterator[int]) -> float:
    """When the oldest task was dispatched: the first one of a priority is its oldest."""
    oldest = priority = inf
    for turn in range(MOST_PRIORITIES):
        if turn > 0 and next(looks, None) is None:
            break
        found = connection.execute(_OLDEST_BELOW, (skill, lane, priority)).fetchone()
        if found is None:
            break
        priority, created_at = found
        oldest = min(oldest, created_at)
    return oldest


def _count(connection: sqlite3.Connection, query: str, *arguments: object) -> int:
    bounded = f"SELECT count(*) FROM ({query} LIMIT {MOST_COUNTED})"  # noqa: S608 - ours
    return int(connection.execute(bounded, arguments).fetchone()[0])
