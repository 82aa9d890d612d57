"""What a handler says and asks: through the worker, from the loop and from threads."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio.worker import TaskCancelled, Worker

HALF = {"progress": 0.5, "message": "half"}

each_shape = pytest.mark.parametrize(
    ("args", "named"),
    [
        ((0.5, "half"), {}),
        (("k0-1", "job-k0", 0.5, "half"), {}),
        (("k0-1", 0.5, "half"), {}),
        ((), {"task_id": "k0-1", "progress": 0.5, "message": "half"}),
        ((), {"progress": 0.5, "message": "half"}),
    ],
)


@each_shape
async def test_progress_can_be_told_to_the_worker(
    autojump_clock: MockClock, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work() -> None:
        worker.send_progress(*args, **named)
        await trio.sleep(1.5)
        await worker.send_progress(*args, **named)
        await trio.sleep(1.5)

    fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert [(event.target_task_id, event.payload) for event in fake.events] == [
        ("k0-1", HALF),
        ("k0-1", HALF),
    ]


@each_shape
async def test_progress_can_be_told_to_the_worker_in_a_thread(
    args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """In real time; a few milliseconds."""
    fake, worker = FakeOrchestrator(), Worker()
    go_on = threading.Event()

    @worker.skill
    def work() -> None:
        worker.send_progress(*args, **named)
        assert go_on.wait(5)

    fake.submit("work")
    async with running(worker, fake):
        await fake.until(lambda: fake.events, seconds=5)
        go_on.set()
        await fake.until(lambda: fake.tasks["k0"].result, seconds=5)
    assert [event.payload for event in fake.events] == [HALF]


async def test_attempts_that_run_together_are_told_apart(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    async def work(params: dict[str, Any]) -> None:
        await trio.sleep(params["n"] / 100)
        await worker.send_progress(params["n"] / 10)
        await trio.sleep(2)

    tasks = [fake.submit("work", {"n": n})[0] for n in range(8)]
    async with running(worker, fake, max_concurrent_tasks=8):
        await fake.all_done()
    told = {event.target_task_id: event.payload["progress"] for event in fake.events}
    assert told == {f"k{n}-1": n / 10 for n in range(len(tasks))}


async def test_outside_of_a_handler_the_task_has_to_be_named(autojump_clock: MockClock) -> None:
    worker = Worker()
    with pytest.raises(RuntimeError, match=r"send_progress\(task_id=\.\.\.\)"):
        worker.send_progress(0.5)
    with pytest.raises(RuntimeError, match=r"check_for_cancellation\(task_id=\.\.\.\)"):
        worker.check_for_cancellation()
    worker.send_progress("gone-1", "job", 0.5)  # it has ended: nobody needs to hear it
    assert worker.check_for_cancellation("gone-1")
    with pytest.raises(TaskCancelled):
        worker.raise_if_cancelled("gone-1")


async def test_a_thread_that_a_handler_starts_names_its_task() -> None:
    """In real time; a few milliseconds."""
    fake, worker = FakeOrchestrator(), Worker()
    found: list[object] = []

    @worker.skill
    def work(task_id: str) -> None:
        def inner() -> None:
            found.append(bool(worker.check_for_cancellation(task_id)))
            try:
                worker.check_for_cancellation()
            except RuntimeError as exc:
                found.append(str(exc))

        thread = threading.Thread(target=inner)
        thread.start()
        thread.join()

    fake.submit("work")
    async with running(worker, fake):
        await fake.until(lambda: fake.tasks["k0"].result, seconds=5)
    assert found[0] is False
    assert "give it the handler's task_id" in str(found[1])


def _with_bool(worker: Worker, check: Any, task_id: str) -> bool:
    return bool(worker.check_for_cancellation(task_id))


def _in_context(worker: Worker, check: Any, task_id: str) -> bool:
    return bool(worker.check_for_cancellation())


def _injected(worker: Worker, check: Any, task_id: str) -> bool:
    return bool(check())


def _raising(worker: Worker, check: Any, task_id: str) -> bool:
    worker.raise_if_cancelled()
    check().raise_if_cancelled()
    return False


@pytest.mark.parametrize("is_over", [_with_bool, _in_context, _injected, _raising])
async def test_a_thread_that_asks_ends_itself_and_frees_its_slot(
    is_over: Callable[[Worker, Any, str], bool], caplog: pytest.LogCaptureFixture
) -> None:
    """In real time, a few tenths of a second: the virtual clock does not see threads."""
    fake, worker = FakeOrchestrator(heartbeat_seconds=0.1), Worker()
    ended: list[str] = []

    @worker.skill
    def work(task_id: str, check_for_cancellation: Any) -> str:
        if task_id != "k0-1":
            return "done"
        try:
            while not is_over(worker, check_for_cancellation, task_id):
                time.sleep(0.01)
        finally:
            ended.append(task_id)
        return "too late"

    fake.submit("work", count=2)
    async with running(worker, fake, max_concurrent_tasks=1, heartbeat_interval_seconds=0.1):
        await fake.until(lambda: any(beat.current_tasks for beat in fake.beats), seconds=5)
        assert ended == []
        fake.to_cancel = {"k0-1"}
        await fake.until(lambda: fake.tasks["k1"].result, seconds=5)
    assert ended == ["k0-1"]
    assert [result.task_id for result in fake.applied] == ["k1-1"]
    assert "failed" not in caplog.text


async def test_a_thread_that_is_cut_off_hears_of_it() -> None:
    """In real time, a few tenths of a second."""
    fake, worker = FakeOrchestrator(), Worker()
    began, ended = trio.Event(), threading.Event()

    @worker.skill
    def work() -> None:
        trio.from_thread.run_sync(began.set)
        try:
            while True:
                worker.raise_if_cancelled()
                time.sleep(0.01)
        except TaskCancelled:
            ended.set()
            raise

    fake.submit("work")
    async with running(worker, fake, shutdown_timeout_seconds=0.1):
        await began.wait()
    assert ended.wait(5)
    assert fake.applied == []
    assert [returned for returned in fake.returned if "k0-1" in str(returned)] != []


async def test_awaiting_the_check_lets_others_run_and_is_where_a_handler_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    seen: list[object] = []

    @worker.skill
    async def work(task_id: str, check_for_cancellation: Any) -> str:
        seen.append(await worker.check_for_cancellation(task_id))
        seen.append(await worker.check_for_cancellation())
        await trio.sleep(5)
        fake.to_cancel = {task_id}
        with trio.CancelScope(shield=True):
            await trio.sleep(30)
        seen.append(bool(check_for_cancellation()))
        try:
            await check_for_cancellation()
        except trio.Cancelled:
            seen.append("cancelled")
            raise
        return "too late"

    fake.submit("work")
    async with running(worker, fake):
        await trio.sleep(60)
    assert seen == [False, False, True, "cancelled"]
    assert fake.applied == []


@pytest.mark.parametrize("run", [trio.run, lambda function: asyncio.run(function())])
async def test_in_a_loop_of_a_thread_they_may_be_awaited_too(run: Callable[..., Any]) -> None:
    """In real time; a few milliseconds.  Handlers of asyncio libraries are such."""
    fake, worker = FakeOrchestrator(), Worker()

    @worker.skill
    def work(send_progress: Any, check_for_cancellation: Any) -> Any:
        async def talk() -> list[bool]:
            await send_progress(0.5, "half")
            await worker.send_progress(0.5, "half")
            return [await check_for_cancellation(), await worker.check_for_cancellation()]

        return run(talk)

    (task,) = fake.submit("work")
    async with running(worker, fake):
        await fake.all_done()
    assert task.result is not None
    assert (task.result.error, task.result.data) == (None, [False, False])
