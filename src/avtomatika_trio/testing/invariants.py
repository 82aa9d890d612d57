"""What must hold in every storage at every moment, whatever died.

`find_violations` reads a whole storage and tells what is wrong; it is meant for tests and
drills, after every restart.  The list is the one of the docs' page on guarantees.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial

from avtomatika_trio._core.event_rules import MOST_EVENTS
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Ledger, TimerKind
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task, TaskStatus
from avtomatika_trio.storage._base import JobQuery, NumberedRow, Storage

#: History rows that explain why there may be another attempt.
ENDED_WITHOUT_OUTCOME = frozenset(
    {
        "attempt_lost",
        "attempt_unclaimed",
        "attempt_returned",
        "attempt_failed",
        "attempt_timed_out",
    }
)

_PAGE = 500


async def find_violations(storage: Storage) -> list[str]:
    """Every broken invariant, each with the id of the job; empty when all is well.

    The storage should be at rest: nobody commits between the reads of one job.
    """
    found: list[str] = []
    async for job in _all_jobs(storage):
        tasks = await storage.tasks(job.id)
        attempts = await storage.attempts(job.id)
        rows = await _all_rows(storage, job.id)
        faults = [
            *await storage.commit(partial(_causes, job_id=job.id), storage.partition_of(job.id)),
            *_applied_once(attempts, rows),
            *_history_agrees(job, rows),
            *_every_attempt_explained(rows),
            *_events_in_their_time(rows),
            *_leases_match(tasks, attempts),
        ]
        found += [f"job {job.id} ({job.status.value}): {fault}" for fault in faults]
    return found


async def _all_jobs(storage: Storage) -> AsyncIterator[Job]:
    before: tuple[float, str] | None = None
    while page := await storage.jobs(JobQuery(before=before, limit=_PAGE)):
        for job in page:
            yield job
        before = (page[-1].created_at, page[-1].id)


async def _all_rows(storage: Storage, job_id: str) -> list[NumberedRow]:
    rows: list[NumberedRow] = []
    while page := await storage.history(job_id, after=rows[-1].number if rows else 0):
        rows += page
    return rows


def _causes(ledger: Ledger, job_id: str) -> list[str]:
    """An open job has exactly one cause to move, a final one has none."""
    job = ledger.job(job_id)
    if job is None:
        return ["has gone"]
    tasks = ledger.open_tasks(job_id)
    faults = [fault for task in tasks for fault in _task_can_move(ledger, task)]
    strays = [task.id for task in tasks if task.dispatch != job.dispatch]
    if strays:
        faults.append(f"open tasks of no dispatch that it waits for: {strays}")
    if job.status.can_run and job.ready_at is not None:
        if ledger.timer(TimerKind.JOB_RETRY, job.id) is None:
            faults.append("its handler waits for a retry that no timer will start")
    elif job.status is JobStatus.WAITING_FOR_WORKER and len(tasks) != 1:
        faults.append(f"waits for a worker with {len(tasks)} open tasks")
    elif job.status is JobStatus.WAITING_FOR_PARALLEL:
        fan = None if job.dispatch is None else ledger.fan_out(job.id, job.dispatch)
        if fan is None or not 0 < fan.open == len(tasks):
            faults.append(f"waits for branches: {fan} with {len(tasks)} open tasks")
    if (job.status.can_run or job.status.is_final) and tasks:
        faults.append(f"has open tasks: {[task.id for task in tasks]}")
    return faults


def _task_can_move(ledger: Ledger, task: Task) -> Iterator[str]:
    match task.status:
        case TaskStatus.WAITING:
            fan = ledger.fan_out(task.job_id, task.dispatch)
            if fan is None or task.branch is None or task.branch < fan.released:
                yield f"task {task.id} waits, but nothing will release it"
        case TaskStatus.RETRYING:
            if ledger.timer(TimerKind.RETRY, task.id) is None:
                yield f"task {task.id} waits for a retry that no timer will start"
        case TaskStatus.LEASED:
            attempt = None if task.wire_id is None else ledger.attempt(task.wire_id)
            if attempt is None or attempt.status is not AttemptStatus.LEASED:
                yield f"task {task.id} is leased to an attempt that is not: {attempt}"
            elif ledger.instance(attempt.instance) is None:
                yield f"task {task.id} is leased to an instance that nobody knows"
        case _:
            pass


def _applied_once(attempts: Sequence[Attempt], rows: Sequence[NumberedRow]) -> Iterator[str]:
    succeeded = Counter(a.task_id for a in attempts if a.status is AttemptStatus.SUCCEEDED)
    finished = Counter(r.row.task_id for r in rows if r.row.type == "task_finished")
    for task_id, count in (succeeded + finished).items():
        if succeeded[str(task_id)] > 1 or finished[task_id] > 1:
            yield f"task {task_id}: {count} results were applied"


def _history_agrees(job: Job, rows: Sequence[NumberedRow]) -> Iterator[str]:
    if [row.row.type for row in rows[:1]] != ["job_created"]:
        yield "its history does not begin with job_created"
    steps = [r.row for r in rows if not r.row.type.startswith(("attempt_", "task_finished"))]
    revisions = [row.revision for row in steps]
    if revisions != sorted(revisions) or revisions[-1:] > [job.revision]:
        yield f"the revisions of its history {revisions} do not lead to {job.revision}"
    endings = [row for row in steps if row.type in _ENDINGS]
    if job.status.is_final:
        last = f"job_{job.status.value}"
        if [row.type for row in endings] != [last] or endings[0].revision != job.revision:
            yield f"its history should end once, with {last}: {[row.type for row in endings]}"
    elif endings:
        yield "its history says that it has ended"


_ENDINGS = frozenset(f"job_{status.value}" for status in JobStatus if status.is_final)


def _every_attempt_explained(rows: Sequence[NumberedRow]) -> Iterator[str]:
    open_: dict[str, int] = defaultdict(int)
    for row in (numbered.row for numbered in rows):
        if row.task_id is None:
            continue
        if row.type in ("attempt_leased", "attempt_retaken"):
            open_[row.task_id] += 1
            if open_[row.task_id] > 1:
                yield f"task {row.task_id}: attempt {row.attempt} while another was leased"
        elif row.type in ENDED_WITHOUT_OUTCOME:
            open_[row.task_id] = 0


def _events_in_their_time(rows: Sequence[NumberedRow]) -> Iterator[str]:
    """Events of workers come before the outcome of their task, and are not too many."""
    counts: Counter[tuple[str | None, int | None]] = Counter()
    over: set[str | None] = set()
    has_ended = False
    for row in (numbered.row for numbered in rows):
        if row.type == "task_finished":
            over.add(row.task_id)
        elif row.type in _ENDINGS:
            has_ended = True
        elif row.type == "worker_event":
            counts[row.task_id, row.attempt] += 1
            if has_ended or row.task_id in over:
                yield f"task {row.task_id}: an event of attempt {row.attempt} after the end"
    for (task_id, attempt), count in counts.items():
        if count > MOST_EVENTS:
            yield f"task {task_id}: attempt {attempt} has {count} events"


def _leases_match(tasks: Sequence[Task], attempts: Sequence[Attempt]) -> Iterator[str]:
    leased = {a.wire_id for a in attempts if a.status is AttemptStatus.LEASED}
    held = {task.wire_id for task in tasks if task.status is TaskStatus.LEASED}
    if leased != held:
        yield f"leases without a task or tasks without a lease: {sorted(leased ^ held, key=str)}"
