"""Wake-ups between processes: what a commit has to tell is published on a channel."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import attrs
import msgspec
import trio

from avtomatika_trio._core.job import Job
from avtomatika_trio._core.task import Lane
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_partition import RedisPartition
from avtomatika_trio.storage._redis_places import Places
from avtomatika_trio.storage._redis_queues import QueueLengths
from avtomatika_trio.storage._signals import News, Signals

#: Who waits for ready jobs looks everywhere this often, should news have been lost.
_LOOK_SECONDS = 5.0

#: A claim that should have ended is looked for again no sooner.
_SHORTEST_WAIT_SECONDS = 0.05


@attrs.frozen(kw_only=True)
class _News:
    """What is published of a commit; see `news_of`."""

    token: str
    cluster: str
    place: str
    queued: dict[str, int] = attrs.field(factory=dict)
    lengths: dict[str, int] = attrs.field(factory=dict)
    changed: list[str] = attrs.field(factory=list)
    ready: bool = False


_news = msgspec.json.Decoder(_News).decode


class RedisSignals(Signals):
    """Who waits in this process, and what there is to wake them.

    Args:
        bridge: To the server.
        places: The partitions.
    """

    def __init__(self, bridge: RedisBridge, places: Places) -> None:
        super().__init__()
        self._bridge = bridge
        self._places = places
        self.channel = places.root.news
        self.partitions: Mapping[str, RedisPartition] = {}
        """All of them; given before anything is told."""
        self.lengths = QueueLengths(self.queues)
        self.listening = trio.Event()
        self._may_be_ready: dict[str, dict[str, None]] = {}
        """By owner: partitions in which there may be something for it to claim."""
        self._ready = trio.Event()
        self._looked_at: dict[str, float] = {}
        """By owner: when it has looked everywhere."""

    # News.

    def tell(self, partition: RedisPartition, news: News) -> None:
        """Of a commit of this process."""
        for job in news.jobs.values():
            partition.claims.void(job)
        if any(job.is_ready for job in news.jobs.values()):
            self.look_again(partition)
        self._wake(partition.name, list(news.changed), news.lengths, news.queued)

    def heard(self, message: bytes) -> None:
        """Of a commit of any process."""
        try:
            told = _news(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.missed_some()  # of another release, perhaps: something has happened
            return
        partition = self.partitions.get(told.place)
        if partition is None or partition.commits.cluster_id != told.cluster:
            return  # channels know no databases: it may be about another storage
        if partition.commits.was_told(told.token):
            return
        if told.ready:
            self.look_again(partition)
        self._wake(partition.name, told.changed, told.lengths, told.queued)

    def _wake(
        self,
        partition: str,
        changed: Sequence[str],
        lengths: Mapping[str, int],
        queued: Mapping[str, int],
    ) -> None:
        for job_id in changed:
            self.job_changed(job_id)
        self.lengths.changed(partition, lengths)
        for skill, count in queued.items():
            self.queues.news(skill, count)

    def missed_some(self) -> None:
        """There may have been news that nobody has told: everyone looks."""
        self.listening.set()
        for partition in self.partitions.values():
            self.look_again(partition)
        self.wake_all()
        self.measure_queues(self.lengths.skills())

    def measure_queues(self, skills: Sequence[str]) -> None:
        """Find out how many tasks are queued; who waits although there are some looks again."""
        waiting = set(self.partitions)
        for partition in self.partitions.values():
            self._measure(partition, skills, waiting)

    def _measure(self, at: RedisPartition, skills: Sequence[str], waiting: set[str]) -> None:
        lanes = list(Lane)
        names = [at.keys.queue(skill, lane) for skill in skills for lane in lanes]

        def measured(counts: list[Any] | StorageUnavailable) -> None:
            waiting.discard(at.name)
            if not isinstance(counts, StorageUnavailable):  # else there is a next time
                found = [it if type(it) is int else 0 for it in counts]
                pairs = zip(found[:: len(lanes)], found[1 :: len(lanes)], strict=True)
                self.lengths.measured(at.name, dict(zip(skills, map(sum, pairs), strict=True)))
            if not waiting:
                self.lengths.wake()

        self._bridge.submit([("ZCARD", name) for name in names], measured, key=at.keys.tag)

    # Claims.

    def look_again(self, partition: RedisPartition) -> None:
        """There may be something to claim there."""
        for names in self._may_be_ready.values():
            names[partition.name] = None
        self._ready.set()
        self._ready = trio.Event()

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        """See `Storage.claim_ready`."""
        await trio.lowlevel.checkpoint()
        while True:
            ready = self._ready
            self._add_overdue(owner)
            jobs = await self._claim_anywhere(owner, most, lease_seconds)
            if jobs:
                return jobs
            ends = (it.claims.seconds_to_next_end() for it in self.partitions.values())
            wait = max(_SHORTEST_WAIT_SECONDS, min(_LOOK_SECONDS, *ends))
            with trio.move_on_after(wait):
                await ready.wait()

    def _add_overdue(self, owner: str) -> None:
        """Where claims have ended there may be something; and now and then anywhere."""
        now = trio.current_time()
        names = self._may_be_ready.setdefault(owner, {})
        everywhere = now - self._looked_at.get(owner, -inf) >= _LOOK_SECONDS
        if everywhere:
            self._looked_at[owner] = now
        for name, partition in self.partitions.items():
            if everywhere or partition.claims.seconds_to_next_end() <= 0:
                names[name] = None

    async def _claim_anywhere(self, owner: str, most: int, lease_seconds: float) -> list[Job]:
        jobs: list[Job] = []
        error: StorageUnavailable | None = None
        names = self._may_be_ready[owner]
        asked = list(names)
        failed = 0
        try:
            for name in asked:
                if len(jobs) == most:
                    break
                # Before it is looked there: what is told from now on counts again.
                names.pop(name, None)
                claims, left = self.partitions[name].claims, most - len(jobs)
                try:
                    got = await claims.claim(owner, most=left, lease_seconds=lease_seconds)
                except StorageUnavailable as exc:
                    claims.put_off(_LOOK_SECONDS)
                    error, failed = exc, failed + 1
                    continue
                jobs += got
                if len(got) == left:
                    self.look_again(self.partitions[name])  # there may be more, also for others
        except BaseException:
            for job in reversed(jobs):
                self.partitions[self._places.partition_of(job.id)].claims.release(job)
            raise
        if error is not None and failed == len(asked):
            raise error
        return jobs
