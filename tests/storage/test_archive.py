"""What goes out of one kind of storage and into another, and records on their lines."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import attrs
import msgspec
import pytest
import trio
from redis import Redis
from tests.storage.redis_servers import start_server

from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import Ledger, Timer, TimerKind
from avtomatika_trio._core.task import Task
from avtomatika_trio.errors import InvalidMessage, StorageUnavailable
from avtomatika_trio.storage import JobQuery, MemoryStorage, Storage, _redis_schema, open_storage
from avtomatika_trio.storage._records import (
    KINDS,
    MOST_PER_BATCH,
    NumberedRow,
    StorageFacts,
    decode_record,
    encode_record,
    kind_of,
)
from avtomatika_trio.storage._redis import RedisStorage
from avtomatika_trio.storage._redis_scripts import COMMIT
from avtomatika_trio.storage._redis_wire import ScriptCall
from avtomatika_trio.testing._promises_archive import copy, exported, held, live
from avtomatika_trio.testing._samples import START, a_job, a_ready_job, a_row, a_task, put
from avtomatika_trio.testing._suite import SetClock
from avtomatika_trio.testing.invariants import find_violations


def sqlite(path: Path) -> str:
    return f"sqlite:{path}"


def indexes(storage: MemoryStorage) -> dict[str, object]:
    """Everything that it keeps, but for what is empty."""
    kept = attrs.asdict(storage._records, recurse=False)
    return {
        name: {key: it for key, it in value.items() if it} if isinstance(value, dict) else value
        for name, value in kept.items()
    }


async def test_memory_to_sqlite_and_back_is_the_identity(tmp_path: Path) -> None:
    clock = SetClock()
    first, last = MemoryStorage(clock), MemoryStorage(clock)
    await live(first)
    async with open_storage(sqlite(tmp_path / "a.db"), now=clock) as between:
        await copy(first, between)
        assert (await exported(between))[1:] == (await exported(first))[1:]
        await copy(between, last)
    assert await exported(last) == await exported(first)
    assert indexes(last) == indexes(first)
    assert last.cluster_id == first.cluster_id


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.e2e)])
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of an empty server."""
    with start_server(request.param) as server:
        yield server.url


async def test_sqlite_to_redis_and_back_is_the_identity(redis_url: str, tmp_path: Path) -> None:
    clock = SetClock()
    async with (
        open_storage(sqlite(tmp_path / "a.db"), now=clock) as first,
        open_storage(redis_url, now=clock) as between,
        open_storage(sqlite(tmp_path / "b.db"), now=clock) as last,
    ):
        await live(first)
        await copy(first, between)
        assert await held(between) == await held(first)
        await copy(between, last)
        assert await held(last) == await held(first)
        assert between.cluster_id == last.cluster_id == first.cluster_id
        assert await find_violations(last) == []


async def test_what_was_restored_is_there_when_redis_is_opened_again(redis_url: str) -> None:
    source = MemoryStorage(SetClock(START + 100), "the-cluster")
    await live(source)
    async with open_storage(redis_url, now=SetClock()) as target:
        await copy(source, target)
    async with open_storage(redis_url, now=SetClock()) as again:
        assert again.cluster_id == "the-cluster"
        assert again.now() >= START + 100
        assert await held(again) == await held(source)
        claimed = await again.claim_ready("one", most=9, lease_seconds=30)
        assert [job.id for job in claimed] == ["ready"]


def time_of_a_write(ledger: Ledger) -> float:
    ledger.record(a_row())
    return ledger.now


async def test_the_time_of_redis_is_raised_for_all_processes(redis_url: str) -> None:
    async with open_storage(redis_url) as storage, open_storage(redis_url) as other:
        later = storage.now() + 5000
        facts = StorageFacts(cluster_id=storage.cluster_id, latest=later, schema=1)
        await storage.restore([facts])
        assert storage.now() >= later
        assert await other.commit(time_of_a_write) >= later
        assert other.now() >= later
        await storage.restore([attrs.evolve(facts, latest=START)])
        assert storage.now() >= later
    async with open_storage(redis_url) as again:
        assert later <= again.now() < later + 60


