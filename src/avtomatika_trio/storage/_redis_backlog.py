"""What waits and runs, out of the indexes of each partition in Redis: one script for each.

What an older release has left in the indexes is taken out meanwhile (`_redis_strays`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import trio

from avtomatika_trio._core.ledger import TimerKind, WorkerState
from avtomatika_trio._core.task import Lane
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._backlog import (
    MOST_PRIORITIES,
    OVERDUE_SECONDS,
    Backlog,
    QueueBacklog,
    together,
)
from avtomatika_trio.storage._redis_keys import dispatched_at
from avtomatika_trio.storage._redis_partition import RedisPartition
from avtomatika_trio.storage._redis_reads import RedisReads
from avtomatika_trio.storage._redis_scripts import BACKLOG
from avtomatika_trio.storage._redis_strays import draws, drop_strays
from avtomatika_trio.storage._redis_wire import ScriptCall

_STATES = tuple(WorkerState)
_LANES = tuple(Lane)


async def backlog(
    reads: RedisReads, partitions: Iterable[RedisPartition], skills: Sequence[str]
) -> Backlog:
    """See `Storage.backlog`; all partitions are asked at the same time.

    Raises:
        StorageUnavailable: one of them did not answer, so nobody can tell of all.
    """
    found: list[Backlog] = []
    errors: list[StorageUnavailable] = []

    async def ask(at: RedisPartition) -> None:
        now = at.clock.now()
        try:
            reply, *drawn = await reads.ask(at.keys, _question(at, skills, now), *draws(at.keys))
            await drop_strays(reads, at, drawn)
        except StorageUnavailable as exc:
            errors.append(exc)
        else:
            found.append(_read(reply, skills, now))

    async with trio.open_nursery() as nursery:
        for partition in partitions:
            nursery.start_soon(ask, partition)
    if errors:
        raise errors[0]
    return together(found)


def _question(at: RedisPartition, skills: Sequence[str], now: float) -> ScriptCall:
    keys = at.keys
    names = (
        keys.running,
        keys.timers(TimerKind.RETRY),
        *(keys.workers(state) for state in _STATES),
        *(keys.queue(skill, lane) for skill in skills for lane in _LANES),
    )
    return ScriptCall(BACKLOG, names, (repr(now - OVERDUE_SECONDS), MOST_PRIORITIES, len(_STATES)))


def _read(reply: Sequence[Any], skills: Sequence[str], now: float) -> Backlog:
    running, overdue, *others = reply
    workers, queues = others[: len(_STATES)], others[len(_STATES) :]
    each = 2 * len(_LANES)
    return Backlog(
        queues={
            skill: _queue(queues[at * each : (at + 1) * each], now)
            for at, skill in enumerate(skills)
        },
        running=running,
        workers=dict(zip(_STATES, workers, strict=True)),
        timers_overdue=overdue,
    )


def _queue(told: Sequence[Any], now: float) -> QueueBacklog:
    """Out of length and oldest time of each lane."""
    dispatched = [dispatched_at(it.decode()) for it in told[1::2] if it]
    age = max(0.0, now - min(dispatched)) if dispatched else 0.0
    return QueueBacklog(depth=sum(told[::2]), oldest_seconds=age)
