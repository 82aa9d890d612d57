"""Results: rules R1 to R3, what a result does to the job, and outages (O1)."""

from functools import partial

import pytest
from tests.delivery.scene import Scene

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.lease import begin_serving, last_served
from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio._core.task import AttemptStatus, TaskStatus

# R1: a result counts while its task is open and no newer attempt is leased.


def test_a_result_that_comes_after_the_task_was_queued_again_counts(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    scene.wait(31)
    assert scene.task().status is TaskStatus.QUEUED
    assert scene.report(wire)["status"] == "accepted"
    assert scene.get().state == "next"
    scene.beat()
    assert scene.poll(poll=2) == []


def test_a_result_is_refused_while_a_newer_attempt_is_leased(scene: Scene) -> None:
    scene.job()
    scene.worker("i1", "w1")
    old = scene.take("i1")
    scene.wait(31)
    scene.worker("i2", "w2")
    new = scene.take("i2")
    refused = scene.report(old, worker_id="w1")
    assert (refused["status"], refused["reason"]) == ("ignored", "stale_task")
    assert scene.report(new, worker_id="w2")["status"] == "accepted"
    assert scene.history().count("task_finished") == 1


def test_a_newer_attempt_that_never_started_does_not_stand_in_the_way(scene: Scene) -> None:
    scene.job()
    scene.worker("i1", "w1")
    old = scene.take("i1")
    scene.wait(31)
    scene.worker("i2", "w2")
    new = scene.take("i2")
    scene.give_back(new, unstarted=True, worker_id="w2")
    assert scene.report(old, worker_id="w1")["status"] == "accepted"


def test_a_result_counts_while_the_task_waits_for_a_retry(scene: Scene) -> None:
    scene.job(timeout_seconds=5.0)
    scene.worker()
    wire = scene.take()
    scene.wait(5)
    assert scene.attempt(wire).status is AttemptStatus.TIMED_OUT
    assert scene.task().status is TaskStatus.RETRYING
    assert scene.report(wire)["status"] == "accepted"
    assert scene.get().state == "next"


def test_a_newer_attempts_result_ends_an_older_one_that_was_retaken(scene: Scene) -> None:
    scene.job()
    scene.worker("i1", "w1")
    scene.worker("i2", "w2")
    old = scene.take("i1")
    scene.wait(31)
    scene.beat(instance="i2", worker_id="w2")
    new = scene.take("i2")
    scene.wait(31)
    scene.beat(old, instance="i1", worker_id="w1", last_poll=1)
    assert scene.attempt(old).status is AttemptStatus.LEASED
    assert scene.report(new, worker_id="w2")["status"] == "accepted"
    assert scene.beat(old, instance="i1", worker_id="w1", last_poll=1).cancel == (old,)


# R2: a worker that was cut off takes its lease again.


def test_a_worker_cut_off_for_45_seconds_goes_on_with_its_work(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    scene.beat(wire, last_poll=1)
    scene.wait(45)
    assert scene.task().lost == 1
    answer = scene.beat(wire, last_poll=1)
    assert answer.cancel == ()
    assert (scene.task().status, scene.task().lost) == (TaskStatus.LEASED, 0)
    assert scene.history()[-2:] == ["attempt_lost", "attempt_retaken"]
    scene.worker("i2", "w2")
    assert scene.poll("i2") == []
    assert scene.report(wire)["status"] == "accepted"


def test_a_worker_cut_off_too_long_is_told_to_stop(scene: Scene) -> None:
    scene.job()
    scene.worker("i1", "w1")
    old = scene.take("i1")
    scene.wait(31)
    scene.worker("i2", "w2")
    scene.take("i2")
    assert scene.beat(old, instance="i1", worker_id="w1", last_poll=1).cancel == (old,)


def test_what_the_worker_has_returned_it_cannot_take_again(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    scene.give_back(wire)
    assert scene.beat(wire, last_poll=1).cancel == (wire,)
    assert scene.task().status is TaskStatus.QUEUED


# R3: once, and the same answer again.


def test_a_result_sent_again_is_answered_as_the_first_time(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    first = scene.report(wire, data={"n": 1})
    assert scene.report(wire, data={"n": 1}) == first
    assert scene.report(wire, data={"n": 2}) == first
    assert scene.get().state_history["n"] == 1
    assert scene.history().count("task_finished") == 1


def test_a_failure_sent_again_is_counted_once(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    assert scene.fail(wire) == scene.fail(wire)
    assert scene.task().failures == 1


@pytest.mark.parametrize("status", ["success", "failure"])
def test_a_late_result_does_not_revive_a_cancelled_job(scene: Scene, status: str) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    scene.cancel()
    answer = scene.report(wire, status, code=None if status == "success" else "X")
    assert (answer["status"], answer["reason"]) == ("ignored", "job_already_terminated")
    assert scene.get().status is JobStatus.CANCELLED


def test_a_result_from_another_worker_is_refused_and_spoils_nothing(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    assert scene.report(wire, worker_id="thief")["reason"] == "worker_mismatch"
    assert scene.report(wire)["status"] == "accepted"


def test_results_of_unknown_jobs_and_tasks_say_so(scene: Scene) -> None:
    scene.job()
    assert scene.report("nothing", job_id="nojob")["reason"] == "job_not_found"
    assert scene.report("nothing")["reason"] == "stale_task"


# What a result does to its job.


def test_the_data_are_merged_and_the_whole_result_is_kept(scene: Scene) -> None:
    scene.job()
    scene.worker()
    scene.report(scene.take(), data={"n": 1.0, "x": None})
    job = scene.get()
    assert (job.status, job.state) == (JobStatus.RUNNING, "next")
    whole = {"status": "success", "data": {"n": 1.0, "x": None}}
    assert job.state_history == {"n": 1.0, "x": None, "start": whole}
    assert isinstance(job.state_history["n"], float)


def test_data_that_is_no_object_is_kept_whole(scene: Scene) -> None:
    scene.job()
    scene.worker()
    scene.report(scene.take(), data=[1, None])
    assert scene.get().state_history == {"start": {"status": "success", "data": [1, None]}}


def test_a_listed_status_is_taken_and_an_unlisted_one_fails_naming_the_choices(
    scene: Scene,
) -> None:
    scene.job("j1", transitions={"success": "a", "needs_review": "review"})
    scene.job("j2", transitions={"needs_review": "review"})
    scene.worker()
    scene.report(scene.take(), "needs_review", job_id="j1")
    assert scene.get("j1").state == "review"
    scene.report(scene.take(), "success", job_id="j2")
    job = scene.get("j2")
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "'success'" in job.error.message
    assert "needs_review" in job.error.message


def test_failure_is_taken_after_the_retries_are_exhausted(scene: Scene) -> None:
    scene.job(transitions={"success": "a", "failure": "b"}, retry=RetryPolicy(max_retries=2))
    scene.worker()
    failed_at = []
    for poll in (1, 2, 3):
        scene.beat(last_poll=poll - 1)
        scene.fail(scene.take(poll=poll))
        failed_at.append(scene.time)
        if poll < 3:
            assert scene.task().status is TaskStatus.RETRYING
            scene.wait(2.0 ** (poll - 1) + 1)
    assert scene.get().state == "b"
    assert scene.get().state_history["start"]["error"]["message"] == "it broke"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("PERMANENT_ERROR", JobStatus.QUARANTINED),
        ("SECURITY_ERROR", JobStatus.QUARANTINED),
        ("DEPENDENCY_ERROR", JobStatus.QUARANTINED),
        ("CONTRACT_VIOLATION_ERROR", JobStatus.QUARANTINED),
        ("INVALID_INPUT_ERROR", JobStatus.FAILED),
        ("INTEGRITY_MISMATCH_ERROR", JobStatus.FAILED),
    ],
)
def test_failures_for_good_are_not_tried_again(scene: Scene, code: str, status: JobStatus) -> None:
    scene.job("j1")
    scene.job("j2", transitions={"success": "a", "failure": "b"})
    scene.worker()
    scene.report(scene.take(poll=1), "failure", code=code, job_id="j1")
    scene.report(scene.take(poll=2), "failure", code=code, job_id="j2")
    job = scene.get("j1")
    assert job.status is status
    assert job.error is not None
    assert job.error.code == code
    assert scene.get("j2").state == "b"


def test_transient_failures_without_a_transition_quarantine_in_the_end(scene: Scene) -> None:
    scene.job(retry=RetryPolicy(max_retries=0))
    scene.worker()
    scene.fail(scene.take())
    assert scene.get().status is JobStatus.QUARANTINED


def test_a_cancelled_that_nobody_asked_for_is_a_give_back(scene: Scene) -> None:
    scene.job()
    scene.worker()
    assert scene.report(scene.take(), "cancelled")["transition"] == "cancelled_handled"
    assert (scene.task().status, scene.task().failures) == (TaskStatus.QUEUED, 0)


# Timeouts.


def test_an_attempt_that_takes_too_long_is_tried_again_and_then_takes_timeout(
    scene: Scene,
) -> None:
    scene.job(
        timeout_seconds=5.0,
        retry=RetryPolicy(max_retries=1),
        transitions={"success": "a", "timeout": "late", "failure": "b"},
    )
    scene.worker()
    for poll in (1, 2):
        wire = scene.take(poll=poll)
        scene.beat(wire, last_poll=poll)
        scene.wait(6)
        assert scene.beat(wire, last_poll=poll).cancel == (wire,)
        scene.wait(2)
    assert scene.get().state == "late"


def test_time_in_the_queue_can_be_limited(scene: Scene) -> None:
    scene.job("j1", dispatch_timeout=60.0, transitions={"success": "a", "dispatch_timeout": "q"})
    scene.job("j2", dispatch_timeout=60.0)
    scene.job("j3")
    scene.wait(59)
    assert scene.get("j1").status is JobStatus.WAITING_FOR_WORKER
    scene.wait(2)
    assert scene.get("j1").state == "q"
    assert scene.get("j2").status is JobStatus.FAILED
    scene.wait(3600)
    assert scene.get("j3").status is JobStatus.WAITING_FOR_WORKER


def test_a_task_that_was_taken_in_time_does_not_time_out_in_the_queue(scene: Scene) -> None:
    scene.job(dispatch_timeout=60.0)
    scene.worker()
    wire = scene.take()
    for _ in range(20):
        scene.beat(wire, last_poll=1)
        scene.wait(10)
    assert scene.task().status is TaskStatus.LEASED


def test_the_whole_task_can_be_limited(scene: Scene) -> None:
    scene.job(result_timeout=100.0, transitions={"success": "a", "timeout": "late"})
    scene.worker()
    wire = scene.take()
    for _ in range(9):
        scene.beat(wire, last_poll=1)
        scene.wait(10)
    assert scene.get().status is JobStatus.WAITING_FOR_WORKER
    scene.wait(11)
    assert scene.get().state == "late"
    assert scene.beat(wire, last_poll=1).cancel == (wire,)


# O1: outages of the orchestrators are nobody's fault but theirs.


def test_after_eight_hours_of_outage_leases_start_afresh(scene: Scene) -> None:
    scene.job("j1")
    scene.job("j2", timeout_seconds=3600.0)
    scene.worker()
    first, second = scene.take(poll=1), scene.take(poll=2)
    scene.beat(first, second, last_poll=2)
    scene.outage(8 * 3600)
    scene.serve()
    scene.wait(29)
    assert scene.attempt(first).status is AttemptStatus.LEASED
    assert scene.attempt(second).status is AttemptStatus.LEASED
    assert scene.beat(first, second, last_poll=2).cancel == ()
    scene.wait(5)
    assert scene.attempt(first).status is AttemptStatus.LEASED
    assert scene.attempt(second).status is AttemptStatus.TIMED_OUT


def test_a_crash_loop_never_ends_a_lease(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    for _ in range(100):
        scene.wait(1)
        scene.outage(6)
    assert scene.attempt(wire).status is AttemptStatus.LEASED


def test_a_start_gives_every_lease_its_time_again(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    for _ in range(30):  # up for a second, down for four: never a gap of more than five
        scene.outage(4)
        scene.run(partial(begin_serving, seen=scene.run(last_served)))
        scene.wait(1)
    assert scene.attempt(wire).status is AttemptStatus.LEASED


def test_a_start_beside_others_prolongs_no_lease(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    for _ in range(4):
        seen = scene.run(last_served)
        scene.wait(10)
        scene.run(partial(begin_serving, seen=seen))
    assert scene.attempt(wire).status is AttemptStatus.LOST


def test_service_is_noted_once_a_second_not_at_every_look(scene: Scene) -> None:
    first = scene.run(last_served)
    for _ in range(3):
        scene.time += 0.25
        scene.serve()
        assert scene.run(last_served) == first
    scene.time += 0.25
    scene.serve()
    assert scene.run(last_served) == scene.time


def test_time_in_the_queue_does_not_count_while_nobody_could_ask(scene: Scene) -> None:
    scene.job(dispatch_timeout=60.0)
    scene.outage(3600)
    scene.serve()
    scene.wait(10)
    scene.worker()
    assert scene.report(scene.take())["status"] == "accepted"
