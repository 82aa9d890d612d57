"""What orchestrators have counted is what the history tells, whatever has happened to jobs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from tests.cluster.scene import RESULT, Workshop, at_peace, many, one
from trio.testing import MockClock

from avtomatika_trio import ActionFactory, Blueprint
from avtomatika_trio._core.ledger import HistoryRow
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task
from avtomatika_trio.testing import Cluster, Fault
from avtomatika_trio.worker import PermanentError, TransientError, Worker

mixed = Blueprint("mixed")


@mixed.handler("start", is_start=True)
async def _start(actions: ActionFactory, initial_data: dict[str, Any]) -> None:
    actions.dispatch_task(
        "fickle",
        initial_data,
        {"success": "done"},
        timeout_seconds=initial_data.get("timeout"),
        result_timeout=initial_data.get("result_timeout"),
        retry={"max_retries": 2, "base_seconds": 0.5},
    )


@mixed.handler("done", is_end=True)
async def _done() -> None:
    pass


narrow = Blueprint("narrow")


@narrow.handler("start", is_start=True)
async def _start_narrow(actions: ActionFactory, initial_data: dict[str, Any]) -> None:
    branches = [
        {"type": "fickle", "key": str(n), "params": {"do": word, "seconds": 1}}
        for n, word in enumerate(initial_data["words"])
    ]
    actions.dispatch_parallel(branches, aggregate_into="merge", max_concurrency=3)


@narrow.aggregator("merge", is_end=True)
async def _merge() -> None:
    pass


def fickle() -> Worker:
    """A worker that does what its params say: `do` is `fail`, `break`, `recover` or else."""
    worker = Worker()
    seen = Counter[str]()

    @worker.skill("fickle")
    async def act(params: dict[str, Any], idempotency_key: str) -> None:
        seen[idempotency_key] += 1
        await trio.sleep(params.get("seconds", 0))
        if params.get("do") == "break":
            raise PermanentError("for good")
        if params.get("do") == "fail" or (
            params.get("do") == "recover" and seen[idempotency_key] < 3
        ):
            raise TransientError("for now")

    return worker


@attrs.frozen(kw_only=True)
class Lives:
    """All that is stored of some jobs."""

    rows: list[HistoryRow]
    tasks: dict[str, Task]
    attempts: list[Attempt]
    blueprints: dict[str, str]
    created: dict[str, float]


async def lives_of(cluster: Cluster, job_ids: Iterable[str]) -> Lives:
    storage = cluster.storage
    rows: list[HistoryRow] = []
    tasks: dict[str, Task] = {}
    attempts: list[Attempt] = []
    jobs = [await cluster.job(job_id) for job_id in job_ids]
    for job in jobs:
        rows += [it.row for it in await storage.history(job.id, limit=100_000)]
        tasks |= {task.id: task for task in await storage.tasks(job.id)}
        attempts += await storage.attempts(job.id)
    return Lives(
        rows=rows,
        tasks=tasks,
        attempts=attempts,
        blueprints={job.id: job.blueprint for job in jobs},
        created={job.id: job.created_at for job in jobs},
    )


WITHOUT_OUTCOME = {
    "attempt_failed": "failed",
    "attempt_timed_out": "timed_out",
    "attempt_lost": "lost",
    "attempt_unclaimed": "handed_back",
    "attempt_returned": "handed_back",
}


def ends(lives: Lives) -> Iterator[tuple[str, str, str]]:
    """Skill, outcome and wire id of each end of an attempt, out of the rows.

    Only what is not wanted any more has no row: that is told by the attempt.
    """
    wire_ids = {(it.task_id, it.number): it.wire_id for it in lives.attempts}
    told: set[tuple[str, int]] = set()
    for row in lives.rows:
        if row.task_id is None or row.attempt is None:
            continue
        which = (row.task_id, row.attempt)
        skill = lives.tasks[row.task_id].skill
        if row.type in WITHOUT_OUTCOME:
            told.add(which)
            yield skill, WITHOUT_OUTCOME[row.type], wire_ids[which]
        elif row.type == "task_finished" and not (
            which in told and (row.details or {})["status"] == "failure"
        ):
            is_failure = (row.details or {})["status"] == "failure"
            yield skill, "failed" if is_failure else "succeeded", wire_ids[which]
    for it in lives.attempts:
        if it.status is AttemptStatus.CANCELLED:
            yield lives.tasks[it.task_id].skill, "cancelled", it.wire_id


def derived(lives: Lives) -> dict[tuple[str, ...], float]:
    """What should have been counted."""
    found = Counter[tuple[str, ...]]()
    sums = defaultdict[tuple[str, ...], float](float)
    for row in lives.rows:
        since = row.at - lives.created[row.job_id]
        if row.type == "job_created":
            found["jobs_submitted_total", lives.blueprints[row.job_id]] += 1
        elif row.type.startswith("job_"):
            outcome = row.type.removeprefix("job_")
            found["jobs_finished_total", lives.blueprints[row.job_id], outcome] += 1
            found["job_duration_seconds_count",] += 1
            sums["job_duration_seconds_sum",] += since
        elif row.type == "attempt_leased" and row.attempt == 1:
            found["task_queue_wait_seconds_count",] += 1
            assert row.task_id is not None
            sums["task_queue_wait_seconds_sum",] += row.at - lives.tasks[row.task_id].created_at
        elif row.type == "attempt_lost":
            assert row.details is not None
            found["leases_expired_total",] += "was not heard of" in row.details["reason"]
    for task in lives.tasks.values():
        found["tasks_dispatched_total", task.skill] += 1
    attempts = {it.wire_id: it for it in lives.attempts}
    for skill, outcome, wire_id in ends(lives):
        found["task_attempts_total", outcome, skill] += 1
        if outcome in ("succeeded", "failed", "timed_out"):
            it = attempts[wire_id]
            assert it.ended_at is not None
            found["task_duration_seconds_count", skill] += 1
            sums["task_duration_seconds_sum", skill] += it.ended_at - it.leased_at
    return {**found, **sums}


def measured(cluster: Cluster) -> dict[tuple[str, ...], float]:
    """What all processes have counted together, by name and label values."""
    found = defaultdict[tuple[str, ...], float](float)
    for machine in cluster.orchestrators:
        for metrics in machine.metrics:
            for family in text_string_to_metric_families(metrics.as_text().decode()):
                for sample in family.samples:
                    name = sample.name.removeprefix("avtomatika_")
                    found[name, *sample.labels.values()] += sample.value
    return found


def differences(cluster: Cluster, lives: Lives) -> dict[tuple[str, ...], tuple[float, float]]:
    """Whatever was counted otherwise than the history has it: as counted, and as it is there."""
    counted, wanted = measured(cluster), derived(lives)
    names = {name for name, *_ in wanted}
    same = {key: value for key, value in counted.items() if key[0] in names}
    return {
        key: (same.get(key, 0), wanted.get(key, 0))
        for key in same.keys() | wanted.keys()
        if same.get(key, 0) != pytest.approx(wanted.get(key, 0), abs=1e-3)
    }


JOBS: list[dict[str, Any]] = [
    {},
    {"do": "recover"},
    {"do": "fail", "seconds": 2},
    {"do": "break"},
    {"seconds": 50, "timeout": 5},
    {"seconds": 3000, "result_timeout": 20},
]


@pytest.mark.parametrize("orchestrators", [1, 2])
async def test_what_is_counted_is_what_the_history_tells(
    autojump_clock: MockClock, shop: Workshop, partitions: int, orchestrators: int
) -> None:
    """Branches, retries, timeouts, failures, a cancel, a lost worker and one that leaves."""
    blueprints = [one, many, mixed, narrow]
    async with at_peace(blueprints=blueprints, orchestrators=orchestrators) as cluster:
        await cluster.add_worker(fickle(), "fickle").start()
        doomed = shop.add_to(cluster, "w1", max_concurrent_tasks=2)
        await doomed.start()
        job_ids = await cluster.submit("mixed", *JOBS)
        job_ids += await cluster.submit("narrow", {"words": ["", "recover", "", "", ""]})
        job_ids += await cluster.submit("narrow", {"words": ["recover", "", "break", "", ""]})
        job_ids += await cluster.submit("many", {"branches": 4, "seconds": 20})
        job_ids += await cluster.submit("one", {"n": 1, "seconds": 500})
        await shop.until(2)
        await trio.sleep(1)
        await doomed.kill()
        leaving = shop.add_to(cluster, "w2", shutdown_timeout_seconds=1.0)
        await leaving.start()
        await shop.until(6)
        await leaving.stop()
        await shop.add_to(cluster, "w3").start()
        await shop.until(8)
        await trio.sleep(30)
        await cluster.cancel(job_ids[-1])
        await cluster.wait_until_final(job_ids, seconds=600)
        await trio.sleep(60)

        lives = await lives_of(cluster, job_ids)
        assert differences(cluster, lives) == {}
        seen = {outcome for _, outcome, _ in ends(lives)}
        assert seen == {"succeeded", "failed", "timed_out", "lost", "handed_back", "cancelled"}
        assert measured(cluster)["leases_expired_total",] == 2


async def test_a_result_that_is_sent_again_counts_as_a_duplicate_and_as_nothing_else(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    cluster.network.befall(Fault.LOSE_ANSWER, RESULT, times=3)
    await shop.add_to(cluster).start()

    job_ids = await cluster.submit("one", {"n": 1})
    await cluster.wait_until_final(job_ids, seconds=60)
    await trio.sleep(30)

    counted = measured(cluster)
    assert counted["results_duplicate_total",] == 3
    assert counted["task_attempts_total", "succeeded", "work"] == 1
    assert [key for key in counted if key[0] == "results_rejected_total"] == []


async def test_a_worker_that_says_goodbye_lets_no_lease_expire(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    leaving = shop.add_to(cluster, shutdown_timeout_seconds=1.0)
    await leaving.start()
    [job_id] = await cluster.submit("one", {"n": 1, "seconds": 100})
    await shop.until(1)
    await leaving.stop()
    await trio.sleep(100)
    counted = measured(cluster)
    assert counted["leases_expired_total",] == 0
    assert counted["task_attempts_total", "handed_back", "work"] == 1

    dying = shop.add_to(cluster, "w2")
    await dying.start()
    await shop.until(2)
    await dying.kill()
    await trio.sleep(100)
    counted = measured(cluster)
    assert counted["leases_expired_total",] == 1
    assert counted["task_attempts_total", "lost", "work"] == 1
    await cluster.cancel(job_id)


async def test_what_a_dead_process_held_is_lost_before_its_lease_expires(
    autojump_clock: MockClock, cluster: Cluster, shop: Workshop
) -> None:
    """The next process on the same spool says that it is dead."""
    dying = shop.add_to(cluster)
    await dying.start()
    job_ids = await cluster.submit("one", {"n": 1, "seconds": 5})
    await shop.until(1)
    await dying.kill()
    await dying.start()
    await cluster.wait_until_final(job_ids, seconds=60)

    counted = measured(cluster)
    assert counted["task_attempts_total", "lost", "work"] == 1
    assert counted["leases_expired_total",] == 0
