"""What goes wrong in the writer's thread: one operation, one record, one COMMIT, or the thread."""

import math
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import Ledger, Progress, Timer, TimerKind
from avtomatika_trio._core.task import TaskStatus
from avtomatika_trio.errors import StaleRevision, StorageUnavailable
from avtomatika_trio.storage._sqlite import SqliteStorage, open_sqlite
from avtomatika_trio.storage._thread import Call
from avtomatika_trio.testing._samples import (
    START,
    a_job,
    a_ready_job,
    a_row,
    a_task,
    an_instance,
    put,
)
from avtomatika_trio.testing._suite import SetClock


class Flaky:
    """A connection whose statements fail when told to."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.fail: dict[str, BaseException] = {}
        self.seen: list[str] = []

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        self.seen.append(statement)
        if statement in self.fail:
            raise self.fail[statement]
        return self._connection.execute(statement, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def count(self, statement: str) -> int:
        return self.seen.count(statement)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def storage(tmp_path: Path, clock: SetClock) -> AsyncIterator[SqliteStorage]:
    async with open_sqlite(tmp_path / "a.db", clock) as opened:
        yield opened


@pytest.fixture
def flaky(storage: SqliteStorage) -> Flaky:
    flaky = Flaky(storage._connection)
    storage._connection = flaky  # type: ignore[assignment]
    return flaky


class Together:
    """Operations submitted, in order, while the writer is busy, so that they make one batch."""

    def __init__(self, storage: SqliteStorage) -> None:
        self._storage = storage
        self.answers: dict[int, Any] = {}

    async def _commit(self, at: int, operation: Callable[[Ledger], Any]) -> None:
        try:
            self.answers[at] = await self._storage.commit(operation)
        except BaseException as exc:  # noqa: BLE001 - whatever came is the answer
            self.answers[at] = exc

    async def run(self, *operations: Callable[[Ledger], Any]) -> list[Any]:
        async with trio.open_nursery() as nursery:
            with self.busy():
                for at, operation in enumerate(operations):
                    nursery.start_soon(self._commit, at, operation)
                    await trio.testing.wait_all_tasks_blocked()
        return [self.answers[at] for at in range(len(operations))]

    def busy(self) -> "Busy":
        return Busy(self._storage)


class Busy:
    """Keeps the writer's thread busy with a call of nobody's."""

    def __init__(self, storage: SqliteStorage) -> None:
        self._storage = storage

    def __enter__(self) -> None:
        self._go = threading.Event()
        self._storage._writer._calls.put(Call(lambda _: self._go.wait(10), None))

    def __exit__(self, *_: object) -> None:
        self._go.set()


def raise_after(error: BaseException, *records: Any) -> Callable[[Ledger], None]:
    def operation(ledger: Ledger) -> None:
        put(*records)(ledger)
        raise error

    return operation


async def test_a_failed_commit_fails_its_batch_and_nothing_after_it(
    storage: SqliteStorage, flaky: Flaky
) -> None:
    flaky.fail["COMMIT"] = sqlite3.OperationalError("disk I/O error")
    answers = await Together(storage).run(put(a_job("a")), put(a_job("b")), lambda _: "read")
    assert [type(answer) for answer in answers] == [StorageUnavailable] * 3
    assert len({id(answer) for answer in answers}) == 3
    assert "disk I/O error" in str(answers[0])
    assert await storage.job("a") is None
    flaky.fail.clear()
    assert await storage.commit(lambda ledger: ledger.job("a")) is None
    await storage.commit(put(a_job("a")))
    assert await storage.job("a") == a_job("a")


async def test_a_failed_commit_is_no_news(storage: SqliteStorage, flaky: Flaky) -> None:
    flaky.fail["COMMIT"] = sqlite3.OperationalError("disk is full")
    written = put(a_ready_job("a"), a_task("a"), an_instance())
    with storage.queue_news(["k"]) as tasks, storage.job_news("a") as jobs:
        with pytest.raises(StorageUnavailable, match="disk is full"):
            await storage.commit(written)
        for wait in (tasks.wait, jobs.wait):
            with trio.move_on_after(0) as scope:
                await wait()
            assert scope.cancelled_caught
    assert await storage.instance("i") is None
    flaky.fail.clear()
    await storage.commit(put(a_ready_job("b")))
    [claimed] = await storage.claim_ready("one", most=9, lease_seconds=30)
    assert claimed.id == "b"


async def test_a_rollback_that_fails_is_tried_again(storage: SqliteStorage, flaky: Flaky) -> None:
    broken = sqlite3.OperationalError("disk I/O error")
    flaky.fail.update({"COMMIT": broken, "ROLLBACK": broken})
    for name in ("a", "b"):
        with pytest.raises(StorageUnavailable, match="disk I/O error"):
            await storage.commit(put(a_job(name)))
    flaky.fail.clear()
    await storage.commit(put(a_job("c")))
    assert [await storage.job(name) for name in "abc"] == [None, None, a_job("c")]


@pytest.mark.parametrize("error", [MemoryError(), SystemExit(3), GeneratorExit()])
async def test_whatever_an_operation_raises_comes_out_of_its_commit_alone(
    storage: SqliteStorage, error: BaseException
) -> None:
    answers = await Together(storage).run(
        put(a_job("a")), raise_after(error, a_job("x")), put(a_job("b"))
    )
    assert answers == [None, error, None]
    assert [await storage.job(name) for name in "axb"] == [a_job("a"), None, a_job("b")]


async def test_whatever_the_writer_raises_is_answered_and_it_goes_on(
    storage: SqliteStorage, flaky: Flaky
) -> None:
    flaky.fail["COMMIT"] = KeyError("a bug")
    answers = await Together(storage).run(put(a_job("a")), put(a_job("b")))
    assert [type(answer) for answer in answers] == [StorageUnavailable] * 2
    assert "a bug" in str(answers[0])
    flaky.fail.clear()
    await storage.commit(put(a_job("c")))
    assert [await storage.job(name) for name in "abc"] == [None, None, a_job("c")]


async def test_one_refused_step_costs_few_transactions(
    storage: SqliteStorage, flaky: Flaky
) -> None:
    operations: list[Callable[[Ledger], Any]] = [put(a_job(f"j{at}")) for at in range(100)]
    operations[40] = raise_after(KeyError("forty"), a_row("x"))
    operations[41] = raise_after(KeyError("forty-one"), a_row("x"))
    operations[70] = put(a_row("x"), a_job("j69"))
    answers = await Together(storage).run(*operations)
    refused = {at: type(answer) for at, answer in enumerate(answers) if answer is not None}
    assert refused == {40: KeyError, 41: KeyError, 70: StaleRevision}
    assert flaky.count("COMMIT") <= 5
    assert await storage.history("x") == []
    assert sum((await storage.job_counts()).values()) == 97


@pytest.mark.parametrize(
    "record",
    [
        a_task("bad", priority=math.nan),
        a_task("bad", dispatch=2**70),
        a_job("bad", client="\ud800"),
        a_job("bad", initial_data={"x": object()}),
        Timer(kind=TimerKind.RETRY, subject="bad", due_at=math.nan),
        a_row("bad", details={"x": "\udfff"}),
    ],
    ids=["nan", "big", "surrogate", "object", "timer", "row"],
)
async def test_a_record_that_sqlite_cannot_hold_fails_its_operation_alone(
    storage: SqliteStorage, flaky: Flaky, record: Any
) -> None:
    operations: list[Callable[[Ledger], Any]] = [put(a_job(f"j{at}")) for at in range(60)]
    operations[33] = put(a_job("x"), record)
    answers = await Together(storage).run(*operations)
    refused = {at: answer for at, answer in enumerate(answers) if answer is not None}
    assert list(refused) == [33]
    assert isinstance(refused[33], ValueError)
    assert "cannot be stored" in str(refused[33])
    assert flaky.count("COMMIT") <= 12
    assert sum((await storage.job_counts()).values()) == 59


async def test_a_wake_of_an_operation_that_raised_is_not_told(storage: SqliteStorage) -> None:
    def operation(ledger: Ledger) -> None:
        ledger.wake("k")
        raise KeyError

    with storage.queue_news(["k"]) as news:
        with pytest.raises(KeyError):
            await storage.commit(operation)
        with trio.move_on_after(0) as scope:
            await news.wait()
        assert scope.cancelled_caught


async def test_the_news_of_a_caller_who_left_are_told(storage: SqliteStorage) -> None:
    with storage.queue_news(["k"]) as news, Busy(storage):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.commit, put(a_task()))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    with storage.queue_news(["k"]) as news:
        await storage.commit(put(a_task("b")))
        await news.wait()
    assert len(await storage.tasks("j")) == 1


async def test_a_commit_of_one_instance_is_seen_when_it_is_answered(
    storage: SqliteStorage,
) -> None:
    for beat in range(20):
        seen = an_instance(beat=beat)
        await storage.commit(put(seen))
        assert await storage.instance("i") == seen


async def test_a_forgotten_instance_is_gone_everywhere(
    storage: SqliteStorage, tmp_path: Path, clock: SetClock
) -> None:
    await storage.commit(put(an_instance(), an_instance("other")))

    def forget(ledger: Ledger) -> None:
        ledger.put_instance(an_instance(due_at=START))
        ledger.drop_instance("i")
        ledger.drop_instance("nobody")
        assert ledger.instance("i") is None
        assert list(ledger.due_instances(most=9)) == []

    await storage.commit(forget)
    assert await storage.instance("i") is None
    assert [instance.id for instance in await storage.instances()] == ["other"]
    await storage._close()
    rows = storage._connection.execute("SELECT id FROM instances").fetchall()
    assert rows == [("other",)]


async def test_the_progress_of_a_job_goes_with_its_end(storage: SqliteStorage) -> None:
    said = Progress(job_id="j", task_id="j-1", at=START, progress=0.5, message="half")
    other = attrs.evolve(said, job_id="k")
    leased = a_task(status=TaskStatus.LEASED)
    await storage.commit(put(a_job(), leased, said, other))
    assert await storage.progress("j") == [said]
    await storage.commit(put(a_job(revision=2, status=JobStatus.FINISHED)))
    rows = storage._connection.execute("SELECT job_id FROM progress").fetchall()
    assert rows == [("k",)]


async def test_time_goes_on_from_where_it_was_when_the_host_is_set_back(
    tmp_path: Path, clock: SetClock
) -> None:
    path = tmp_path / "a.db"
    async with open_sqlite(path, clock) as storage:
        await storage.commit(put(a_job()))
        clock.time -= 1000
        assert storage.now() == START
        clock.time += 5
        assert storage.now() == START + 5
        await storage.commit(put(a_job(revision=2)))
    clock.time -= 7000
    async with open_sqlite(path, clock) as storage:
        assert storage.now() == START + 5
        clock.time += 3
        assert await storage.commit(lambda ledger: ledger.now) == START + 8


async def test_closing_answers_those_who_wait_and_refuses_the_rest(
    tmp_path: Path, clock: SetClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with open_sqlite(tmp_path / "a.db", clock) as storage:
            for at in range(50):
                nursery.start_soon(storage.commit, put(a_job(f"j{at}")))
            for _ in range(3):  # until all of them are submitted
                await trio.lowlevel.checkpoint()
        with pytest.raises(StorageUnavailable, match="closed"):
            await storage.commit(lambda _: None)
        with pytest.raises(StorageUnavailable, match="closed"):
            await storage.job("j1")
    async with open_sqlite(tmp_path / "a.db", clock) as storage:
        assert sum((await storage.job_counts()).values()) == 50


async def test_a_foreign_database_keeps_its_journal_mode(tmp_path: Path, clock: SetClock) -> None:
    path = tmp_path / "theirs.db"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StorageUnavailable, match="another program"):
        async with open_sqlite(path, clock):
            pass
    assert theirs.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    theirs.close()


async def test_large_records_do_not_stay_in_memory(storage: SqliteStorage) -> None:
    large = a_job("large", initial_data={"x": "y" * 100_000})
    await storage.commit(put(large, a_job("small")))
    assert [key for (key,) in storage._ledger._jobs._cache] == ["small"]
    assert await storage.commit(lambda ledger: ledger.job("large")) == large
    assert [key for (key,) in storage._ledger._jobs._cache] == ["small"]
