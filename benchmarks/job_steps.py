"""The steps of a job's life as operations, for the benchmarks of core and storage."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from avtomatika_trio._core import dispatch, lease, results, steps
from avtomatika_trio._core.actions import DispatchTask, TaskSpec
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import InstanceKind, Ledger
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import TaskResult

Operation = Callable[[Ledger], Any]

#: Commits of a job from its submission to its end.
STEPS_PER_JOB = 5

#: Some 600 bytes of what a client sends.
DATA = {"video": "s3://bucket/input.mp4", "options": [{"name": f"o{n}", "n": n} for n in range(20)]}

_RULES = Rules()


@cache
def _spec(skill: str) -> TaskSpec:
    return TaskSpec(
        skill=skill, params=DATA, transitions={"success": "end"}, timeout_seconds=3600.0
    )


def register(instance: str) -> Operation:
    """A worker process says who it is."""
    said = lease.Registration(
        worker_id="w",
        instance=instance,
        kind=InstanceKind.OURS,
        skills=("noop",),
        interval_seconds=10.0,
        said={},
    )
    return partial(lease.register, said=said, rules=_RULES)


def submit(job_id: str) -> Operation:
    """A client posts a job."""
    order = steps.NewJob(
        id=job_id,
        blueprint="bench",
        client="c",
        start="start",
        initial_data=DATA,
        max_transitions=100,
    )
    return partial(steps.submit, new=[order])


def dispatch_task(job_id: str, skill: str = "noop") -> Operation:
    """The first state's handler chose `dispatch_task`."""
    return partial(_advance, job_id, steps.Chose(action=DispatchTask(spec=_spec(skill))))


def hand_out(instance: str, poll: int, wire_id: str) -> Operation:
    """A worker takes one task, whichever is first."""
    offer = dispatch.Offer(instance=instance, poll=poll, skills=("noop",), most=1)
    return partial(dispatch.hand_out, offer=offer, wire_ids=[wire_id], rules=_RULES)


def report(wire_id: str, job_id: str) -> Operation:
    """The worker reports success."""
    result = TaskResult(status="success", data={"url": "s3://bucket/output.mp4"})
    said = results.Report(worker_id="w", wire_id=wire_id, job_id=job_id, result=result)
    return partial(results.report, said=said, rules=_RULES, noise=0.0)


def finish(job_id: str) -> Operation:
    """The end state's handler has returned."""
    return partial(_advance, job_id, steps.ReachedEnd(outcome="finished", returned={"ok": True}))


def _advance(job_id: str, decision: steps.Decision, ledger: Ledger) -> None:
    job = ledger.job(job_id)
    assert isinstance(job, Job)
    steps.advance(ledger, job, job.state_history, decision, _RULES, 0.0)
