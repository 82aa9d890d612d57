"""What a worker process holds, as its heartbeats tell it (rules L2 and L3).

The heartbeat thread runs beside the loop and may look at any moment.  It must never see a
poll that has been closed without the attempts that came with it: their leases would be given
back while their handlers begin.  So everything is one immutable `Snapshot`, and every change
puts a new one in its place by one assignment.
"""

from collections.abc import Iterable

import attrs


@attrs.frozen(kw_only=True)
class Snapshot:
    """Polls and attempts of one process at one moment."""

    last_poll: int = 0
    """The newest request that could carry tasks, answered or not."""
    open_polls: frozenset[int] = frozenset()
    """Those that are still waited for."""
    held: frozenset[str] = frozenset()
    """Wire ids of attempts, from the closing of their poll until their result is accepted."""


class Holdings:
    """The current snapshot, and the only ways in which it changes.

    Changed by the loop only; read by any thread.

    Args:
        recovered: Wire ids of results that an earlier process left in the spool.
    """

    def __init__(self, recovered: Iterable[str] = ()) -> None:
        self.current = Snapshot(held=frozenset(recovered))

    def open_poll(self) -> int:
        """Begin a request that can carry tasks; returns its number, which is new (rule H2)."""
        now = self.current
        number = now.last_poll + 1
        self.current = attrs.evolve(now, last_poll=number, open_polls=now.open_polls | {number})
        return number

    def close_poll(self, number: int, task_ids: Iterable[str] = ()) -> None:
        """End a request; *task_ids* are the attempts out of its answer that will be held."""
        now = self.current
        self.current = attrs.evolve(
            now, open_polls=now.open_polls - {number}, held=now.held.union(task_ids)
        )

    def drop(self, task_ids: Iterable[str]) -> None:
        """Hold *task_ids* no longer: accepted, returned, or told to be cancelled."""
        now = self.current
        self.current = attrs.evolve(now, held=now.held.difference(task_ids))

    def keep_only(self, task_ids: Iterable[str]) -> None:
        """Hold nothing but *task_ids* any longer."""
        now = self.current
        self.current = attrs.evolve(now, held=now.held.intersection(task_ids))