async def test_no_commit_is_refused_while_the_cluster_id_changes(redis_url: str) -> None:
    async with open_storage(redis_url, partitions=1) as storage:

        async def commit(name: str) -> None:
            for revision in range(1, 5):
                await storage.commit(put(a_job(name, revision=revision)))

        async with trio.open_nursery() as nursery:
            for at in range(30):
                nursery.start_soon(commit, f"j{at}")
                facts = StorageFacts(cluster_id=f"c{at}", latest=START, schema=1)
                nursery.start_soon(storage.restore, [facts])
        [stored, *_] = await exported(storage)
        assert isinstance(stored, StorageFacts)
        assert stored.cluster_id == storage.cluster_id
        jobs = await storage.jobs(JobQuery())
        assert [it.revision for it in jobs] == [4] * 30
    async with open_storage(redis_url, partitions=1) as again:
        assert again.cluster_id == storage.cluster_id


async def test_a_new_cluster_id_whose_answer_was_lost_is_not_a_strangers(redis_url: str) -> None:
    async with open_storage(redis_url) as storage:
        assert isinstance(storage, RedisStorage)
        keys, now = storage._root.keys, repr(storage.now())
        rename = msgspec.msgpack.encode(([], [("HSET", keys.meta, "cluster", "c2")]))
        names = (keys.meta, keys.clock, keys.done)
        arguments = (storage.cluster_id, now, "2", keys.news, b"", "t", rename)
        call = ScriptCall(COMMIT, names, arguments)
        first = await storage._bridge.call(call, key=keys.tag)
        again = await storage._bridge.call(call, key=keys.tag)
        assert first == again
        assert first[0][0] == b"done"


async def test_who_has_opened_what_was_there_before_is_refused(redis_url: str) -> None:
    async with open_storage(redis_url) as storage, open_storage(redis_url) as other:
        await storage.restore([StorageFacts(cluster_id="c2", latest=START, schema=1)])
        with pytest.raises(StorageUnavailable, match="does not hold the storage that was opened"):
            await other.commit(put(a_job()))


async def test_rows_of_redis_take_their_places_in_any_order(redis_url: str) -> None:
    async with open_storage(redis_url, now=SetClock()) as storage:
        await storage.commit(put(a_job("a")))
        far = 10**15
        numbers = [far + it for it in (9, 3, 7, 5)]
        rows = [NumberedRow(number=it, row=a_row("a", revision=it - far)) for it in numbers]
        await storage.restore(rows[:2])
        await storage.restore(rows)
        other = NumberedRow(number=far + 7, row=a_row("a", kind="other"))
        await storage.restore([other])
        await storage.commit(put(a_row("a", kind="later")))
        history = await storage.history("a")
        assert [it.number - far for it in history] == [3, 5, 7, 9, 10]
        assert history[2] == other
        assert history[-1].row.type == "later"


