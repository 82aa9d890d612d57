"""What every storage and every place for blobs must keep, as tests that test files inherit.

    class TestCommits(CommitPromises): ...
    class TestQueues(QueuePromises): ...

The classes ask for these fixtures:

* `clock`: a `SetClock`;
* `storage`: an open, empty storage whose time is that clock; for `PartitionPromises` one with
  several partitions, whose times may differ;
* `another`: a second one, of the same kind and clock (`ArchivePromises` only);
* `reopen`: an async function that closes and opens again (`DurabilityPromises` only);
* `mock_clock`: pytest-trio's (`ClaimPromises` only).  It stands still unless told to jump, so
  that a storage with threads can be tested with it;
* `blobs`: an open place whose bucket is empty (`BlobPromises` and `BlobFailurePromises` only).
"""

from avtomatika_trio.testing._promises_access import AccessPromises
from avtomatika_trio.testing._promises_archive import ArchivePromises
from avtomatika_trio.testing._promises_backlog import BacklogPromises
from avtomatika_trio.testing._promises_blobs import BlobFailurePromises, BlobPromises
from avtomatika_trio.testing._promises_claims import ClaimPromises
from avtomatika_trio.testing._promises_commit import (
    CommitPromises,
    ValuePromises,
)
from avtomatika_trio.testing._promises_durability import (
    DurabilityPromises,
)
from avtomatika_trio.testing._promises_filters import FilterPromises
from avtomatika_trio.testing._promises_forgetting import ForgettingPromises
from avtomatika_trio.testing._promises_indexes import (
    IndexPromises,
    QueuePromises,
)
from avtomatika_trio.testing._promises_news import NewsPromises
from avtomatika_trio.testing._promises_partitions import PartitionPromises
from avtomatika_trio.testing._promises_reads import ReadPromises
from avtomatika_trio.testing._suite import SetClock

__all__ = [
    "AccessPromises",
    "ArchivePromises",
    "BacklogPromises",
    "BlobFailurePromises",
    "BlobPromises",
    "ClaimPromises",
    "CommitPromises",
    "DurabilityPromises",
    "FilterPromises",
    "ForgettingPromises",
    "IndexPromises",
    "NewsPromises",
    "PartitionPromises",
    "QueuePromises",
    "ReadPromises",
    "SetClock",
    "ValuePromises",
]
