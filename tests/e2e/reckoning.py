"""What must hold after faults and kills, by accounts that know nothing of each other.

The databases tell what was handed out and what became of it, the workers' notes what was begun,
the submitter what was accepted.  `reckon` compares them; it does no I/O.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import HistoryRow
from avtomatika_trio._core.task import Attempt, AttemptStatus
from avtomatika_trio.storage._base import JobQuery, Storage
from avtomatika_trio.testing.invariants import ENDED_WITHOUT_OUTCOME

_PAGE = 500


@attrs.frozen(kw_only=True)
class Account:
    """What a database knows of a job of one task; see `fixtures/sleep_blueprints.py`."""

    job: Job
    attempts: Sequence[Attempt]
    rows: Sequence[HistoryRow]

    @property
    def n(self) -> int:
        """The number that its submitter gave it."""
        return int(self.job.initial_data["n"])

    @property
    def skill(self) -> str:
        """The skill of its task."""
        return str(self.job.initial_data["skill"])


@attrs.frozen
class Run:
    """An execution that a worker has begun."""

    task_id: str
    wire_id: str
    """Of the attempt."""


@attrs.frozen(kw_only=True)
class Reckoning:
    """What the comparison has shown."""

    problems: Sequence[str]
    """What does not hold, in words; empty when all is well."""
    finished: int
    """Jobs that have finished."""
    lost: int
    """Accepted jobs that have not, or are not there."""
    doubled: int
    """Tasks of which more than one result was applied."""
    unanswered: int
    """Jobs that are there though the answer to their submission was lost."""
    executions: int
    repeats: Mapping[str, int]
    """Attempts that were followed by another one, by what became of them."""
    latencies: Sequence[float]
    """Seconds from submission to the end, of finished jobs, in order."""


async def read_accounts(storage: Storage) -> list[Account]:
    """Everything that is in *storage*, which should be at rest."""
    accounts: list[Account] = []
    before: tuple[float, str] | None = None
    while page := await storage.jobs(JobQuery(before=before, limit=_PAGE)):
        accounts += [
            Account(
                job=job,
                attempts=await storage.attempts(job.id),
                rows=[numbered.row for numbered in await storage.history(job.id)],
            )
            for job in page
        ]
        before = (page[-1].created_at, page[-1].id)
    return accounts


def read_runs(notes: Path) -> list[Run]:
    """The executions of one worker, in the order in which they were begun."""
    if not notes.exists():
        return []
    return [Run(*line.split()) for line in notes.read_text().splitlines()]


def reckon(
    accounts: Iterable[Account], accepted: Collection[str], runs: Sequence[Run]
) -> Reckoning:
    """Compare.

    Args:
        accounts: Of one database, or of several.
        accepted: Ids of their jobs, as the submitter was told them.
        runs: Of all workers.

    What must hold:

    * every accepted job is there and has finished, with its own result, of one success;
    * no attempt was begun twice, and none that was not handed out;
    * the attempt that counts was begun;
    * every attempt beyond a task's first has one before it that ended without an outcome.
    """
    by_id = {account.job.id: account for account in accounts}
    begun: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        begun[run.task_id][run.wire_id] += 1
    problems = [f"job {job_id} is lost" for job_id in accepted if job_id not in by_id]
    repeats: Counter[str] = Counter()
    for account in by_id.values():
        task_ids = {attempt.task_id for attempt in account.attempts}
        noted = sum((begun.pop(task_id, Counter()) for task_id in task_ids), Counter[str]())
        problems += (f"job {account.job.id}: {fault}" for fault in _faults(account, noted))
        repeats.update(repeats_of(account.rows))
    problems += (f"task {task_id} was begun, but nobody knows it" for task_id in begun)
    jobs = {id_: it.job for id_, it in by_id.items() if it.job.status is JobStatus.FINISHED}
    return Reckoning(
        problems=problems,
        finished=len(jobs),
        lost=len(set(accepted) - jobs.keys()),
        doubled=sum(max(_applied(account)) > 1 for account in by_id.values()),
        unanswered=len(by_id.keys() - set(accepted)),
        executions=len(runs),
        repeats=repeats,
        latencies=sorted(job.updated_at - job.created_at for job in jobs.values()),
    )


def _faults(account: Account, begun: Mapping[str, int]) -> Iterator[str]:
    job = account.job
    if job.status is not JobStatus.FINISHED:
        yield f"has not finished: it is {job.status.value}, {job.error}"
    elif job.result != {"n": account.n}:
        yield f"number {account.n} has the result {job.result}"
    succeeded, applied = _applied(account)
    if (succeeded, applied) != (1, 1):
        yield f"{succeeded} attempts have succeeded, {applied} results were applied"
    yield from attempt_faults(account.attempts, account.rows, begun)


def attempt_faults(
    attempts: Sequence[Attempt], rows: Sequence[HistoryRow], begun: Mapping[str, int]
) -> Iterator[str]:
    """What is wrong with the attempts at one task.

    Args:
        attempts: All of them.
        rows: The history of the task.
        begun: How often workers have begun each, by wire id.
    """
    known = {attempt.wire_id for attempt in attempts}
    for wire_id, times in begun.items():
        if times > 1:
            yield f"attempt {wire_id} was begun {times} times"
        if wire_id not in known:
            yield f"attempt {wire_id} was begun, but never handed out"
    for attempt in attempts:
        if attempt.status is AttemptStatus.SUCCEEDED and attempt.wire_id not in begun:
            yield f"attempt {attempt.wire_id} has succeeded, but was never begun"
    leases = sum(row.type == "attempt_leased" for row in rows)
    explained = sum(repeats_of(rows).values())
    if leases > 1 + explained or leases != len(attempts):
        yield (
            f"{len(known)} attempts were handed out in {leases} leases, "
            f"and {explained} endings explain another"
        )


def _applied(account: Account) -> tuple[int, int]:
    """How many attempts have succeeded, and how many results were applied."""
    succeeded = sum(it.status is AttemptStatus.SUCCEEDED for it in account.attempts)
    return succeeded, sum(row.type == "task_finished" for row in account.rows)


def repeats_of(rows: Iterable[HistoryRow]) -> Counter[str]:
    """What became of the attempts of one task that were followed by another."""
    repeats: Counter[str] = Counter()
    ended: HistoryRow | None = None
    for row in rows:
        if row.type in ENDED_WITHOUT_OUTCOME:
            ended = row
        elif row.type == "attempt_retaken":  # its worker is alive after all
            ended = None
        elif row.type == "attempt_leased" and ended is not None:
            details = ended.details or {}
            why = details.get("reason") or (details.get("error") or {}).get("code")
            repeats[f"{ended.type}: {why}"] += 1
            ended = None
    return repeats
