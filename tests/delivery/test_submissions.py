"""Submissions with a key, at the level of operations: one set of jobs for each key."""

from collections.abc import Sequence
from functools import partial

import pytest
import trio
from tests.delivery.scene import Scene

from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.steps import NewJob
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.submissions import KEPT_SECONDS, submit_once


def jobs(*ids: str) -> list[NewJob]:
    return [
        NewJob(id=it, blueprint="b", client="c", start="s", initial_data={}, max_transitions=9)
        for it in ids
    ]


def submit(scene: Scene, key: str, ids: Sequence[str], request: str = "asked") -> Submission | None:
    said = Submission(id=key, client="c", request=request, job_ids=tuple(ids))
    return scene.run(partial(submit_once, said=said, new=jobs(*ids)))


def stored(scene: Scene, *ids: str) -> list[bool]:
    async def look() -> list[bool]:
        return [await scene.storage.job(it) is not None for it in ids]

    return trio.run(look)


def test_of_two_orchestrators_with_one_key_the_first_commit_counts(scene: Scene) -> None:
    assert submit(scene, "k", ["a1", "a2"]) is None
    before = submit(scene, "k", ["b1", "b2"])
    assert before is not None
    assert before.job_ids == ("a1", "a2")
    assert stored(scene, "a1", "a2", "b1", "b2") == [True, True, False, False]


def test_after_a_crash_before_the_answer_the_jobs_are_found_again(scene: Scene) -> None:
    submit(scene, "k", ["a"])  # nobody was told
    scene.outage(3600)
    before = submit(scene, "k", ["b"], request="other")
    assert before is not None
    assert (before.job_ids, before.request) == (("a",), "asked")
    assert stored(scene, "a", "b") == [True, False]


def test_after_a_crash_before_the_commit_nothing_is_remembered(scene: Scene) -> None:
    class Crash(Exception):
        pass

    def crash(ledger: Ledger) -> None:
        said = Submission(id="k", client="c", request="asked", job_ids=("a",))
        submit_once(ledger, said, jobs("a"))
        raise Crash

    with pytest.raises(Crash):
        scene.run(crash)
    assert submit(scene, "k", ["b"]) is None
    assert stored(scene, "a", "b") == [False, True]


def test_a_key_whose_time_is_over_is_new(scene: Scene) -> None:
    submit(scene, "k", ["a"])
    scene.outage(KEPT_SECONDS - 1)
    assert submit(scene, "k", ["b"]) is not None
    scene.outage(1)
    assert submit(scene, "k", ["c"]) is None
    again = submit(scene, "k", ["d"])
    assert again is not None
    assert again.job_ids == ("c",)


def test_those_that_are_over_are_forgotten_faster_than_new_ones_come(scene: Scene) -> None:
    for number in range(25):
        submit(scene, f"old{number}", [f"a{number}"])
    scene.outage(KEPT_SECONDS)
    for number in range(3):
        submit(scene, f"new{number}", [f"b{number}"])
    assert not scene.run(lambda ledger: ledger.expired_submissions(most=99))
    assert scene.run(lambda ledger: ledger.submission("old0")) is None
    assert scene.run(lambda ledger: ledger.submission("new0")) is not None
