"""What goes out of Redis, all of it by the indexes, and into it as it is."""

import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar, cast

import attrs
import msgspec

from avtomatika_trio._core.access import AccessSet, AuditRow, IssuedToken, Usage
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import (
    FanOut,
    HistoryRow,
    Instance,
    Ledger,
    Progress,
    Service,
    Timer,
    TimerKind,
)
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._records import (
    MOST_PER_BATCH,
    NumberedAuditRow,
    NumberedRow,
    StorageFacts,
    StoredRecord,
    facts_of,
)
from avtomatika_trio.storage._redis_keys import Keys, timer_member, timer_of
from avtomatika_trio.storage._redis_known import TOKEN_BYTES
from avtomatika_trio.storage._redis_ledger import RedisLedger
from avtomatika_trio.storage._redis_places import Places
from avtomatika_trio.storage._redis_questions import Missing, Score
from avtomatika_trio.storage._redis_reads import RedisReads
from avtomatika_trio.storage._redis_step import encode
from avtomatika_trio.storage._restore import put_as_they_are

R = TypeVar("R")

Piece = Sequence[StoredRecord]
Pieces = AsyncGenerator[Piece, None]

#: What belongs to so many jobs is read together.
_JOBS_TOGETHER = 25

#: So many rows of each of them; the others follow job by job.
_FIRST_ROWS = 100

#: Which key a record has, by its class, where it has one of its own.
_KEYS: Mapping[type[Any], Callable[[Keys, Any], str]] = {
    Job: lambda keys, it: keys.job(it.id),
    Task: lambda keys, it: keys.task(it.id),
    Attempt: lambda keys, it: keys.attempt(it.wire_id),
    FanOut: lambda keys, it: keys.fan_out(it.job_id, it.dispatch),
    Instance: lambda keys, it: keys.instance(it.id),
    Service: lambda keys, _: keys.service,
    AccessSet: lambda keys, _: keys.access,
    Usage: lambda keys, it: keys.usage(it.client, it.month),
    IssuedToken: lambda keys, it: keys.token(it.hash),
    Submission: lambda keys, it: keys.submission(it.id),
}

_decoders: dict[type[Any], Any] = {
    cls: msgspec.json.Decoder(cls).decode for cls in (*_KEYS, Progress, HistoryRow, AuditRow)
}


class RestoringRedisLedger(RedisLedger):
    """See `RestoringLedger`."""

    def look_up(self, records: Iterable[StoredRecord]) -> None:
        """Have fetched what is stored in the places of all of *records*, in one look."""
        places = [_KEYS[type(it)](self.keys, it) for it in records if type(it) in _KEYS]
        unknown = [key for key in dict.fromkeys(places) if self._known.entry(key) is None]
        timers = (it for it in records if isinstance(it, Timer))
        scores = {
            Score(self.keys.timers(it.kind), timer_member(it.kind, it.subject)) for it in timers
        }
        questions = [it for it in scores if it not in self._answers]
        if unknown or questions:
            raise Missing(unknown, questions=questions)

    def store_job(self, job: Job) -> None:
        old = self._put(self.keys.job(job.id), job, Job)
        self.job_before.setdefault(job.id, old)
        if old is not None:  # perhaps it was another client's
            self._score(self.keys.jobs(old.status), job.id, None)
            self._score(self.keys.jobs(old.status, old.client), job.id, None)
            self._index_labels(old, is_there=False)
        self._index_job(None, job)
        self._index_labels(job, is_there=True)
        self.news.job_written(job)

    def store_row(self, numbered: NumberedRow) -> None:
        stream, counter = self.keys.history(numbered.row.job_id), self.keys.history_numbers
        self._place(stream, counter, numbered)

    def store_audit_row(self, numbered: NumberedAuditRow) -> None:
        self._place(self.keys.audit, self.keys.audit_numbers, numbered)

    def _place(self, stream: str, counter: str, it: NumberedRow | NumberedAuditRow) -> None:
        self.extra.append(("PLACED", stream, counter, encode(it.row).decode(), str(it.number)))

    def store_cluster_id(self, cluster_id: str) -> None:
        self.extra.append(("HSET", self.keys.meta, "cluster", cluster_id))

    def raise_time(self, latest: float) -> None:
        """The partition's time is not before *latest* any more."""
        self.extra.append(("RAISED", repr(float(latest))))


def by_partition(
    records: Sequence[StoredRecord], places: Places
) -> Mapping[str, Sequence[StoredRecord]]:
    """Which of *records* go where; facts go everywhere."""
    found: dict[str, list[StoredRecord]] = {}
    for record in records:
        for name in _places_of(record, places):
            found.setdefault(name, []).append(record)
    return found


