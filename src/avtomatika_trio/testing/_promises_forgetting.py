"""A job that is forgotten leaves nothing, and takes nothing of others along."""

from collections.abc import Callable

import attrs

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import FanOut, Ledger, Progress, Timer, TimerKind
from avtomatika_trio._core.task import AttemptStatus, Lane, TaskStatus
from avtomatika_trio.storage._base import JobQuery, Storage
from avtomatika_trio.testing._promises_archive import held
from avtomatika_trio.testing._samples import (
    START,
    Record,
    a_job,
    a_ready_job,
    a_row,
    a_task,
    an_attempt,
    an_instance,
    put,
)
from avtomatika_trio.testing._suite import SetClock, and_break, broken, settled

#: More than one command of Redis or one page of anything takes.
BRANCHES = 1100


def an_ended_job(job_id: str, branches: int = 3) -> tuple[Record, ...]:
    """A job that has ended, with everything that a job can have by then."""
    single = a_task(job_id, 2, status=TaskStatus.DONE)
    parts = [a_task(job_id, 4, at, status=TaskStatus.DONE) for at in range(branches)]
    attempts = [
        an_attempt(f"{job_id}-w{at}", job_id, task_id=task.id, status=AttemptStatus.SUCCEEDED)
        for at, task in enumerate([single, *parts])
    ]
    fan = FanOut(
        job_id=job_id,
        dispatch=4,
        state="s",
        aggregate_into="m",
        failure=None,
        total=branches,
        open=0,
        released=branches,
    )
    timers = [
        Timer(kind=kind, subject=job_id, due_at=START)
        for kind in (TimerKind.FILES, TimerKind.FORGET)
    ]
    said = Progress(job_id=job_id, task_id=single.id, at=START, progress=0.5, message="half")
    return (
        a_job(job_id, status=JobStatus.FINISHED),
        single,
        *parts,
        *attempts,
        fan,
        *timers,
        a_row(job_id),
        a_row(job_id, "job_finished"),
        said,
    )


def _forget(*job_ids: str) -> Callable[[Ledger], None]:
    def operation(ledger: Ledger) -> None:
        for job_id in job_ids:
            ledger.forget_job(job_id)

    return operation


def _of(job_id: str) -> Callable[[Ledger], list[object]]:
    """Everything that a ledger says of what `an_ended_job` has; all false if there is nothing."""

    def operation(ledger: Ledger) -> list[object]:
        return [
            ledger.job(job_id),
            ledger.task_count(job_id),
            *(ledger.task(f"{job_id}-{it}") for it in ("2", "4-0", "4-1", "4-2")),
            *(ledger.attempt(f"{job_id}-w{at}") for at in range(4)),
            ledger.fan_out(job_id, 4),
            *(ledger.timer(kind, job_id) for kind in TimerKind),
            *ledger.open_tasks(job_id),
            *(it for it in ledger.due_files(most=9) if it.subject == job_id),
            *(it for it in ledger.due_forgets(most=9) if it.subject == job_id),
        ]

    return operation


async def _read(storage: Storage, job_id: str) -> list[object]:
    """Everything that is read of it outside of commits; all false if there is nothing."""
    return [
        await storage.job(job_id),
        *(job for job in await storage.jobs(JobQuery()) if job.id == job_id),
        *(job for job in await storage.jobs(JobQuery(client="c")) if job.id == job_id),
        *await storage.tasks(job_id),
        *await storage.attempts(job_id),
        *await storage.history(job_id),
        *await storage.progress(job_id),
    ]


