"""Leases and heartbeats: rules L1 to L10 and H3, each with the interleaving it closes."""

from tests.delivery.scene import Scene

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import AttemptStatus, TaskStatus

# L1: leases last as long as heartbeats come, and no longer.


def test_a_worker_that_beats_keeps_its_task_for_hours(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    for _ in range(720):
        scene.wait(10)
        scene.beat(wire, last_poll=1)
    assert scene.task().status is TaskStatus.LEASED
    assert scene.task().attempt == 1


def test_a_dead_worker_is_noticed_within_forty_seconds(scene: Scene) -> None:
    scene.job()
    scene.worker()
    scene.beat()
    scene.wait(9)
    wire = scene.take()
    died_at = scene.time
    while scene.task().status is TaskStatus.LEASED:
        scene.wait(1)
    assert scene.time - died_at <= 40
    assert scene.attempt(wire).status is AttemptStatus.LOST
    assert scene.task().status is TaskStatus.QUEUED
    assert scene.task().lost == 1


def test_a_slow_beating_worker_has_a_lease_of_three_beats() -> None:
    assert Rules().lease_for(interval_seconds=60) == 180
    assert Rules().lease_for(interval_seconds=1) == 30


def test_a_foreign_worker_survives_its_sdks_longest_back_off(scene: Scene) -> None:
    scene.job()
    scene.worker("foreign/w", ours=False)
    wire = scene.take("foreign/w")
    scene.wait(149)
    assert scene.attempt(wire).status is AttemptStatus.LEASED
    scene.foreign_beat(says_nothing=True)
    scene.wait(149)
    assert scene.attempt(wire).status is AttemptStatus.LEASED
    scene.wait(3)
    assert scene.attempt(wire).status is AttemptStatus.LOST


def test_a_foreign_heartbeat_renews_only_what_it_names(scene: Scene) -> None:
    scene.job("j1")
    scene.job("j2")
    scene.worker("foreign/w", ours=False)
    first, second = scene.take("foreign/w"), scene.take("foreign/w")
    scene.foreign_beat(first, second)
    for _ in range(12):
        scene.wait(15)
        scene.foreign_beat(first)
    assert scene.attempt(first).status is AttemptStatus.LEASED
    assert scene.attempt(second).status is AttemptStatus.LOST


# L3: what the process does not hold comes back at once.


def test_a_lost_poll_answer_comes_back_with_the_next_heartbeat(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take(poll=1)
    scene.beat(last_poll=1, open_polls=())
    assert scene.attempt(wire).status is AttemptStatus.UNCLAIMED
    assert scene.task().status is TaskStatus.QUEUED
    assert (scene.task().lost, scene.task().returned, scene.task().failures) == (0, 0, 0)


def test_a_lease_of_an_open_poll_is_renewed(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take(poll=1)
    for _ in range(10):
        scene.beat(last_poll=1, open_polls=(1,))
        scene.wait(10)
    assert scene.attempt(wire).status is AttemptStatus.LEASED


def test_a_lease_of_a_poll_sent_after_the_snapshot_is_renewed(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take(poll=7)
    scene.beat(last_poll=6, open_polls=())
    assert scene.attempt(wire).status is AttemptStatus.LEASED


def test_a_late_heartbeat_changes_nothing(scene: Scene) -> None:
    scene.job()
    scene.worker()
    scene.beat(number=5, last_poll=0)
    wire = scene.take(poll=1)
    scene.beat(wire, number=6, last_poll=1)
    scene.beat(number=4, last_poll=1, open_polls=())
    assert scene.attempt(wire).status is AttemptStatus.LEASED


def test_names_that_ended_or_are_anothers_are_cancelled_and_unknown_ones_ignored(
    scene: Scene,
) -> None:
    scene.job("j1")
    scene.job("j2")
    scene.worker()
    scene.worker("i2", "w2")
    mine, other = scene.take("i1"), scene.take("i2")
    scene.cancel("j1")
    answer = scene.beat(mine, other, "of-another-cluster", last_poll=1)
    assert answer.cancel == tuple(sorted((mine, other)))
    assert scene.attempt(other).status is AttemptStatus.LEASED


# L4: foreign workers are judged by two heartbeats, not by one.


def test_two_foreign_beats_close_together_are_one_silence(scene: Scene) -> None:
    scene.job()
    scene.worker("foreign/w", ours=False)
    wire = scene.take("foreign/w")
    scene.foreign_beat()
    scene.wait(2)
    scene.foreign_beat()
    assert scene.attempt(wire).status is AttemptStatus.LEASED
    scene.wait(30)
    scene.foreign_beat()
    assert scene.attempt(wire).status is AttemptStatus.LOST


def test_a_foreign_worker_that_names_its_task_again_is_forgiven(scene: Scene) -> None:
    scene.job()
    scene.worker("foreign/w", ours=False)
    wire = scene.take("foreign/w")
    scene.foreign_beat()
    scene.wait(20)
    scene.foreign_beat(wire)
    scene.wait(20)
    scene.foreign_beat()
    assert scene.attempt(wire).status is AttemptStatus.LEASED


# L5: a blocked loop.


def test_a_blocked_worker_is_handed_nothing_and_keeps_what_it_names(scene: Scene) -> None:
    scene.job("j1")
    scene.job("j2")
    scene.job("j3")
    scene.worker()
    running, parked = scene.take(poll=1), scene.take(poll=2)
    scene.beat(running, last_poll=2, open_polls=(2,), blocked_seconds=11.0)
    assert scene.attempt(running).status is AttemptStatus.LEASED
    assert scene.attempt(parked).status is AttemptStatus.UNCLAIMED
    assert scene.poll(poll=3) == []
    scene.beat(running, last_poll=2)
    assert len(scene.poll(poll=4)) == 1


def test_a_worker_blocked_for_ten_minutes_is_lost(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    for blocked in range(10, 600, 10):
        scene.wait(10)
        scene.beat(wire, last_poll=1, blocked_seconds=float(blocked))
    assert scene.attempt(wire).status is AttemptStatus.LEASED
    scene.wait(10)
    scene.beat(wire, last_poll=1, blocked_seconds=600.0)
    assert scene.attempt(wire).status is AttemptStatus.LOST


# L6: restarts.


def test_a_restarted_worker_buries_its_predecessor_at_once(scene: Scene) -> None:
    scene.job("j1")
    scene.job("j2")
    scene.worker("i1")
    delivered, lost = scene.take(poll=1), scene.take(poll=2)
    scene.beat(delivered, lost, instance="i1", last_poll=2)
    scene.worker("i2")
    answer = scene.beat(delivered, instance="i2", replaces=("i1",))
    assert answer.replaced == ("i1",)
    assert scene.attempt(lost).status is AttemptStatus.LOST
    assert scene.attempt(delivered).status is AttemptStatus.LEASED
    assert scene.report(delivered, job_id="j1")["status"] == "accepted"


def test_what_was_inherited_and_is_not_named_any_more_comes_back_at_once(scene: Scene) -> None:
    """The number of its poll is the dead process's, higher than any of the new one's."""
    scene.job("j1")
    scene.job("j2")
    scene.worker("i1")
    leased, lost = scene.take(poll=15), scene.take(poll=16)
    scene.worker("i2")
    scene.beat(leased, instance="i2", replaces=("i1",), last_poll=1)
    assert scene.attempt(lost).status is AttemptStatus.LOST
    scene.beat(lost, leased, instance="i2", last_poll=1)
    assert scene.attempt(lost).status is AttemptStatus.LEASED
    scene.beat(instance="i2", last_poll=2)
    assert scene.attempt(leased).status is AttemptStatus.UNCLAIMED
    assert scene.attempt(lost).status is AttemptStatus.UNCLAIMED


def test_a_chain_of_early_deaths_buries_them_all(scene: Scene) -> None:
    scene.job()
    scene.worker("i1")
    wire = scene.take("i1")
    scene.worker("i2")  # dies before its first heartbeat
    scene.worker("i3")
    answer = scene.beat(instance="i3", replaces=("i1", "i2"))
    assert answer.replaced == ("i1", "i2")
    assert scene.attempt(wire).status is AttemptStatus.LOST
    assert scene.poll("i1", poll=9) == []
    assert scene.poll("i2", poll=9) == []


def test_a_twin_that_was_declared_dead_is_heard_and_keeps_its_work(scene: Scene) -> None:
    scene.job()
    scene.worker("i1")
    wire = scene.take("i1")
    scene.beat(wire, instance="i1", last_poll=1)
    scene.worker("i2")
    scene.beat(instance="i2", replaces=("i1",))
    assert scene.task().lost == 1
    answer = scene.beat(wire, instance="i1", last_poll=1)
    assert answer.cancel == ()
    assert scene.attempt(wire).status is AttemptStatus.LEASED
    assert scene.task().lost == 0
    assert any("i2" in note and "i1" in note for note in answer.notes)


def test_an_unknown_predecessor_is_acknowledged(scene: Scene) -> None:
    scene.worker("i2")
    assert scene.beat(instance="i2", replaces=("of-another-cluster",)).replaced


def test_nobody_can_bury_anothers_instance(scene: Scene) -> None:
    scene.job()
    scene.worker("i1", "w1")
    wire = scene.take("i1")
    scene.worker("i2", "w2")
    scene.beat(instance="i2", worker_id="w2", replaces=("i1",))
    assert scene.attempt(wire).status is AttemptStatus.LEASED


# L7: two live instances under one id.


def test_two_instances_under_one_id_keep_their_own_leases(scene: Scene) -> None:
    scene.job("j1")
    scene.job("j2")
    scene.worker("i1")
    scene.worker("i2")
    first, second = scene.take("i1"), scene.take("i2")
    for _ in range(10):
        scene.wait(10)
        scene.beat(first, instance="i1", last_poll=1)
        scene.beat(second, instance="i2", last_poll=1)
    assert scene.attempt(first).status is AttemptStatus.LEASED
    assert scene.attempt(second).status is AttemptStatus.LEASED


# L8: tasks that kill their workers.


def lose(scene: Scene, instance: str) -> str:
    """A new process takes the task and dies."""
    scene.worker(instance, instance)
    [hand_out] = scene.poll(instance)
    scene.wait(31)
    return hand_out.attempt.wire_id


def test_the_fifth_loss_quarantines(scene: Scene) -> None:
    scene.job()
    for n in range(5):
        assert scene.get().status is JobStatus.WAITING_FOR_WORKER
        lose(scene, f"i{n}")
    job = scene.get()
    assert job.status is JobStatus.QUARANTINED
    assert job.error is not None
    assert job.error.code == "worker_lost"
    assert scene.task().status is TaskStatus.QUARANTINED


def test_a_worker_holds_one_suspect_at_a_time(scene: Scene) -> None:
    scene.job("j1")
    scene.job("j2")
    for name in ("first", "second"):
        scene.worker(name, name)
        assert len(scene.poll(name, most=2)) == 2
        scene.wait(31)
    for n in range(9):
        scene.job(f"innocent{n}")
    scene.worker("i")
    got = scene.poll("i", most=20)
    assert [hand_out.attempt.suspect for hand_out in got].count(True) == 1
    assert len(got) == 10
    assert scene.poll("i", poll=2) == []
    scene.worker("i2", "w2")
    assert len(scene.poll("i2")) == 1


# L9: give-backs.


def test_a_handler_that_always_gives_back_is_slowed_down_and_stopped(scene: Scene) -> None:
    scene.job()
    scene.worker()
    returned_at = []
    poll = 0
    while scene.get().status is JobStatus.WAITING_FOR_WORKER:
        poll += 1
        scene.beat(last_poll=poll - 1)
        for hand_out in scene.poll(poll=poll):
            scene.report(hand_out.attempt.wire_id, "cancelled")
            returned_at.append(scene.time)
        if scene.task().status is TaskStatus.RETRYING or scene.task().avoid:
            scene.wait(1)
    assert len(returned_at) == 20
    assert returned_at[2] == returned_at[0]
    assert returned_at[3] > returned_at[2]
    job = scene.get()
    assert job.error is not None
    assert (job.status, job.error.code) == (JobStatus.QUARANTINED, "returned_too_often")


def test_from_the_third_give_back_in_a_row_other_workers_go_first(scene: Scene) -> None:
    scene.job()
    scene.worker("i1", "w1")
    scene.worker("i2", "w2")
    for poll in (1, 2, 3):
        [hand_out] = scene.poll("i1", poll)
        scene.give_back(hand_out.attempt.wire_id, worker_id="w1")
    assert scene.task().status is TaskStatus.RETRYING
    scene.wait(2)
    assert scene.poll("i1", 4) == []
    assert len(scene.poll("i2", 1)) == 1


def test_the_worker_that_was_avoided_gets_it_if_nobody_else_comes(scene: Scene) -> None:
    scene.job()
    scene.worker()
    for poll in (1, 2, 3):
        [hand_out] = scene.poll(poll=poll)
        scene.give_back(hand_out.attempt.wire_id)
    scene.wait(5)
    assert scene.poll(poll=4) == []
    scene.wait(10)
    assert len(scene.poll(poll=5)) == 1


def test_what_never_started_is_not_counted_as_given_back(scene: Scene) -> None:
    scene.job()
    scene.worker()
    for poll in range(1, 40):
        [hand_out] = scene.poll(poll=poll)
        scene.give_back(hand_out.attempt.wire_id, unstarted=True)
    assert scene.task().returned == 0
    assert scene.get().status is JobStatus.WAITING_FOR_WORKER


def test_nobody_can_give_back_what_is_anothers(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire = scene.take()
    assert scene.give_back(wire, worker_id="thief") == 0
    assert scene.attempt(wire).status is AttemptStatus.LEASED


# L10, H3: leaving.


def test_a_worker_that_says_goodbye_is_handed_nothing(scene: Scene) -> None:
    scene.job()
    scene.worker()
    scene.beat(leaving=True)
    assert scene.poll() == []


def test_a_poll_that_the_worker_has_closed_is_handed_nothing(scene: Scene) -> None:
    scene.job()
    scene.worker()
    scene.beat(last_poll=3, open_polls=(2,))
    assert scene.poll(poll=3) == []
    assert len(scene.poll(poll=2)) == 1


def test_a_process_that_is_believed_dead_is_handed_nothing(scene: Scene) -> None:
    scene.worker()
    scene.wait(40)
    scene.job()
    assert scene.poll() == []
    scene.beat()
    assert len(scene.poll()) == 1
