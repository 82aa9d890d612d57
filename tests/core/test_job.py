"""The table of a job's life: every cell, and any order of events."""

import attrs
import pytest
from hypothesis import given, strategies as st

from avtomatika_trio._core import job as jobs
from avtomatika_trio._core.job import FINAL, TRANSITIONS, Job, JobFault, JobStatus, step
from avtomatika_trio.errors import IllegalTransition

FAULT = JobFault(code="X", message="x")
JOB = Job(id="j", blueprint="b", client="c", state="s", created_at=1.0, updated_at=1.0)
EVENTS: list[jobs.Event] = [
    jobs.StateEntered(state="t", state_history={"a": 1}),
    jobs.TaskDispatched(state_history={}),
    jobs.BranchesDispatched(state_history={}),
    jobs.HandlerFailed(retry_at=9.0),
    jobs.RetryDue(),
    jobs.Finished(state_history={}, result=1),
    jobs.Failed(error=FAULT),
    jobs.Quarantined(error=FAULT),
    jobs.Cancelled(error=FAULT),
]


def test_the_events_of_this_test_are_all_there_are() -> None:
    assert {type(event) for event in EVENTS} == set(jobs.Event.__args__)
    assert set(TRANSITIONS) == set(JobStatus)


@pytest.mark.parametrize("status", JobStatus)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_decided_in_every_status(status: JobStatus, event: jobs.Event) -> None:
    before = attrs.evolve(JOB, status=status)
    if type(event) in TRANSITIONS[status]:
        after = step(before, event, now=5.0)
        assert after.status is TRANSITIONS[status][type(event)]
        assert after.revision == before.revision + 1
        assert after.updated_at == 5.0
    else:
        with pytest.raises(IllegalTransition) as caught:
            step(before, event, now=5.0)
        assert caught.value.status == status.value
        assert before == attrs.evolve(JOB, status=status)


def test_final_statuses_are_those_that_nothing_leads_out_of() -> None:
    assert {status for status in JobStatus if not TRANSITIONS[status]} == FINAL
    assert all(status.is_final == (status in FINAL) for status in JobStatus)


def test_every_open_status_can_end_in_each_way() -> None:
    for status in set(JobStatus) - FINAL:
        assert {jobs.Failed, jobs.Quarantined, jobs.Cancelled} <= set(TRANSITIONS[status])


@given(st.lists(st.sampled_from(EVENTS), max_size=30))
def test_a_final_status_is_final_and_revisions_grow_by_one(events: list[jobs.Event]) -> None:
    job, ended_as = JOB, None
    for event in events:
        try:
            moved = step(job, event, now=2.0)
        except IllegalTransition:
            continue
        assert ended_as is None
        assert moved.revision == job.revision + 1
        assert moved.is_ready <= moved.status.can_run
        assert (moved.dispatch is None) or moved.status in {
            JobStatus.WAITING_FOR_WORKER,
            JobStatus.WAITING_FOR_PARALLEL,
        }
        job = moved
        if job.status.is_final:
            ended_as = job.status


def test_time_that_goes_back_does_not_take_the_job_with_it() -> None:
    late = step(JOB, EVENTS[0], now=10.0)
    assert step(late, EVENTS[0], now=3.0).updated_at == 10.0


def test_a_failed_handler_waits_and_then_is_ready_again() -> None:
    failed = step(JOB, jobs.HandlerFailed(retry_at=9.0), now=2.0)
    assert (failed.is_ready, failed.ready_at, failed.handler_failures) == (False, 9.0, 1)
    due = step(failed, jobs.RetryDue(), now=9.0)
    assert (due.is_ready, due.handler_failures) == (True, 1)
    entered = step(due, EVENTS[0], now=9.0)
    assert entered.handler_failures == 0
    assert entered.transitions == 1


def test_a_dispatch_is_named_after_the_revision_that_made_it() -> None:
    waiting = step(JOB, jobs.TaskDispatched(state_history={}), now=2.0)
    assert waiting.dispatch == waiting.revision == 2
