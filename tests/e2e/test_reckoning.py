"""The reckoning sees what it is there to see; it needs no processes."""

from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.e2e.reckoning import Account, Reckoning, Run, read_runs, reckon

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import HistoryRow
from avtomatika_trio._core.task import Attempt, AttemptStatus

JOB = Job(
    id="j1",
    blueprint="sleep",
    client="c",
    state="done",
    status=JobStatus.FINISHED,
    initial_data={"n": 1, "skill": "sleep"},
    created_at=100.0,
    updated_at=102.5,
    result={"n": 1},
)


def attempt(wire_id: str, status: AttemptStatus, number: int = 1) -> Attempt:
    return Attempt(
        wire_id=wire_id,
        task_id="t1",
        job_id="j1",
        number=number,
        worker_id="w1",
        instance="i1",
        poll=number,
        leased_at=100.0,
        lease_until=130.0,
        status=status,
    )


def row(type_: str, number: int | None = 1, **details: Any) -> HistoryRow:
    task_id = None if number is None else "t1"
    return HistoryRow(
        job_id="j1",
        type=type_,
        at=101.0,
        revision=1,
        task_id=task_id,
        attempt=number,
        details=details or None,
    )


ONCE = Account(
    job=JOB,
    attempts=[attempt("a1", AttemptStatus.SUCCEEDED)],
    rows=[row("job_created", None), row("attempt_leased"), row("task_finished")],
)
TWICE = Account(
    job=JOB,
    attempts=[
        attempt("a1", AttemptStatus.LOST),
        attempt("a2", AttemptStatus.SUCCEEDED, 2),
    ],
    rows=[
        row("job_created", None),
        row("attempt_leased"),
        row("attempt_lost", reason="not heard of"),
        row("attempt_leased", 2),
        row("task_finished", 2),
    ],
)
RUN = Run("t1", "a1")
RUNS = [RUN, Run("t1", "a2")]


def of(account: Account, *runs: Run) -> Reckoning:
    return reckon([account], ["j1"], runs)


def test_a_job_that_was_done_once_is_well() -> None:
    assert of(ONCE, RUN) == Reckoning(
        problems=[],
        finished=1,
        lost=0,
        doubled=0,
        unanswered=0,
        executions=1,
        repeats={},
        latencies=[2.5],
    )


@pytest.mark.parametrize("runs", [RUNS, RUNS[1:]])
def test_a_repeat_that_the_history_explains_is_well(runs: list[Run]) -> None:
    reckoning = of(TWICE, *runs)
    assert (reckoning.problems, reckoning.executions) == ([], len(runs))
    assert reckoning.repeats == {"attempt_lost: not heard of": 1}


def test_a_loss_that_was_taken_back_is_no_repeat() -> None:
    rows = [*TWICE.rows[:3], row("attempt_retaken"), row("task_finished")]
    reckoning = of(attrs.evolve(ONCE, rows=rows), RUN)
    assert (reckoning.problems, reckoning.repeats) == ([], {})


def test_a_job_that_is_not_there_is_lost() -> None:
    reckoning = reckon([], ["j1"], [])
    assert (reckoning.problems, reckoning.lost) == (["job j1 is lost"], 1)


def test_a_job_of_which_nobody_was_told_counts_apart() -> None:
    reckoning = reckon([ONCE], [], [RUN])
    assert (reckoning.problems, reckoning.unanswered, reckoning.lost) == ([], 1, 0)


@pytest.mark.parametrize(
    ("account", "runs", "problem"),
    [
        (
            attrs.evolve(ONCE, job=attrs.evolve(JOB, status=JobStatus.QUARANTINED)),
            [RUN],
            "has not finished: it is quarantined, None",
        ),
        (
            attrs.evolve(ONCE, job=attrs.evolve(JOB, result={"n": 2})),
            [RUN],
            "number 1 has the result {'n': 2}",
        ),
        (ONCE, [], "attempt a1 has succeeded, but was never begun"),
        (ONCE, [RUN, RUN], "attempt a1 was begun 2 times"),
        (ONCE, RUNS, "attempt a2 was begun, but never handed out"),
        (
            attrs.evolve(ONCE, rows=ONCE.rows[:2]),
            [RUN],
            "1 attempts have succeeded, 0 results were applied",
        ),
        (
            attrs.evolve(TWICE, rows=[*TWICE.rows[:2], *TWICE.rows[3:]]),
            RUNS,
            "2 attempts were handed out in 2 leases, and 0 endings explain another",
        ),
        (
            attrs.evolve(TWICE, rows=[*TWICE.rows[:3], row("attempt_retaken"), *TWICE.rows[3:]]),
            RUNS,
            "2 attempts were handed out in 2 leases, and 0 endings explain another",
        ),
    ],
)
def test_what_does_not_hold_is_told(account: Account, runs: list[Run], problem: str) -> None:
    assert of(account, *runs).problems == [f"job j1: {problem}"]


def test_two_results_of_a_task_are_told() -> None:
    both = [attempt("a1", AttemptStatus.SUCCEEDED), attempt("a2", AttemptStatus.SUCCEEDED, 2)]
    reckoning = of(attrs.evolve(TWICE, attempts=both), *RUNS)
    assert reckoning.problems == ["job j1: 2 attempts have succeeded, 1 results were applied"]
    assert reckoning.doubled == 1


def test_a_run_of_an_unknown_task_is_told() -> None:
    assert of(ONCE, RUN, Run("t2", "a3")).problems == ["task t2 was begun, but nobody knows it"]


def test_notes_are_read_line_by_line(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    assert read_runs(notes) == []
    notes.write_text("t1 a1\nt1 a2\n")
    assert read_runs(notes) == RUNS
