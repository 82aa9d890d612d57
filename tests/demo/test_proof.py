"""The demo's proof must find what is wrong, or it would prove nothing."""

from collections.abc import Sequence
from typing import Any

from avtomatika_trio.demo._blueprint import AUDITING
from avtomatika_trio.demo._notes import Begun
from avtomatika_trio.demo._proof import Proof, Repeat, prove

WORKER = "demo-1"


def event(kind: str, name: str, attempt: int, **details: Any) -> dict[str, Any]:
    return {
        "event_type": kind,
        "state": AUDITING,
        "task_id": f"task-{name}",
        "attempt": attempt,
        "worker_id": WORKER,
        "details": details or None,
    }


def leased(name: str, attempt: int = 1) -> dict[str, Any]:
    return event("attempt_leased", name, attempt)


def lost(name: str, attempt: int = 1) -> dict[str, Any]:
    return event("attempt_lost", name, attempt, reason="the worker process died")


def unclaimed(name: str, attempt: int = 1) -> dict[str, Any]:
    return event("attempt_unclaimed", name, attempt, reason="the worker does not hold it")


def finished(name: str, attempt: int = 1) -> dict[str, Any]:
    return event("task_finished", name, attempt, key=name, status="success")


def begun(name: str, attempt: int = 1, pid: int = 7) -> Begun:
    return Begun(name=name, task_id=f"task-{name}", attempt=attempt, pid=pid)


def problems(history: Sequence[dict[str, Any]], *notes: Begun, names: str = "a") -> tuple[str, ...]:
    return prove(names.split(), history, notes).problems


def test_a_run_that_nothing_disturbed_is_in_order() -> None:
    history = [leased("a"), leased("b"), finished("b"), finished("a")]
    proof = prove(["a", "b"], history, [begun("a"), begun("b")])
    assert proof == Proof(problems=(), repeats=())


def test_events_of_other_tasks_do_not_count() -> None:
    listing = {**finished("list"), "state": "listing", "details": {"skill": "list_modules"}}
    created = {"event_type": "job_created", "state": "listing", "task_id": None}
    dispatched = {"event_type": "branches_dispatched", "state": AUDITING, "task_id": None}
    history = [created, listing, dispatched, leased("a"), finished("a")]
    assert problems(history, begun("a")) == ()


def test_what_was_lost_and_analysed_again_is_told_with_the_reason() -> None:
    history = [leased("a"), lost("a"), leased("a", 2), finished("a", 2)]
    proof = prove(["a"], history, [begun("a"), begun("a", 2, pid=8)])
    assert proof.problems == ()
    assert proof.repeats == (
        Repeat(
            name="a",
            attempt=1,
            worker=WORKER,
            how="lost",
            reason="the worker process died",
            begun=True,
        ),
    )


def test_what_was_never_received_was_not_begun() -> None:
    history = [leased("a"), unclaimed("a"), leased("a", 2), finished("a", 2)]
    (repeat,) = prove(["a"], history, [begun("a", 2)]).repeats
    assert (repeat.how, repeat.begun) == ("never received", False)


def test_a_result_that_came_after_its_loss_is_no_repeat() -> None:
    history = [leased("a"), lost("a"), finished("a", 1)]
    assert prove(["a"], history, [begun("a")]) == Proof(problems=(), repeats=())


def test_a_lease_that_was_taken_again_is_no_repeat() -> None:
    history = [leased("a"), lost("a"), event("attempt_retaken", "a", 1), finished("a")]
    assert prove(["a"], history, [begun("a")]) == Proof(problems=(), repeats=())


def test_a_name_that_is_missing_is_found() -> None:
    assert problems([leased("a"), finished("a")], begun("a"), names="a b") == (
        "b was counted 0 times, not once",
    )


def test_a_name_that_is_counted_twice_is_found() -> None:
    history = [leased("a"), finished("a"), finished("a")]
    assert problems(history, begun("a")) == ("a was counted 2 times, not once",)


def test_a_name_that_nobody_asked_for_is_found() -> None:
    history = [leased("a"), finished("a"), leased("x"), finished("x")]
    assert problems(history, begun("a"), begun("x")) == ("x was counted 1 times, not once",)


def test_an_attempt_that_was_begun_twice_is_found() -> None:
    history = [leased("a"), finished("a")]
    assert problems(history, begun("a"), begun("a", pid=8)) == ("a: attempt 1 was begun 2 times",)


def test_an_attempt_that_was_never_handed_out_is_found() -> None:
    history = [leased("a"), finished("a")]
    assert problems(history, begun("a"), begun("a", 2)) == (
        "a: attempt 2 was begun, but never handed out",
    )


def test_a_result_without_an_analysis_is_found() -> None:
    assert problems([leased("a"), finished("a")]) == ("a: attempt 1 was counted, but never begun",)


def test_an_analysis_that_was_repeated_for_no_reason_is_found() -> None:
    history = [leased("a"), leased("a", 2), finished("a", 2)]
    assert problems(history, begun("a"), begun("a", 2)) == (
        "a: attempt 1 came to nothing, and the history does not say why",
    )


def test_a_task_that_was_taken_for_another_is_found() -> None:
    wrong = Begun(name="b", task_id="task-a", attempt=1, pid=7)
    assert problems([leased("a"), finished("a")], wrong) == ("a: its task was begun as b",)


def test_repeats_are_ordered_by_name_and_attempt() -> None:
    history = [
        row
        for name in ("b", "a")
        for row in (
            leased(name),
            lost(name),
            leased(name, 2),
            unclaimed(name, 2),
            leased(name, 3),
            finished(name, 3),
        )
    ]
    proof = prove(["a", "b"], history, [begun(name, n) for name in "ab" for n in (1, 3)])
    assert [(repeat.name, repeat.attempt) for repeat in proof.repeats] == [
        ("a", 1),
        ("a", 2),
        ("b", 1),
        ("b", 2),
    ]
