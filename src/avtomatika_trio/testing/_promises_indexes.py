"""What an operation finds by something else than its id."""

from collections.abc import Callable, Sequence

import attrs

from avtomatika_trio._core.ledger import Ledger, Timer, TimerKind
from avtomatika_trio._core.task import AttemptStatus, Lane, TaskStatus
from avtomatika_trio.storage._base import Storage
from avtomatika_trio.testing._samples import START, a_task, an_attempt, an_instance, put
from avtomatika_trio.testing._suite import SetClock, and_break, broken


def _queued(
    skill: str = "k", lane: Lane = Lane.NORMAL, most: int = 99
) -> Callable[[Ledger], Sequence[str]]:
    return lambda ledger: [task.id for task in ledger.queued(skill, lane, most=most)]


class QueuePromises:
    """Queues are ordered: priority high first, then first come, first served."""

    async def test_by_priority_then_by_time_then_by_job_then_by_branch(
        self, storage: Storage
    ) -> None:
        await storage.commit(
            put(
                a_task("late", created_at=START + 2),
                a_task("b", branch=10),
                a_task("b", branch=9),
                a_task("a"),
                a_task("low", priority=-1.5),
                a_task("urgent", priority=2.0, created_at=START + 3),
                a_task("b", branch=0),
            )
        )
        order = ["urgent-1", "a-1", "b-1-0", "b-1-9", "b-1-10", "late-1", "low-1"]
        assert await storage.commit(_queued()) == order
        assert await storage.commit(_queued(most=3)) == order[:3]
        assert await storage.commit(_queued(most=0)) == []

    async def test_only_queued_tasks_are_in_a_queue(self, storage: Storage) -> None:
        statuses = list(TaskStatus)
        tasks = [a_task(f"j{at}", status=status) for at, status in enumerate(statuses)]
        await storage.commit(put(*tasks))
        assert await storage.commit(_queued()) == [f"j{statuses.index(TaskStatus.QUEUED)}-1"]

    async def test_a_task_leaves_and_comes_back_to_its_place(self, storage: Storage) -> None:
        first, second = a_task("a"), a_task("b")
        await storage.commit(put(second, first))
        await storage.commit(put(attrs.evolve(first, status=TaskStatus.LEASED, wire_id="w1")))
        assert await storage.commit(_queued()) == ["b-1"]
        await storage.commit(put(first))
        assert await storage.commit(_queued()) == ["a-1", "b-1"]

    async def test_each_skill_has_its_queue(self, storage: Storage) -> None:
        await storage.commit(put(a_task("a"), a_task("b", skill="other")))
        assert await storage.commit(_queued()) == ["a-1"]
        assert await storage.commit(_queued("other")) == ["b-1"]
        assert await storage.commit(_queued("nobody's")) == []

    async def test_a_task_that_lost_its_workers_changes_lanes(self, storage: Storage) -> None:
        await storage.commit(put(a_task("a"), a_task("b")))
        await storage.commit(put(a_task("a", lost=2)))
        assert await storage.commit(_queued()) == ["b-1"]
        assert await storage.commit(_queued(lane=Lane.SUSPECT)) == ["a-1"]

    async def test_the_queue_is_seen_as_the_operation_has_left_it(self, storage: Storage) -> None:
        await storage.commit(put(a_task("a"), a_task("b")))

        def operation(ledger: Ledger) -> tuple[Sequence[str], Sequence[str]]:
            before = _queued()(ledger)
            put(a_task("a", status=TaskStatus.LEASED), a_task("c"))(ledger)
            return before, _queued()(ledger)

        assert await storage.commit(operation) == (["a-1", "b-1"], ["b-1", "c-1"])

    async def test_a_long_queue_is_taken_from_its_head(self, storage: Storage) -> None:
        await storage.commit(put(*(a_task("j", branch=at) for at in range(3000))))
        taken: list[str] = []

        def take(ledger: Ledger) -> None:
            for task in ledger.queued("k", Lane.NORMAL, most=100):
                taken.append(task.id)
                ledger.put_task(attrs.evolve(task, status=TaskStatus.DONE))

        for _ in range(15):
            await storage.commit(take)
        await storage.commit(put(a_task("first", priority=1.0)))
        for _ in range(16):
            await storage.commit(take)
        rest = [f"j-1-{at}" for at in range(3000)]
        assert taken == [*rest[:1500], "first-1", *rest[1500:]]


