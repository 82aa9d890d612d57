"""Which partition something is in, and where its keys are."""

import zlib
from collections.abc import Mapping

from avtomatika_trio.storage._redis_keys import Keys

#: What follows the name of a partition in an id.
_DASH = "-"


def partition_names(count: int) -> tuple[str, ...]:
    """The names of so many partitions, the root first.

    >>> partition_names(2)
    ('p00', 'p01')
    """
    return tuple(f"p{number:02}" for number in range(count))


class Places:
    """The partitions of a storage.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self.names = partition_names(count)
        self.keys: Mapping[str, Keys] = {name: Keys(name) for name in self.names}
        self.root = self.keys[self.names[0]]

    def partition_of(self, identifier: str) -> str:
        """The partition of a job, a task or an attempt."""
        name = identifier.partition(_DASH)[0]
        return name if name in self.keys else self.names[0]

    def home_of(self, instance_id: str) -> str:
        """The partition in which the record of an instance is."""
        return self.names[zlib.crc32(instance_id.encode()) % len(self.names)]

    def of(self, identifier: str) -> Keys:
        """The keys of a job's, a task's or an attempt's partition."""
        return self.keys[self.partition_of(identifier)]

    def home(self, instance_id: str) -> Keys:
        """The keys of an instance's home."""
        return self.keys[self.home_of(instance_id)]