def _places_of(record: StoredRecord, places: Places) -> Sequence[str]:
    match record:
        case StorageFacts():
            return places.partitions
        case Job():
            return (places.partition_of(record.id),)
        case Task() | Attempt() | FanOut() | Progress():
            return (places.partition_of(record.job_id),)
        case NumberedRow():
            return (places.partition_of(record.row.job_id),)
        case Timer():
            return (places.partition_of(record.subject),)
        case Instance():
            return (places.home_of(record.id),)
        case Submission():
            return (places.home_of(record.id),)
        case _:
            return places.partitions[:1]


def restore(ledger: Ledger, records: Sequence[StoredRecord]) -> None:
    """The operation of `Storage.restore`, over a `RestoringRedisLedger`."""
    restoring = cast("RestoringRedisLedger", ledger)
    restoring.look_up(records)
    put_as_they_are(restoring, records)
    facts = facts_of(records)
    if facts is not None:
        restoring.raise_time(facts.latest)


async def export(
    facts: StorageFacts, reads: RedisReads, partitions: Iterable[Keys]
) -> AsyncIterator[Piece]:
    """See `Storage.export`."""
    yield [facts]
    gathered: list[StoredRecord] = []
    for number, keys in enumerate(partitions):
        async with aclosing(_Export(reads, keys, number == 0).pieces()) as pieces:
            async for piece in pieces:
                gathered += piece
                while len(gathered) >= MOST_PER_BATCH:
                    yield gathered[:MOST_PER_BATCH]
                    del gathered[:MOST_PER_BATCH]
    if gathered:
        yield gathered


