"""What a storage with several partitions promises besides."""

from collections.abc import Callable, Sequence

import attrs

from avtomatika_trio._core import partitions
from avtomatika_trio._core.ledger import Instance, Ledger, Service, Timer, TimerKind, WorkerState
from avtomatika_trio._core.task import AttemptStatus, Lane
from avtomatika_trio.storage._backlog import QueueBacklog
from avtomatika_trio.storage._base import JobQuery, Storage
from avtomatika_trio.testing._samples import (
    START,
    a_job,
    a_ready_job,
    a_row,
    a_task,
    an_attempt,
    an_instance,
    put,
)
from avtomatika_trio.testing._suite import SetClock, and_break, broken


def at_home_in(storage: Storage, partition: str) -> str:
    """The id of an instance whose home is *partition*."""
    names = (f"i{number}" for number in range(10_000))
    return next(it for it in names if storage.home_of(it) == partition)


async def _now(storage: Storage, partition: str) -> float:
    return await storage.commit(lambda ledger: ledger.now, partition)


async def _due(storage: Storage, partition: str) -> Sequence[str]:
    def due(ledger: Ledger) -> list[str]:
        return [it.id for it in ledger.due_instances(most=9)]

    return await storage.commit(due, partition)


class PartitionPromises:
    """`storage` has several partitions; the class needs at least two."""

    async def test_ids_tell_where_records_are(self, storage: Storage) -> None:
        root, other = storage.partitions[0], storage.partitions[1]
        assert list(storage.partitions) == list(partitions.names(len(storage.partitions)))
        assert storage.partition_of(f"{other}-7") == other
        assert storage.partition_of(f"{other}-task-7") == other
        for strange in ("j", "p99-7", "", "p01", other):
            assert storage.partition_of(strange) == root
        for name in ("i", "w1-run1"):
            assert storage.home_of(name) == partitions.home_of(name, storage.partitions)

    async def test_a_ledger_is_confined_to_its_partition(self, storage: Storage) -> None:
        root, other = storage.partitions[:2]
        job, wire_id = f"{other}-j", f"{other}-w"
        await storage.commit(
            put(
                a_job(job),
                a_task(job),
                an_attempt(wire_id, job),
                a_row(job),
                Timer(kind=TimerKind.RETRY, subject=f"{job}-1", due_at=START - 99_999),
                Service(served_at=START, serving_since=START),
            ),
            other,
        )

        def seen(ledger: Ledger) -> list[bool]:
            return [
                ledger.job(job) is not None,
                ledger.task(f"{job}-1") is not None,
                ledger.attempt(wire_id) is not None,
                bool(ledger.open_tasks(job)),
                bool(ledger.queued("k", Lane.NORMAL, most=9)),
                bool(ledger.leased("i")),
                bool(ledger.due_timers(most=9)),
                ledger.service() is not None,
            ]

        assert await storage.commit(seen, other) == [True] * 8
        assert await storage.commit(seen, root) == [False] * 8
        assert await storage.commit(seen) == [False] * 8

    async def test_reads_find_every_partition(self, storage: Storage) -> None:
        ids = [f"{name}-j" for name in storage.partitions]
        for name, job in zip(storage.partitions, ids, strict=True):
            records = a_job(job), a_task(job), an_attempt(f"{name}-w", job), a_row(job)
            await storage.commit(put(*records), name)
            await storage.commit(put(an_instance(at_home_in(storage, name))), name)
        listed = await storage.jobs(JobQuery())
        assert [job.id for job in listed] == sorted(ids, reverse=True)
        assert sum((await storage.job_counts()).values()) == len(ids)
        assert len(await storage.instances()) == len(ids)
        for job in ids:
            assert await storage.job(job) is not None
            assert len(await storage.tasks(job)) == 1
            assert len(await storage.attempts(job)) == 1
            assert len(await storage.history(job)) == 1

    async def test_jobs_of_every_partition_are_claimed(self, storage: Storage) -> None:
        ids = [f"{name}-j" for name in storage.partitions]
        for name, job in zip(storage.partitions, ids, strict=True):
            await storage.commit(put(a_ready_job(job)), name)
        claimed: set[str] = set()
        while len(claimed) < len(ids):
            claimed |= {it.id for it in await storage.claim_ready("o", most=99, lease_seconds=30)}
        assert claimed == set(ids)

    async def test_a_guest_is_as_its_home_knows_it(self, storage: Storage) -> None:
        home, other = storage.partitions[:2]
        guest = an_instance(at_home_in(storage, home), blocked_since=START - 1)
        await storage.commit(put(guest), home)
        later = await _now(storage, other) - await _now(storage, home)

        def look(ledger: Ledger) -> tuple[bool, Instance | None]:
            return ledger.is_home_of(guest.id), ledger.instance(guest.id)

        assert await storage.commit(look, home) == (True, guest)
        is_home, found = await storage.commit(look, other)
        assert not is_home
        assert found == partitions.as_of(guest, later)
        assert found.lease_until == guest.lease_until + later
        assert found.blocked_since == START - 1 + later

    async def test_a_guest_is_not_written_but_for_its_due_time(
        self, storage: Storage, clock: SetClock
    ) -> None:
        home, other = storage.partitions[:2]
        guest = an_instance(at_home_in(storage, home), due_at=None)
        await storage.commit(put(guest), home)
        now = await _now(storage, other)
        written = attrs.evolve(guest, gone=True, due_at=now + 5)
        await storage.commit(put(written), other)
        assert await storage.instance(guest.id) == guest
        assert await _due(storage, other) == []
        clock.time += 5
        assert await _due(storage, other) == [guest.id]
        assert await _due(storage, home) == []
        await storage.commit(put(attrs.evolve(written, due_at=None)), other)
        assert await _due(storage, other) == []
        await storage.commit(put(written), other)
        await storage.commit(lambda ledger: ledger.drop_instance(guest.id), other)
        assert await _due(storage, other) == []
        assert await storage.instance(guest.id) == guest

    async def test_what_is_leased_to_a_guest_is_looked_at_when_its_lease_ends(
        self, storage: Storage, clock: SetClock
    ) -> None:
        home, other = storage.partitions[:2]
        guest = an_instance(at_home_in(storage, home))
        await storage.commit(put(guest), home)
        now = await _now(storage, other)

        def lease(name: str, seconds: float) -> Callable[[Ledger], None]:
            job = f"{other}-{name}"
            until = now + seconds
            return put(an_attempt(f"{job}-w", job, instance=guest.id, lease_until=until))

        await broken(storage, and_break(lease("undone", 0)), other)
        assert await _due(storage, other) == []
        await storage.commit(lease("a", 10), other)
        await storage.commit(lease("b", 20), other)
        clock.time += 9
        assert await _due(storage, other) == []
        clock.time += 1
        assert await _due(storage, other) == [guest.id]
        found = await storage.commit(lambda ledger: ledger.leased(guest.id), other)
        assert len(found) == 2
        assert await storage.commit(lambda ledger: ledger.leased(guest.id), home) == []
        await storage.commit(put(attrs.evolve(guest, due_at=now + 30)), other)
        assert await _due(storage, other) == []
        await storage.commit(lease("c", 15), other)
        clock.time += 5
        assert await _due(storage, other) == [guest.id]

    async def test_what_was_leased_to_a_guest_sets_no_time(self, storage: Storage) -> None:
        home, other = storage.partitions[:2]
        ended = an_attempt(
            f"{other}-w",
            f"{other}-j",
            instance=at_home_in(storage, home),
            status=AttemptStatus.LOST,
            lease_until=START - 99_999,
        )
        await storage.commit(put(ended), other)
        assert await _due(storage, other) == []

    async def test_queues_are_found_wherever_they_are(self, storage: Storage) -> None:
        other = storage.partitions[1]
        job = f"{other}-j"
        await storage.commit(put(a_job(job), a_task(job)), other)
        assert other in storage.partitions_with(["x", "k"])
        assert list(storage.partitions_with([])) == []

    async def test_what_is_due_names_its_partition(self, storage: Storage) -> None:
        other = storage.partitions[1]
        due_at = await _now(storage, other) - 1
        timer = Timer(kind=TimerKind.RETRY, subject=f"{other}-j-1", due_at=due_at)
        await storage.commit(put(timer), other)
        assert other in await storage.due_partitions()

    async def test_the_backlog_is_that_of_all_partitions(
        self, storage: Storage, clock: SetClock
    ) -> None:
        """Each reckons ages and what is overdue by its own time."""
        for at, name in enumerate(storage.partitions):
            now = await _now(storage, name)
            job = f"{name}-j"
            await storage.commit(
                put(
                    a_task(job, created_at=now - 10 - at),
                    an_attempt(f"{name}-w", job, instance=at_home_in(storage, name)),
                    an_instance(at_home_in(storage, name), gone=at == 0),
                    Timer(kind=TimerKind.RETRY, subject=f"{job}-1", due_at=now + 5),
                ),
                name,
            )
        count = len(storage.partitions)
        clock.time += 4
        assert (await storage.backlog(["k"])).timers_overdue == 0
        clock.time += 4
        backlog = await storage.backlog(["k"])
        assert backlog.queues == {"k": QueueBacklog(depth=count, oldest_seconds=8 + 10 + count - 1)}
        assert (backlog.running, backlog.timers_overdue) == (count, count)
        found = {state: it for state, it in backlog.workers.items() if it}
        assert found == {WorkerState.ONLINE: count - 1, WorkerState.GONE: 1}

    async def test_holdings_are_remembered(self, storage: Storage) -> None:
        first, second = storage.partitions[:2]
        assert list(await storage.holdings("i")) == []
        storage.note_holding("i", first)
        storage.note_holding("i", second)
        storage.note_holding("i", second)
        assert sorted(await storage.holdings("i")) == [first, second]
        assert list(await storage.holdings("other")) == []
        storage.drop_holding("i", first)
        storage.drop_holding("other", first)
        assert list(await storage.holdings("i")) == [second]
