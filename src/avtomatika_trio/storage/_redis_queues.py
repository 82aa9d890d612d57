"""How many tasks are queued in which partition, as far as a process has heard.

It is told of every commit of every process, and counts anew now and then, since what is told
may be lost.  So it is asked only where there may be something (rule S4).
"""

from collections.abc import Iterable, Mapping, Sequence

from avtomatika_trio.storage._signals import Queues


class QueueLengths:
    """Lengths of queues by skill and partition.

    Args:
        queues: Who waits; knows the lengths over all partitions.
    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._lengths: dict[str, dict[str, int]] = {}
        self._skills: dict[str, None] = {}

    def changed(self, partition: str, lengths: Mapping[str, int]) -> None:
        """So many more tasks of each skill are queued in *partition*."""
        for skill, by in lengths.items():
            self._skills[skill] = None
            self._queues.changed(skill, by)
            self._set(skill, partition, self._lengths.get(skill, {}).get(partition, 0) + by)

    def measured(self, partition: str, lengths: Mapping[str, int]) -> None:
        """So many tasks of each skill are queued in *partition*."""
        for skill, length in lengths.items():
            self._skills[skill] = None
            self._set(skill, partition, length)

    def wake(self) -> None:
        """All were measured: who waits although there is something looks again."""
        for skill in self._skills:
            self._queues.measured(skill, sum(self._lengths.get(skill, {}).values()))

    def _set(self, skill: str, partition: str, length: int) -> None:
        lengths = self._lengths.setdefault(skill, {})
        lengths.pop(partition, None)
        if length > 0:
            lengths[partition] = length
        if not lengths:
            del self._lengths[skill]

    def skills(self) -> Sequence[str]:
        """Every skill that was heard of, or is waited for."""
        return list(dict.fromkeys([*self._skills, *self._queues.skills()]))

    def unknown(self, skills: Iterable[str]) -> Sequence[str]:
        """Those of *skills* of which nothing was heard yet."""
        return [it for it in skills if it not in self._skills]

    def partitions_with(self, skills: Iterable[str]) -> Sequence[str]:
        """See `Storage.partitions_with`."""
        found = (self._lengths.get(skill, {}) for skill in skills)
        return list(dict.fromkeys(name for lengths in found for name in lengths))
