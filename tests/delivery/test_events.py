"""Events of workers: rules E1 to E6."""

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from tests.delivery.conftest import Make
from tests.delivery.scene import Scene, an_event

from avtomatika_trio._core.event_rules import MOST_EVENTS, MOST_PAYLOAD_BYTES
from avtomatika_trio._core.events import EventReport, note
from avtomatika_trio._core.json_schema import Effort
from avtomatika_trio._core.lease import begin_serving, last_served
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.rules import Rules

ANY: dict[str, Any] = {"step": {}}
ACCEPTED = {"status": "event_accepted"}


def at_work(scene: Scene, **schema: Any) -> str:
    """A job whose task is leased; returns the wire id."""
    scene.job()
    scene.worker(events_schema=schema or ANY)
    return scene.take()


def test_an_event_is_one_row_that_says_whose_it_is(scene: Scene) -> None:
    wire = at_work(scene)
    revision = scene.get().revision
    assert scene.event(wire, 1, payload={"frame": 7}) == ACCEPTED
    rows = [it.row for it in trio.run(partial(scene.storage.history, "j", limit=100))]
    row = rows[-1]
    assert (row.type, row.details) == (
        "worker_event",
        {"type": "step", "payload": {"frame": 7}},
    )
    assert (row.task_id, row.attempt, row.worker_id) == (scene.task().id, 1, "w")
    assert (row.state, row.revision, row.at) == ("start", scene.task().dispatch, scene.time)
    assert scene.get().revision == revision  # it fights with nobody for the job's revision


# E1: a number that is not above the last one was noted before.


def test_an_event_posted_again_after_a_lost_answer_is_answered_the_same(scene: Scene) -> None:
    wire = at_work(scene)
    first = [scene.event(wire, number) for number in (1, 2, 3)]
    again = [scene.event(wire, number) for number in (1, 2, 3)]
    assert again == first == [ACCEPTED] * 3
    assert [payload["n"] for _, _, payload in scene.events()] == [1, 2, 3]


def test_a_delayed_post_of_one_that_another_orchestrator_has_noted_makes_no_second_row(
    scene: Scene,
) -> None:
    """Number 1 hangs on its way to A, is sent to B, and 2 follows there; then A gets it."""
    wire = at_work(scene)
    scene.event(wire, 1)
    scene.event(wire, 2)
    assert scene.event(wire, 1) == ACCEPTED
    assert [payload["n"] for _, _, payload in scene.events()] == [1, 2]


def test_a_number_that_was_refused_leaves_room_for_those_behind_it(scene: Scene) -> None:
    wire = at_work(scene)
    assert scene.event(wire, 1, "unknown")["status"] == "error"
    assert scene.event(wire, 2) == ACCEPTED
    assert [payload["n"] for _, _, payload in scene.events()] == [2]


def test_events_without_numbers_are_told_apart_by_their_ids(scene: Scene) -> None:
    wire = at_work(scene)
    for event_id in ("a", "b", "b", "a", "c"):
        assert scene.event(wire, None, payload={"id": event_id}, event_id=event_id) == ACCEPTED
    assert [payload["id"] for _, _, payload in scene.events()] == ["a", "b", "c"]
    noted = scene.attempt(wire).events
    assert noted is not None
    assert noted.count == 3
    for n in range(100):
        scene.event(wire, None, event_id=f"more-{n}")
    noted = scene.attempt(wire).events
    assert noted is not None
    assert (noted.count, len(noted.ids)) == (103, 16)  # however many there are


def test_an_event_is_answered_the_same_after_the_end_of_its_task_and_of_its_job(
    scene: Scene,
) -> None:
    wire = at_work(scene)
    scene.event(wire, 1)
    scene.report(wire)
    assert scene.event(wire, 1) == ACCEPTED
    scene.cancel()
    assert scene.event(wire, 1) == ACCEPTED
    assert len(scene.events()) == 1


# E2: an event counts as long as a result of its attempt would.


