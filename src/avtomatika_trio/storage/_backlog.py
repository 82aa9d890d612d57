"""How much waits and runs in a storage, as far as indexes tell it at once.

None of it takes a look at each job, task or worker: what would have to be counted one by one is
counted up to a bound.
"""

from collections.abc import Iterable, Mapping, Sequence

import attrs

from avtomatika_trio._core.ledger import WorkerState

#: Queues that are told of, at most.
MOST_QUEUES = 200

#: The oldest task of a queue is looked for among so many of its priorities, the highest first;
#: each of them takes one look into an index.
MOST_PRIORITIES = 100

#: So many such looks are taken in a database beyond the first of each queue, in all of them.
MOST_LOOKS = 1_000

#: Where one by one is counted, it is up to here.
MOST_COUNTED = 10_000

#: A timer is overdue when its time came so long ago; the janitors act five times a second.
OVERDUE_SECONDS = 1.0


@attrs.frozen(kw_only=True)
class QueueBacklog:
    """The tasks of one skill that wait for a worker."""

    depth: int = 0
    oldest_seconds: float = 0.0
    """How long ago the oldest of them was dispatched; 0 = there is none."""


@attrs.frozen(kw_only=True)
class Backlog:
    """See `Storage.backlog`."""

    queues: Mapping[str, QueueBacklog]
    """By skill."""
    running: int
    """Attempts that are leased."""
    workers: Mapping[WorkerState, int]
    """How many worker processes are in each state; those without any may be absent."""
    timers_overdue: int
    """Timers of tasks and jobs, but not of files or of forgetting, that nobody has acted on
    for `OVERDUE_SECONDS`."""


def queues_told_of(skills: Iterable[str], queued: Iterable[str]) -> list[str]:
    """*skills*, and those of *queued* that there is still room for."""
    return list(dict.fromkeys([*skills, *sorted(queued)]))[:MOST_QUEUES]


def together(parts: Sequence[Backlog]) -> Backlog:
    """What is in several partitions, taken together."""
    queues: dict[str, QueueBacklog] = {}
    workers: dict[WorkerState, int] = {}
    for part in parts:
        for skill, it in part.queues.items():
            other = queues.get(skill, QueueBacklog())
            queues[skill] = QueueBacklog(
                depth=other.depth + it.depth,
                oldest_seconds=max(other.oldest_seconds, it.oldest_seconds),
            )
        for state, count in part.workers.items():
            workers[state] = workers.get(state, 0) + count
    return Backlog(
        queues=queues,
        running=sum(it.running for it in parts),
        workers=workers,
        timers_overdue=sum(it.timers_overdue for it in parts),
    )
