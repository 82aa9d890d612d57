"""The log on disk: damage, and rewriting."""

import json
from pathlib import Path
from zlib import crc32

import pytest
from tests.worker.spool_cases import FailingDisk, opened, result, tasks

# --- On disk: damage -----------------------------------------------------------------------


async def fill(folder: Path, count: int) -> list[bytes]:
    """Append *count* results and return their records."""
    async with opened(folder) as spool:
        await spool.append_many([result(number) for number in range(count)])
    records = (folder / "results.log").read_bytes().split(b"\x1e")[1:]
    return [b"\x1e" + record for record in records]


async def test_a_torn_tail_is_set_aside_and_reported(tmp_path: Path) -> None:
    records = await fill(tmp_path, 3)
    torn = records[2][:50]
    (tmp_path / "results.log").write_bytes(records[0] + records[1] + torn)
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-0", "task-1"]
        (note,) = spool.recovered.notes
        assert f"50 bytes at {len(records[0] + records[1])}" in note
        assert "results.log.torn-1" in note
        await spool.append(result(7))
    assert (tmp_path / "results.log.torn-1").read_bytes() == torn
    async with opened(tmp_path, "i3") as spool:
        assert tasks(spool.recovered.entries) == ["task-0", "task-1", "task-7"]
        assert spool.recovered.notes == ()


async def test_damage_in_the_middle_costs_that_record_only(tmp_path: Path) -> None:
    records = await fill(tmp_path, 4)
    damaged = records[1].replace(b"success", b"succors")
    (tmp_path / "results.log").write_bytes(records[0] + damaged + records[2] + records[3])
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-0", "task-2", "task-3"]
    assert (tmp_path / "results.log.torn-1").read_bytes() == damaged


async def test_each_damage_gets_a_file_of_its_own(tmp_path: Path) -> None:
    await fill(tmp_path, 1)
    for opening in (1, 2):
        with (tmp_path / "results.log").open("ab") as log:
            log.write(b"\0" * opening)
        async with opened(tmp_path, "i2") as spool:
            assert tasks(spool.recovered.entries) == ["task-0"]
        torn = tmp_path / f"results.log.torn-{opening}"
        assert torn.read_bytes() == b"\0" * opening


async def test_a_whole_record_that_says_nothing_we_know_is_set_aside(tmp_path: Path) -> None:
    await fill(tmp_path, 1)
    checked = b'17 {"later": "than"}'
    strange = b"\x1e%08x %b\n" % (crc32(checked), checked)
    with (tmp_path / "results.log").open("ab") as log:
        log.write(strange)
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-0"]
        assert len(spool.recovered.notes) == 1
    assert (tmp_path / "results.log.torn-1").read_bytes() == strange


async def test_a_damaged_record_of_instances_is_set_aside_and_reported(tmp_path: Path) -> None:
    await fill(tmp_path, 1)
    (tmp_path / "instances.json").write_bytes(b'["i')
    async with opened(tmp_path, "i2") as spool:
        assert spool.recovered.instances == ()
        assert "instances.json.torn-1" in spool.recovered.notes[0]
        assert tasks(spool.recovered.entries) == ["task-0"]
    async with opened(tmp_path, "i3") as spool:
        assert spool.recovered.instances == ("i2",)


async def test_set_aside_results_are_readable_lines_even_after_a_torn_one(tmp_path: Path) -> None:
    (tmp_path / "set-aside.jsonl").write_bytes(b'{"torn')
    async with opened(tmp_path) as spool:
        one, two = await spool.append_many([result(1), result(2)])
        await spool.set_aside(one.id, "unknown task")
        await spool.set_aside(two.id, "no credential for w1")
    torn, *lines = (tmp_path / "set-aside.jsonl").read_text().splitlines()
    assert torn == '{"torn'
    assert [json.loads(line)["reason"] for line in lines] == [
        "unknown task",
        "no credential for w1",
    ]
    assert json.loads(lines[0])["entry"]["body"] == {"status": "success", "data": {"number": 1}}


# --- On disk: rewriting ---------------------------------------------------------------------


async def test_a_log_that_is_mostly_settled_is_rewritten(tmp_path: Path) -> None:
    log = tmp_path / "results.log"
    async with opened(tmp_path, compact_bytes=10_000) as spool:
        entries = await spool.append_many([result(number) for number in range(100)])
        await spool.append(result(100))
        full = log.stat().st_size
        assert full > 10_000
        await spool.acknowledge([entry.id for entry in entries])
        await spool.append(result(101))  # the disk has then done what came before
        assert log.stat().st_size < 1000
        assert tasks(spool.pending()) == ["task-100", "task-101"]
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-100", "task-101"]


async def test_a_log_that_is_mostly_pending_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path, compact_bytes=10_000) as spool:
        before = (tmp_path / "results.log").stat().st_ino
        entries = await spool.append_many([result(number) for number in range(100)])
        await spool.acknowledge([entry.id for entry in entries[:40]])
        await spool.append(result(100))
        assert (tmp_path / "results.log").stat().st_ino == before


async def test_opening_leaves_out_what_is_settled(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        entries = await spool.append_many([result(number) for number in range(50)])
        await spool.acknowledge([entry.id for entry in entries])
    async with opened(tmp_path, "i2"):
        assert (tmp_path / "results.log").stat().st_size < 50


async def test_a_rewriting_that_fails_leaves_the_log_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FailingDisk()
    async with opened(tmp_path, compact_bytes=1000, disk=disk.as_disk()) as spool:
        entries = await spool.append_many([result(number) for number in range(10)])
        disk.room = 100  # enough for the acknowledgement, too little for a new log
        await spool.acknowledge([entry.id for entry in entries[:8]])
        await spool.set_aside(999, "no such entry")  # waits for the thread
        assert caplog.records[0].message.startswith("the spool's log could not be rewritten")
        disk.room = 1 << 40
        await spool.append(result(10))
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-8", "task-9", "task-10"]


async def test_what_a_process_left_while_rewriting_is_removed(tmp_path: Path) -> None:
    await fill(tmp_path, 2)
    (tmp_path / "results.log.tmp").write_bytes(b"half a")
    async with opened(tmp_path, "i2") as spool:
        assert tasks(spool.recovered.entries) == ["task-0", "task-1"]
    assert not (tmp_path / "results.log.tmp").exists()


async def test_of_earlier_instances_only_the_newest_are_remembered(tmp_path: Path) -> None:
    """An orchestrator that is away for good never acknowledges them."""
    (tmp_path / "instances.json").write_text(json.dumps([f"i{n}" for n in range(1000)]))
    async with opened(tmp_path, "new") as spool:
        assert spool.recovered.instances == tuple(f"i{n}" for n in range(800, 1000))
    assert len(json.loads((tmp_path / "instances.json").read_text())) == 201
