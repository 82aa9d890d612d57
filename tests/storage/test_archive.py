"""What goes out of one kind of storage and into another, and records on their lines."""

import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import msgspec
import pytest
import trio

from avtomatika_trio.errors import InvalidMessage, StorageUnavailable
from avtomatika_trio.storage import MemoryStorage, Storage, open_storage
from avtomatika_trio.storage._records import (
    KINDS,
    NumberedRow,
    StorageFacts,
    decode_record,
    encode_record,
    kind_of,
)
from avtomatika_trio.testing._promises_archive import copy, exported, live
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