def test_an_event_of_an_attempt_that_was_believed_lost_counts_until_another_is_leased(
    scene: Scene,
) -> None:
    wire = at_work(scene)
    scene.event(wire, 1)
    scene.wait(31)
    assert scene.event(wire, 2) == ACCEPTED
    scene.worker("i2", "w2", events_schema=ANY)
    newer = scene.take("i2")
    refused = scene.event(wire, 3)
    assert (refused["status"], refused["reason"]) == ("ignored", "stale_task")
    assert scene.event(newer, 1, worker_id="w2") == ACCEPTED
    assert scene.event(newer, 2, worker_id="w2") == ACCEPTED
    assert scene.event(wire, 3)["reason"] == "stale_task"
    assert [(attempt, payload["n"]) for attempt, _, payload in scene.events()] == [
        (1, 1),
        (1, 2),
        (2, 1),
        (2, 2),
    ]


def test_a_refused_event_is_refused_in_the_words_of_a_result(scene: Scene) -> None:
    wire = at_work(scene)
    scene.wait(31)
    scene.worker("i2", "w2")
    scene.take("i2")
    event, result = scene.event(wire, 1), scene.report(wire)
    assert event == {**result, "message": result["message"].replace("Result", "Event")}


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda scene, wire: scene.report(wire), "stale_task"),
        (lambda scene, wire: scene.fail(wire), "stale_task"),
        (lambda scene, wire: scene.fail(wire, "PERMANENT_ERROR"), "stale_task"),
        (lambda scene, wire: scene.cancel(), "job_already_terminated"),
    ],
)
def test_an_event_that_comes_after_the_end_is_refused(
    scene: Scene, end: Callable[[Scene, str], object], reason: str
) -> None:
    wire = at_work(scene)
    end(scene, wire)
    refused = scene.event(wire, 1)
    assert (refused["status"], refused["reason"]) == ("ignored", reason)
    assert scene.events() == []


def test_an_event_of_another_workers_attempt_is_refused(scene: Scene) -> None:
    wire = at_work(scene)
    assert scene.event(wire, 1, worker_id="stranger")["reason"] == "worker_mismatch"
    assert scene.event("nobody's", 1)["reason"] == "stale_task"
    assert scene.events() == []


def test_events_of_both_attempts_of_a_task_are_kept_apart(scene: Scene) -> None:
    """Each attempt counts for itself: number 1 of the second is no repetition."""
    first = at_work(scene)
    scene.event(first, 1)
    scene.fail(first)
    scene.wait(5)
    second = scene.take(poll=2)
    assert scene.event(second, 1) == ACCEPTED
    assert [(attempt, payload["n"]) for attempt, _, payload in scene.events()] == [(1, 1), (2, 1)]


# E3: what was not posted comes with the result, in its commit.


def test_events_that_come_with_a_result_are_noted_before_it_and_once(scene: Scene) -> None:
    wire = at_work(scene)
    scene.event(wire, 1)
    carried = [an_event(number) for number in (1, 2, 3)]
    assert scene.report(wire, events=carried)["status"] == "accepted"
    assert scene.report(wire, events=carried)["status"] == "accepted"  # its answer was lost
    assert [payload["n"] for _, _, payload in scene.events()] == [1, 2, 3]
    assert scene.history()[-4:] == [*["worker_event"] * 3, "task_finished"]
    assert scene.event(wire, 2) == ACCEPTED  # a post that was on its way meanwhile
    assert len(scene.events()) == 3


def test_events_of_a_result_that_is_refused_are_refused_with_it(scene: Scene) -> None:
    wire = at_work(scene)
    scene.cancel()
    assert scene.report(wire, events=[an_event(1)])["status"] == "ignored"
    assert scene.events() == []


def test_what_is_wrong_with_an_event_does_not_hold_up_the_result(scene: Scene) -> None:
    wire = at_work(scene)
    carried = [an_event(1, "unknown"), an_event(2), an_event(3, payload={"x": "y" * 10_000})]
    assert scene.report(wire, events=carried)["status"] == "accepted"
    assert [payload["n"] for _, _, payload in scene.events()] == [2]
    assert scene.history()[-2:] == ["worker_events_lost", "task_finished"]


