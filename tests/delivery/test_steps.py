"""Steps, branches and timers: rules S1, S2, S3, S5."""

import pytest
from tests.delivery.scene import Scene

from avtomatika_trio._core import steps
from avtomatika_trio._core.actions import GoTo
from avtomatika_trio._core.job import JobFault, JobStatus
from avtomatika_trio._core.task import AttemptStatus, TaskStatus
from avtomatika_trio.errors import StaleRevision


def take_all(scene: Scene, most: int = 100) -> list[str]:
    scene.worker()
    return [hand_out.attempt.wire_id for hand_out in scene.poll(most=most)]


# S1: of two runs of a step one counts.


def test_the_second_run_of_a_step_is_discarded(scene: Scene) -> None:
    scene.submit("j")
    claimed = scene.get()
    go = steps.Chose(action=GoTo(state="a"))
    scene.decide("j", go, claimed)
    with pytest.raises(StaleRevision):
        scene.decide("j", go, claimed)
    assert scene.get().revision == claimed.revision + 1


def test_a_job_that_was_cancelled_while_its_handler_ran_stays_cancelled(scene: Scene) -> None:
    scene.submit("j")
    claimed = scene.get()
    scene.cancel()
    with pytest.raises(StaleRevision):
        scene.decide("j", steps.Chose(action=GoTo(state="a")), claimed)
    assert scene.get().status is JobStatus.CANCELLED


# S2: branches.


def test_the_last_branch_makes_the_job_ready_once_in_the_order_submitted(scene: Scene) -> None:
    scene.submit("j")
    scene.fan("j", 5)
    wires = take_all(scene)
    revision = scene.get().revision
    for wire in reversed(wires):
        assert scene.get().revision == revision
        answer = scene.report(wire, data={"wire": wire})
        assert answer["transition"] == "parallel_branch_accepted"
    job = scene.get()
    assert (job.state, job.status, job.revision) == ("merge", JobStatus.RUNNING, revision + 1)
    assert job.aggregates == 2


def test_a_late_branch_of_the_last_fan_out_does_not_count_for_the_next(scene: Scene) -> None:
    scene.submit("j")
    scene.fan("j", 2, transitions={"failure": "again"})
    late, failing = take_all(scene)
    scene.fail(failing)
    assert scene.get().state == "again"
    second = scene.fan("j", 2)
    assert second.dispatch is not None
    assert scene.report(late)["reason"] == "stale_task"
    assert scene.get().status is JobStatus.WAITING_FOR_PARALLEL
    for wire in [hand_out.attempt.wire_id for hand_out in scene.poll(poll=2, most=5)]:
        scene.report(wire)
    assert scene.get().state == "merge"


def test_an_empty_list_goes_straight_to_the_aggregator(scene: Scene) -> None:
    scene.submit("j")
    job = scene.fan("j", 0)
    assert (job.state, job.status) == ("merge", JobStatus.RUNNING)


def test_a_branch_that_fails_for_good_fails_the_job_and_cancels_the_rest(scene: Scene) -> None:
    scene.submit("j")
    scene.fan("j", 4)
    scene.worker()
    first, second = [h.attempt.wire_id for h in scene.poll(most=2)]
    scene.report(first, "failure", code="INVALID_INPUT_ERROR")
    job = scene.get()
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "b0" in job.error.message
    statuses = [scene.task(branch=n).status for n in range(4)]
    assert statuses == [TaskStatus.DONE, *[TaskStatus.CANCELLED] * 3]
    assert scene.beat(second, last_poll=1).cancel == (second,)
    assert scene.poll(poll=2, most=9) == []


def test_a_limit_of_concurrency_holds_and_nothing_is_forgotten(scene: Scene) -> None:
    scene.submit("j")
    scene.fan("j", 7, max_concurrency=2)
    scene.worker()
    done = 0
    for poll in range(1, 9):
        scene.beat(last_poll=poll - 1)
        wires = [hand_out.attempt.wire_id for hand_out in scene.poll(poll=poll, most=9)]
        assert len(wires) <= 2
        for wire in wires:
            scene.report(wire)
            done += 1
    assert done == 7
    assert scene.get().state == "merge"