async def test_a_long_history_and_many_jobs_of_one_moment_are_exported_whole(
    redis_url: str,
) -> None:
    names = [f"j{at:04}" for at in range(2 * MOST_PER_BATCH + 200)]
    clock = SetClock()
    async with open_storage(redis_url, now=clock) as storage:
        for at in range(0, len(names), 100):
            await storage.commit(put(*map(a_job, names[at : at + 100])))
        await storage.commit(put(*[a_row("j0000")] * (2 * MOST_PER_BATCH)))
        fan = [a_task("j0001", branch=at) for at in range(MOST_PER_BATCH + 9)]
        await storage.commit(put(*fan))
        timers = [
            Timer(kind=kind, subject=f"{at}", due_at=START + at // 900)
            for kind in (TimerKind.RETRY, TimerKind.FILES, TimerKind.FORGET)
            for at in range(2 * MOST_PER_BATCH)
        ]
        await storage.commit(put(*timers))
        records = await exported(storage)
        assert [it.id for it in records if isinstance(it, Job)] == names
        assert len([it for it in records if isinstance(it, NumberedRow)]) == 2 * MOST_PER_BATCH
        assert {it.id for it in records if isinstance(it, Task)} == {it.id for it in fan}
        found = [it for it in records if isinstance(it, Timer)]
        assert len(found) == len(timers)
        assert set(found) == set(timers)


async def test_a_job_that_was_another_clients_leaves_its_index(redis_url: str) -> None:
    async with open_storage(redis_url, now=SetClock()) as storage:
        await storage.commit(put(a_ready_job(client="one")))
        job = a_ready_job(client="two", blueprint="other", revision=5)
        await storage.restore([job])
        assert await storage.claim_ready("one", most=9, lease_seconds=30) == [job]
        assert await storage.jobs(JobQuery(client="one")) == []
        assert await storage.jobs(JobQuery(client="two")) == [job]
        counts = await storage.job_counts()
        assert sum(counts.values()) == 1


async def test_a_damaged_record_in_redis_is_told_with_its_key(redis_url: str) -> None:
    async with open_storage(redis_url, now=SetClock()) as storage:
        await storage.commit(put(a_job(), a_task()))
        with Redis.from_url(redis_url) as client:
            client.append("{p00}:task:j-1", b"}")
        with pytest.raises(StorageUnavailable, match="task:j-1 in Redis is damaged"):
            await exported(storage)


class TestSchemas:
    """Processes of two releases on one Redis, see `_redis_schema`."""

    @pytest.fixture
    def release(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
        async def nothing_to_do(*_: object) -> None:
            pass

        def become(schema: int) -> None:
            monkeypatch.setattr(_redis_schema, "SCHEMA_VERSION", schema)
            monkeypatch.setattr(_redis_schema, "UPGRADES", {2: nothing_to_do})

        return become

    async def test_an_old_process_goes_on_and_cannot_be_started_again(
        self, redis_url: str, release: Callable[[int], None]
    ) -> None:
        release(1)
        async with open_storage(redis_url) as old:
            await old.commit(put(a_job("a")))
            release(2)
            async with open_storage(redis_url) as new:
                assert new.cluster_id == old.cluster_id
                await old.commit(put(a_job("b")))
                await new.commit(put(a_job("a", revision=2), a_ready_job("c")))
                await old.commit(put(a_job("a", revision=3)))
                [job] = await old.claim_ready("one", most=9, lease_seconds=30)
                assert job.id == "c"
                release(1)
                with pytest.raises(StorageUnavailable) as refused:
                    async with open_storage(redis_url):
                        pass
                assert "written by a newer version (its schema is 2, this program knows 1)" in str(
                    refused.value
                )
                await old.commit(put(a_job("b", revision=2)))
        release(2)
        async with open_storage(redis_url) as again:
            [facts, *_] = await exported(again)
            assert isinstance(facts, StorageFacts)
            assert facts.schema == 2
            assert {it.id for it in await again.jobs(JobQuery())} == {"a", "b", "c"}

    async def test_a_new_storage_has_the_newest_schema_at_once(
        self, redis_url: str, release: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release(2)
        monkeypatch.setattr(_redis_schema, "UPGRADES", {})
        async with open_storage(redis_url) as storage:
            [facts] = await exported(storage)
            assert isinstance(facts, StorageFacts)
            assert facts.schema == 2

    async def test_an_upgrade_that_fails_leaves_the_old_schema(
        self, redis_url: str, release: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fails(*_: object) -> None:
            raise StorageUnavailable("gone")

        async with open_storage(redis_url):
            pass
        release(2)
        monkeypatch.setattr(_redis_schema, "UPGRADES", {2: fails})
        with pytest.raises(StorageUnavailable, match="gone"):
            async with open_storage(redis_url):
                pass
        release(1)
        async with open_storage(redis_url) as storage:
            await storage.commit(put(a_job()))


async def test_all_kinds_of_records_are_in_a_live_storage() -> None:
    storage = MemoryStorage(SetClock())
    await live(storage)
    assert {kind_of(it) for it in await exported(storage)} == set(KINDS)


async def test_what_was_restored_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    clock = SetClock(START + 100)
    source = MemoryStorage(clock, "the-cluster")
    await live(source)
    before = await exported(source)
    clock.time = START - 100
    async with open_storage(sqlite(tmp_path / "a.db"), now=clock) as target:
        await copy(source, target)
    async with open_storage(sqlite(tmp_path / "a.db"), now=clock) as again:
        assert again.cluster_id == "the-cluster"
        assert again.now() >= START + 100
        assert (await exported(again))[1:] == before[1:]
        assert again.partitions_with(["k"])
        claimed = await again.claim_ready("one", most=9, lease_seconds=30)
        assert [job.id for job in claimed] == ["ready"]
        assert await find_violations(again) == []


async def test_a_cancelled_restore_of_facts_is_whole(tmp_path: Path) -> None:
    async with open_storage(sqlite(tmp_path / "a.db"), now=SetClock()) as storage:
        facts = StorageFacts(cluster_id="c2", latest=START, schema=1)

        async def restore() -> None:
            await storage.restore([facts])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(restore)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        [stored, *_] = await exported(storage)
        assert isinstance(stored, StorageFacts)
        assert storage.cluster_id == stored.cluster_id


async def test_rows_with_gaps_and_out_of_order_are_kept_in_order() -> None:
    storage = MemoryStorage(SetClock())
    rows = [NumberedRow(number=it, row=a_row("a")) for it in (9, 3, 7)]
    await storage.restore(rows)
    await storage.commit(put(a_row("a", kind="later")))
    assert [it.number for it in await storage.history("a")] == [3, 7, 9, 10]
    numbers = [it.number for it in await exported(storage) if isinstance(it, NumberedRow)]
    assert numbers == [3, 7, 9, 10]


async def test_a_damaged_record_is_told_with_its_table(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with open_storage(sqlite(path), now=SetClock()) as storage:
        await storage.commit(put(a_job(), a_task()))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE tasks SET body=?", (b'{"id": "j-1"',))
    async with open_storage(sqlite(path), now=SetClock()) as storage:
        with pytest.raises(StorageUnavailable, match="table tasks is damaged"):
            await exported(storage)


async def test_a_restore_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async def check(storage: Storage) -> None:
        unstorable = attrs.evolve(a_task(), params={"x": object()})
        with pytest.raises(ValueError, match="cannot be stored"):
            await storage.restore([a_ready_job("j"), a_row_of("j"), unstorable])
        assert len(await exported(storage)) == 1
        assert await storage.job("j") is None

    async with open_storage(sqlite(tmp_path / "a.db"), now=SetClock()) as storage:
        await check(storage)


def a_row_of(job_id: str) -> NumberedRow:
    return NumberedRow(number=1, row=a_row(job_id))


JOB = encode_record(a_job())


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", "line 7: is not a record"),
        (b"\xff\xfe", "line 7: is not a record"),
        (b'{"a": 1}', "line 7: is not a record"),
        (b'["job"]', "line 7: is not a record"),
        (b'["planet",{}]', "line 7: there are no records of kind 'planet'"),
        (b'["job",[]]', r"line 7, \$: "),
        (b'["job",{}]', r"line 7, \$.id: is missing"),
        (JOB.replace(b'"revision":1', b'"revision":"1"'), r"line 7, \$.revision: "),
        (JOB.replace(b'"revision":1', b'"revision":1,"mood":0'), r"line 7, \$.mood: is not known"),
        (JOB.replace(b'"waiting_for_worker"', b'"asleep"'), r"line 7, \$.status: "),
        (JOB[:-5], "line 7: is not a record"),
        (JOB + b"x", "line 7: is not a record"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(line: bytes, fault: str) -> None:
    with pytest.raises(InvalidMessage, match=fault):
        decode_record(line, 7)


def test_members_that_have_a_default_may_be_absent() -> None:
    kind, body = msgspec.json.decode(JOB)
    del body["revision"]
    assert decode_record(msgspec.json.encode([kind, body]), 1) == a_job()


def test_values_keep_their_types_on_a_line() -> None:
    job = a_job(result={"int": 1, "float": 1.0, "big": 2**70, "text": "\u2028\x00 ü"})
    line = encode_record(job)
    assert b"\n" not in line
    assert repr(decode_record(line, 1)) == repr(job)
