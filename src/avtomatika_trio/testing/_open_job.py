"""Why a job has not ended, for the message of a test that has waited for it."""

from collections.abc import Collection, Iterator, Sequence

from avtomatika_trio._core.arguments import did_you_mean
from avtomatika_trio.client import HistoryEvent, Job, TaskInfo
from avtomatika_trio.testing._ended_job import told

#: What is said of a task, by its status.
_REASONS = {
    "leased": "its handler has not returned",
    "retrying": "it is tried again later; wait longer, with timeout_seconds",
    "waiting": "it waits for other branches to end: see max_concurrency",
}


def not_ended(
    job: Job,
    tasks: Sequence[TaskInfo],
    history: Sequence[HistoryEvent],
    *,
    skills: Collection[str],
    seconds: float,
) -> str:
    """What *job* waits for, and what has happened to it.

    Args:
        job: As it is.
        tasks: Its tasks.
        history: Of it.
        skills: What the workers can do.
        seconds: How long it was waited for.
    """
    head = f"job {job.id} of {job.blueprint_name} is {job.status} in state {job.state!r}"
    lines = [f"{head} after {seconds:g} s", *_reasons(job, tasks, skills), *told(history)]
    return "\n".join(lines)


def _reasons(job: Job, tasks: Sequence[TaskInfo], skills: Collection[str]) -> Iterator[str]:
    open_tasks = [task for task in tasks if not task.result_status]
    for task in open_tasks:
        attempt = f" (attempt {len(task.attempts)})" if task.attempts else ""
        yield f"  task {task.skill!r} is {task.status}{attempt}: {_reason(task, skills)}"
    if job.status == "waiting_for_human":
        yield "  a person must decide"
    elif not open_tasks:
        yield "  no task is open: its handlers take long, or are tried again; see timeout_seconds"


def _reason(task: TaskInfo, skills: Collection[str]) -> str:
    if task.status != "queued":
        return _REASONS.get(task.status, "it is not done")
    if task.skill in skills:
        return "the workers that have this skill are busy, or have no room for it"
    return (
        f"no worker has this skill; give skills={{{task.skill!r}: ...}}, or a worker that has it;"
        f" {did_you_mean(task.skill, sorted(skills))}"
    )
