"""What is read from Redis outside of commits."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from avtomatika_trio._core.access import AccessSet, AuditRow
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import HistoryRow, Instance, Progress
from avtomatika_trio._core.task import Attempt, Task, TaskStatus
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._base import JobQuery, NumberedAuditRow, NumberedRow
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_keys import Keys
from avtomatika_trio.storage._redis_known import TOKEN_BYTES
from avtomatika_trio.storage._redis_places import Places
from avtomatika_trio.storage._redis_wire import ScriptCall

R = TypeVar("R")

#: How many keys one MGET names.
_MOST_KEYS = 500

#: How many jobs of an index are looked at together, where more than are wanted have to be.
_MOST_AT_ONCE = 1000

_decoders: dict[type[Any], Any] = {
    cls: msgspec.json.Decoder(cls).decode
    for cls in (Job, Task, Attempt, Instance, AccessSet, Progress, HistoryRow, AuditRow)
}


class RedisReads:
    """Reads of a storage.

    Args:
        bridge: To the server.
        places: The partitions.
    """

    def __init__(self, bridge: RedisBridge, places: Places) -> None:
        self._bridge = bridge
        self._places = places

    async def ask(self, at: Keys, *commands: tuple[Any, ...] | ScriptCall) -> list[Any]:
        """The replies to *commands*, which are about a partition.

        Raises:
            StorageUnavailable: there are none, or one is an error.
        """
        replies = await self._bridge.call(*commands, key=at.tag)
        for reply in replies:
            if isinstance(reply, Exception):
                raise StorageUnavailable(f"Redis has refused a look: {reply}") from reply
        return replies

    async def _record(self, at: Keys, key: str, cls: type[R]) -> R | None:
        [value] = await self.ask(at, ("GET", key))
        return _decoded(value, cls)

    async def records(self, at: Keys, names: Iterable[str], cls: type[R]) -> list[R]:
        """The records of a partition that there are under *names*."""
        keys = list(names)
        found: list[R] = []
        for first in range(0, len(keys), _MOST_KEYS):
            [values] = await self.ask(at, ("MGET", *keys[first : first + _MOST_KEYS]))
            found += [it for it in (_decoded(value, cls) for value in values) if it is not None]
        return found

    async def _members(self, at: Keys, key: str) -> list[str]:
        [members] = await self.ask(at, ("SMEMBERS", key))
        return sorted(it.decode() for it in members)

    async def job(self, job_id: str) -> Job | None:
        keys = self._places.of(job_id)
        return await self._record(keys, keys.job(job_id), Job)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        """Each status, or the rarest label, of each partition is an index; they are merged.

        What has no index, as the blueprint, is looked for in more and more jobs at a time.
        """
        found: list[Job] = []
        before = query.end
        label = await self._rarest_label(query)
        most = max(1, query.limit)
        while page := await self._page(query, label, before, most):
            for first in range(0, len(page), most):
                some = [job_id for _, job_id in page[first : first + most]]
                stored = await self._jobs_by_id(some)
                jobs = map(stored.get, some)
                found += [job for job in jobs if job is not None and query.fits(job)]
                if len(found) >= query.limit:
                    return found[: query.limit]
            before = page[-1]
            most = max(most, min(2 * most, _MOST_AT_ONCE))
        return found

    async def _jobs_by_id(self, ids: Sequence[str]) -> dict[str, Job]:
        by_place: dict[str, list[str]] = {}
        for job_id in ids:
            by_place.setdefault(self._places.partition_of(job_id), []).append(job_id)
        found: dict[str, Job] = {}
        for name, some in by_place.items():
            keys = self._places.keys[name]
            jobs = await self.records(keys, [keys.job(it) for it in some], Job)
            found.update((job.id, job) for job in jobs)
        return found

    async def _page(
        self,
        query: JobQuery,
        label: tuple[str, str] | None,
        before: tuple[float, str] | None,
        most: int,
    ) -> list[tuple[float, str]]:
        """The next jobs of the label, or of the statuses, and of the client.

        They are *most* of each index, down to where the first of them was cut off.
        """
        lowest = "-inf" if query.created_after is None else repr(query.created_after)
        statuses = sorted(query.statuses) or list(JobStatus)
        found: set[tuple[float, str]] = set()
        cuts: list[tuple[float, str]] = []
        for keys in self._places.keys.values():
            names = [keys.jobs(status, query.client) for status in statuses]
            if label is not None:
                names = [keys.labelled(*label, query.client)]
            for pairs in await self._indexed(keys, names, lowest, before, most):
                found.update(pairs)
                cuts += pairs[most - 1 : most]
        end = max(cuts, default=None)
        return sorted((it for it in found if end is None or it >= end), reverse=True)

    async def _rarest_label(self, query: JobQuery) -> tuple[str, str] | None:
        """Of the labels that are asked for the one that the fewest jobs have."""
        labels = sorted(query.labels.items())
        if len(labels) < 2:
            return labels[0] if labels else None
        counts = [0] * len(labels)
        for keys in self._places.keys.values():
            looks = (("ZCARD", keys.labelled(*label, query.client)) for label in labels)
            found = await self.ask(keys, *looks)
            counts = [count + more for count, more in zip(counts, found, strict=True)]
        return labels[counts.index(min(counts))]

    async def _indexed(
        self,
        at: Keys,
        names: Sequence[str],
        lowest: str,
        before: tuple[float, str] | None,
        most: int,
    ) -> list[list[tuple[float, str]]]:
        """Of each of these indexes of a partition the next jobs, at most *most*."""
        highest = "+inf" if before is None else repr(before[0])
        found: dict[str, list[tuple[float, str]]] = {name: [] for name in names}
        offsets = dict.fromkeys(names, 0)
        while offsets:
            looks = (
                ("ZREVRANGEBYSCORE", name, highest, lowest, "WITHSCORES", "LIMIT", offset, most + 1)
                for name, offset in offsets.items()
            )
            replies = await self.ask(at, *looks)
            for name, reply in zip(list(offsets), replies, strict=True):
                steps = zip(reply[1::2], reply[::2], strict=True)
                pairs = [(float(score), it.decode()) for score, it in steps]
                found[name] += [pair for pair in pairs if before is None or pair < before]
                offsets[name] += len(pairs)
                if len(found[name]) >= most or len(pairs) <= most:
                    del offsets[name]
        return [pairs[:most] for pairs in found.values()]

    async def job_counts(self) -> dict[JobStatus, int]:
        counts = dict.fromkeys(JobStatus, 0)
        for keys in self._places.keys.values():
            found = await self.ask(keys, *(("ZCARD", keys.jobs(status)) for status in JobStatus))
            for status, count in zip(JobStatus, found, strict=True):
                counts[status] += count
        return counts

    async def tasks(self, job_id: str, dispatch: int | None) -> Sequence[Task]:
        keys = self._places.of(job_id)
        ids = await self._members(keys, keys.tasks_of(job_id))
        tasks = await self.records(keys, [keys.task(it) for it in ids], Task)
        wanted = (task for task in tasks if dispatch in (None, task.dispatch))
        return sorted(wanted, key=lambda task: (task.dispatch, task.branch or 0))

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        keys = self._places.of(job_id)
        wire_ids = await self._members(keys, keys.attempts_of(job_id))
        found = await self.records(keys, [keys.attempt(it) for it in wire_ids], Attempt)
        return sorted(found, key=lambda attempt: (attempt.leased_at, attempt.number))

    async def history(self, job_id: str, after: int, limit: int) -> Sequence[NumberedRow]:
        keys = self._places.of(job_id)
        rows = await self._rows(keys, keys.history(job_id), after, limit, HistoryRow)
        return [NumberedRow(number=number, row=row) for number, row in rows]

    async def audit(self, after: int, limit: int) -> Sequence[NumberedAuditRow]:
        keys = self._places.root
        rows = await self._rows(keys, keys.audit, after, limit, AuditRow)
        return [NumberedAuditRow(number=number, row=row) for number, row in rows]

    async def _rows(
        self, at: Keys, key: str, after: int, limit: int, cls: type[R]
    ) -> list[tuple[int, R]]:
        [reply] = await self.ask(at, ("XRANGE", key, f"{after + 1}-0", "+", "COUNT", limit))
        decode = _decoders[cls]
        return [(int(number.partition(b"-")[0]), decode(body)) for number, (_, body) in reply]

    async def progress(self, job_id: str) -> Sequence[Progress]:
        keys = self._places.of(job_id)
        [said] = await self.ask(keys, ("HVALS", keys.progress(job_id)))
        found = {it.task_id: it for it in map(_decoders[Progress], said)}
        tasks = await self.records(keys, [keys.task(it) for it in found], Task)
        leased = [task for task in tasks if task.status is TaskStatus.LEASED]
        leased.sort(key=lambda task: (task.dispatch, task.branch or 0))
        return [found[it.id] for it in leased if found[it.id].attempt == it.attempt]

    async def instance(self, instance_id: str) -> Instance | None:
        keys = self._places.home(instance_id)
        return await self._record(keys, keys.instance(instance_id), Instance)

    async def instances(self, worker_id: str | None) -> Sequence[Instance]:
        """See `Storage.instances`."""
        found: list[Instance] = []
        for keys in self._places.keys.values():
            index = keys.instances if worker_id is None else keys.instances_of(worker_id)
            ids = await self._members(keys, index)
            found += await self.records(keys, [keys.instance(it) for it in ids], Instance)
        return sorted(found, key=lambda it: -it.seen_at)

    async def lease_counts(self, instances: Sequence[Instance]) -> dict[str, int]:
        """See `Storage.lease_counts`; one request for each partition."""
        counts = dict.fromkeys((it.id for it in instances), 0)
        if not counts:
            return counts
        for keys in self._places.keys.values():
            looks = (("SCARD", keys.leased_to(instance_id)) for instance_id in counts)
            for instance_id, count in zip(counts, await self.ask(keys, *looks), strict=True):
                counts[instance_id] += count
        return counts

    async def access(self) -> AccessSet | None:
        keys = self._places.root
        return await self._record(keys, keys.access, AccessSet)

    async def skills(self) -> Sequence[str]:
        """Every skill of which a task was ever queued."""
        found: set[str] = set()
        for keys in self._places.keys.values():
            found.update(await self._members(keys, keys.skills))
        return sorted(found)

    async def holdings(self, instance_id: str) -> Sequence[str]:
        """See `Storage.holdings`."""
        keys = self._places.home(instance_id)
        return await self._members(keys, keys.holdings(instance_id))


def _decoded(value: bytes | None, cls: type[R]) -> R | None:
    if value is None:
        return None
    record: R = _decoders[cls](value[TOKEN_BYTES:])
    return record
