"""A job that has ended is forgotten when its time is over; until then nothing of it changes."""

from collections.abc import Iterator
from functools import partial

import attrs
import pytest
import trio
from tests.delivery.conftest import Make
from tests.delivery.scene import Scene

from avtomatika_trio._core import files, retention, steps
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import Timer, TimerKind
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.testing._samples import put

DAY = 86_400.0
MONTH = 30 * DAY
WEEK = 7 * DAY


@pytest.fixture
def scene(make_storage: Make) -> Iterator[Scene]:
    scene = Scene(make_storage, Rules(jobs_retention_seconds=MONTH))
    yield scene
    assert scene.violations() == []


def later(scene: Scene, seconds: float) -> None:
    """Let time pass at once, and serve."""
    scene.outage(seconds)
    scene.serve()


def is_there(scene: Scene, job_id: str = "j") -> bool:
    return scene.run(lambda ledger: ledger.job(job_id)) is not None


def timer(scene: Scene, kind: TimerKind = TimerKind.FORGET, job_id: str = "j") -> Timer | None:
    return scene.run(lambda ledger: ledger.timer(kind, job_id))


def done(scene: Scene, job_id: str = "j") -> str:
    """Have a job finish by a task; returns the wire id of that."""
    scene.job(job_id)
    scene.worker()
    wire_id = scene.take()
    assert scene.report(wire_id, job_id=job_id)["status"] == "accepted"
    scene.decide(job_id, steps.ReachedEnd(outcome="finished"))
    return wire_id


def everything(scene: Scene, job_id: str = "j") -> list[object]:
    storage = scene.storage
    reads = (storage.job, storage.tasks, storage.attempts, storage.history, storage.progress)
    return [trio.run(partial(read, job_id)) for read in reads]


def test_a_job_is_forgotten_after_its_time_and_not_before(scene: Scene) -> None:
    done(scene)
    seen = everything(scene)
    later(scene, MONTH - 1)
    assert everything(scene) == seen
    later(scene, 1)
    assert not any(everything(scene))
    assert timer(scene) is None


def test_however_it_has_ended(scene: Scene) -> None:
    scene.job("cancelled")
    scene.cancel("cancelled")
    scene.worker()
    for code, status in (("INVALID_INPUT_ERROR", "failed"), ("PERMANENT_ERROR", "quarantined")):
        scene.job(status)
        scene.report(scene.take(), "failure", code=code, job_id=status)
        assert scene.get(status).status == status
    later(scene, MONTH)
    assert not [it for it in ("cancelled", "failed", "quarantined") if is_there(scene, it)]


def test_one_that_goes_on_stays_for_ever(scene: Scene) -> None:
    scene.job()
    assert timer(scene) is None
    later(scene, 100 * MONTH)
    assert is_there(scene)


def test_a_timer_of_a_job_that_goes_on_or_is_not_there_is_dropped(scene: Scene) -> None:
    scene.job()
    for job_id in ("j", "never"):
        scene.run(put(Timer(kind=TimerKind.FORGET, subject=job_id, due_at=0)))
    scene.serve()
    assert is_there(scene)
    assert timer(scene) is None
    assert timer(scene, job_id="never") is None


def test_a_job_with_branches_goes_with_all_of_them(scene: Scene) -> None:
    scene.submit("j")
    scene.fan("j", 7, max_concurrency=2)
    scene.worker()
    for poll in range(1, 8):
        scene.report(scene.take(poll=poll))
    scene.decide("j", steps.ReachedEnd(outcome="finished"))
    assert scene.run(lambda ledger: ledger.fan_out("j", 2)) is not None
    later(scene, MONTH)
    assert not any(everything(scene))
    assert scene.run(lambda ledger: ledger.fan_out("j", 2)) is None


def test_others_are_not_touched(scene: Scene) -> None:
    done(scene, "j-1")
    later(scene, DAY)
    scene.job("j-1-2")
    scene.submit("j")
    scene.cancel("j")
    seen = everything(scene, "j-1-2"), everything(scene, "j")
    later(scene, MONTH - DAY)
    assert not is_there(scene, "j-1")
    assert (everything(scene, "j-1-2"), everything(scene, "j")) == seen


def test_who_comes_later_gets_what_unknown_ids_get(scene: Scene) -> None:
    wire_id = done(scene)
    later(scene, MONTH)
    for _ in range(3):  # whichever process is asked, and whatever that has remembered
        answer = scene.report(wire_id)
        assert (answer["status"], answer["reason"]) == ("ignored", "job_not_found")
    assert not any(everything(scene))