class IndexPromises:
    """Open tasks, leases, timers and instances that are due."""

    async def test_open_tasks_are_those_without_an_outcome(self, storage: Storage) -> None:
        tasks = [a_task(branch=at, status=status) for at, status in enumerate(TaskStatus)]
        await storage.commit(put(*tasks, a_task("other")))
        found = await storage.commit(lambda ledger: ledger.open_tasks("j"))
        expected = [task.id for task in tasks if task.status.is_open]
        assert sorted(task.id for task in found) == sorted(expected)
        for task in found:
            await storage.commit(put(attrs.evolve(task, status=TaskStatus.CANCELLED)))
        assert list(await storage.commit(lambda ledger: ledger.open_tasks("j"))) == []

    async def test_leases_are_found_by_the_instance_that_holds_them(self, storage: Storage) -> None:
        await storage.commit(
            put(
                an_attempt("w1"),
                an_attempt("w2"),
                an_attempt("w3", instance="other"),
                an_attempt("w4", status=AttemptStatus.SUCCEEDED),
            )
        )
        assert await storage.commit(_leased("i")) == ["w1", "w2"]
        await storage.commit(
            put(an_attempt("w1", status=AttemptStatus.LOST), an_attempt("w2", instance="other"))
        )
        assert await storage.commit(_leased("i")) == []
        assert await storage.commit(_leased("other")) == ["w2", "w3"]
        await storage.commit(put(an_attempt("w1")))
        assert await storage.commit(_leased("i")) == ["w1"]

    async def test_there_is_one_timer_for_each_kind_and_subject(self, storage: Storage) -> None:
        first = _timer("t", START + 1)
        again = _timer("t", START + 5)
        other_kind = _timer("t", START + 2, TimerKind.RESULT_TIMEOUT)
        await storage.commit(put(first, other_kind, again))
        assert await storage.commit(lambda ledger: ledger.timer(first.kind, "t")) == again
        assert await storage.commit(_due) == []

    async def test_timers_are_due_in_order(self, storage: Storage, clock: SetClock) -> None:
        timers = [_timer(f"t{at}", START + at) for at in (3, 1, 2, 0, 4)]
        await storage.commit(put(*timers))
        assert await storage.commit(_due) == ["t0"]
        clock.time += 3
        assert await storage.commit(_due) == ["t0", "t1", "t2", "t3"]
        assert await storage.commit(lambda ledger: _due(ledger, most=2)) == ["t0", "t1"]

        def drop(ledger: Ledger) -> Sequence[str]:
            ledger.drop_timer(TimerKind.RETRY, "t1")
            ledger.drop_timer(TimerKind.RETRY, "t1")
            ledger.drop_timer(TimerKind.RETRY, "never set")
            put(_timer("t2", START + 99))(ledger)
            return _due(ledger)

        assert await storage.commit(drop) == ["t0", "t3"]
        assert await storage.commit(lambda ledger: ledger.timer(TimerKind.RETRY, "t1")) is None
        assert await storage.commit(_due) == ["t0", "t3"]

    async def test_a_timer_that_is_dropped_and_set_again_is_there(self, storage: Storage) -> None:
        timer = _timer("t", START)
        await storage.commit(put(timer))

        def operation(ledger: Ledger) -> None:
            ledger.drop_timer(timer.kind, timer.subject)
            assert ledger.timer(timer.kind, timer.subject) is None
            ledger.put_timer(timer)

        await storage.commit(operation)
        assert await storage.commit(_due) == ["t"]

    async def test_timers_of_files_are_due_apart_from_the_others(
        self, storage: Storage, clock: SetClock
    ) -> None:
        files = [_timer(f"f{at}", START + at, TimerKind.FILES) for at in (1, 0, 9)]
        await storage.commit(put(*files, _timer("t", START + 1)))
        assert await storage.commit(_due_files) == ["f0"]
        assert await storage.commit(_due) == []
        clock.time += 2
        assert await storage.commit(lambda ledger: _due(ledger, most=1)) == ["t"]
        assert await storage.commit(_due_files) == ["f0", "f1"]
        assert await storage.commit(lambda ledger: _due_files(ledger, most=1)) == ["f0"]

        def put_off(ledger: Ledger) -> Sequence[str]:
            put(_timer("f0", START + 99, TimerKind.FILES))(ledger)
            return _due_files(ledger)

        assert await storage.commit(put_off) == ["f1"]
        stored = await storage.commit(lambda ledger: ledger.timer(TimerKind.FILES, "f0"))
        assert stored == _timer("f0", START + 99, TimerKind.FILES)
        await storage.commit(lambda ledger: ledger.drop_timer(TimerKind.FILES, "f1"))
        assert await storage.commit(_due_files) == []
        assert await storage.commit(_due) == ["t"]

    async def test_instances_are_due_in_order(self, storage: Storage, clock: SetClock) -> None:
        await storage.commit(
            put(
                an_instance("late", due_at=START + 2),
                an_instance("now", due_at=START),
                an_instance("soon", due_at=START + 1),
                an_instance("gone", due_at=None),
            )
        )
        assert await storage.commit(_due_instances) == ["now"]
        clock.time += 10
        assert await storage.commit(_due_instances) == ["now", "soon", "late"]
        assert await storage.commit(lambda ledger: _due_instances(ledger, most=1)) == ["now"]
        await storage.commit(put(an_instance("now", due_at=None), an_instance("soon")))
        assert await storage.commit(_due_instances) == ["late"]

    async def test_an_instance_that_is_dropped_is_forgotten(self, storage: Storage) -> None:
        await storage.commit(put(an_instance("a", due_at=START), an_instance("b", due_at=START)))

        def forget(ledger: Ledger) -> Sequence[str]:
            ledger.put_instance(an_instance("a", due_at=START, beat=1))
            ledger.drop_instance("a")
            ledger.drop_instance("never heard of")
            assert ledger.instance("a") is None
            return _due_instances(ledger)

        assert await storage.commit(forget) == ["b"]
        assert await storage.instance("a") is None
        assert [instance.id for instance in await storage.instances()] == ["b"]
        await storage.commit(put(an_instance("a")))
        assert await storage.instance("a") == an_instance("a")

    async def test_an_instance_whose_dropping_was_undone_is_there(self, storage: Storage) -> None:
        await storage.commit(put(an_instance(due_at=START)))
        await broken(storage, and_break(lambda ledger: ledger.drop_instance("i")))
        assert await storage.instance("i") == an_instance(due_at=START)
        assert await storage.commit(_due_instances) == ["i"]


def _timer(subject: str, due_at: float, kind: TimerKind = TimerKind.RETRY) -> Timer:
    return Timer(kind=kind, subject=subject, due_at=due_at)


def _leased(instance: str) -> Callable[[Ledger], Sequence[str]]:
    return lambda ledger: sorted(attempt.wire_id for attempt in ledger.leased(instance))


def _due(ledger: Ledger, most: int = 99) -> Sequence[str]:
    return [timer.subject for timer in ledger.due_timers(most=most)]


def _due_files(ledger: Ledger, most: int = 99) -> Sequence[str]:
    return [timer.subject for timer in ledger.due_files(most=most)]


def _due_instances(ledger: Ledger, most: int = 99) -> Sequence[str]:
    return [instance.id for instance in ledger.due_instances(most=most)]
