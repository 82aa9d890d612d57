"""Whatever happens to the log's bytes: no crash, no invention, no loss beside the damage."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
from hypothesis import given, strategies as st

from avtomatika_trio.worker._spool_entry import FinishedResult, SpoolEntry, entry_of
from avtomatika_trio.worker._spool_folder import Disk
from avtomatika_trio.worker._spool_format import (
    LogContents,
    encode_acknowledged,
    encode_entry,
    encode_next_id,
    read_log,
)
from avtomatika_trio.worker._spool_log import SpoolLog

QUICK_DISK = Disk(fsync=lambda _: None)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)


@attrs.frozen
class Log:
    """Records one after the other, and what each of them says."""

    records: tuple[bytes, ...]
    entries: tuple[SpoolEntry | None, ...]
    acknowledged: tuple[tuple[int, ...], ...]

    @property
    def data(self) -> bytes:
        return b"".join(self.records)

    def pending(self, kept: Sequence[bool]) -> set[int]:
        """What is pending if only the records marked in *kept* are read."""
        parts = list(zip(self.entries, self.acknowledged, kept, strict=True))
        settled = {i for _, ids, there in parts if there for i in ids}
        return {e.id for e, _, there in parts if there and e is not None} - settled

    def record_at(self, offset: int) -> int:
        """The number of the record that the byte at *offset* belongs to."""
        for number, record in enumerate(self.records):
            offset -= len(record)
            if offset < 0:
                return number
        raise AssertionError(offset)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    records: list[bytes] = []
    entries: list[SpoolEntry | None] = []
    acknowledged: list[tuple[int, ...]] = []
    if draw(st.booleans()):
        records.append(encode_next_id(1))
        entries.append(None)
        acknowledged.append(())
    next_id = 1
    for _ in range(draw(st.integers(1, 6))):
        if next_id > 1 and draw(st.booleans()):
            ids = tuple(draw(st.lists(st.integers(1, next_id - 1), min_size=1, max_size=3)))
            records.append(encode_acknowledged(ids))
            entries.append(None)
            acknowledged.append(ids)
            continue
        result = FinishedResult(
            cluster_id=draw(st.sampled_from(["blue", "green"])),
            orchestrator="http://127.0.0.1",
            job_id="job",
            task_id=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=4)),
            body=draw(json_values),
            finished_at=1.0,
        )
        entry = entry_of(result, entry_id=next_id, worker_id="w", instance="i")
        records.append(encode_entry(entry))
        entries.append(entry)
        acknowledged.append(())
        next_id += 1
    return Log(tuple(records), tuple(entries), tuple(acknowledged))


def check(log: Log, contents: LogContents, lost: int | None) -> None:
    """*contents* is what *log* says without the record number *lost*, or with it."""
    everything = {entry.id: entry for entry in log.entries if entry is not None}
    assert all(everything[entry.id] == entry for entry in contents.entries)
    kept = [number != lost for number in range(len(log.records))]
    found = {entry.id for entry in contents.entries}
    assert found in (log.pending(kept), log.pending([True] * len(kept)))
    assert contents.next_id > max(found, default=0)


@given(logs())
def test_a_whole_log_is_read_as_it_was_written(log: Log) -> None:
    contents = read_log(log.data)
    check(log, contents, None)
    assert contents.damages == ()
    assert contents.is_compact == (not any(log.acknowledged))


@given(logs())
def test_a_log_cut_at_any_byte_keeps_every_record_before_the_cut(log: Log) -> None:
    for size in range(len(log.data)):
        contents = read_log(log.data[:size])
        cut = log.record_at(size)
        before = [number < cut for number in range(len(log.records))]
        through = [number <= cut for number in range(len(log.records))]
        found = {entry.id for entry in contents.entries}
        # The line feed at the end of a record is not missed.
        is_whole = size == len(b"".join(log.records[: cut + 1])) - 1
        assert found == log.pending(through if is_whole else before)
        assert b"".join(damage.data for damage in contents.damages) == (
            b"" if is_whole else log.data[len(b"".join(log.records[:cut])) : size]
        )


@given(logs(), st.data())
def test_a_changed_byte_costs_at_most_its_record(log: Log, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(log.data) - 1), label="at")
    byte = data.draw(st.integers(1, 255), label="xor") ^ log.data[at]
    changed = log.data[:at] + bytes([byte]) + log.data[at + 1 :]
    contents = read_log(changed)
    check(log, contents, log.record_at(at))
    assert not contents.is_compact


@given(logs(), st.data())
def test_foreign_bytes_between_records_cost_nothing(log: Log, data: st.DataObject) -> None:
    between = data.draw(st.integers(0, len(log.records)), label="between")
    foreign = data.draw(st.binary(min_size=1, max_size=40), label="foreign")
    parts = [*log.records[:between], foreign, *log.records[between:]]
    contents = read_log(b"".join(parts))
    check(log, contents, None)
    assert b"".join(damage.data for damage in contents.damages) == foreign


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_read_without_an_entry(data: bytes) -> None:
    contents = read_log(data)
    assert contents.entries == ()
    assert b"".join(damage.data for damage in contents.damages) == data


@given(logs(), st.data())
def test_a_damaged_log_is_opened_and_opened_again_with_the_same_entries(
    log: Log, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(log.data) - 1), label="at")
    if data.draw(st.booleans(), label="cut"):
        damaged = log.data[:at]
    else:
        damaged = log.data[:at] + bytes([log.data[at] ^ 0x10]) + log.data[at + 1 :]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "results.log").write_bytes(damaged)
        first = SpoolLog(folder, instance="i1", disk=QUICK_DISK)
        first.close()
        expected = read_log(damaged)
        assert first.recovered.entries == expected.entries
        assert len(first.recovered.notes) == len(expected.damages)
        assert (folder / "results.log.torn-1").exists() == bool(expected.damages)
        second = SpoolLog(folder, instance="i2", disk=QUICK_DISK)
        second.close()
        assert second.recovered.entries == first.recovered.entries
        assert second.recovered.notes == ()
        assert second.next_id >= first.next_id
