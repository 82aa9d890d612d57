"""Which partition something is in, and where its keys are."""

from collections.abc import Mapping

from avtomatika_trio._core.partitions import names
from avtomatika_trio.storage._partitions import Partitioned
from avtomatika_trio.storage._redis_keys import Keys


class Places(Partitioned):
    """The partitions of a storage.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self.partitions = names(count)
        self.keys: Mapping[str, Keys] = {name: Keys(name) for name in self.partitions}
        self.root = self.keys[self.partitions[0]]

    def of(self, identifier: str) -> Keys:
        """The keys of a job's, a task's or an attempt's partition."""
        return self.keys[self.partition_of(identifier)]

    def home(self, instance_id: str) -> Keys:
        """The keys of an instance's home."""
        return self.keys[self.home_of(instance_id)]
