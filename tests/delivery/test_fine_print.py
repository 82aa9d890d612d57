"""The fine print of the rules: what tells a rule from one that is almost the same."""

import pytest
from tests.delivery.scene import Scene

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