def test_events_that_had_no_room_are_told_in_the_history(scene: Scene) -> None:
    wire = at_work(scene)
    scene.report(wire, events=[an_event(1)], events_lost=7)
    rows = [it.row for it in trio.run(partial(scene.storage.history, "j", limit=100))]
    assert [row.details for row in rows if row.type == "worker_events_lost"] == [{"count": 7}]
    assert scene.history()[-3:] == ["worker_event", "worker_events_lost", "task_finished"]


def test_events_come_with_a_failure_and_with_a_give_back_too(scene: Scene) -> None:
    wire = at_work(scene)
    scene.report(wire, "failure", code="TRANSIENT_ERROR", events=[an_event(1)])
    scene.wait(5)
    second = scene.take(poll=2)
    scene.report(second, "cancelled", events=[an_event(1)])
    assert [(attempt, payload["n"]) for attempt, _, payload in scene.events()] == [(1, 1), (2, 1)]


# E4: bounds.


def test_an_attempt_has_a_thousand_events_and_the_history_tells_once_that_there_were_more(
    scene: Scene,
) -> None:
    wire = at_work(scene)

    def all_at_once(ledger: Ledger) -> None:
        attempt = ledger.attempt(wire)
        assert attempt is not None
        assert attempt.events is not None
        most = attrs.evolve(attempt.events, count=MOST_EVENTS - 1, last=MOST_EVENTS - 1)
        ledger.put_attempt(attrs.evolve(attempt, events=most))

    scene.event(wire, 1)
    scene.run(all_at_once)
    assert scene.event(wire, MOST_EVENTS) == ACCEPTED
    for number in range(MOST_EVENTS + 1, MOST_EVENTS + 4):
        refused = scene.event(wire, number)
        assert (refused["status"], refused["reason"]) == ("ignored", "too_many_events")
        assert "1,000 events" in refused["message"]
    assert scene.event(wire, MOST_EVENTS) == ACCEPTED  # sent again
    assert scene.history().count("worker_events_full") == 1
    assert len(scene.events()) == 2
    assert scene.report(wire)["status"] == "accepted"


