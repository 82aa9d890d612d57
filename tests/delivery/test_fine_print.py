"""The fine print of the rules: what tells a rule from one that is almost the same."""

from functools import partial

import pytest
from tests.delivery.scene import Scene

from avtomatika_trio._core import steps
from avtomatika_trio._core.job import JobFault, JobStatus
from avtomatika_trio._core.ledger import Ledger, Timer, TimerKind
from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio._core.task import AttemptStatus, TaskStatus


def lose(scene: Scene, instance: str) -> str:
    """A process takes the task and is never heard again; returns the wire id."""
    scene.worker(instance)
    wire = scene.take(instance)
    scene.wait(40)
    assert scene.attempt(wire).status is AttemptStatus.LOST
    return wire


# L3: reconciliation leaves alone what is in order.


def test_a_named_lease_is_not_touched(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    before = scene.history()
    assert scene.beat(wire, last_poll=1).notes == ()
    assert scene.history() == before


def test_a_poll_that_was_closed_is_not_opened_by_a_smaller_number(scene: Scene) -> None:
    scene.job()
    scene.worker()
    scene.beat(last_poll=5)
    scene.beat(last_poll=4)
    assert scene.poll(poll=5) == []


def test_what_came_back_counts_neither_as_lost_nor_as_given_back_nor_as_failed(
    scene: Scene,
) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    scene.beat(last_poll=1)
    task = scene.task()
    assert scene.attempt(wire).status is AttemptStatus.UNCLAIMED
    assert (task.status, task.lost, task.returned, task.failures) == (TaskStatus.QUEUED, 0, 0, 0)


# L4: two intervals, not one and not three.


@pytest.mark.parametrize(
    ("pause", "status"), [(29, AttemptStatus.LEASED), (30, AttemptStatus.LOST)]
)
def test_a_foreign_worker_is_silent_for_two_intervals_before_it_has_lost_a_task(
    scene: Scene, pause: float, status: AttemptStatus
) -> None:
    scene.job()
    scene.worker("foreign/w", ours=False)
    wire = scene.take("foreign/w")
    scene.foreign_beat()
    scene.wait(pause)
    scene.foreign_beat()
    assert scene.attempt(wire).status is status


# L6: successors.


def test_what_a_successor_names_goes_over_to_it_without_being_lost(scene: Scene) -> None:
    scene.job()
    scene.worker("i1")
    wire = scene.take("i1")
    scene.worker("i2")
    answer = scene.beat(wire, instance="i2", replaces=("i1",))
    assert (answer.cancel, answer.replaced) == ((), ("i1",))
    assert scene.attempt(wire).instance == "i2"
    assert "attempt_lost" not in scene.history()


def test_a_successor_takes_again_what_its_predecessor_had_lost_already(scene: Scene) -> None:
    scene.job()
    wire = lose(scene, "i1")
    scene.worker("i2")
    answer = scene.beat(wire, instance="i2", replaces=("i1",))
    assert answer.cancel == ()
    attempt = scene.attempt(wire)
    assert (attempt.status, attempt.instance) == (AttemptStatus.LEASED, "i2")
    assert scene.task().lost == 0


def test_a_twin_that_was_declared_dead_is_told_of_once_with_what_it_takes_again(
    scene: Scene,
) -> None:
    scene.job()
    scene.worker("i1")
    wire = scene.take("i1")
    scene.worker("i2")
    scene.beat(instance="i2", replaces=("i1",))
    assert scene.attempt(wire).status is AttemptStatus.LOST
    twin, retaken = scene.beat(wire, instance="i1", last_poll=1).notes
    assert "i1" in twin
    assert "i2" in twin
    assert wire in retaken
    assert scene.beat(wire, instance="i1", last_poll=1).notes == ()


# L7: what one of two twins holds is no business of the other's.


def test_a_twin_that_names_the_others_attempt_is_told_to_stop(scene: Scene) -> None:
    scene.job()
    scene.worker("i1")
    wire = scene.take("i1")
    scene.worker("i2")
    assert scene.beat(wire, instance="i2").cancel == (wire,)
    attempt = scene.attempt(wire)
    assert (attempt.status, attempt.instance) == (AttemptStatus.LEASED, "i1")


# L8, L9: lost, given back and failed are counted apart.


def test_lost_attempts_take_no_retry_away(scene: Scene) -> None:
    scene.job()
    lose(scene, "i1")
    lose(scene, "i2")
    task = scene.task()
    assert (task.lost, task.failures, task.returned) == (2, 0, 0)
    for failures in range(1, 4):
        scene.worker(f"j{failures}")
        scene.fail(scene.take(f"j{failures}"))
        assert (scene.task().status, scene.task().failures) == (TaskStatus.RETRYING, failures)
        scene.wait(10)


def test_a_lost_task_is_queued_again_in_the_commit_that_found_it_lost(scene: Scene) -> None:
    scene.job()
    lose(scene, "i1")
    scene.worker("i2")
    assert len(scene.poll("i2")) == 1


@pytest.mark.parametrize("between", ["lost", "failed"])
def test_give_backs_are_counted_in_a_row(scene: Scene, between: str) -> None:
    scene.job()
    scene.worker()
    for poll in (1, 2):
        scene.give_back(scene.take(poll=poll))
    assert scene.task().returned == 2
    if between == "lost":
        lose(scene, "i2")
    else:
        scene.fail(scene.take(poll=3))
        scene.wait(5)
    assert scene.task().returned == 0
    scene.worker("i3")
    scene.give_back(scene.take("i3"))
    assert scene.task().status is TaskStatus.QUEUED


def test_what_never_started_is_queued_at_once_also_after_many_give_backs(scene: Scene) -> None:
    scene.job()
    scene.worker()
    for poll in (1, 2, 3):
        scene.give_back(scene.take(poll=poll))
    scene.wait(5)
    scene.worker("i2", "other")
    scene.give_back(scene.take("i2"), unstarted=True, worker_id="other")
    assert (scene.task().status, scene.task().returned) == (TaskStatus.QUEUED, 3)


def test_give_backs_wait_longer_and_longer(scene: Scene) -> None:
    scene.job()
    waits = []
    for number in range(1, 8):
        scene.worker(f"i{number}", f"w{number}")
        scene.give_back(scene.take(f"i{number}"), worker_id=f"w{number}")
        given_back_at = scene.time
        while scene.task().status is not TaskStatus.QUEUED:
            scene.wait(1)
        waits.append(scene.time - given_back_at)
    assert waits == [0, 0, 1, 2, 4, 8, 16]
    assert scene.task().failures == 0


def test_what_never_arrived_leaves_the_count_and_the_avoidance_as_they_were(
    scene: Scene,
) -> None:
    scene.job()
    scene.worker()
    for poll in (1, 2, 3):
        scene.give_back(scene.take(poll=poll))
    scene.wait(5)
    before = scene.task()
    assert before.avoid == "w"
    scene.worker("i2", "other")
    scene.take("i2")
    scene.beat(instance="i2", worker_id="other", last_poll=1)
    after = scene.task()
    assert (after.returned, after.avoid, after.avoid_until) == (3, "w", before.avoid_until)
    assert scene.poll(poll=4) == []


# O1: no timeout blames a worker that could not report.


def test_a_result_timeout_waits_until_results_could_have_come(scene: Scene) -> None:
    scene.job(result_timeout=100.0)
    scene.worker()
    wire = scene.take()
    scene.outage(3600)
    scene.serve()
    scene.wait(29)
    assert scene.attempt(wire).status is AttemptStatus.LEASED
    scene.wait(2)
    assert scene.task().result is not None


# R2: a lease that is taken again is the lease that it was.


def test_only_a_counted_loss_is_taken_back(scene: Scene) -> None:
    scene.job()
    lose(scene, "i1")
    scene.worker("i2")
    wire = scene.take("i2")
    scene.beat(instance="i2", last_poll=1)
    assert (scene.attempt(wire).status, scene.task().lost) == (AttemptStatus.UNCLAIMED, 1)
    scene.beat(wire, instance="i2", last_poll=1)
    assert (scene.attempt(wire).status, scene.task().lost) == (AttemptStatus.LEASED, 1)


def test_the_time_for_an_attempt_runs_on_from_its_hand_out_when_it_is_taken_again(
    scene: Scene,
) -> None:
    scene.job(timeout_seconds=100.0)
    wire = lose(scene, "i1")
    for _ in range(59):
        scene.beat(wire, instance="i1", last_poll=1)
        scene.wait(1)
    assert scene.attempt(wire).status is AttemptStatus.LEASED
    scene.wait(1)
    assert scene.attempt(wire).status is AttemptStatus.TIMED_OUT


def test_the_time_for_a_whole_task_runs_on_through_losses(scene: Scene) -> None:
    scene.job(result_timeout=100.0)
    wire = lose(scene, "i1")
    for _ in range(61):
        scene.beat(wire, instance="i1", last_poll=1)
        scene.wait(1)
    assert scene.task().status is TaskStatus.DONE


# R3: a failure is counted once, and not while an older attempt holds the task.


def test_a_failure_reported_after_its_timeout_was_counted_counts_no_more(scene: Scene) -> None:
    scene.job(timeout_seconds=5.0)
    scene.worker()
    wire = scene.take()
    scene.wait(5)
    assert (scene.attempt(wire).status, scene.task().failures) == (AttemptStatus.TIMED_OUT, 1)
    scene.fail(wire)
    assert scene.task().failures == 1


def test_a_failure_does_not_count_while_an_older_attempt_goes_on(scene: Scene) -> None:
    scene.job()
    older = lose(scene, "i1")
    scene.worker("i2")
    newer = scene.take("i2")
    scene.beat(instance="i2", last_poll=1)
    scene.beat(older, instance="i1", last_poll=1)
    scene.fail(newer)
    assert (scene.task().status, scene.task().wire_id) == (TaskStatus.LEASED, older)
    assert scene.task().failures == 0


# S2, S3: fan-outs one after another; what a cancel leaves behind.


def test_each_fan_out_of_a_job_counts_for_itself(scene: Scene) -> None:
    scene.submit("j")
    for size in (1, 3):
        dispatch = scene.fan("j", size).dispatch
        for n in range(size):
            assert scene.get().status is JobStatus.WAITING_FOR_PARALLEL
            scene.worker(f"i{size}{n}")
            scene.report(scene.take(f"i{size}{n}"))
        assert (scene.get().state, scene.get().aggregates) == ("merge", dispatch)


def test_a_cancelled_job_leaves_no_timer(scene: Scene) -> None:
    scene.job(timeout_seconds=50.0, dispatch_timeout=50.0, result_timeout=50.0)
    scene.worker()
    wire = scene.take()
    task = scene.task()
    scene.cancel()
    scene.submit("raises")
    fault = JobFault(code="HANDLER_ERROR", message="boom")
    scene.decide("raises", steps.Raised(fault=fault))
    scene.cancel("raises")
    left = [
        (kind, subject)
        for kind in TimerKind
        for subject in (wire, task.id, "raises")
        if scene.run(partial(_timer, kind=kind, subject=subject)) is not None
    ]
    assert left == []


def _timer(ledger: Ledger, kind: TimerKind, subject: str) -> Timer | None:
    return ledger.timer(kind, subject)


def test_an_attempt_that_has_failed_leaves_no_timer(scene: Scene) -> None:
    scene.job(timeout_seconds=50.0)
    scene.worker()
    wire = scene.take()
    scene.fail(wire)
    read = partial(_timer, kind=TimerKind.ATTEMPT_TIMEOUT, subject=wire)
    assert scene.run(read) is None


# What results and failures lead to.


def test_retries_wait_no_longer_than_the_cap(scene: Scene) -> None:
    scene.job(retry=RetryPolicy(max_retries=4, cap_seconds=3.0))
    waits = []
    for number in range(4):
        scene.worker(f"i{number}")
        scene.fail(scene.take(f"i{number}"))
        failed_at = scene.time
        while scene.task().status is not TaskStatus.QUEUED:
            scene.wait(1)
        waits.append(scene.time - failed_at)
    assert waits == [1, 2, 3, 3]


def test_what_earlier_states_have_left_stays_in_the_history(scene: Scene) -> None:
    scene.job()
    scene.worker()
    scene.report(scene.take(), data={"one": 1})
    job = scene.dispatch("j")
    assert job.dispatch is not None
    scene.report(scene.take(poll=2), data={"two": 2})
    history = scene.get().state_history
    assert (history["one"], history["two"]) == (1, 2)
    assert history.keys() == {"one", "two", "start", "next"}


def test_cancelled_is_a_status_like_others_where_it_is_listed(scene: Scene) -> None:
    scene.job(transitions={"success": "next", "cancelled": "stopped"})
    scene.worker()
    scene.report(scene.take(), "cancelled")
    assert (scene.get().state, scene.task().status) == ("stopped", TaskStatus.DONE)


def test_a_wait_that_was_too_long_takes_failure_where_nothing_else_is_listed(
    scene: Scene,
) -> None:
    scene.job(dispatch_timeout=5.0, transitions={"success": "next", "failure": "sorry"})
    scene.wait(5)
    assert scene.get().state == "sorry"


def test_the_failure_of_a_branch_is_kept_under_the_name_of_its_state(scene: Scene) -> None:
    scene.submit("j")
    scene.fan("j", 2, transitions={"failure": "sorry"})
    scene.worker()
    scene.fail(scene.take(), code="PERMANENT_ERROR")
    job = scene.get()
    assert job.state == "sorry"
    assert job.state_history["start"]["error"]["code"] == "PERMANENT_ERROR"
