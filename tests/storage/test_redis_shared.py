"""Two processes' storages on one Redis: what one commits, the other knows of."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import attrs
import pytest
import trio
from tests.storage.redis_servers import Server

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import FanOut, Ledger, Service, Timer, TimerKind
from avtomatika_trio._core.task import Lane, TaskStatus
from avtomatika_trio.errors import StaleRevision
from avtomatika_trio.storage import Storage, open_storage
from avtomatika_trio.storage._redis import RedisStorage
from avtomatika_trio.storage._redis_keys import timer_member
from avtomatika_trio.testing._samples import a_job, a_ready_job, a_row, a_task, put

#: How soon a wake-up has to arrive.
SOON_SECONDS = 0.02


@pytest.fixture
async def both(url: str) -> AsyncIterator[tuple[Storage, Storage]]:
    async with open_storage(url) as one, open_storage(url) as two:
        yield one, two


Both = tuple[Storage, Storage]


# Wake-ups.


async def test_a_poll_hears_of_a_task_that_another_process_queues(both: Both) -> None:
    one, two = both
    took: list[float] = []
    for at in range(9):
        with two.queue_news(["k"]) as news:
            begun = trio.current_time()
            await one.commit(put(a_task(f"j{at}")))
            with trio.fail_after(5):
                await news.wait()
            took.append(trio.current_time() - begun)
    assert sorted(took)[4] < SOON_SECONDS


async def test_a_follower_hears_of_a_change_that_another_process_makes(both: Both) -> None:
    one, two = both
    took: list[float] = []
    with two.job_news("j") as news:
        for revision in range(1, 10):
            begun = trio.current_time()
            await one.commit(put(a_job(revision=revision)))
            with trio.fail_after(5):
                await news.wait()
            took.append(trio.current_time() - begun)
    assert sorted(took)[4] < SOON_SECONDS


async def test_an_engine_claims_what_another_process_has_made_ready(both: Both) -> None:
    one, two = both
    took: list[float] = []
    for at in range(9):
        async with trio.open_nursery() as nursery:
            job = a_ready_job(f"j{at}")
            begun = trio.current_time()
            nursery.start_soon(one.commit, put(job))
            with trio.fail_after(5):
                assert await two.claim_ready("two", most=1, lease_seconds=30) == [job]
            took.append(trio.current_time() - begun)
    assert sorted(took)[4] < SOON_SECONDS


@pytest.mark.e2e
async def test_a_message_that_was_lost_costs_an_engine_five_seconds(both: Both) -> None:
    one, two = both
    assert isinstance(one, RedisStorage)
    one._signals.channel = "elsewhere"
    for partition in one._partitions.values():
        partition.commits._channel = "elsewhere"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_commit_later, one)
        with trio.fail_after(10):
            [job] = await two.claim_ready("two", most=1, lease_seconds=30)
    assert job.id == "j"


async def _commit_later(storage: Storage) -> None:
    await trio.sleep(0.1)
    await storage.commit(put(a_ready_job()))


# What one knows is out of date.


async def test_of_two_processes_one_wins(both: Both) -> None:
    one, two = both
    await one.commit(put(a_job()))
    await two.commit(lambda ledger: ledger.job("j"))
    outcomes: list[str] = []

    async def commit(storage: Storage, state: str) -> None:
        try:
            await storage.commit(put(a_job(revision=2, state=state)))
            outcomes.append(state)
        except StaleRevision:
            outcomes.append("stale")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(commit, one, "one")
        nursery.start_soon(commit, two, "two")
    assert sorted(outcomes) in (["one", "stale"], ["stale", "two"])


async def test_counting_by_three_processes_loses_nothing(url: str) -> None:
    """Each commit builds upon the last one of any process, while many are under way."""

    def count(ledger: Ledger) -> int:
        service = ledger.service() or Service(served_at=0.0, serving_since=0.0)
        ledger.put_service(attrs.evolve(service, serving_since=service.serving_since + 1))
        return int(service.serving_since)

    answers: list[int] = []

    async def commit(storage: Storage) -> None:
        answers.append(await storage.commit(count))

    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(open_storage(url)) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for at in range(300):
                nursery.start_soon(commit, storages[at % 3])
    assert sorted(answers) == list(range(300))


async def test_two_hundred_branches_end_through_three_processes(url: str) -> None:
    """They fight for one count, and each of them counts once."""
    fan = FanOut(
        job_id="j",
        dispatch=1,
        state="s",
        aggregate_into="m",
        failure=None,
        total=200,
        open=200,
        released=200,
    )

    def end(ledger: Ledger, branch: int) -> None:
        task = ledger.task(f"j-1-{branch}")
        found = ledger.fan_out("j", 1)
        assert task is not None
        assert found is not None
        ledger.put_task(attrs.evolve(task, status=TaskStatus.DONE))
        ledger.put_fan_out(attrs.evolve(found, open=found.open - 1))
        ledger.record(a_row())

    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(open_storage(url)) for _ in range(3)]
        await storages[0].commit(put(a_job(), fan, *(a_task(branch=at) for at in range(200))))
        async with trio.open_nursery() as nursery:
            for at in range(200):
                nursery.start_soon(storages[at % 3].commit, partial(end, branch=at))
        left = await storages[0].commit(lambda ledger: ledger.fan_out("j", 1))
        assert left == attrs.evolve(fan, open=0)
        assert len(await storages[1].history("j")) == 200
        opened = await storages[2].commit(lambda ledger: ledger.open_tasks("j"))
        assert list(opened) == []


async def test_each_task_of_a_queue_is_taken_once_by_three_processes(url: str) -> None:
    taken: list[str] = []

    def take(ledger: Ledger) -> list[str]:
        tasks = ledger.queued("k", Lane.NORMAL, most=2)
        for task in tasks:
            ledger.put_task(attrs.evolve(task, status=TaskStatus.LEASED))
        return [task.id for task in tasks]

    async def poll(storage: Storage) -> None:
        while got := await storage.commit(take):
            taken.extend(got)

    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(open_storage(url)) for _ in range(3)]
        await storages[0].commit(put(a_job(), *(a_task(branch=at) for at in range(100))))
        async with trio.open_nursery() as nursery:
            for at in range(15):
                nursery.start_soon(poll, storages[at % 3])
    assert sorted(taken) == sorted(f"j-1-{at}" for at in range(100))


async def test_a_task_that_came_back_is_found_by_who_thinks_that_it_is_gone(both: Both) -> None:
    one, two = both
    task = a_task()
    await one.commit(put(task))
    await one.commit(put(attrs.evolve(task, status=TaskStatus.LEASED, wire_id="w")))
    await two.commit(put(attrs.evolve(task, status=TaskStatus.QUEUED)))
    found = await one.commit(lambda ledger: ledger.queued("k", Lane.NORMAL, most=5))
    assert [it.id for it in found] == ["j-1"]


async def test_an_error_that_came_of_old_knowledge_is_nobodys(both: Both) -> None:
    one, two = both
    await one.commit(put(a_job()))
    await two.commit(put(a_job(revision=2, status=JobStatus.RUNNING)))

    def is_first(ledger: Ledger) -> int:
        job = ledger.job("j")
        assert job is not None
        if job.revision == 1:
            raise ValueError("what was true once")
        return job.revision

    assert await one.commit(is_first) == 2


# Time.


@pytest.mark.e2e
async def test_the_partitions_time_goes_on_when_its_server_falls_back(
    both: Both, server: Server
) -> None:
    """As after a failover to a host whose clock is 30 seconds behind."""
    one, two = both
    before = one.now()
    with server.client() as client:
        client.hset("{p00}:clock", "latest", repr(before + 30))
    await one.commit(put(a_job("a"), a_row("a")))
    assert one.now() >= before + 30
    await two.commit(put(a_job("b"), a_row("b")))
    first = one.now()
    await trio.sleep(0.6)
    await one.commit(put(a_job("c"), a_row("c")))
    assert 0.5 < one.now() - first < 5  # it goes on, and does not stand still for 30 s
    assert abs(two.now() - one.now()) < 1


async def test_who_knows_a_later_time_than_a_new_master_keeps_it(
    both: Both, server: Server
) -> None:
    """The latest time that was told was not replicated."""
    one, two = both
    told = one.now() + 20
    for storage in both:
        assert isinstance(storage, RedisStorage)
        storage._root.clock.heard(told, anew=True)
    await one.commit(put(a_job("a")))
    assert one.now() >= told
    await two.commit(put(a_job("b")))
    async with open_storage(server.url) as three:
        assert three.now() >= told


async def test_a_step_of_a_process_that_was_stopped_runs_again(both: Both) -> None:
    one, _ = both
    assert isinstance(one, RedisStorage)
    times: list[float] = []

    def note(ledger: Ledger) -> None:
        times.append(ledger.now)
        put(a_job("late"))(ledger)

    one._root.clock._latest -= 60  # it was stopped after it had looked at its clock
    one._root.clock._lately -= 60
    one._root.clock._before -= 60
    await one.commit(note)
    assert len(times) == 2
    assert times[1] - times[0] > 50


async def test_a_timer_that_was_moved_meanwhile_is_read_again(both: Both, server: Server) -> None:
    """Between the look at a timer and the commit of what follows from it."""
    one, _ = both
    assert isinstance(one, RedisStorage)
    commits = one._root.commits
    timer = Timer(kind=TimerKind.RETRY, subject="j-1", due_at=1.0)
    await one.commit(put(timer))
    submit = commits._submit

    def after_another(run: object) -> None:
        commits._submit = submit  # type: ignore[method-assign]
        with server.client() as client:
            client.zadd("{p00}:timers", {timer_member(timer.kind, timer.subject): 2.0})
        submit(run)  # type: ignore[arg-type]

    def fire(ledger: Ledger) -> float | None:
        found = ledger.timer(timer.kind, timer.subject)
        ledger.drop_timer(timer.kind, timer.subject)
        return None if found is None else found.due_at

    commits._submit = after_another  # type: ignore[method-assign]
    assert await one.commit(fire) == 2.0