def test_a_payload_has_eight_kibibytes(scene: Scene) -> None:
    wire = at_work(scene)
    room = MOST_PAYLOAD_BYTES - len('{"x":""}')
    refused = scene.event(wire, 1, payload={"x": "y" * (room + 1)})
    assert refused["status"] == "error"
    assert "payload: has 8,193 bytes as JSON, more than 8,192" in refused["message"]
    assert scene.event(wire, 2, payload={"x": "ü" * (room // 2)}) == ACCEPTED
    assert len(scene.events()) == 1


@pytest.mark.parametrize("event_type", ["", "with space", "x" * 129, "a/b"])
def test_a_malformed_type_is_refused(scene: Scene, event_type: str) -> None:
    refused = scene.event(at_work(scene), 1, event_type)
    assert refused["status"] == "error"
    assert "event_type: is 1 to 128 letters" in refused["message"]


# E5: what the skill declares.


def test_an_event_that_was_not_declared_is_refused(scene: Scene) -> None:
    wire = at_work(scene, frame_done={})
    refused = scene.event(wire, 1, "frame_don")
    assert (refused["status"], refused["code"]) == ("error", "CONTRACT_VIOLATION_ERROR")
    assert "did you mean 'frame_done'?" in refused["message"]
    assert scene.event(wire, 2, "frame_done") == ACCEPTED


def test_an_undeclared_event_passes_where_that_is_allowed(make_storage: Make) -> None:
    scene = Scene(make_storage, Rules(strict_events=False))
    wire = at_work(scene, step={"type": "object", "required": ["n"]})
    assert scene.event(wire, 1, "unknown") == ACCEPTED
    refused = scene.event(wire, 2, "step", {})
    assert refused["code"] == "CONTRACT_VIOLATION_ERROR"
    assert scene.violations() == []


def test_a_payload_that_breaks_its_schema_is_refused(scene: Scene) -> None:
    schema = {"properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wire = at_work(scene, step=schema)
    refused = scene.event(wire, 1, payload={"n": "one"})
    assert refused["code"] == "CONTRACT_VIOLATION_ERROR"
    assert refused["message"].startswith('payload.n: "one" is no integer')
    assert scene.event(wire, 2, payload={"n": 1}) == ACCEPTED


def test_a_schema_that_cannot_be_used_refuses_nothing(scene: Scene) -> None:
    """A foreign worker has checked it by itself; what is not understood is not judged."""
    wire = at_work(scene, step={"if": {"type": "object"}}, other={"type": 5})
    assert scene.event(wire, 1) == ACCEPTED
    assert scene.event(wire, 2, "other") == ACCEPTED


def test_what_would_take_too_long_to_look_at_is_not_noted(scene: Scene) -> None:
    wire = at_work(scene)
    said = EventReport(worker_id="w", wire_id=wire, job_id="j", event=an_event(1, "step", {}))
    answer = scene.run(lambda ledger: note(ledger, said, scene.rules, Effort(steps=0)))
    assert (answer["status"], scene.events()) == ("error", [])
    # One to find its skill, and one for the schema.
    answer = scene.run(lambda ledger: note(ledger, said, scene.rules, Effort(steps=2)))
    assert (answer["status"], len(scene.events())) == ("event_accepted", 1)


def test_events_in_the_spool_of_a_process_that_was_forgotten_are_not_judged(
    scene: Scene,
) -> None:
    wire = at_work(scene)
    scene.wait(31)
    scene.run(lambda ledger: ledger.drop_instance("i1"))
    assert scene.event(wire, 1, "whatever") == ACCEPTED


# E6: outages and restarts.


def test_an_event_counts_after_an_outage_of_the_orchestrators(scene: Scene) -> None:
    wire = at_work(scene)
    scene.event(wire, 1)
    scene.outage(8 * 3600)
    scene.run(partial(begin_serving, seen=scene.run(last_served)))
    scene.serve()
    assert scene.event(wire, 1) == ACCEPTED
    assert scene.event(wire, 2) == ACCEPTED
    assert [payload["n"] for _, _, payload in scene.events()] == [1, 2]


def test_a_retaken_attempt_goes_on_where_its_events_were(scene: Scene) -> None:
    wire = at_work(scene)
    scene.event(wire, 1)
    scene.wait(31)
    scene.beat(wire)
    assert scene.event(wire, 1) == ACCEPTED
    assert scene.event(wire, 2) == ACCEPTED
    assert [payload["n"] for _, _, payload in scene.events()] == [1, 2]


def test_a_restarted_worker_brings_the_events_of_the_process_before_it(scene: Scene) -> None:
    """Result and events were in the spool; the second event is not declared there any more."""
    wire = at_work(scene, step={}, older={})
    scene.event(wire, 1)
    scene.worker("i2", events_schema=ANY)
    scene.beat(wire, instance="i2", replaces=("i1",))
    carried = [an_event(1), an_event(2, "older"), an_event(3)]
    assert scene.report(wire, events=carried)["status"] == "accepted"
    assert [payload["n"] for _, _, payload in scene.events()] == [1, 3]
    assert scene.history()[-2:] == ["worker_events_lost", "task_finished"]


def test_what_an_orchestrator_of_the_release_before_has_written_can_be_read(
    scene: Scene,
) -> None:
    """It knows no events: in what it writes the attempt has none, and one may come twice."""
    wire = at_work(scene)
    scene.event(wire, 1)

    def rewritten(ledger: Ledger) -> None:
        attempt = ledger.attempt(wire)
        assert attempt is not None
        ledger.put_attempt(attrs.evolve(attempt, events=None))

    scene.run(rewritten)
    assert scene.event(wire, 2) == ACCEPTED
    assert [payload["n"] for _, _, payload in scene.events()] == [1, 2]


def test_events_go_with_their_job(make_storage: Make) -> None:
    scene = Scene(make_storage, Rules(jobs_retention_seconds=60.0))
    wire = at_work(scene)
    scene.event(wire, 1)
    scene.cancel()
    scene.wait(61)
    assert scene.events() == []
    assert scene.event(wire, 1)["reason"] == "job_not_found"
