"""Looking into a spool's folder: what is told, and that nothing is changed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from tests.worker.spool_cases import opened, result, tasks

from avtomatika_trio.errors import SpoolError
from avtomatika_trio.worker._spool_format import Damage, read_log, split_unfinished
from avtomatika_trio.worker._spool_holder import Holder, LockState, find_holder
from avtomatika_trio.worker._spool_inspection import SpoolContents, inspect_spool


def look(folder: Path) -> SpoolContents:
    contents = inspect_spool(folder)
    assert contents is not None
    return contents


async def fill(folder: Path, count: int, instance: str = "i1") -> list[bytes]:
    """Append *count* results and return their records."""
    async with opened(folder, instance) as spool:
        await spool.append_many([result(number) for number in range(count)])
    records = (folder / "results.log").read_bytes().split(b"\x1e")[1:]
    return [b"\x1e" + record for record in records]


def state_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """What would differ if anything in *folder* had been written, made or renamed."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (folder, *folder.iterdir()):
        status = path.stat()
        found[path.name] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


# --- What is told --------------------------------------------------------------------------


async def test_a_dead_workers_folder_is_told_whole(tmp_path: Path) -> None:
    (tmp_path / "worker-id").write_text("worker-1234\n")
    await fill(tmp_path, 2)
    async with opened(tmp_path, "i2") as spool:
        await spool.append(result(7, cluster_id="green"))
        await spool.acknowledge([spool.pending()[0].id])
        await spool.set_aside(spool.pending()[0].id, "nobody knows the job")
    contents = look(tmp_path)
    assert (contents.folder, contents.worker_id) == (tmp_path, "worker-1234")
    assert contents.holder == Holder(state=LockState.FREE)
    assert contents.log_bytes == (tmp_path / "results.log").stat().st_size
    assert tasks(contents.waiting) == ["task-7"]
    assert contents.waiting[0].cluster_id == "green"
    assert [(it.entry.task_id, it.reason) for it in contents.set_aside] == [
        ("task-1", "nobody knows the job")
    ]
    assert contents.instances == ("i1", "i2")
    assert (contents.damaged_files, contents.notes) == ((), ())


async def test_a_running_workers_folder_is_told_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.append(result(1))
        contents = look(tmp_path)
        assert contents.holder == Holder(state=LockState.HELD, pid=os.getpid())
        assert tasks(contents.waiting) == ["task-1"]
        assert contents.worker_id is None
        await spool.append(result(2))  # it has not been disturbed
    assert tasks(look(tmp_path).waiting) == ["task-1", "task-2"]


async def test_looking_changes_nothing(tmp_path: Path) -> None:
    records = await fill(tmp_path, 3)
    (tmp_path / "results.log").write_bytes(records[0] + b"\0\0" + records[1] + records[2][:50])
    (tmp_path / "instances.json").write_bytes(b'["i')
    (tmp_path / "results.log.tmp").write_bytes(b"left by a crash")
    before = state_of(tmp_path)
    look(tmp_path)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("name", ["", "missing", "missing/below"])
def test_without_a_log_nothing_is_told_and_nothing_made(tmp_path: Path, name: str) -> None:
    assert inspect_spool(tmp_path / name) is None
    assert list(tmp_path.iterdir()) == []


# --- Damage --------------------------------------------------------------------------------


async def test_an_unfinished_record_is_torn_only_if_nobody_writes_it(tmp_path: Path) -> None:
    (record,) = await fill(tmp_path, 1)
    at = len(record)
    async with opened(tmp_path, "i2") as spool:
        with (tmp_path / "results.log").open("ab") as log:
            log.write(record[:50])
        contents = look(tmp_path)
        assert contents.unfinished == Damage(offset=at, data=record[:50])
        assert contents.notes == ("the last record is being written",)
        assert tasks(contents.waiting) == ["task-0"]
        assert tasks(spool.pending()) == ["task-0"]
    contents = look(tmp_path)
    assert contents.damages == ()
    assert contents.notes == (
        f"the last record is torn (50 bytes at {at}); the next start sets it aside",
    )

    async with opened(tmp_path, "i3"):
        contents = look(tmp_path)
    assert [(it.name, it.size_bytes) for it in contents.damaged_files] == [
        ("results.log.torn-1", 50)
    ]
    assert (contents.unfinished, contents.notes) == (None, ())


