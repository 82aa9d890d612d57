"""Commits are atomic and serialised, and keep what they are given."""

from collections.abc import Callable
from typing import Any

import attrs
import trio

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import FanOut, Ledger, Progress, Service, Timer, TimerKind
from avtomatika_trio._core.task import Lane, TaskResult, TaskStatus
from avtomatika_trio.errors import StaleRevision
from avtomatika_trio.storage._base import Storage
from avtomatika_trio.testing._samples import (
    START,
    a_job,
    a_row,
    a_task,
    an_attempt,
    an_instance,
    put,
)
from avtomatika_trio.testing._suite import SetClock, and_break, broken

_FAN = FanOut(
    job_id="j", dispatch=2, state="s", aggregate_into="m", failure=None, total=3, open=3, released=3
)
_TIMER = Timer(kind=TimerKind.RETRY, subject="j-1", due_at=START)
_PROGRESS = Progress(job_id="j", task_id="j-1", at=START, progress=0.5, message="half")
_SERVICE = Service(served_at=START, serving_since=START)

#: One record of each kind.
EVERYTHING = (
    a_job(),
    a_task(),
    an_attempt(),
    an_instance(due_at=START),
    _FAN,
    _TIMER,
    a_row(),
    _PROGRESS,
    _SERVICE,
)


def everything(ledger: Ledger) -> tuple[object, ...]:
    """What the ledger says of `EVERYTHING`; falsy throughout if there is nothing."""
    return (
        ledger.job("j"),
        ledger.task("j-1"),
        ledger.attempt("w1"),
        ledger.instance("i"),
        ledger.fan_out("j", 2),
        ledger.timer(TimerKind.RETRY, "j-1"),
        ledger.service(),
        list(ledger.open_tasks("j")),
        list(ledger.queued("k", Lane.NORMAL, most=9)),
        list(ledger.leased("i")),
        list(ledger.due_instances(most=9)),
        list(ledger.due_timers(most=9)),
    )


async def _is_empty(storage: Storage) -> bool:
    seen = await storage.commit(everything)
    return not any([*seen, *await storage.history("j"), *await storage.progress("j")])


async def _stale(storage: Storage, revision: int) -> tuple[str, int, int] | None:
    """Write this revision of the job, and history; what the refusal says, if it was refused."""
    try:
        await storage.commit(put(a_job(revision=revision), a_row(revision=revision)))
    except StaleRevision as exc:
        return exc.job_id, exc.expected, exc.found
    return None