@attrs.frozen
class _Export:
    """Reads a partition from end to end; what it knows at a time is bounded."""

    reads: RedisReads
    keys: Keys
    is_root: bool

    async def pieces(self) -> Pieces:
        """All records but the facts, a few at a time."""
        keys = self.keys
        if self.is_root:
            # Others have one, too: that leases start afresh there does no harm.
            yield await self._stored([keys.service], Service)
            yield await self._stored([keys.access], AccessSet)
        for part in _parts(await self._members(keys.instances), MOST_PER_BATCH):
            yield await self._stored([keys.instance(it) for it in part], Instance)
        after: tuple[float, str] | None = None
        seen = 0
        while found := await self._next_jobs(after, seen):
            for part in _parts([job_id for _, job_id in found], _JOBS_TOGETHER):
                async with aclosing(self._jobs(part)) as pieces:
                    async for piece in pieces:
                        yield piece
            newest = found[-1][0]
            same = sum(at == newest for at, _ in found)
            seen = same + (seen if after is not None and after[0] == newest else 0)
            after = found[-1]
        async with aclosing(self._others()) as pieces:
            async for piece in pieces:
                yield piece

    async def _others(self) -> Pieces:
        """What belongs to no job."""
        keys = self.keys
        for kind in (TimerKind.RETRY, TimerKind.FILES, TimerKind.FORGET):
            async with aclosing(self._sorted(keys.timers(kind))) as pages:
                async for page in pages:
                    timers = [(*timer_of(member), at) for member, at in page]
                    yield [Timer(kind=of, subject=it, due_at=at) for of, it, at in timers]
        async with aclosing(self._rows(keys.audit, AuditRow)) as audit:
            async for rows in audit:
                yield [NumberedAuditRow(number=number, row=row) for number, row in rows]
        for part in _parts(await self._members(keys.usages), MOST_PER_BATCH):
            yield await self._stored(part, Usage)
        async with aclosing(self._sorted(keys.ending_tokens)) as pages:
            async for page in pages:
                yield await self._stored([keys.token(it) for it, _ in page], IssuedToken)
        async with aclosing(self._sorted(keys.ending_submissions)) as pages:
            async for page in pages:
                yield await self._stored([keys.submission(it) for it, _ in page], Submission)

    # Jobs.

    async def _next_jobs(
        self, after: tuple[float, str] | None, seen: int
    ) -> list[tuple[float, str]]:
        """The jobs that follow *after*; *seen* is how many of its `created_at` came before.

        Each status is an index of its own.  They are looked at together, so that a job whose
        status changes meanwhile is in one of them.
        """
        lowest = "-inf" if after is None else repr(after[0])
        page = ("WITHSCORES", "LIMIT", 0, MOST_PER_BATCH + seen)
        replies = await self.reads.ask(
            self.keys,
            *(("ZRANGEBYSCORE", self.keys.jobs(it), lowest, "+inf", *page) for it in JobStatus),
        )
        pairs = {(at, job_id) for reply in replies for job_id, at in _scored(reply)}
        return heapq.nsmallest(MOST_PER_BATCH, (it for it in pairs if not after or it > after))

    async def _jobs(self, ids: Sequence[str]) -> Pieces:
        """Some jobs, and all that belongs to them."""
        keys = self.keys
        yield await self._stored([keys.job(it) for it in ids], Job)
        task_ids = await self._all_members(map(keys.tasks_of, ids))
        dispatches: set[tuple[str, int]] = set()
        for part in _parts(task_ids, MOST_PER_BATCH):
            tasks = await self._stored([keys.task(it) for it in part], Task)
            dispatches.update((task.job_id, task.dispatch) for task in tasks)
            tasks.sort(key=lambda it: (it.job_id, it.dispatch, it.branch or 0))
            yield tasks
        for some in _parts(sorted(dispatches), MOST_PER_BATCH):
            yield await self._stored([keys.fan_out(*it) for it in some], FanOut)
        wire_ids = await self._all_members(map(keys.attempts_of, ids))
        for part in _parts(wire_ids, MOST_PER_BATCH):
            attempts = await self._stored([keys.attempt(it) for it in part], Attempt)
            attempts.sort(key=lambda it: (it.leased_at, it.number, it.wire_id))
            yield attempts
        for said in await self.reads.ask(self.keys, *(("HVALS", keys.progress(it)) for it in ids)):
            progress = [_decoded("progress", body, Progress) for body in said]
            progress.sort(key=lambda it: it.task_id)
            yield progress
        async with aclosing(self._histories(ids)) as pieces:
            async for piece in pieces:
                yield piece

    async def _histories(self, ids: Sequence[str]) -> Pieces:
        streams = [self.keys.history(it) for it in ids]
        first = ("-", "+", "COUNT", _FIRST_ROWS)
        replies = await self.reads.ask(
            self.keys, *(("XRANGE", stream, *first) for stream in streams)
        )
        for stream, reply in zip(streams, replies, strict=True):
            rows = _rows_in(stream, reply, HistoryRow)
            yield [NumberedRow(number=number, row=row) for number, row in rows]
            if len(rows) == _FIRST_ROWS:
                async with aclosing(self._rows(stream, HistoryRow, rows[-1][0])) as pages:
                    async for page in pages:
                        yield [NumberedRow(number=number, row=row) for number, row in page]

    # Reading.

    async def _stored(self, keys: Sequence[str], cls: type[R]) -> list[R]:
        """The records of *keys*, as far as they are there."""
        [values] = await self.reads.ask(self.keys, ("MGET", *keys))
        there = ((key, it) for key, it in zip(keys, values, strict=True) if it is not None)
        return [_decoded(key, it[TOKEN_BYTES:], cls) for key, it in there]

    async def _members(self, key: str) -> list[str]:
        return await self._all_members([key])

    async def _all_members(self, keys: Iterable[str]) -> list[str]:
        """The members of sets, one set after the other."""
        replies = await self.reads.ask(self.keys, *(("SMEMBERS", key) for key in keys))
        return [it.decode() for members in replies for it in sorted(members)]

    async def _sorted(self, key: str) -> AsyncGenerator[Sequence[tuple[str, float]], None]:
        """The members of a sorted set and their scores, in pages."""
        lowest, seen = "-inf", 0
        while True:
            page = ("WITHSCORES", "LIMIT", seen, MOST_PER_BATCH)
            [reply] = await self.reads.ask(self.keys, ("ZRANGEBYSCORE", key, lowest, "+inf", *page))
            pairs = _scored(reply)
            if not pairs:
                return
            yield pairs
            highest = repr(pairs[-1][1])
            same = sum(repr(at) == highest for _, at in pairs)
            lowest, seen = highest, same + (seen if highest == lowest else 0)

    async def _rows(
        self, stream: str, cls: type[R], after: int = 0
    ) -> AsyncGenerator[Sequence[tuple[int, R]], None]:
        """The rows of a stream behind the number *after*, in pages."""
        while True:
            page = (f"{after + 1}-0", "+", "COUNT", MOST_PER_BATCH)
            [reply] = await self.reads.ask(self.keys, ("XRANGE", stream, *page))
            rows = _rows_in(stream, reply, cls)
            if not rows:
                return
            yield rows
            after = rows[-1][0]


def _decoded(key: str, body: bytes, cls: type[R]) -> R:
    try:
        record: R = _decoders[cls](body)
    except (ValueError, TypeError) as exc:  # msgspec's are among them
        raise StorageUnavailable(
            f"the record {key} in Redis is damaged: {exc}; restore a backup"
        ) from exc
    return record


def _rows_in(stream: str, reply: Sequence[Any], cls: type[R]) -> list[tuple[int, R]]:
    return [
        (int(number.partition(b"-")[0]), _decoded(stream, body, cls)) for number, (_, body) in reply
    ]


def _scored(reply: Sequence[bytes]) -> list[tuple[str, float]]:
    return [(it.decode(), float(at)) for it, at in zip(reply[::2], reply[1::2], strict=True)]


def _parts(items: Sequence[R], most: int) -> Iterable[Sequence[R]]:
    return (items[at : at + most] for at in range(0, len(items), most))
