"""Records that change under the hands of the operation that walks over them, and such as a
worker or an author may have made by mistake.
"""

import math
from functools import partial
from typing import Any

import msgspec
import pytest
from tests.delivery.scene import Scene

from avtomatika_trio._core import dispatch
from avtomatika_trio._core.dispatch import Offer
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio._core.task import AttemptStatus, TaskStatus


def _two_branches_one_of_them_deadly(scene: Scene, instance: str, worker_id: str) -> list[str]:
    """Both are leased to *instance*; a worker vanished four times while it had the first one."""
    scene.submit("j")
    scene.fan("j", 2)
    for number in range(4):
        scene.worker(f"victim{number}", f"victim{number}")
        [hand_out] = scene.poll(f"victim{number}", most=1)
        assert hand_out.task.branch == 0
        scene.wait(31)
    scene.worker(instance, worker_id, ours=not instance.startswith("foreign/"))
    handed = sorted(scene.poll(instance, most=2), key=lambda it: it.task.branch or 0)
    assert [it.task.branch for it in handed] == [0, 1]
    return [it.attempt.wire_id for it in handed]


def test_a_branch_that_ends_with_its_sibling_is_not_leased_again_by_the_same_foreign_heartbeat(
    scene: Scene,
) -> None:
    _deadly, sibling = _two_branches_one_of_them_deadly(scene, "foreign/w", "w")
    scene.foreign_beat(sibling)
    scene.wait(30)
    answer = scene.foreign_beat(sibling)
    assert scene.get().status is JobStatus.QUARANTINED
    assert scene.attempt(sibling).status is AttemptStatus.CANCELLED
    assert answer.cancel == (sibling,)


def test_a_branch_that_ends_with_its_sibling_does_not_move_to_the_successor(scene: Scene) -> None:
    _deadly, sibling = _two_branches_one_of_them_deadly(scene, "i1", "w")
    scene.worker("i2", "w")
    answer = scene.beat(sibling, instance="i2", replaces=("i1",))
    assert scene.get().status is JobStatus.QUARANTINED
    assert scene.attempt(sibling).status is AttemptStatus.CANCELLED
    assert answer.cancel == (sibling,)


def test_the_wait_for_a_worker_begins_anew_after_a_retry_that_is_due_at_the_same_moment(
    scene: Scene,
) -> None:
    scene.job(dispatch_timeout=40.0)
    scene.worker()
    wire = scene.take()
    scene.wait(31)
    assert scene.task().status is TaskStatus.QUEUED
    scene.fail(wire)
    assert scene.task().status is TaskStatus.RETRYING
    scene.outage(60)  # the retry is due, and so is the end of the earlier wait
    scene.serve()
    assert scene.task().status is TaskStatus.QUEUED
    scene.wait(41)
    assert scene.get().status is JobStatus.FAILED


@pytest.mark.parametrize("field", ["base_seconds", "cap_seconds", "jitter"])
@pytest.mark.parametrize("value", [math.inf, math.nan, 10**400], ids=["inf", "nan", "huge"])
def test_a_retry_policy_that_cannot_be_stored_or_reckoned_with_is_refused(
    field: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=field):
        RetryPolicy(**{field: value})


def test_every_retry_policy_reads_back_as_it_was_and_has_delays() -> None:
    policy = RetryPolicy(base_seconds=1e-9, cap_seconds=1e9, jitter=1e9, max_retries=10**6)
    assert msgspec.json.decode(msgspec.json.encode(policy), type=RetryPolicy) == policy
    assert policy.delay_seconds(failures=10**6, noise=0.999) == 1e9


def test_a_worker_that_names_a_skill_twice_is_not_given_a_task_twice(scene: Scene) -> None:
    scene.job()
    scene.worker()
    offer = Offer(instance="i1", poll=1, skills=("k", "k"), most=2)
    operation = partial(dispatch.hand_out, offer=offer, wire_ids=["one", "two"], rules=scene.rules)
    assert [it.attempt.wire_id for it in scene.run(operation)] == ["one"]
    assert scene.history().count("attempt_leased") == 1
