"""Takes out of the counted sets what does not belong there: `running`, and `workers:<state>`.

A process of the release before does not know these sets: what it ends, or drops, stays in them.
So whoever asks how much runs has a few members looked at, drawn at random; each look costs the
same, and strays become rarer with every one of them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from avtomatika_trio._core.ledger import Instance, Ledger, WorkerState
from avtomatika_trio._core.task import Attempt, AttemptStatus
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_ledger import RedisLedger
from avtomatika_trio.storage._redis_partition import RedisPartition
from avtomatika_trio.storage._redis_reads import RedisReads

#: Attempts, and processes of each state, that one look is about; a process' record is long.
MOST_DRAWN, _MOST_WORKERS = 50, 10


def draws(keys: Keys) -> list[tuple[Any, ...]]:
    """The commands that draw members of each set of a partition."""
    workers = [("SRANDMEMBER", keys.workers(state), _MOST_WORKERS) for state in WorkerState]
    return [("SRANDMEMBER", keys.running, MOST_DRAWN), *workers]


async def drop_strays(
    reads: RedisReads, at: RedisPartition, drawn: Sequence[Sequence[bytes]]
) -> None:
    """Take those out of the sets that do not belong there.

    Args:
        reads: Of the storage.
        at: The partition.
        drawn: The replies to `draws`.

    Raises:
        StorageUnavailable: it is not known which were taken out.
    """
    running, *by_state = ([it.decode() for it in some] for some in drawn)
    attempts = await reads.records(at.keys, map(at.keys.attempt, running), Attempt)
    ids = [it for some in by_state for it in some]
    instances = await reads.records(at.keys, map(at.keys.instance, ids), Instance)
    states = {it.id: it.state for it in instances}
    leased = {it.wire_id for it in attempts if it.status is AttemptStatus.LEASED}
    ended = [it for it in running if it not in leased]
    elsewhere = [
        it
        for state, some in zip(WorkerState, by_state, strict=True)
        for it in some
        if states.get(it) is not state
    ]
    if not ended and not elsewhere:
        return

    def settle(ledger: Ledger) -> None:
        assert isinstance(ledger, _SettlingLedger)
        ledger.settle(ended, elsewhere)

    await at.commits.commit(settle, _SettlingLedger)


class _SettlingLedger(RedisLedger):
    """A ledger that writes members of the sets without the records that they are about."""

    def settle(self, wire_ids: Iterable[str], instance_ids: Iterable[str]) -> None:
        """Have each in those sets in which it belongs, as its record is now."""
        here = {it: self.keys.attempt(it) for it in wire_ids}
        there = {it: self.keys.instance(it) for it in instance_ids}
        self._have(*here.values(), *there.values())
        for wire_id, key in here.items():
            attempt = self._get(key, Attempt)
            leased = attempt is not None and attempt.status is AttemptStatus.LEASED
            self._member(self.keys.running, wire_id, present=leased)
        for instance_id, key in there.items():
            instance = self._get(key, Instance)
            for state in WorkerState:
                belongs = instance is not None and instance.state is state
                self._member(self.keys.workers(state), instance_id, present=belongs)
