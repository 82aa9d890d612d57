"""How much waits and runs in a storage."""

import attrs

from avtomatika_trio._core.ledger import Timer, TimerKind, WorkerState
from avtomatika_trio._core.task import AttemptStatus, Task, TaskStatus
from avtomatika_trio.storage._backlog import MOST_PRIORITIES, MOST_QUEUES, QueueBacklog
from avtomatika_trio.storage._base import Storage
from avtomatika_trio.testing._samples import START, a_task, an_attempt, an_instance, put
from avtomatika_trio.testing._suite import SetClock, and_break, broken


def _leased(task: Task) -> Task:
    return attrs.evolve(task, status=TaskStatus.LEASED, wire_id="w1")


async def queue(storage: Storage, skill: str = "k") -> QueueBacklog:
    return (await storage.backlog([skill])).queues[skill]


async def workers(storage: Storage) -> dict[WorkerState, int]:
    return {state: n for state, n in (await storage.backlog([])).workers.items() if n}


class BacklogPromises:
    """What indexes tell is what is stored."""

    async def test_nothing_waits_in_an_empty_storage(self, storage: Storage) -> None:
        backlog = await storage.backlog(["k", "other"])
        assert backlog.queues == {"k": QueueBacklog(), "other": QueueBacklog()}
        assert (backlog.running, backlog.timers_overdue) == (0, 0)
        assert not any(backlog.workers.values())

    async def test_queued_tasks_are_counted_by_skill(self, storage: Storage) -> None:
        tasks = [a_task(f"j{at}", status=status) for at, status in enumerate(TaskStatus)]
        suspect = a_task("suspect", lost=2)
        await storage.commit(put(*tasks, suspect, a_task("x", skill="other")))
        assert (await queue(storage)).depth == 2
        assert (await queue(storage, "other")).depth == 1
        await storage.commit(put(_leased(suspect)))
        assert (await queue(storage)).depth == 1
        await storage.commit(put(suspect, a_task("more")))
        assert (await queue(storage)).depth == 3

    async def test_what_is_undone_does_not_count(self, storage: Storage) -> None:
        await storage.commit(put(a_task("a"), an_attempt("w1")))
        writes = put(
            _leased(a_task("a")),
            a_task("b"),
            an_attempt("w2"),
            an_attempt("w1", status=AttemptStatus.LOST),
            an_instance(),
            Timer(kind=TimerKind.RETRY, subject="j-1", due_at=START - 9),
        )
        await broken(storage, and_break(writes))
        backlog = await storage.backlog(["k"])
        assert backlog.queues["k"].depth == 1
        assert (backlog.running, backlog.timers_overdue) == (1, 0)
        assert not any(backlog.workers.values())

    async def test_the_oldest_task_of_all_priorities_and_lanes_is_found(
        self, storage: Storage, clock: SetClock
    ) -> None:
        urgent = [a_task(f"u{at}", created_at=START - at, priority=2.0) for at in range(3)]
        await storage.commit(put(*urgent))
        assert (await queue(storage)).oldest_seconds == 2
        low = a_task("low", created_at=START - 50, priority=-1.5)
        late = a_task("late", created_at=START - 1, priority=-1.5)
        await storage.commit(put(late, low))
        clock.time += 7
        assert (await queue(storage)).oldest_seconds == 57
        suspect = a_task("suspect", created_at=START - 90, lost=2, priority=1.0)
        await storage.commit(put(suspect))
        assert (await queue(storage)).oldest_seconds == 97
        await storage.commit(put(_leased(suspect), _leased(low)))
        assert (await queue(storage)).oldest_seconds == 9

    async def test_the_oldest_is_looked_for_among_so_many_priorities(
        self, storage: Storage
    ) -> None:
        tasks = [
            a_task(f"j{at}", created_at=START - at, priority=float(-at))
            for at in range(MOST_PRIORITIES + 5)
        ]
        await storage.commit(put(*tasks))
        assert (await queue(storage)).oldest_seconds == MOST_PRIORITIES - 1

    async def test_a_task_of_the_future_is_not_older_than_now(self, storage: Storage) -> None:
        await storage.commit(put(a_task(created_at=START + 5)))
        assert await queue(storage) == QueueBacklog(depth=1, oldest_seconds=0)

    async def test_queues_that_nobody_has_asked_for_are_told_of(self, storage: Storage) -> None:
        await storage.commit(put(a_task("a", skill="x"), a_task("b", skill="y")))
        assert sorted((await storage.backlog(["k"])).queues) == ["k", "x", "y"]
        await storage.commit(put(_leased(a_task("a", skill="x"))))
        assert sorted((await storage.backlog(["k"])).queues) == ["k", "y"]

    async def test_no_more_queues_are_told_of_than_so_many(self, storage: Storage) -> None:
        names = [f"s{at:03}" for at in range(MOST_QUEUES + 1)]
        await storage.commit(put(*(a_task(it, skill=it) for it in names)))
        found = (await storage.backlog(["asked"])).queues
        assert list(found) == ["asked", *names[: MOST_QUEUES - 1]]

    async def test_leased_attempts_run(self, storage: Storage) -> None:
        async def running() -> int:
            return (await storage.backlog([])).running

        attempts = [an_attempt(f"w{at}", f"j{at}") for at in range(4)]
        await storage.commit(put(*attempts, an_attempt("o", status=AttemptStatus.SUCCEEDED)))
        assert await running() == 4
        lost = attrs.evolve(attempts[0], status=AttemptStatus.LOST)
        done = attrs.evolve(attempts[1], status=AttemptStatus.SUCCEEDED)
        await storage.commit(put(lost, done))
        assert await running() == 2
        await storage.commit(put(attrs.evolve(done, answer={"status": "accepted"})))
        assert await running() == 2
        await storage.commit(put(attrs.evolve(lost, status=AttemptStatus.LEASED, instance="i2")))
        assert await running() == 3

    async def test_worker_processes_are_counted_by_state(self, storage: Storage) -> None:
        one, two, three = (an_instance(name) for name in ("a", "b", "c"))
        await storage.commit(put(one, two, three))
        assert await workers(storage) == {WorkerState.ONLINE: 3}
        await storage.commit(put(attrs.evolve(one, beat=1), attrs.evolve(two, blocked_since=START)))
        assert await workers(storage) == {WorkerState.ONLINE: 2, WorkerState.BLOCKED: 1}
        both = attrs.evolve(two, blocked_since=START, gone=True)
        await storage.commit(put(both, attrs.evolve(three, gone=True)))
        assert await workers(storage) == {WorkerState.ONLINE: 1, WorkerState.GONE: 2}
        await storage.commit(lambda ledger: ledger.drop_instance("b"))
        await storage.commit(put(attrs.evolve(three, gone=False)))
        assert await workers(storage) == {WorkerState.ONLINE: 2}

    async def test_timers_that_nobody_acts_on_are_overdue(self, storage: Storage) -> None:
        timers = [
            Timer(kind=kind, subject=f"{kind}-{late}", due_at=START - late)
            for kind in TimerKind
            for late in (-100.0, 0.0, 0.5, 2.0)
        ]
        await storage.commit(put(*timers))
        apart = {TimerKind.FILES, TimerKind.FORGET}
        assert (await storage.backlog([])).timers_overdue == len(set(TimerKind) - apart)
        await storage.commit(lambda it: it.drop_timer(TimerKind.RETRY, "retry-2.0"))
        assert (await storage.backlog([])).timers_overdue == len(set(TimerKind) - apart) - 1

    async def test_what_is_restored_counts(self, storage: Storage) -> None:
        await storage.commit(put(a_task("a"), an_attempt("w1"), an_instance("i")))
        await storage.restore(
            [
                _leased(a_task("a")),
                a_task("b", created_at=START - 4),
                an_attempt("w1", status=AttemptStatus.LOST),
                an_attempt("w2"),
                an_attempt("w3"),
                an_instance("i", gone=True),
                Timer(kind=TimerKind.RETRY, subject="j-1", due_at=START - 9),
            ]
        )
        backlog = await storage.backlog(["k"])
        assert backlog.queues == {"k": QueueBacklog(depth=1, oldest_seconds=4)}
        assert (backlog.running, backlog.timers_overdue) == (2, 1)
        assert await workers(storage) == {WorkerState.GONE: 1}
