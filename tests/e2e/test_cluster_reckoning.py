"""The reckoning of the drill of a cluster sees what it is there to see; no processes."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from tests.drills.cluster_load import MIX, result_of
from tests.drills.cluster_reckoning import ClusterReckoning, reckon_cluster
from tests.drills.lateness import Firing, Outage, allowed_seconds, firings, lateness_faults
from tests.e2e.reckoning import Account, Run

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import HistoryRow
from avtomatika_trio._core.task import Attempt, AttemptStatus

DATA = {"n": 1, "kind": "single", "seconds": 0, "limit": 2.0}
JOB = Job(
    id="j1",
    blueprint="mixed",
    client="c",
    state="done",
    status=JobStatus.FINISHED,
    initial_data=DATA,
    created_at=100.0,
    updated_at=102.0,
    result=result_of(DATA),
)
ATTEMPT = Attempt(
    wire_id="a1",
    task_id="t1",
    job_id="j1",
    number=1,
    worker_id="w1",
    instance="i1",
    poll=1,
    leased_at=100.0,
    lease_until=130.0,
    status=AttemptStatus.SUCCEEDED,
)


def row(type_: str, at: float, *, attempt: int | None = 1, **details: Any) -> HistoryRow:
    task_id = "t1" if type_.startswith(("attempt_", "task_")) else None
    return HistoryRow(
        job_id="j1",
        type=type_,
        at=at,
        revision=1,
        task_id=task_id,
        attempt=attempt,
        details=details or None,
    )


ROWS = [row("task_dispatched", 100), row("attempt_leased", 100), row("task_finished", 102)]
WELL = Account(job=JOB, attempts=[ATTEMPT], rows=ROWS)


def reckoned(
    *accounts: Account, accepted: Sequence[str] = ("j1",), runs: int = 1
) -> ClusterReckoning:
    return reckon_cluster(
        accounts, dict.fromkeys(accepted, 99.5), [Run("t1", "a1")] * runs, [], 30.0
    )


def test_what_is_well_has_no_problem() -> None:
    found = reckoned(WELL)
    assert found.problems == []
    assert (found.tasks, found.attempts, found.seconds) == (1, 1, [2.5])


def test_a_job_that_is_not_there_is_lost() -> None:
    found = reckoned(WELL, accepted=["j1", "j2"])
    assert found.lost == 1
    assert found.problems == ["job j2 was accepted and is lost"]


def test_a_job_that_has_not_ended_is_stuck() -> None:
    open_job = attrs.evolve(JOB, status=JobStatus.WAITING_FOR_WORKER, result=None)
    found = reckoned(attrs.evolve(WELL, job=open_job))
    assert (found.stuck, found.wrong, len(found.problems)) == (1, 0, 1)


def test_a_job_with_another_result_has_ended_wrong() -> None:
    found = reckoned(attrs.evolve(WELL, job=attrs.evolve(JOB, result={"n": 2})))
    assert (found.stuck, found.wrong, len(found.problems)) == (0, 1, 1)


def test_a_second_result_is_seen() -> None:
    found = reckoned(attrs.evolve(WELL, rows=[*ROWS, row("task_finished", 103)]))
    assert found.doubled == 1
    assert found.problems == ["task t1: 1 attempts have succeeded, 2 results were applied"]


def test_an_attempt_that_was_begun_twice_is_seen() -> None:
    assert reckoned(WELL, runs=2).problems == ["task t1: attempt a1 was begun 2 times"]


def test_a_branch_that_was_never_made_is_seen() -> None:
    data = {**DATA, "kind": "fan", "branches": 2}
    job = attrs.evolve(JOB, initial_data=data, result=result_of(data))
    assert reckoned(attrs.evolve(WELL, job=job)).problems == ["job j1 has 1 tasks, not 2"]


def test_every_kind_has_one_way_to_end() -> None:
    ends = {kind: result_of({"n": 1, "kind": kind, "branches": 3})["end"] for kind in MIX}
    assert ends["fan"] == ends["flaky"] == ends["stumble"] == "done"
    assert ends["slow"] == ends["unwanted"] == ends["overdue"] == "timed_out"


@pytest.mark.parametrize(
    ("rows", "kind", "late"),
    [
        ([row("attempt_failed", 101, retry_at=102), row("attempt_leased", 103)], "retry", 1.0),
        (
            [row("state_failed", 101, retry_at=102), row("state_finished", 105)],
            "handler_retry",
            3.0,
        ),
        (
            [row("state_failed", 101, retry_at=102), row("task_dispatched", 103)],
            "handler_retry",
            1.0,
        ),
        ([row("attempt_leased", 101), row("attempt_timed_out", 104)], "attempt_timeout", 1.0),
        (
            [
                row("task_dispatched", 101),
                row("task_finished", 108, error={"code": "RESULT_TIMEOUT"}),
            ],
            "result_timeout",
            5.0,
        ),
        (
            [
                row("task_dispatched", 101),
                row("task_finished", 104, error={"code": "DISPATCH_TIMEOUT"}),
            ],
            "dispatch_timeout",
            1.0,
        ),
    ],
)
def test_the_history_tells_how_late_timers_were(
    rows: list[HistoryRow], kind: str, late: float
) -> None:
    [firing] = firings(DATA, rows)
    assert (firing.kind, firing.late_seconds) == (kind, late)


def test_a_retry_that_was_not_needed_any_more_has_not_fired() -> None:
    rows = [row("attempt_failed", 101, retry_at=102), row("attempt_retaken", 103)]
    assert list(firings(DATA, [*rows, row("attempt_leased", 104)])) == []


def test_a_timer_may_be_late_by_a_lease_and_by_the_outages_that_it_met() -> None:
    met, not_met = Outage(100.0, 107.0), Outage(50.0, 60.0)
    firing = Firing("retry", "j1", 105.0, 140.0)
    assert allowed_seconds(firing, [met, not_met], 30.0) == 31.0 + 37.0
    assert list(lateness_faults([firing], [met], 30.0)) == []
    [fault] = lateness_faults([firing], [not_met], 30.0)
    assert "its retry has fired 35.00 s late, where 31.00 s are allowed" in fault


def test_a_timer_that_fires_early_is_seen() -> None:
    [fault] = lateness_faults([Firing("retry", "j1", 105.0, 102.0)], [], 30.0)
    assert "3.00 s too early" in fault
