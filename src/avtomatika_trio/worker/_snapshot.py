"""What a worker process holds, as its heartbeats tell it (rules L2 and L3).

The heartbeat threads run beside the loop and may look at any moment.  They must never see a
poll that has been closed without the attempts that came with it: their leases would be given
back while their handlers begin.  So everything is one immutable `Snapshot`, and every change
puts a new one in its place by one assignment.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import attrs

#: Of other clusters' attempts, an orchestrator is told of no more; some 100 kB.
_MOST_OTHERS = 2_000


@attrs.frozen(kw_only=True)
class Snapshot:
    """Polls and attempts of one process at one moment."""

    last_poll: int = 0
    """The newest request that could carry tasks, answered or not, at any orchestrator."""
    open_polls: frozenset[int] = frozenset()
    """Those that are still waited for."""
    held: Mapping[str, str] = attrs.field(factory=dict)
    """Wire ids of attempts, from the closing of their poll until their result is accepted; each
    with the cluster that it belongs to."""

    def held_for(self, cluster_id: str) -> list[str]:
        """The attempts that an orchestrator of that cluster is told of.

        All of its own, and others' as long as they are few: those are nothing to it unless its
        storage has got another name meanwhile, and with the whole backlog of another cluster a
        heartbeat could grow beyond what an orchestrator reads.
        """
        own = [wire_id for wire_id, cluster in self.held.items() if cluster == cluster_id]
        others = (wire_id for wire_id, cluster in self.held.items() if cluster != cluster_id)
        return sorted([*own, *islice(others, _MOST_OTHERS)])


class Holdings:
    """The current snapshot, and the only ways in which it changes.

    Changed by the loop only; read by any thread.

    Args:
        recovered: Wire ids of results that an earlier process left in the spool, each with its
            cluster.
    """

    def __init__(self, recovered: Mapping[str, str] | None = None) -> None:
        self.current = Snapshot(held=dict(recovered or {}))
        self._beats = 0
        self._beating = threading.Lock()

    def next_beat(self) -> tuple[int, Snapshot]:
        """The number of the next heartbeat, and what it will tell; for any thread.

        A storage takes no notice of a heartbeat whose number is below the last one.  Several
        threads beat into one storage, so the numbers have the order of the snapshots.
        """
        with self._beating:
            self._beats += 1
            return self._beats, self.current

    def open_poll(self) -> int:
        """Begin a request that can carry tasks; returns its number, which is new (rule H2)."""
        now = self.current
        number = now.last_poll + 1
        self.current = attrs.evolve(now, last_poll=number, open_polls=now.open_polls | {number})
        return number

    def close_poll(self, number: int, task_ids: Iterable[str] = (), cluster_id: str = "") -> None:
        """End a request; *task_ids* are the attempts out of its answer that will be held."""
        now = self.current
        new = dict.fromkeys(task_ids, cluster_id)
        held = {**now.held, **new} if new else now.held
        self.current = attrs.evolve(now, open_polls=now.open_polls - {number}, held=held)

    def drop(self, task_ids: Iterable[str]) -> None:
        """Hold *task_ids* no longer: accepted, returned, or told to be cancelled."""
        gone = frozenset(task_ids)
        self._keep(lambda wire_id: wire_id not in gone)

    def keep_only(self, task_ids: Iterable[str]) -> None:
        """Hold nothing but *task_ids* any longer."""
        left = frozenset(task_ids)
        self._keep(lambda wire_id: wire_id in left)

    def _keep(self, is_kept: Callable[[str], bool]) -> None:
        now = self.current
        held = {wire_id: cluster for wire_id, cluster in now.held.items() if is_kept(wire_id)}
        self.current = attrs.evolve(now, held=held)
