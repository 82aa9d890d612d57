"""Which part of a storage a record lies in.

One atomic commit can touch one partition only.  A job and all that belongs to it are in the
partition that its id begins with; a worker process is at home in the one that a hash of its id
names, while what is leased to it may be anywhere.  Who may talk is in the first one, the root.
"""

import re
import zlib
from collections.abc import Sequence

import attrs

from avtomatika_trio._core.ledger import Instance, InstanceKind
from avtomatika_trio._core.task import Attempt

#: The first partition; a storage that has only one has this.
ROOT = "p00"

#: More than there are masters in any cluster that is worth while.
MOST = 64

_PREFIX = re.compile(r"(p[0-9]{2})-")


def names(count: int) -> tuple[str, ...]:
    """The names of *count* partitions, the root first.

    >>> names(3)
    ('p00', 'p01', 'p02')
    """
    assert 1 <= count <= MOST, f"there can be 1 to {MOST} partitions, not {count}"
    return tuple(f"p{number:02d}" for number in range(count))


def partition_of(identifier: str, partitions: Sequence[str]) -> str:
    """Where the job, the task or the attempt with that id is; the root if it does not say.

    >>> partition_of("p01-task-7", ("p00", "p01"))
    'p01'
    >>> partition_of("p07-task-7", ("p00", "p01"))
    'p00'
    """
    prefix = _PREFIX.match(identifier)
    return prefix[1] if prefix is not None and prefix[1] in partitions else partitions[0]


def home_of(instance_id: str, partitions: Sequence[str]) -> str:
    """Where the record of that worker process is.

    >>> home_of("w1-run1", ("p00", "p01", "p02", "p03"))
    'p03'
    """
    return partitions[zlib.crc32(instance_id.encode()) % len(partitions)]


def as_of(instance: Instance, later: float) -> Instance:
    """*instance* by a clock that is *later* seconds ahead of that of its home.

    Times cross partitions only as durations (rule O3).
    """
    if later == 0:
        return instance
    due_at, since = instance.due_at, instance.blocked_since
    return attrs.evolve(
        instance,
        registered_at=instance.registered_at + later,
        seen_at=instance.seen_at + later,
        lease_until=instance.lease_until + later,
        due_at=None if due_at is None else due_at + later,
        blocked_since=None if since is None else since + later,
    )


def forgotten(instance_id: str, leased: Sequence[Attempt]) -> Instance:
    """What can be said of a process that its home has forgotten, by what is *leased* to it.

    It is long gone: each of its leases ends at that lease's own time.
    """
    return Instance(
        id=instance_id,
        worker_id=leased[0].worker_id if leased else "",
        kind=InstanceKind.OURS,
        registration={},
        skills=(),
        registered_at=0.0,
        seen_at=0.0,
        lease_until=0.0,
        due_at=0.0,
        interval_seconds=0.0,
        gone=True,
    )
