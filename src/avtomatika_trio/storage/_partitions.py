"""What a storage says of its partitions, for those that have one and those that have several."""

from collections.abc import Sequence

import attrs

from avtomatika_trio._core import partitions


class Partitioned:
    """The part of a `Storage` that knows the names of its partitions."""

    partitions: Sequence[str] = (partitions.ROOT,)

    def partition_of(self, identifier: str) -> str:
        return partitions.partition_of(identifier, self.partitions)

    def home_of(self, instance_id: str) -> str:
        return partitions.home_of(instance_id, self.partitions)


class AlwaysAtHome(Partitioned):
    """The part of a `Storage` with one partition that is about partitions."""

    async def due_partitions(self) -> Sequence[str]:
        return self.partitions

    async def holdings(self, instance_id: str) -> Sequence[str]:
        del instance_id  # all that it holds is at home
        return ()

    def note_holding(self, instance_id: str, partition: str) -> None:
        """Nothing is noted."""

    def drop_holding(self, instance_id: str, partition: str) -> None:
        """Nothing was noted."""


@attrs.define(eq=False)
class Holdings:
    """In which partitions each instance may hold attempts, besides its home."""

    _known: dict[str, dict[str, None]] = attrs.field(factory=dict, init=False)

    def of(self, instance_id: str) -> Sequence[str]:
        return tuple(self._known.get(instance_id, ()))

    def note(self, instance_id: str, partition: str) -> None:
        self._known.setdefault(instance_id, {})[partition] = None

    def drop(self, instance_id: str, partition: str) -> None:
        known = self._known.get(instance_id, {})
        known.pop(partition, None)
        if not known:
            self._known.pop(instance_id, None)
