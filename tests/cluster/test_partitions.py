"""What goes on in one partition while something else is said in another (rules S4, H3, L3, L6)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
from tests.cluster.scene import BEAT, LEASE, POLL, Workshop, at_peace, leased, unexplained
from tests.orchestrator.clients import EPOCH, make_context
from trio.testing import MockClock

from avtomatika_trio._core import lease
from avtomatika_trio._core.access import AuditRow
from avtomatika_trio._core.dispatch import HandOut, Offer
from avtomatika_trio._core.ledger import InstanceKind
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.steps import NewJob
from avtomatika_trio._core.task import TaskStatus
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator import _hand_outs
from avtomatika_trio.orchestrator._hand_outs import take
from avtomatika_trio.orchestrator._heartbeats import note_heartbeat
from avtomatika_trio.orchestrator._job_commits import cancel, submit
from avtomatika_trio.orchestrator._polls import Presence, hand_over
from avtomatika_trio.storage import MemoryStorage
from avtomatika_trio.testing import Cluster, Fault
from avtomatika_trio.testing._machines import SeededChance
from avtomatika_trio.testing._promises_partitions import at_home_in
from avtomatika_trio.testing._samples import a_job, a_task, put

HOME, OTHER, THIRD, LAST = "p00", "p01", "p02", "p03"


class Divided(MemoryStorage):
    """One in which a home may change between the read of its record elsewhere and the commit."""

    def __init__(self) -> None:
        super().__init__(lambda: EPOCH + trio.current_time(), partitions=4)
        self.meanwhile: Callable[[], object] | None = None
        self.away: set[str] = set()
        self.commit_seconds: Callable[[], float] = lambda: 0.0

    async def commit(self, operation: Callable[..., Any], partition: str | None = None) -> Any:
        await trio.sleep(self.commit_seconds())
        if partition in self.away:
            raise StorageUnavailable(f"{partition} is away")
        is_hand_out = getattr(operation, "func", None) is _hand_outs._hand_out_innocent
        if not is_hand_out or self.meanwhile is None:
            return self.run(operation, partition)
        known = {name: dict(one.instances) for name, one in self._divided.items()}
        meanwhile, self.meanwhile = self.meanwhile, None
        meanwhile()
        now = {name: one.instances for name, one in self._divided.items()}
        for name, one in self._divided.items():
            one.instances = known[name]
        try:
            return self.run(operation, partition)
        finally:
            for name, one in self._divided.items():
                one.instances = now[name]


@pytest.fixture
async def storage(autojump_clock: MockClock) -> Divided:
    return Divided()


def register(storage: Divided, instance: str) -> None:
    said = lease.Registration(
        worker_id="w",
        instance=instance,
        kind=InstanceKind.OURS,
        skills=("k",),
        interval_seconds=10.0,
        said={},
    )
    storage.run(partial(lease.register, said=said, rules=Rules()), storage.home_of(instance))


def queue(storage: Divided, partition: str, **more: Any) -> str:
    """A task, and its id."""
    job_id = f"{partition}-{len(storage._divided[partition].jobs)}"
    storage.run(put(a_job(job_id, dispatch=1), a_task(job_id, **more)), partition)
    return f"{job_id}-1"


def beat(storage: Divided, instance: str, number: int = 1, **more: Any) -> None:
    """What a heartbeat commits in the home."""
    said = lease.Beat(worker_id="w", instance=instance, number=number, **more)
    operation = partial(lease.heartbeat, beat=said, rules=Rules())
    storage.run(operation, storage.home_of(instance))


def status(storage: Divided, task_id: str) -> TaskStatus:
    task = storage.run(lambda ledger: ledger.task(task_id), storage.partition_of(task_id))
    assert task is not None
    return task.status


def pass_time(storage: Divided, seconds: float) -> None:
    """What the janitor does in each partition, second by second."""
    clock = storage._clock
    for _ in range(int(seconds)):
        clock.go_on_from(storage.now() + 1)
        for name in storage.partitions:
            storage.run(partial(lease.end_leases, rules=Rules(), most=100), name)


def leave(storage: Divided, instance: str) -> None:
    beat(storage, instance, leaving=True)


def close_the_poll(storage: Divided, instance: str) -> None:
    beat(storage, instance, last_poll=1)


def be_replaced(storage: Divided, instance: str) -> None:
    """By one that is at home in the same partition."""
    newer = next(
        it
        for it in (f"n{at}" for at in range(99))
        if storage.home_of(it) == storage.home_of(instance)
    )
    register(storage, newer)
    beat(storage, newer, replaces=(instance,))


def go_silent(storage: Divided, instance: str) -> None:
    pass_time(storage, 2 * LEASE + 2)


GOINGS = [leave, close_the_poll, be_replaced, go_silent]


@pytest.mark.parametrize("going", GOINGS)
async def test_what_is_said_at_home_during_a_hand_out_elsewhere_is_found_before_the_first_byte(
    storage: Divided, going: Callable[[Divided, str], None], autojump_clock: MockClock
) -> None:
    context = make_context(storage)
    instance = at_home_in(storage, HOME)
    register(storage, instance)
    task_id = queue(storage, OTHER)
    storage.meanwhile = partial(going, storage, instance)
    offer = Offer(instance=instance, poll=1, skills=("k",), most=1)

    got = await take(context, offer)
    assert len(got) == 1  # the record that was read knew nothing of it
    sent: list[int] = []

    async def answer(sending: tuple[HandOut, ...]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(len(sending))

    await hand_over(context, offer, got, Presence(), answer)

    assert sent == [0]
    assert status(storage, task_id) is TaskStatus.QUEUED
    task = storage.run(lambda ledger: ledger.task(task_id), OTHER)
    assert task is not None
    assert task.lost == 0


@pytest.mark.parametrize("going", GOINGS)
@pytest.mark.parametrize("with_hint", [True, False])
async def test_what_was_handed_out_so_by_one_that_died_comes_back(
    storage: Divided,
    going: Callable[[Divided, str], None],
    with_hint: bool,
    autojump_clock: MockClock,
) -> None:
    """It dies before it looks once more."""
    context = make_context(storage)
    instance = at_home_in(storage, HOME)
    register(storage, instance)
    task_id = queue(storage, OTHER)
    storage.meanwhile = partial(going, storage, instance)
    await take(context, Offer(instance=instance, poll=1, skills=("k",), most=1))
    assert status(storage, task_id) is TaskStatus.LEASED
    if not with_hint:
        storage.drop_holding(instance, OTHER)

    pass_time(storage, 2 * LEASE + 2)

    assert status(storage, task_id) is TaskStatus.QUEUED
    assert await storage.holdings(instance) == ((OTHER,) if with_hint else ())
    assert OTHER not in [storage.home_of(it.id) for it in await storage.instances()]
    assert not storage._divided[OTHER].guests


async def test_a_heartbeat_settles_every_partition_and_forgets_where_nothing_is_left(
    storage: Divided, autojump_clock: MockClock
) -> None:
    context = make_context(storage)
    instance = at_home_in(storage, HOME)
    register(storage, instance)
    tasks = [queue(storage, name) for name in (HOME, OTHER, THIRD)]
    got = await take(context, Offer(instance=instance, poll=1, skills=("k",), most=9))
    assert sorted(await storage.holdings(instance)) == [OTHER, THIRD]
    kept = next(it.attempt.wire_id for it in got if it.attempt.wire_id.startswith(THIRD))

    said = lease.Beat(
        worker_id="w", instance=instance, number=1, last_poll=1, current_tasks=(kept, "p77-x")
    )
    answer = await note_heartbeat(context, said)

    assert answer.cancel == ()
    assert [status(storage, it) for it in tasks] == ["queued", "queued", "leased"]
    assert await storage.holdings(instance) == (THIRD,)
    home = await storage.instance(instance)
    assert home is not None
    assert home.held == (kept, "p77-x")
    late = lease.Beat(worker_id="w", instance=instance, number=0, last_poll=1, current_tasks=())
    storage.run(partial(lease.reconcile, beat=late, rules=Rules()), THIRD)
    assert status(storage, tasks[2]) is TaskStatus.LEASED


@pytest.mark.parametrize("away", [None, OTHER, LAST])
async def test_who_is_replaced_is_acknowledged_when_every_partition_has_settled_it(
    storage: Divided, away: str | None, autojump_clock: MockClock
) -> None:
    """The dead one was at home in `OTHER`, and held something in three partitions."""
    context = make_context(storage)
    dead, newer = at_home_in(storage, OTHER), at_home_in(storage, HOME)
    register(storage, dead)
    tasks = [queue(storage, name) for name in (OTHER, THIRD, LAST)]
    got = await take(context, Offer(instance=dead, poll=1, skills=("k",), most=9))
    named = next(it.attempt.wire_id for it in got if it.attempt.wire_id.startswith(THIRD))
    register(storage, newer)
    storage.away = {away} if away else set()

    def said(number: int) -> lease.Beat:
        names: dict[str, Any] = {"current_tasks": (named,), "replaces": (dead, "unknown")}
        return lease.Beat(worker_id="w", instance=newer, number=number, **names)

    answer = await note_heartbeat(context, said(1))

    assert answer.replaced == (() if away else (dead, "unknown"))
    storage.away = set()
    assert (await note_heartbeat(context, said(2))).replaced == (dead, "unknown")
    assert [status(storage, it) for it in tasks] == ["queued", "leased", "queued"]
    buried = await storage.instance(dead)
    assert buried is not None
    assert buried.replaced_by == newer
    [attempt] = storage.run(lambda ledger: ledger.leased(newer), THIRD)
    assert attempt.wire_id == named
    assert await storage.holdings(dead) == ()


@pytest.mark.parametrize("seed", range(20))
async def test_a_worker_holds_one_suspect_at_a_time_in_all_partitions(
    storage: Divided, autojump_clock: MockClock, seed: int
) -> None:
    context = make_context(storage)
    instance = at_home_in(storage, HOME)
    register(storage, instance)
    for name in (HOME, OTHER, THIRD):
        queue(storage, name, lost=2)
        queue(storage, name)
    noise = iter([(seed * 7919 + at * 104729) % 1000 / 1e4 for at in range(10_000)])
    storage.commit_seconds = lambda: next(noise)

    async def poll(number: int) -> None:
        offer = Offer(instance=instance, poll=number, skills=("k",), most=3)
        await take(context, offer)

    async with trio.open_nursery() as polls:
        for number in (1, 2, 3):
            polls.start_soon(poll, number)
    held = [
        attempt
        for name in storage.partitions
        for attempt in storage.run(lambda ledger: ledger.leased(instance), name)
    ]
    assert sum(it.suspect for it in held) <= 1
    assert sum(not it.suspect for it in held) == 3
    storage.commit_seconds = lambda: 0.0
    await poll(4)
    held = [
        attempt
        for name in storage.partitions
        for attempt in storage.run(lambda ledger: ledger.leased(instance), name)
    ]
    assert sum(it.suspect for it in held) == 1


async def test_a_partition_that_is_away_keeps_no_other_from_handing_out(
    storage: Divided, autojump_clock: MockClock
) -> None:
    context = make_context(storage)
    instance = at_home_in(storage, HOME)
    register(storage, instance)
    for name in storage.partitions:
        queue(storage, name)
    storage.away = {THIRD}
    offer = Offer(instance=instance, poll=1, skills=("k",), most=9)
    assert len(await take(context, offer)) == 3
    with pytest.raises(StorageUnavailable):
        await take(context, offer)


# Jobs and the root.


def new_job(partition: str) -> NewJob:
    return NewJob(
        id=f"{partition}-new",
        blueprint="b",
        client="c",
        start="start",
        initial_data={},
        max_transitions=9,
    )


@pytest.mark.parametrize("partition", [HOME, OTHER])
async def test_jobs_that_were_not_stored_are_not_counted(
    storage: Divided, autojump_clock: MockClock, partition: str
) -> None:
    context = make_context(storage)
    storage.away = {partition}
    with pytest.raises(StorageUnavailable):
        await submit(context, [new_job(partition)], allowed=1)
    storage.away = set()
    await submit(context, [new_job(partition)], allowed=1)
    usage = storage.run(lambda ledger: ledger.usage("c", context.month()))
    assert usage is not None
    assert usage.jobs == 1


@pytest.mark.parametrize("partition", [HOME, OTHER])
async def test_who_cancels_anothers_job_is_in_the_audit(
    storage: Divided, autojump_clock: MockClock, partition: str
) -> None:
    context = make_context(storage)
    await submit(context, [new_job(partition)], allowed=None)
    row = AuditRow(at=0.0, who="boss", action="cancel_job", origin="", details={})
    for _ in range(2):
        await cancel(context, f"{partition}-new", "enough", row)
    assert [it.row.who for it in await storage.audit()] == ["boss"]


# Whole clusters.


async def _spread(cluster: Cluster, shop: Workshop, most: int, *, seconds: float) -> list[str]:
    """Tasks of one worker in *most* partitions."""
    ids: list[str] = []
    while len({cluster.storage.partition_of(it) for it in ids}) < most:
        ids += await cluster.submit("one", {"n": 1, "seconds": seconds})
    await shop.until(len(ids))
    return ids


@pytest.mark.parametrize("with_hint", [True, False])
async def test_what_a_lost_answer_brought_from_anywhere_comes_back(
    autojump_clock: MockClock, shop: Workshop, monkeypatch: pytest.MonkeyPatch, with_hint: bool
) -> None:
    async with at_peace(partitions=4) as cluster:
        if not with_hint:
            monkeypatch.setattr(cluster.storage, "note_holding", lambda *_: None)
        monkeypatch.setattr(SeededChance, "in_any_order", lambda _, names: names)
        worker = shop.add_to(cluster)
        lost = cluster.network.befall(Fault.LOSE_ANSWER, POLL, times=1)
        await worker.start()
        await trio.sleep(1)
        assert cluster.storage.home_of(worker.instance) != HOME

        ids = await cluster.submit("one", {"n": 1})
        await cluster.wait_until_final(ids, seconds=BEAT if with_hint else LEASE + 3)

        assert len(lost.hits) == 1
        assert shop.times() == [1]
        rows = await cluster.history(ids[0])
        assert rows.count("attempt_unclaimed") == 1
        assert "attempt_lost" not in rows
        assert await unexplained(cluster, shop, ids) == []


@pytest.mark.parametrize("when", ["noted", "committed"])
async def test_an_orchestrator_that_dies_while_it_hands_out_loses_nothing(
    autojump_clock: MockClock, shop: Workshop, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    async with at_peace(partitions=4) as cluster:
        worker = shop.add_to(cluster)
        await worker.start()
        await trio.sleep(1)
        died = trio.Event()

        def die(*_: Any) -> None:
            if not died.is_set() and (when == "noted" or leased(cluster, worker.instance)):
                cluster.orchestrator.die()
                died.set()

        note = cluster.storage.note_holding
        if when == "noted":

            def note_and_die(*noted: str) -> None:
                note(*noted)
                die()

            monkeypatch.setattr(cluster.storage, "note_holding", note_and_die)
        else:
            cluster.orchestrator.on_commit = die
        ids: list[str] = []
        while not died.is_set():
            with trio.move_on_after(1):
                ids += await cluster.submit("one", {"n": 1})
            await trio.sleep(0.1)
        await cluster.orchestrator.kill()
        await cluster.orchestrator.start()

        await cluster.wait_until_final(ids, seconds=LEASE + 60)
        await trio.sleep(2 * BEAT)
        assert await unexplained(cluster, shop, ids) == []
        assert shop.times() == [1] * len(ids)
        assert await cluster.storage.holdings(worker.instance) == ()


async def test_a_restarted_worker_frees_its_tasks_in_every_partition_at_once(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(partitions=4) as cluster:
        worker = shop.add_to(cluster, max_concurrent_tasks=100)
        await worker.start()
        ids = await _spread(cluster, shop, 3, seconds=5)
        await worker.kill()
        killed_at = trio.current_time()
        await worker.start()

        await shop.until(2 * len(ids))
        assert trio.current_time() - killed_at < 2
        await cluster.wait_until_final(ids, seconds=6)
        assert shop.times() == [2] * len(ids)
        assert await unexplained(cluster, shop, ids) == []


async def test_a_dead_worker_is_noticed_within_forty_seconds_in_every_partition(
    autojump_clock: MockClock, shop: Workshop
) -> None:
    async with at_peace(partitions=8) as cluster:
        dying, other = (shop.add_to(cluster, it, max_concurrent_tasks=100) for it in ("w1", "w2"))
        await dying.start()
        ids = await _spread(cluster, shop, 5, seconds=60)
        await trio.sleep(25)
        await dying.kill()
        killed_at = trio.current_time()
        await other.start()

        await shop.until(2 * len(ids))
        assert trio.current_time() - killed_at <= 40
        await cluster.wait_until_final(ids, seconds=61)
        for job_id in ids:
            assert (await cluster.history(job_id)).count("attempt_lost") == 1