async def test_damage_in_the_middle_is_told_with_its_place(tmp_path: Path) -> None:
    records = await fill(tmp_path, 4)
    damaged = records[1].replace(b"success", b"succors")
    (tmp_path / "results.log").write_bytes(records[0] + damaged + records[2] + records[3])
    contents = look(tmp_path)
    assert tasks(contents.waiting) == ["task-0", "task-2", "task-3"]
    assert contents.damages == (Damage(offset=len(records[0]), data=damaged),)
    assert contents.unfinished is None
    (note,) = contents.notes
    assert note == (
        f"{len(damaged)} bytes at {len(records[0])} of results.log cannot be read;"
        " the next start sets them aside and keeps every other record"
    )


async def test_a_damaged_record_before_an_unfinished_one_is_told_apart(tmp_path: Path) -> None:
    records = await fill(tmp_path, 3)
    damaged = records[1].replace(b"success", b"succors")
    (tmp_path / "results.log").write_bytes(records[0] + damaged + records[2][:-9])
    contents = look(tmp_path)
    at = len(records[0])
    assert contents.damages == (Damage(offset=at, data=damaged),)
    assert contents.unfinished == Damage(offset=at + len(damaged), data=records[2][:-9])


async def test_a_log_cut_at_any_byte_is_unfinished_and_not_damaged(tmp_path: Path) -> None:
    records = await fill(tmp_path, 2)
    data = b"".join(records)
    whole = {0, len(records[0]), len(data)}
    whole |= {at - 1 for at in whole if at}  # the line feed is for the eyes
    for cut in range(len(data) + 1):
        damages, unfinished = split_unfinished(read_log(data[:cut]).damages, cut)
        assert damages == ()
        assert (unfinished is None) == (cut in whole), cut


@pytest.mark.parametrize("tail", [b"\0\0\0", b"\x1e12 nonsense", b"\x1ezzzzzzzz"])
async def test_bytes_that_begin_no_record_are_damage(tmp_path: Path, tail: bytes) -> None:
    await fill(tmp_path, 1)
    with (tmp_path / "results.log").open("ab") as log:
        log.write(tail)
    contents = look(tmp_path)
    assert [damage.data for damage in contents.damages] == [tail]
    assert contents.unfinished is None


async def test_damaged_files_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    await fill(tmp_path, 1)
    for name in ("results.log.torn-10", "results.log.torn-2", "instances.json.torn-1"):
        (tmp_path / name).write_bytes(b"xyz")
        os.utime(tmp_path / name, (5000, 5000))
    files = look(tmp_path).damaged_files
    assert [it.name for it in files] == [
        "instances.json.torn-1",
        "results.log.torn-2",
        "results.log.torn-10",
    ]
    assert {(it.size_bytes, it.modified_at) for it in files} == {(3, 5000.0)}


async def test_what_else_cannot_be_read_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.append(result(1))
        await spool.set_aside(spool.pending()[0].id, "why")
        line = (tmp_path / "set-aside.jsonl").read_bytes()
        (tmp_path / "set-aside.jsonl").write_bytes(b"{}\n" + line + line[:20])
        contents = look(tmp_path)
        assert contents.notes == (
            "lines of set-aside.jsonl that cannot be read: 1",
        )  # not the last
    (tmp_path / "instances.json").write_bytes(b'["i')
    contents = look(tmp_path)
    assert (len(contents.set_aside), contents.instances) == (1, None)
    assert contents.notes == (
        "lines of set-aside.jsonl that cannot be read: 2",
        "instances.json cannot be read; the next start sets it aside",
    )


# --- Beside a worker -----------------------------------------------------------------------


async def test_beside_an_appending_spool_every_look_is_whole(tmp_path: Path) -> None:
    """Results that wait before and after a look are in it, whatever happens to the log."""
    looks = 0
    # It is rewritten every few appends.
    async with opened(tmp_path, compact_bytes=2000) as spool, trio.open_nursery() as nursery:

        async def append_and_acknowledge() -> None:
            for number in range(200):
                await spool.append_many([result(number * 10 + n) for n in range(5)])
                await spool.acknowledge([entry.id for entry in spool.pending()[:4]])
            nursery.cancel_scope.cancel()

        nursery.start_soon(append_and_acknowledge)
        while True:
            before = {entry.id for entry in spool.pending()}
            contents = await trio.to_thread.run_sync(look, tmp_path)
            after = {entry.id for entry in spool.pending()}
            assert contents.damages == ()
            assert before & after <= {entry.id for entry in contents.waiting}
            assert contents.holder.pid == os.getpid()
            assert set(contents.notes) <= {"the last record is being written"}
            looks += 1
    assert looks > 5