def test_a_result_that_comes_between_two_looks_stays_out(scene: Scene) -> None:
    scene.job()
    scene.worker()
    wire_id = scene.take()
    scene.cancel()
    later(scene, MONTH - 1)
    assert scene.report(wire_id)["reason"] == "job_already_terminated"
    later(scene, 1)
    assert scene.report(wire_id)["reason"] == "job_not_found"
    assert not any(everything(scene))


def test_the_id_can_be_given_again(scene: Scene) -> None:
    done(scene)
    later(scene, MONTH)
    done(scene)
    assert scene.history().count("job_created") == 1
    assert scene.get().status is JobStatus.FINISHED
    later(scene, MONTH)
    assert not is_there(scene)


def test_not_many_are_forgotten_in_one_step(scene: Scene) -> None:
    ids = [f"j{at}" for at in range(50)]
    for job_id in ids:
        scene.submit(job_id)
        scene.cancel(job_id)
    assert left_after_each_step(scene, ids) == [30, 10, 0]


def test_one_that_had_many_tasks_is_the_last_of_its_step(scene: Scene) -> None:
    scene.submit("a")
    scene.cancel("a")
    scene.outage(1)
    scene.submit("b")
    scene.fan("b", 1000)
    scene.cancel("b")
    for job_id in ("c", "d"):
        scene.outage(1)
        scene.submit(job_id)
        scene.cancel(job_id)
    assert left_after_each_step(scene, ["a", "b", "c", "d"]) == [2, 0]


def left_after_each_step(scene: Scene, ids: list[str]) -> list[int]:
    """How many of the jobs are left when a month has passed, while they are forgotten."""
    scene.outage(MONTH)
    left: list[int] = []
    more = True
    while more:
        more = scene.run(partial(retention.forget_due, rules=scene.rules, most=20))
        left.append(sum(is_there(scene, job_id) for job_id in ids))
    return left


# Settings that differ, or change.


def test_where_jobs_stay_nothing_is_set_and_nothing_happens(scene: Scene) -> None:
    done(scene)
    scene.rules = Rules()
    done(scene, "stays")
    assert timer(scene, job_id="stays") is None
    later(scene, 10 * MONTH)
    assert is_there(scene)
    assert is_there(scene, "stays")
    scene.rules = Rules(jobs_retention_seconds=MONTH)
    scene.serve()
    assert not is_there(scene)
    assert is_there(scene, "stays")


def test_who_lets_jobs_stay_longer_puts_it_off(scene: Scene) -> None:
    done(scene)
    scene.rules = Rules(jobs_retention_seconds=2 * MONTH)
    later(scene, MONTH)
    assert is_there(scene)
    later(scene, MONTH - 1)
    assert is_there(scene)
    later(scene, 1)
    assert not is_there(scene)


# Files.


def remove_files(scene: Scene) -> list[str]:
    """What the sweeper does; whose files were removed."""
    kept = scene.rules.files_retention_seconds
    assert kept is not None
    taken = scene.run(partial(files.take_due, most=9, retention_seconds=kept))
    for job_id in taken:
        scene.run(partial(files.were_removed, job_id=job_id))
    return taken


def test_the_job_waits_until_its_files_were_removed_for_the_last_time(scene: Scene) -> None:
    scene.rules = Rules(jobs_retention_seconds=DAY, files_retention_seconds=DAY)
    done(scene)
    scene.outage(DAY)
    assert remove_files(scene) == ["j"]
    for _ in range(6):
        scene.serve()
        assert is_there(scene)
        assert remove_files(scene) == []
        scene.outage(DAY)
    scene.serve()
    assert is_there(scene)
    assert remove_files(scene) == ["j"]
    assert timer(scene, TimerKind.FILES) is None
    later(scene, 599)
    assert is_there(scene)
    later(scene, 1)
    assert not is_there(scene)


def test_it_waits_for_files_that_cannot_be_removed(scene: Scene) -> None:
    scene.rules = Rules(jobs_retention_seconds=MONTH, files_retention_seconds=WEEK)
    done(scene)
    later(scene, 3 * MONTH)
    later(scene, MONTH)
    assert is_there(scene)
    assert remove_files(scene) == ["j"]
    later(scene, 600)
    assert not is_there(scene)
    assert remove_files(scene) == []


def test_files_that_stay_for_good_keep_no_job(scene: Scene) -> None:
    scene.rules = Rules(jobs_retention_seconds=MONTH, files_retention_seconds=WEEK)
    done(scene)
    scene.rules = attrs.evolve(scene.rules, files_retention_seconds=None)
    later(scene, MONTH)
    assert not is_there(scene)
    assert timer(scene, TimerKind.FILES) is None
