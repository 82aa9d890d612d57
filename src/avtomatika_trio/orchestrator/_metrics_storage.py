"""What an orchestrator is told of its storage when somebody asks for its metrics.

Nothing is asked while nobody wants to know, and not more often than every `KEPT_SECONDS`,
however many ask.  What is not known is left out: an old figure, or a 0, would be taken for true.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from math import inf

import trio
from prometheus_client.core import GaugeMetricFamily, Metric

from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._core.ledger import WorkerState
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._metric_families import Family, gauge
from avtomatika_trio.storage._backlog import (
    MOST_COUNTED,
    MOST_PRIORITIES,
    MOST_QUEUES,
    OVERDUE_SECONDS,
    Backlog,
)
from avtomatika_trio.storage._base import Storage

#: What the storage has told counts for so long.
KEPT_SECONDS = 5.0

#: How long it may take to tell.
PATIENCE_SECONDS = 2.0

_gauge = partial(gauge, scope="storage")

_UP = gauge(
    "storage_up",
    f"Whether the storage has told the gauges of it within {PATIENCE_SECONDS:g} s, at most"
    f" {KEPT_SECONDS:g} s ago; while it is 0, these are left out.",
)
_DEPTH = _gauge(
    "queue_depth",
    "Tasks that wait for a worker, by skill: of skills that the blueprints here name, and of"
    f" others once they were seen queued; {MOST_QUEUES} at most.",
    "queue",
)
_OLDEST = _gauge(
    "queue_oldest_task_age_seconds",
    "How long ago the oldest of these tasks was dispatched, 0 if there is none; it is looked for"
    f" among {MOST_PRIORITIES} priorities, the highest first.",
    "queue",
)
_RUNNING = _gauge(
    "running_tasks",
    f"Attempts that are leased to workers; on SQLite counted up to {MOST_COUNTED}.",
)
_WORKERS = _gauge(
    "workers",
    "Worker processes: online, blocked (the event loop stands still), or gone and not yet"
    " forgotten.",
    "state",
)
_OVERDUE = _gauge(
    "timers_overdue",
    f"Retries and timeouts whose time came more than {OVERDUE_SECONDS:g} s ago, and that no"
    f" orchestrator has acted on; on SQLite counted up to {MOST_COUNTED}.",
)


def skills_of(blueprints: Iterable[Blueprint]) -> list[str]:
    """The skills that the text of *blueprints* names."""
    states = (state for blueprint in blueprints for state in blueprint.states.values())
    return sorted({edge.skill for state in states for edge in state.edges if edge.skill})


class StorageGauges:
    """Gauges of the storage, the same at each of its orchestrators; a collector."""

    families = (_UP, _DEPTH, _OLDEST, _RUNNING, _WORKERS, _OVERDUE)

    def __init__(self) -> None:
        self._backlog: Backlog | None = None
        self._asked_at = -inf
        self._asking = trio.Lock()
        self._skills: dict[str, None] = {}
        """Whose queues are told of."""

    async def look(self, storage: Storage, skills: Sequence[str]) -> None:
        """Have *storage* asked, unless that was done a moment ago; never fails.

        Args:
            storage: Whose gauges they are.
            skills: Whose queues are told of, also while they are empty.
        """
        async with self._asking:  # who comes meanwhile is told the same
            if trio.current_time() - self._asked_at < KEPT_SECONDS:
                return
            self._skills.update(dict.fromkeys(skills))
            self._backlog = await self._ask(storage)
            self._asked_at = trio.current_time()

    async def _ask(self, storage: Storage) -> Backlog | None:
        with trio.move_on_after(PATIENCE_SECONDS):
            try:
                found = await storage.backlog(list(self._skills))
            except StorageUnavailable:
                return None
            if storage.fault is not None:
                return None
            self._skills.update(dict.fromkeys(found.queues))
            return found
        return None

    def describe(self) -> Iterator[Metric]:
        """Every family that there may be."""
        yield from (it.metric() for it in self.families)

    def collect(self) -> Iterator[Metric]:
        """What is known; nothing before somebody has looked."""
        backlog = self._backlog
        if self._asked_at == -inf:
            return
        yield _with(_UP, {(): 0.0 if backlog is None else 1.0})
        if backlog is None:
            return
        queues = backlog.queues
        yield _with(_DEPTH, {(skill,): it.depth for skill, it in queues.items()})
        yield _with(_OLDEST, {(skill,): it.oldest_seconds for skill, it in queues.items()})
        yield _with(_RUNNING, {(): backlog.running})
        yield _with(_WORKERS, {(it,): backlog.workers.get(it, 0) for it in WorkerState})
        yield _with(_OVERDUE, {(): backlog.timers_overdue})


def _with(family: Family, samples: dict[tuple[str, ...], float]) -> Metric:
    found = GaugeMetricFamily(family.full_name, family.help, labels=family.labels)
    for labels, value in samples.items():
        found.add_metric(labels, value)
    return found
