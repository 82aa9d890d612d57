"""What a spool holds, and the list of it that is kept in memory.

Nothing here touches a file; the spool on disk and its twin in memory share it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import msgspec


@attrs.frozen(kw_only=True)
class FinishedResult:
    """A result that an attempt has just produced, to be given to a spool."""

    cluster_id: str
    """The cluster whose orchestrators may take it."""
    orchestrator: str
    """The base URL of the orchestrator that issued the task."""
    job_id: str
    task_id: str
    """The id the task had on the wire: it names one attempt."""
    body: Any
    """What will be sent, without signature and timestamps: those are added when it is."""
    finished_at: float
    """When the attempt ended, in Unix seconds."""
    trace_context: dict[str, str] = attrs.field(factory=dict)
    """`traceparent` and `tracestate` of the attempt, if it is part of a trace."""


@attrs.frozen(kw_only=True)
class SpoolEntry:
    """A result that is safe on disk and that no orchestrator has accepted yet."""

    id: int
    """Grows with every entry and is never used twice in one folder."""
    worker_id: str
    """Who produced it; only a credential of this id can deliver it."""
    instance: str
    """The process that produced it."""
    cluster_id: str
    orchestrator: str
    job_id: str
    task_id: str
    body: msgspec.Raw
    """The JSON of the result; `msgspec.json.decode(entry.body)` reads it."""
    finished_at: float
    trace_context: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Recovered:
    """What earlier processes left in the folder."""

    entries: tuple[SpoolEntry, ...] = ()
    """Results still to be delivered, the oldest first."""
    instances: tuple[str, ...] = ()
    """Earlier instances that no orchestrator knows to be dead, the oldest first."""
    notes: tuple[str, ...] = ()
    """What a person should know: damage that was found, and where the bytes are now."""


def entry_of(result: FinishedResult, *, entry_id: int, worker_id: str, instance: str) -> SpoolEntry:
    """Make the entry that stands for *result*.

    The body is encoded here, so what happens later to the objects in it changes nothing.

    Raises:
        ValueError: the body cannot be written as JSON.
    """
    try:
        body = msgspec.json.encode(result.body)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ValueError(
            f"the result of task {result.task_id!r} cannot be written as JSON: {exc};"
            " its handler must return JSON values only"
        ) from exc
    return SpoolEntry(
        id=entry_id,
        worker_id=worker_id,
        instance=instance,
        cluster_id=result.cluster_id,
        orchestrator=result.orchestrator,
        job_id=result.job_id,
        task_id=result.task_id,
        body=msgspec.Raw(body),
        finished_at=result.finished_at,
        trace_context=result.trace_context,
    )


class PendingEntries:
    """The entries that wait for delivery, in order, with a bound for each cluster.

    Args:
        max_entries: From how many entries on a cluster's share counts as full.
        entries: What is pending from the start.

    Raises:
        ValueError: *max_entries* is below 1.
    """

    def __init__(self, max_entries: int, entries: Sequence[SpoolEntry] = ()) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be at least 1, got {max_entries}")
        self._max_entries = max_entries
        self._by_id: dict[int, SpoolEntry] = {}
        self._by_cluster: dict[str, dict[int, SpoolEntry]] = {}
        self.add(entries)

    def add(self, entries: Iterable[SpoolEntry]) -> None:
        """Add *entries*."""
        for entry in entries:
            self._by_id[entry.id] = entry
            self._by_cluster.setdefault(entry.cluster_id, {})[entry.id] = entry

    def remove(self, ids: Iterable[int]) -> tuple[int, ...]:
        """Remove *ids* and return those that were here."""
        found = []
        for entry_id in ids:
            entry = self._by_id.pop(entry_id, None)
            if entry is not None:
                found.append(entry_id)
                of_cluster = self._by_cluster[entry.cluster_id]
                del of_cluster[entry_id]
                if not of_cluster:
                    del self._by_cluster[entry.cluster_id]
        return tuple(found)

    def of(self, cluster_id: str | None) -> tuple[SpoolEntry, ...]:
        """The entries of one cluster, or of all of them, the oldest first."""
        found = self._by_id if cluster_id is None else self._by_cluster.get(cluster_id, {})
        return tuple(found[entry_id] for entry_id in sorted(found))

    def depth(self, cluster_id: str) -> int:
        """How many entries wait for that cluster."""
        return len(self._by_cluster.get(cluster_id, ()))

    def is_full(self, cluster_id: str) -> bool:
        """Whether that cluster has used up its share."""
        return self.depth(cluster_id) >= self._max_entries