class CommitPromises:
    """All of a commit happens, or nothing of it."""

    async def test_an_operation_reads_what_it_has_written(self, storage: Storage) -> None:
        def operation(ledger: Ledger) -> tuple[object, ...]:
            put(*EVERYTHING)(ledger)
            return everything(ledger)

        inside = await storage.commit(operation)
        job, task, attempt, instance, fan, timer, _, _, service = EVERYTHING
        assert inside[:7] == (job, task, attempt, instance, fan, timer, service)
        assert inside[7:] == ([task], [task], [attempt], [instance], [timer])
        assert await storage.commit(everything) == inside

    async def test_an_operation_that_raises_leaves_nothing(self, storage: Storage) -> None:
        await broken(storage, and_break(put(*EVERYTHING)))
        assert await _is_empty(storage)

    async def test_an_operation_that_raises_after_its_queries_leaves_nothing(
        self, storage: Storage
    ) -> None:
        def operation(ledger: Ledger) -> None:
            put(*EVERYTHING)(ledger)
            everything(ledger)

        await broken(storage, and_break(operation))
        assert await _is_empty(storage)

    async def test_an_operation_that_raises_leaves_what_was_before(self, storage: Storage) -> None:
        await storage.commit(put(*EVERYTHING))
        before = await storage.commit(everything)
        done = attrs.evolve(a_task(), status=TaskStatus.DONE, result=TaskResult(status="success"))

        def operation(ledger: Ledger) -> None:
            put(
                attrs.evolve(a_job(), revision=2, status=JobStatus.FINISHED),
                done,
                attrs.evolve(an_attempt(), instance="other"),
                an_instance(due_at=None),
                attrs.evolve(_FAN, open=2),
                attrs.evolve(_TIMER, due_at=START + 9),
                attrs.evolve(_SERVICE, served_at=START + 9),
            )(ledger)
            ledger.drop_timer(TimerKind.RETRY, "j-1")

        await broken(storage, and_break(operation))
        assert await storage.commit(everything) == before

    async def test_one_that_raises_does_not_disturb_those_beside_it(self, storage: Storage) -> None:
        committed: list[str] = []

        async def commit(name: str) -> None:
            await storage.commit(put(a_job(name), a_row(name)))
            committed.append(name)

        async with trio.open_nursery() as nursery:
            for at in range(20):
                nursery.start_soon(commit, f"j{at}")
                nursery.start_soon(broken, storage, and_break(put(a_job(f"x{at}"), a_row("x"))))
                nursery.start_soon(broken, storage, and_break(lambda _: None))
        assert sorted(committed) == sorted(f"j{at}" for at in range(20))
        for at in range(20):
            assert await storage.job(f"j{at}") == a_job(f"j{at}")
            assert await storage.job(f"x{at}") is None
            assert len(await storage.history(f"j{at}")) == 1
        assert await storage.history("x") == []

    async def test_a_revision_must_follow_the_stored_one(self, storage: Storage) -> None:
        await storage.commit(put(a_job()))
        assert await _stale(storage, 1) == ("j", 0, 1)
        assert await _stale(storage, 3) == ("j", 2, 1)
        assert await _stale(storage, 2) is None
        assert await _stale(storage, 2) == ("j", 1, 2)
        stored = await storage.job("j")
        assert stored is not None
        assert stored.revision == 2
        assert [numbered.row.revision for numbered in await storage.history("j")] == [2]

    async def test_a_new_job_begins_at_revision_one(self, storage: Storage) -> None:
        assert await _stale(storage, 2) == ("j", 1, 0)
        assert await storage.job("j") is None
        assert await _stale(storage, 1) is None

    async def test_of_two_racing_commits_one_wins(self, storage: Storage) -> None:
        await storage.commit(put(a_job()))
        outcomes: list[str] = []

        async def commit(state: str) -> None:
            try:
                await storage.commit(put(a_job(revision=2, state=state)))
                outcomes.append("won")
            except StaleRevision:
                outcomes.append("stale")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit, "a")
            nursery.start_soon(commit, "b")
        assert sorted(outcomes) == ["stale", "won"]

    async def test_operations_are_serialised(self, storage: Storage) -> None:
        def count(ledger: Ledger) -> int:
            service = ledger.service() or Service(served_at=0.0, serving_since=0.0)
            ledger.put_service(attrs.evolve(service, serving_since=service.serving_since + 1))
            return int(service.serving_since)

        answers: list[int] = []

        async def commit() -> None:
            answers.append(await storage.commit(count))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(commit)
        assert sorted(answers) == list(range(100))

    async def test_a_submitted_commit_is_whole_whoever_left(self, storage: Storage) -> None:
        async with trio.open_nursery() as nursery:
            for at in range(20):
                nursery.start_soon(storage.commit, put(a_job(f"j{at}"), a_row(f"j{at}")))
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        await storage.commit(lambda _: None)
        for at in range(20):
            stored = await storage.job(f"j{at}")
            assert len(await storage.history(f"j{at}")) == (0 if stored is None else 1)

    async def test_time_stands_still_in_an_operation_and_never_goes_back(
        self, storage: Storage, clock: SetClock
    ) -> None:
        def operation(ledger: Ledger) -> tuple[float, float]:
            before = ledger.now
            clock.time += 1
            return before, ledger.now

        before, after = await storage.commit(operation)
        assert before == after == START
        assert storage.now() == START + 1
        clock.time -= 1000
        assert storage.now() == START + 1
        assert await storage.commit(lambda ledger: ledger.now) == START + 1

    async def test_time_goes_on_from_where_it_was_when_the_host_is_set_back(
        self, storage: Storage, clock: SetClock
    ) -> None:
        await storage.commit(lambda _: None)
        clock.time -= 3600
        assert storage.now() == START
        clock.time += 10
        assert await storage.commit(lambda ledger: ledger.now) == START + 10


#: JSON as clients give it: integers of any size, floats as IEEE doubles.
_VALUES: dict[str, Any] = {
    "int": 1,
    "float": 1.0,
    "zero": 0.0,
    "minus": -0.5,
    "tenth": 0.1,
    "huge": 1e300,
    "big": 2**63,
    "bigger": 2**70,
    "small": -(2**63),
    "null": None,
    "true": True,
    "empty": {},
    "list": [1, 1.0, None, [], [[{}]]],
    "text": 'ünï¢ødé 🎉 \x00 \u2028 \\ "',
    "": {"nested": {"deep": {"deeper": [{"key": None}]}}},
}


class ValuePromises:
    """Values come back as they were given."""

    async def test_values_of_a_job_are_kept(self, storage: Storage) -> None:
        job = a_job(initial_data=_VALUES, state_history=_VALUES, result=_VALUES)
        await storage.commit(put(job))
        await self._check(storage, lambda stored: (stored.initial_data, stored.result))

    async def test_a_result_of_any_type_is_kept(self, storage: Storage) -> None:
        for at, value in enumerate(_VALUES.values()):
            await storage.commit(put(a_job(f"j{at}", result=value)))
        for at, value in enumerate(_VALUES.values()):
            stored = await storage.job(f"j{at}")
            assert stored is not None
            assert repr(stored.result) == repr(value)

    async def test_values_of_tasks_attempts_and_history_are_kept(self, storage: Storage) -> None:
        task = a_task(params=_VALUES, result=TaskResult(status="success", data=_VALUES))
        attempt = an_attempt(answer=_VALUES)
        row = a_row(details=_VALUES)
        await storage.commit(put(task, attempt, row))
        [stored] = await storage.tasks("j")
        assert repr(stored) == repr(task)
        [kept] = await storage.attempts("j")
        assert repr(kept) == repr(attempt)
        [numbered] = await storage.history("j")
        assert repr(numbered.row) == repr(row)

    async def _check(self, storage: Storage, of: Callable[[Job], tuple[Any, ...]]) -> None:
        seen = await storage.job("j")
        inside = await storage.commit(lambda ledger: ledger.job("j"))
        for job in (seen, inside):
            assert job is not None
            assert [repr(value) for value in of(job)] == [repr(_VALUES)] * 2
