"""Wake-ups that would be lost, or tell too many, if the bookkeeping were a little simpler."""

from contextlib import ExitStack, suppress

import pytest
import trio
import trio.testing

from avtomatika_trio._core.task import TaskStatus
from avtomatika_trio.storage import MemoryStorage
from avtomatika_trio.testing._samples import START, a_job, a_ready_job, a_task, put


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage(lambda: START)


async def test_news_during_a_look_makes_the_next_wait_return_at_once(
    storage: MemoryStorage,
) -> None:
    with storage.queue_news(["k"]) as news:
        for name in "abc":
            await storage.commit(put(a_task(name)))
            with trio.fail_after(0.1):
                await news.wait()


async def test_one_that_breaks_off_its_look_passes_the_wake_up_on(storage: MemoryStorage) -> None:
    with ExitStack() as second_leaves:
        with suppress(KeyError), storage.queue_news(["k"]) as first:
            second = second_leaves.enter_context(storage.queue_news(["k"]))
            await storage.commit(put(a_task()))
            await first.wait()
            raise KeyError
        with trio.fail_after(0.1):
            await second.wait()


async def test_nobody_is_woken_for_a_task_that_was_taken_meanwhile(storage: MemoryStorage) -> None:
    with storage.queue_news(["k"]) as first, storage.queue_news(["k"]) as second:
        await storage.commit(put(a_task()))
        await storage.commit(put(a_task(status=TaskStatus.LEASED)))
        await first.wait()
        for waiter in (first, second):
            with trio.move_on_after(0) as scope:
                await waiter.wait()
            assert scope.cancelled_caught


async def test_a_claim_settled_after_it_ended_is_not_offered_again(
    storage: MemoryStorage, mock_clock: trio.testing.MockClock
) -> None:
    await storage.commit(put(a_ready_job("late"), a_ready_job("other")))
    late, _ = await storage.claim_ready("one", most=2, lease_seconds=30)
    mock_clock.jump(31)
    [again] = await storage.claim_ready("two", most=1, lease_seconds=30)
    assert again == late
    mock_clock.jump(31)
    storage.settle_claim(late)
    assert [job.id for job in await storage.claim_ready("two", most=9, lease_seconds=30)] == [
        "other"
    ]


async def test_one_that_waits_for_jobs_does_not_take_the_news_of_another_with_it(
    storage: MemoryStorage, autojump_clock: trio.testing.MockClock
) -> None:
    got: list[str] = []

    async def claim(owner: str, scope: trio.CancelScope) -> None:
        with scope:
            jobs = await storage.claim_ready(owner, most=1, lease_seconds=30)
            got.extend(job.id for job in jobs)

    leaving = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(claim, "leaves", leaving)
        nursery.start_soon(claim, "stays", trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        leaving.cancel()
        await storage.commit(put(a_job("no"), a_ready_job("yes")))
    assert got == ["yes"]
