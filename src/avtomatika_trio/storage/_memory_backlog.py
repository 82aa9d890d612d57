"""What waits and runs in a partition of the storage in memory."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from avtomatika_trio._core.task import Lane
from avtomatika_trio.storage._backlog import (
    MOST_PRIORITIES,
    OVERDUE_SECONDS,
    Backlog,
    QueueBacklog,
)
from avtomatika_trio.storage._memory_ledger import Records


def backlog(records: Records, skills: Iterable[str], now: float) -> Backlog:
    """See `Storage.backlog`; *now* is the partition's time."""
    overdue = bisect_right(records.due_timers, now - OVERDUE_SECONDS, key=lambda it: it[0])
    return Backlog(
        queues={skill: _queue(records, skill, now) for skill in skills},
        running=sum(map(len, records.leased_to.values())),
        workers=Counter(it.state for it in records.instances.values()),
        timers_overdue=overdue,
    )


def _queue(records: Records, skill: str, now: float) -> QueueBacklog:
    queues = [records.queues.get((skill, lane), ()) for lane in Lane]
    dispatched = [_oldest(queue) for queue in queues if queue]
    if not dispatched:
        return QueueBacklog()
    age = max(0.0, now - min(dispatched))
    return QueueBacklog(depth=sum(map(len, queues)), oldest_seconds=age)


def _oldest(queue: Sequence[tuple[Any, str]]) -> float:
    """When the oldest task of *queue* was dispatched: the first one of a priority is its oldest."""
    oldest, at = float("inf"), 0
    for _ in range(MOST_PRIORITIES):
        if at == len(queue):
            break
        priority, created_at, *_ = queue[at][0]
        oldest = min(oldest, created_at)
        at = bisect_right(queue, priority, lo=at, key=lambda it: it[0][0])
    return oldest