def test_many_branches_end_in_one_step(scene: Scene) -> None:
    scene.submit("j")
    scene.fan("j", 300)
    for wire in take_all(scene, most=300):
        scene.report(wire)
    assert scene.history().count("task_finished") == 300
    assert scene.get().revision == 3


# S3, cancel.


def test_cancel_takes_back_what_is_queued_and_what_runs(scene: Scene) -> None:
    scene.submit("j")
    scene.fan("j", 3, max_concurrency=2)
    scene.worker()
    wire = scene.take()
    scene.cancel()
    assert [scene.task(branch=n).status for n in range(3)] == [TaskStatus.CANCELLED] * 3
    assert scene.attempt(wire).status is AttemptStatus.CANCELLED
    assert scene.poll(poll=2) == []
    assert scene.beat(wire, last_poll=1).cancel == (wire,)
    assert scene.history()[-1] == "job_cancelled"


def test_cancelling_again_changes_nothing(scene: Scene) -> None:
    scene.job()
    scene.cancel()
    revision = scene.get().revision
    scene.cancel()
    assert scene.get().revision == revision


# Handlers that raise; endings.


FAULT = JobFault(code="HANDLER_ERROR", message="boom")


def test_a_handler_that_raises_is_tried_again_with_back_off_and_then_quarantined(
    scene: Scene,
) -> None:
    scene.submit("j")
    tried_at = []
    while scene.get().status is not JobStatus.QUARANTINED:
        tried_at.append(scene.time)
        scene.decide("j", steps.Raised(fault=FAULT))
        while not (scene.get().is_ready or scene.get().status.is_final):
            scene.wait(1)
    assert [at - tried_at[0] for at in tried_at] == [0, 1, 3, 7]
    assert scene.get().error == FAULT


def test_a_broken_blueprint_fails_the_job_at_once(scene: Scene) -> None:
    scene.submit("j")
    scene.decide("j", steps.Broke(fault=FAULT))
    assert (scene.get().status, scene.get().error) == (JobStatus.FAILED, FAULT)


@pytest.mark.parametrize("outcome", ["finished", "failed", "cancelled"])
def test_an_end_state_ends_as_it_says(scene: Scene, outcome: str) -> None:
    scene.submit("j")
    scene.decide("j", steps.ReachedEnd(outcome=outcome, returned={"n": 1.0}))
    assert (scene.get().status, scene.get().result) == (outcome, {"n": 1.0})


def test_an_end_that_is_no_success_tells_what_led_there(scene: Scene) -> None:
    scene.job(transitions={"success": "next", "failure": "failed"})
    scene.worker()
    scene.fail(scene.take(), code="PERMANENT_ERROR")
    scene.decide("j", steps.ReachedEnd(outcome="failed"))
    error = scene.get().error
    assert error is not None
    assert error.message == "the job ended in state 'failed', after 'start' had failed: it broke"
    assert error.details["cause"]["code"] == "PERMANENT_ERROR"


def test_the_result_is_the_data_of_the_last_task_if_the_end_returns_nothing(
    scene: Scene,
) -> None:
    scene.job()
    scene.worker()
    scene.report(scene.take(), data={"n": 1.0, "x": None})
    scene.decide("j", steps.ReachedEnd(outcome="finished"))
    assert scene.get().result == {"n": 1.0, "x": None}


def test_a_loop_without_an_end_fails_with_a_message(scene: Scene) -> None:
    scene.submit("j")
    for _ in range(100):
        scene.go_to("j", "again")
    scene.go_to("j", "again")
    job = scene.get()
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "MAX_TRANSITIONS_PER_JOB" in job.error.message


def test_priorities_go_first_and_equals_in_order(scene: Scene) -> None:
    for name, priority in (("a", 0.0), ("b", 5.0), ("c", 0.0), ("d", 5.0)):
        scene.job(name, priority=priority)
        scene.time += 1
    scene.worker()
    scene.beat()
    assert [h.task.job_id for h in scene.poll(most=9)] == ["b", "d", "a", "c"]