class ForgettingPromises:
    """See `Ledger.forget_job`."""

    async def test_a_forgotten_job_leaves_nothing(self, storage: Storage) -> None:
        await storage.commit(put(an_instance(), *an_ended_job("other")))
        before = await held(storage)
        await storage.commit(put(*an_ended_job("j")))
        assert all((await storage.commit(_of("j")))[:11])
        assert await storage.commit(lambda ledger: ledger.task_count("j")) == 4

        def forget_and_look(ledger: Ledger) -> list[object]:
            ledger.forget_job("j")
            return _of("j")(ledger)

        assert not any(await storage.commit(forget_and_look))
        assert not any(await storage.commit(_of("j")))
        assert not any(await _read(storage, "j"))
        assert (await storage.job_counts())[JobStatus.FINISHED] == 1
        assert await held(storage) == before

    async def test_one_that_nobody_knows_is_no_error(self, storage: Storage) -> None:
        await storage.commit(_forget("never", "never"))

    async def test_a_forgetting_that_was_undone_has_not_happened(self, storage: Storage) -> None:
        await storage.commit(put(*an_ended_job("j"), *an_ended_job("other"), a_row("j", "last")))
        before, seen = await held(storage), await storage.commit(_of("j"))
        await broken(storage, and_break(_forget("j", "other")))
        assert await held(storage) == before
        assert await storage.commit(_of("j")) == seen
        await storage.commit(put(a_row("other", "later")))
        numbers = [it.number for id_ in ("j", "other") for it in await storage.history(id_)]
        assert len(set(numbers)) == len(numbers) == 6
        await storage.commit(_forget("j"))
        assert not any(await storage.commit(_of("j")))

    async def test_the_history_of_others_keeps_its_numbers(self, storage: Storage) -> None:
        await storage.commit(
            put(a_row("other"), *an_ended_job("j"), a_row("other"), a_row("j", "last"))
        )
        before = await storage.history("other")
        last = (await storage.history("j"))[-1].number
        await storage.commit(_forget("j"))
        assert await storage.history("other") == before
        await storage.commit(put(a_row("other", "later")))
        *same, later = await storage.history("other")
        assert same == before
        assert later.number > last

    async def test_its_id_can_be_given_again(self, storage: Storage) -> None:
        await storage.commit(put(*an_ended_job("j")))
        await storage.commit(_forget("j"))
        again = a_ready_job("j", initial_data={"again": True})
        await storage.commit(put(again, a_row("j", "again")))
        assert await storage.job("j") == again
        assert await storage.jobs(JobQuery()) == [again]
        assert [it.row.type for it in await storage.history("j")] == ["again"]
        assert await storage.claim_ready("o", most=9, lease_seconds=30) == [again]
        task = a_task("j", 2)
        waits = attrs.evolve(again, revision=2, status=JobStatus.WAITING_FOR_WORKER)
        await storage.commit(put(waits, task))
        assert await storage.tasks("j") == [task]
        assert await storage.commit(lambda ledger: ledger.queued("k", Lane.NORMAL, most=9)) == [
            task
        ]

    async def test_what_is_written_in_the_same_step_after_it_stays(self, storage: Storage) -> None:
        await storage.commit(put(*an_ended_job("j")))
        again = a_ready_job("j", blueprint="other")

        def operation(ledger: Ledger) -> None:
            put(a_row("j", "too early"))(ledger)
            ledger.forget_job("j")
            put(again, a_row("j", "again"))(ledger)

        await storage.commit(operation)
        assert await storage.job("j") == again
        assert await storage.tasks("j") == []
        assert [it.row.type for it in await storage.history("j")] == ["again"]
        counts = await storage.job_counts()
        assert {it: n for it, n in counts.items() if n} == {JobStatus.PENDING: 1}
        assert await storage.claim_ready("o", most=9, lease_seconds=30) == [again]

    async def test_one_that_ends_in_the_same_step_leaves_nothing_either(
        self, storage: Storage
    ) -> None:
        before = await held(storage)
        ready = a_ready_job("j")
        await storage.commit(put(ready, a_task("j", 2)))
        done = attrs.evolve(ready, revision=2, status=JobStatus.FINISHED)

        def operation(ledger: Ledger) -> None:
            ended = a_task("j", 2, status=TaskStatus.CANCELLED)
            put(done, ended, a_task("j", 4, 0, status=TaskStatus.DONE), a_row("j"))(ledger)
            ledger.forget_job("j")

        await storage.commit(operation)
        assert not any(await storage.commit(_of("j")))
        assert not any(await _read(storage, "j"))
        assert list(storage.partitions_with(["k"])) == []
        assert await held(storage) == before

    async def test_one_with_many_branches_goes_at_once(self, storage: Storage) -> None:
        before = await held(storage)
        await storage.commit(put(*an_ended_job("j", BRANCHES), *[a_row("j")] * BRANCHES))
        assert len(await storage.tasks("j")) == BRANCHES + 1
        await storage.commit(_forget("j"))
        assert await held(storage) == before

    async def test_who_follows_it_is_told(self, storage: Storage) -> None:
        await storage.commit(put(*an_ended_job("j")))
        with storage.job_news("j") as news:
            await settled(storage)
            await storage.commit(_forget("j"))
            await news.wait()
            assert await storage.job("j") is None

    async def test_timers_of_forgetting_are_due_apart_from_the_others(
        self, storage: Storage, clock: SetClock
    ) -> None:
        kinds = (TimerKind.RETRY, TimerKind.FILES, TimerKind.FORGET)
        timers = [
            Timer(kind=kind, subject=f"{at}", due_at=START + at) for kind in kinds for at in (1, 0)
        ]
        await storage.commit(put(*timers))
        one, none = timers[5:], timers[4:5]

        def due(ledger: Ledger) -> list[Timer]:
            assert list(ledger.due_forgets(most=0)) == []
            others = [*ledger.due_timers(most=9), *ledger.due_files(most=9)]
            assert {it.kind for it in others} == {TimerKind.RETRY, TimerKind.FILES}
            return list(ledger.due_forgets(most=9))

        assert await storage.commit(due) == one
        clock.time += 1
        assert await storage.commit(due) == [*one, *none]

        def put_off(ledger: Ledger) -> list[Timer]:
            put(attrs.evolve(one[0], due_at=START + 9))(ledger)
            return list(ledger.due_forgets(most=9))

        assert await storage.commit(put_off) == none
        await storage.commit(lambda ledger: ledger.drop_timer(TimerKind.FORGET, "1"))
        assert await storage.commit(due) == []