# --- Who has it open -----------------------------------------------------------------------

HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
os.write(fd, sys.argv[2].encode() or f"{os.getpid()}\\n".encode())
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path, text: str = "") -> Iterator[int]:
    """A process that holds the lock at *path*, with *text* instead of its id in it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path, text], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def test_another_process_is_named_while_it_holds_the_lock(tmp_path: Path) -> None:
    assert find_holder(tmp_path) == Holder(state=LockState.FREE)
    with holding(tmp_path / "lock") as pid:
        assert find_holder(tmp_path) == Holder(state=LockState.HELD, pid=pid)
    assert find_holder(tmp_path) == Holder(state=LockState.FREE)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="needs /proc/locks")
def test_the_kernel_knows_better_than_the_file(tmp_path: Path) -> None:
    with holding(tmp_path / "lock", "no number") as pid:
        assert find_holder(tmp_path) == Holder(state=LockState.HELD, pid=pid)


@pytest.mark.parametrize(
    ("locks", "holder"),
    [
        ("1: FLOCK  ADVISORY  WRITE {pid} 00:00:{inode} 0 EOF\n", "pid"),  # as btrfs tells it
        ("1: FLOCK  ADVISORY  WRITE 77 {device}:{inode} 0 EOF\n", 77),
        ("1: FLOCK  ADVISORY  WRITE 77 00:00:{inode} 0 EOF\n", None),
        ("1: -> FLOCK  ADVISORY  WRITE 77 {device}:{inode} 0 EOF\n", None),
        ("1: POSIX  ADVISORY  WRITE 77 {device}:{inode} 0 EOF\n", None),
        ("1: FLOCK  ADVISORY  WRITE 77 {device}:1 0 EOF\n", None),
        ("", None),
    ],
)
def test_the_kernels_list_of_locks_is_understood(
    tmp_path: Path, locks: str, holder: object
) -> None:
    (tmp_path / "lock").write_text(f"{os.getpid()}\n")
    status = (tmp_path / "lock").stat()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    text = locks.format(pid=os.getpid(), device=device, inode=status.st_ino)
    (tmp_path / "locks").write_text(text)
    found = find_holder(tmp_path, proc=tmp_path)
    assert found.pid == (os.getpid() if holder == "pid" else holder)
    assert (found.state is LockState.HELD) == (holder is not None)


def test_where_nobody_tells_of_locks_a_running_process_is_only_named(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(f"{os.getpid()}\n")
    unknown = find_holder(tmp_path, proc=tmp_path / "none")
    assert unknown == Holder(state=LockState.UNKNOWN, pid=os.getpid())
    with subprocess.Popen(["true"]) as ended:
        pass
    (tmp_path / "lock").write_text(f"{ended.pid}\n")
    assert find_holder(tmp_path, proc=tmp_path / "none").state is LockState.FREE


# --- Folders that refuse -------------------------------------------------------------------


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """Nobody may read *folder*; an account that may all becomes another for the while."""
    folder.chmod(0)
    account = os.geteuid()
    if account == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(account)
        folder.chmod(0o700)


async def test_a_folder_that_may_not_be_read_is_explained(tmp_path: Path) -> None:
    await fill(tmp_path, 1)
    with without_rights(tmp_path), pytest.raises(SpoolError) as caught:
        inspect_spool(tmp_path)
    assert caught.value.folder == str(tmp_path)
    assert "Permission denied; give this account the right to read" in caught.value.reason


def test_a_file_in_the_place_of_the_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolError, match="Not a directory; remove the file that is in the way"):
        inspect_spool(tmp_path / "spool")


async def test_a_log_that_is_a_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "results.log").mkdir()
    with pytest.raises(SpoolError, match=r"results\.log: Is a directory"):
        inspect_spool(tmp_path)
