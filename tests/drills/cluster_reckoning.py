"""What has come of the drill of a cluster: the storage's account against all others.

It does no I/O.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs
from tests.drills.cluster_load import result_of, tasks_of
from tests.drills.lateness import Firing, Outage, firings, lateness_faults
from tests.e2e.reckoning import Account, Run, attempt_faults, repeats_of

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import HistoryRow
from avtomatika_trio._core.task import Attempt, AttemptStatus


@attrs.define(kw_only=True)
class ClusterReckoning:
    """What the comparison has shown."""

    problems: list[str] = attrs.field(factory=list)
    jobs: Counter[str] = attrs.field(factory=Counter)
    """Jobs that are there, by kind."""
    tasks: int = 0
    attempts: int = 0
    repeats: Counter[str] = attrs.field(factory=Counter)
    """Attempts that were followed by another one, by what became of them."""
    lost: int = 0
    """Accepted jobs that are not there."""
    stuck: int = 0
    """Jobs that have not ended."""
    wrong: int = 0
    """Jobs that have ended in another way than they must."""
    doubled: int = 0
    """Tasks of which more than one result was applied."""
    unanswered: int = 0
    """Jobs that are there though the answer to their submission was lost."""
    fired: list[Firing] = attrs.field(factory=list)
    applied_at: list[float] = attrs.field(factory=list)
    """When results were applied."""
    lost_at: dict[str, list[float]] = attrs.field(factory=lambda: defaultdict(list))
    """When attempts were found to be lost, by worker."""
    seconds: list[float] = attrs.field(factory=list)
    """From the first try to submit to the end, in order."""


def reckon_cluster(
    accounts: Sequence[Account],
    accepted: Mapping[str, float],
    runs: Iterable[Run],
    outages: Sequence[Outage],
    lease_seconds: float,
) -> ClusterReckoning:
    """Compare.

    Args:
        accounts: What is stored.
        accepted: When each job was submitted whose id its submitter was told.
        runs: Of all workers.
        outages: Of the storage.
        lease_seconds: Of a worker.
    """
    it = ClusterReckoning()
    begun: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        begun[run.task_id][run.wire_id] += 1
    stored = {account.job.id for account in accounts}
    lost = accepted.keys() - stored
    it.problems += (f"job {job_id} was accepted and is lost" for job_id in lost)
    it.lost, it.unanswered = len(lost), len(stored - accepted.keys())
    for account in accounts:
        _count(it, account, begun)
        job = account.job
        it.seconds.append(job.updated_at - accepted.get(job.id, job.created_at))
    it.problems += (f"task {task_id} was begun, but nobody knows it" for task_id in begun)
    it.problems += lateness_faults(it.fired, outages, lease_seconds)
    it.seconds.sort()
    return it


def _count(it: ClusterReckoning, account: Account, begun: dict[str, Counter[str]]) -> None:
    job = account.job
    data = job.initial_data
    it.jobs[data["kind"]] += 1
    it.fired += firings(data, account.rows)
    it.attempts += len(account.attempts)
    stuck, wrong = not job.status.is_final, job.result != result_of(data)
    it.stuck += stuck
    it.wrong += wrong and not stuck
    if stuck or wrong or job.status is not JobStatus.FINISHED:
        how = f"is {job.status.value} in state {job.state!r} with {job.result}, {job.error}"
        it.problems.append(
            f"job {job.id} ({data['kind']}) {how}; it must end with {result_of(data)}"
        )
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    rows: dict[str, list[HistoryRow]] = defaultdict(list)
    for attempt in account.attempts:
        attempts[attempt.task_id].append(attempt)
    for row in account.rows:
        if row.task_id is not None:
            rows[row.task_id].append(row)
        if row.type == "task_finished":
            it.applied_at.append(row.at)
        elif row.type == "attempt_lost":
            it.lost_at[str(row.worker_id)].append(row.at)
    it.tasks += len(rows)
    if not stuck and len(rows) != tasks_of(data):
        it.problems.append(f"job {job.id} has {len(rows)} tasks, not {tasks_of(data)}")
    for task_id, own in rows.items():
        it.repeats.update(repeats_of(own))
        faults = [*_ended_once(it, attempts[task_id], own, must_end=not stuck)]
        faults += attempt_faults(attempts[task_id], own, begun.pop(task_id, Counter()))
        it.problems += (f"task {task_id}: {fault}" for fault in faults)


def _ended_once(
    it: ClusterReckoning, attempts: Sequence[Attempt], rows: Sequence[HistoryRow], *, must_end: bool
) -> Iterator[str]:
    succeeded = sum(attempt.status is AttemptStatus.SUCCEEDED for attempt in attempts)
    ended = sum(row.type == "task_finished" for row in rows)
    if max(succeeded, ended) > 1:
        it.doubled += 1
        yield f"{succeeded} attempts have succeeded, {ended} results were applied"
    if must_end and ended == 0:
        yield "it has no end, though its job has one"
