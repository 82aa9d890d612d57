"""One attempt: what becomes of whatever a handler does."""

import logging
import threading
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio.errors import PermanentError
from avtomatika_trio.worker import Worker


async def outcome_of(worker: Worker, skill: str) -> Any:
    """Run one task; returns its result."""
    fake = FakeOrchestrator()
    (task,) = fake.submit(skill)
    async with running(worker, fake):
        await fake.all_done()
    assert task.result is not None
    return task.result


async def test_an_unexpected_error_is_transient_and_its_traceback_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker()

    @worker.skill
    async def fail() -> None:
        raise ValueError("boom")

    result = await outcome_of(worker, "fail")
    assert (result.status, result.error.code) == ("failure", "TRANSIENT_ERROR")
    assert result.error.message == "ValueError: boom"
    assert 'raise ValueError("boom")' in caplog.text


async def test_a_deliberate_error_is_reported_and_not_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker()

    @worker.skill
    async def fail() -> None:
        async with trio.open_nursery():
            raise PermanentError("never", {"why": "because"})

    result = await outcome_of(worker, "fail")
    assert (result.error.code, result.error.message) == ("PERMANENT_ERROR", "never")
    assert result.error.details == {"why": "because"}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "error", [SystemExit(2), BaseException("odd"), StopAsyncIteration(), GeneratorExit()]
)
async def test_no_error_of_a_handler_ends_the_worker(
    autojump_clock: MockClock, error: BaseException
) -> None:
    worker = Worker()

    @worker.skill
    async def fail() -> None:
        raise error

    result = await outcome_of(worker, "fail")
    assert result.error.code == "TRANSIENT_ERROR"


async def test_nothing_that_a_handler_returns_ends_the_worker(autojump_clock: MockClock) -> None:
    worker = Worker()

    class Closed(UserDict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            raise ValueError("it is closed")

    @worker.skill
    async def odd() -> Any:
        return Closed()

    result = await outcome_of(worker, "odd")
    assert result.error.message == "ValueError: it is closed"


async def test_a_keyboard_interrupt_ends_the_worker(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def interrupted() -> None:
        raise KeyboardInterrupt

    fake.submit("interrupted")
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with running(worker, fake):
            await trio.sleep(10)


@pytest.mark.parametrize("answer", ["value", "error", "group"])
async def test_whatever_a_cancelled_handler_answers_nothing_is_reported(
    autojump_clock: MockClock, answer: str
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    @worker.skill
    async def stubborn() -> str:
        if answer == "group":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail)
                nursery.start_soon(trio.sleep_forever)
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            if answer == "error":
                raise ValueError("instead") from None
        return "instead"

    fake.submit("stubborn")
    fake.to_cancel = {"k0-1"}
    async with running(worker, fake):
        await trio.sleep(50)
        assert fake.beats[-1].current_tasks == []
    assert fake.posts == []
    assert fake.returned == []


async def test_a_cancelled_handler_may_clean_up_before_its_slot_is_free(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    ran: list[str] = []

    @worker.skill
    async def careful(task_id: str) -> None:
        ran.append(task_id)
        try:
            await trio.sleep(0 if task_id == "k1-1" else 1000)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(7)

    fake.submit("careful", count=2)
    fake.to_cancel = {"k0-1"}
    async with running(worker, fake, max_concurrent_tasks=1):
        await trio.sleep(15)
        assert ran == ["k0-1"]
        assert "k0-1" in (fake.beats[-1].current_tasks or ())
        await fake.until(lambda: fake.tasks["k1"].result)
    assert ran == ["k0-1", "k1-1"]


async def test_a_def_runs_in_a_thread_and_may_report_progress_from_there() -> None:
    """In real time; a few milliseconds."""
    fake, worker = FakeOrchestrator(), Worker()
    go_on = threading.Event()
    threads: list[int] = []

    @worker.skill
    def work(params: dict[str, Any], send_progress: Any) -> dict[str, Any]:
        threads.append(threading.get_ident())
        send_progress(0.5, "half way")
        assert go_on.wait(5)
        return {"done": params["n"]}

    fake.submit("work", {"n": 4})
    async with running(worker, fake):
        await fake.until(lambda: fake.events, seconds=5)
        go_on.set()
        await fake.until(lambda: fake.tasks["k0"].result, seconds=5)
    assert threads != [threading.get_ident()]
    assert fake.results() == {"k0": ("success", {"done": 4})}
    assert fake.events[0].payload == {"progress": 0.5, "message": "half way"}


async def test_as_many_threads_run_as_there_are_slots() -> None:
    fake, worker = FakeOrchestrator(), Worker()
    meeting = threading.Barrier(3)

    @worker.skill
    def work() -> None:
        meeting.wait(5)

    fake.submit("work", count=3)
    async with running(worker, fake, max_concurrent_tasks=3):
        await fake.until(lambda: all(task.result for task in fake.tasks.values()), seconds=5)
    assert {status for status, _ in fake.results().values()} == {"success"}


async def test_an_error_of_a_thread_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()

    @worker.skill
    def fail() -> None:
        raise OSError("disk")

    result = await outcome_of(worker, "fail")
    assert result.error.message == "OSError: disk"


async def test_an_interrupt_that_a_thread_raises_is_an_error_of_its_handler() -> None:
    worker = Worker()

    @worker.skill
    def interrupted() -> None:
        raise KeyboardInterrupt

    result = await outcome_of(worker, "interrupted")
    assert result.error.message == "RuntimeError: the handler raised KeyboardInterrupt"


async def test_a_coroutine_that_nobody_awaits_is_told_with_the_remedy() -> None:
    worker = Worker()

    async def inner(params: dict[str, Any]) -> int:
        return 1

    @worker.skill
    def wrapped(params: dict[str, Any]) -> Any:
        return inner(params)

    result = await outcome_of(worker, "wrapped")
    assert result.error.code == "PERMANENT_ERROR"
    assert "make it, or what wraps it, an `async def`" in result.error.message
