"""The table of a task's life: every cell, and any order of events."""

import attrs
import pytest
from hypothesis import given, strategies as st

from avtomatika_trio._core import task as tasks
from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio._core.task import TRANSITIONS, Lane, Task, TaskResult, TaskStatus, step
from avtomatika_trio.errors import IllegalTransition

RESULT = TaskResult(status="success", data={"n": 1})
TASK = Task(
    id="j-2",
    job_id="j",
    dispatch=2,
    branch=None,
    key=None,
    state="s",
    skill="k",
    params={},
    priority=0.0,
    transitions={},
    timeout_seconds=None,
    dispatch_timeout=None,
    result_timeout=None,
    retry=RetryPolicy(),
    created_at=1.0,
)
EVENTS: list[tasks.Event] = [
    tasks.Released(),
    tasks.HandedOut(wire_id="w"),
    tasks.Requeued(lost=1, returned=0),
    tasks.Delayed(failures=1, returned=0),
    tasks.LeaseRetaken(wire_id="w", lost=0),
    tasks.Ended(result=RESULT),
    tasks.Poisoned(result=RESULT),
    tasks.Dropped(),
]


def test_the_events_of_this_test_are_all_there_are() -> None:
    assert {type(event) for event in EVENTS} == set(tasks.Event.__args__)
    assert set(TRANSITIONS) == set(TaskStatus)


@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_decided_in_every_status(status: TaskStatus, event: tasks.Event) -> None:
    before = attrs.evolve(TASK, status=status)
    if type(event) in TRANSITIONS[status]:
        after = step(before, event)
        assert after.status is TRANSITIONS[status][type(event)]
        assert (after.wire_id is not None) == (after.status is TaskStatus.LEASED)
    else:
        with pytest.raises(IllegalTransition):
            step(before, event)


def test_open_statuses_are_those_that_something_leads_out_of() -> None:
    assert {s for s in TaskStatus if s.is_open} == {s for s in TaskStatus if TRANSITIONS[s]}


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_attempts_are_counted_and_an_outcome_is_kept(events: list[tasks.Event]) -> None:
    task, handed_out = TASK, 0
    for event in events:
        try:
            moved = step(task, event)
        except IllegalTransition:
            continue
        assert task.status.is_open
        handed_out += isinstance(event, tasks.HandedOut)
        assert moved.attempt == handed_out
        assert moved.status is not TaskStatus.DONE or moved.result is RESULT
        task = moved


def test_a_task_that_lost_two_workers_is_a_suspect() -> None:
    assert [attrs.evolve(TASK, lost=n).lane for n in range(3)] == [
        Lane.NORMAL,
        Lane.NORMAL,
        Lane.SUSPECT,
    ]
