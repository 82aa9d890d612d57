"""What the tests of the cluster share: a blueprint, a workshop that keeps a diary, and the
check that nothing is wrong at the end.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from avtomatika_trio import ActionFactory, Blueprint
from avtomatika_trio._core.task import Attempt
from avtomatika_trio.testing import Cluster, StreamNetwork, WorkerMachine, calls, open_cluster
from avtomatika_trio.testing.invariants import ENDED_WITHOUT_OUTCOME
from avtomatika_trio.worker import Worker

#: How many each storage has, if a test does not say.
PARTITIONS = 1

LEASE = 30.0
BEAT = 10.0

REGISTER = calls("POST", "/_worker/workers/register")
HEARTBEAT = calls("PATCH", "/_worker/workers/*")
POLL = calls("GET", "/_worker/workers/*/tasks/next")
RESULT = calls("POST", "/_worker/tasks/result")
RETURN = calls("POST", "/_worker/tasks/return")

one = Blueprint("one")


@one.handler("start", is_start=True)
async def _start(actions: ActionFactory, initial_data: dict[str, Any]) -> None:
    actions.dispatch_task("work", initial_data, {"success": "done"})


@one.handler("done", is_end=True)
async def _done(answer: Any) -> Any:
    return answer


many = Blueprint("many")


@many.handler("start", is_start=True)
async def _start_many(actions: ActionFactory, initial_data: dict[str, Any]) -> None:
    branches = [
        {"type": "work", "key": str(n), "params": {**initial_data, "n": n}}
        for n in range(initial_data["branches"])
    ]
    actions.dispatch_parallel(branches, aggregate_into="merge")


@many.aggregator("merge", is_end=True)
async def _merge(aggregation_results: dict[str, Any]) -> list[Any]:
    return [result["data"]["answer"] for result in aggregation_results.values()]


@attrs.define(kw_only=True)
class Run:
    """One run of the handler."""

    worker_id: str
    key: str
    """The task's stable id."""
    task_id: str
    """The attempt's id on the wire."""
    n: int
    began: float
    ended: float | None = None
    how: str = "runs"


@attrs.define
class Workshop:
    """Makes workers of the skill `work`, and keeps a diary of what their handlers do.

    Params: `seconds` it takes (0), and `n`; the answer is ten times `n`.
    """

    runs: list[Run] = attrs.field(factory=list)
    _began: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot, init=False)

    def worker(self, worker_id: str = "w1") -> Worker:
        worker = Worker()

        @worker.skill("work")
        async def work(
            params: dict[str, Any], idempotency_key: str, task_id: str
        ) -> dict[str, Any]:
            run = Run(
                worker_id=worker_id,
                key=idempotency_key,
                task_id=task_id,
                n=params["n"],
                began=trio.current_time(),
            )
            self.runs.append(run)
            self._began.unpark_all()
            try:
                await trio.sleep(params.get("seconds", 0))
                run.how = "done"
            except trio.Cancelled:
                run.how = "cancelled"
                raise
            finally:
                run.ended = trio.current_time()
            return {"answer": params["n"] * 10}

        return worker

    def add_to(self, cluster: Cluster, worker_id: str = "w1", **settings: Any) -> WorkerMachine:
        return cluster.add_worker(self.worker(worker_id), worker_id, **settings)

    async def until(self, count: int) -> None:
        """Return when *count* runs have begun."""
        while len(self.runs) < count:
            await self._began.park()

    def times(self) -> list[int]:
        """How often the handler has begun for each task that it has begun for."""
        return sorted(Counter(run.key for run in self.runs).values())


@asynccontextmanager
async def at_peace(**options: Any) -> AsyncIterator[Cluster]:
    """A cluster in which nothing is wrong at the end; see `open_cluster`.

    Trio draws the order of tasks; here it draws from the seed, too.
    """
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio._core._run._r.seed(options.get("seed", 0))
    streams: StreamNetwork | None = options.get("streams")
    options.setdefault("partitions", PARTITIONS)
    blueprints = options.pop("blueprints", [one, many])
    async with open_cluster(blueprints, **options) as cluster:
        yield cluster
        await cluster.kill_all()
        assert await cluster.violations() == []
        assert [seen for seen in cluster.network.seen if seen.outcome == 500] == []
        if streams is not None:
            assert [it for it in streams.exchanges if it.status == 500] == []


def leased(cluster: Cluster, instance: str) -> list[Attempt]:
    """What is leased to a worker process, in any partition."""
    storage = cluster.storage
    found = [storage.run(lambda it: it.leased(instance), name) for name in storage.partitions]
    return [attempt for some in found for attempt in some]


async def unexplained(cluster: Cluster, shop: Workshop, job_ids: Iterable[str]) -> list[str]:
    """Runs of the handler that the history does not account for; there should be none."""
    return [fault for job_id in job_ids for fault in await _unexplained(cluster, shop, job_id)]


async def _unexplained(cluster: Cluster, shop: Workshop, job_id: str) -> list[str]:
    storage = await cluster.storage_of(job_id)
    rows = [numbered.row for numbered in await storage.history(job_id, limit=100_000)]
    leased = Counter(row.task_id for row in rows if row.type == "attempt_leased")
    ended = Counter(row.task_id for row in rows if row.type in ENDED_WITHOUT_OUTCOME)
    known = {attempt.wire_id for attempt in await storage.attempts(job_id)}
    tasks = {task.id for task in await storage.tasks(job_id)}
    mine = [run for run in shop.runs if run.key in tasks]
    return list(_faults(mine, known, leased, ended))


def _faults(
    runs: list[Run], known: set[str], leased: Counter[str | None], ended: Counter[str | None]
) -> Iterator[str]:
    for wire_id, count in Counter(run.task_id for run in runs).items():
        if count > 1:
            yield f"attempt {wire_id} was run {count} times"
        if wire_id not in known:
            yield f"attempt {wire_id} is not stored"
    for key, count in Counter(run.key for run in runs).items():
        if count > leased[key] or count > 1 + ended[key]:
            yield f"task {key}: {count} runs, {leased[key]} leases, {ended[key]} of them ended"


def waited(shop: Workshop, since: float = 0.0) -> float:
    """How long after *since* the last run began (seconds)."""
    return max(run.began for run in shop.runs) - since


async def results_of(cluster: Cluster, job_ids: Iterable[str]) -> list[Any]:
    return [(await cluster.job(job_id)).result for job_id in job_ids]
