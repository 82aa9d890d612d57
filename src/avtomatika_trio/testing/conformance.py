"""What every storage must keep, as tests that a backend's test file inherits.

    class TestCommits(CommitPromises): ...
    class TestQueues(QueuePromises): ...

The classes ask for these fixtures:

* `clock`: a `SetClock`;
* `storage`: an open, empty storage whose time is that clock;
* `reopen`: an async function that closes and opens again (`DurabilityPromises` only);
* `mock_clock`: pytest-trio's (`ClaimPromises`, `NewsPromises`).  It stands still unless told
  to jump, so that a storage with threads can be tested with it.
"""

from avtomatika_trio.testing._promises_claims import ClaimPromises as ClaimPromises
from avtomatika_trio.testing._promises_commit import (
    CommitPromises as CommitPromises,
    ValuePromises as ValuePromises,
)
from avtomatika_trio.testing._promises_durability import (
    DurabilityPromises as DurabilityPromises,
)
from avtomatika_trio.testing._promises_indexes import (
    IndexPromises as IndexPromises,
    QueuePromises as QueuePromises,
)
from avtomatika_trio.testing._promises_news import NewsPromises as NewsPromises
from avtomatika_trio.testing._promises_reads import ReadPromises as ReadPromises
from avtomatika_trio.testing._suite import SetClock as SetClock

__all__ = [
    "ClaimPromises",
    "CommitPromises",
    "DurabilityPromises",
    "IndexPromises",
    "NewsPromises",
    "QueuePromises",
    "ReadPromises",
    "SetClock",
    "ValuePromises",
]
