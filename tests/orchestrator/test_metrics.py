"""What is measured is what has happened, and nobody from outside adds labels."""

import attrs
import trio
from prometheus_client.parser import text_string_to_metric_families
from tests.orchestrator.clients import Worker, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._metrics import counted


def measured() -> Context:
    context = make_context()
    return attrs.evolve(context, storage=counted(context.storage, context.metrics))


def samples(context: Context) -> dict[tuple[str, ...], float]:
    """Name and label values -> value, of all that are no buckets."""
    return {
        (sample.name.removeprefix("avtomatika_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(context.metrics.as_text().decode())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


async def test_what_happens_to_jobs_and_tasks_is_counted(autojump_clock: MockClock) -> None:
    context = measured()
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        await client.post("/api/v1/jobs/walk")
        await client.post("/api/v1/jobs/resize", json=[{}, {}, {}])
        await trio.sleep(10)
        worker = Worker(client)
        await worker.register("scale")
        first, second, third = await worker.take()
        await worker.report(first)
        await worker.report(second, status="failure", error={"code": "PERMANENT_ERROR"})
        await client.post(f"/api/v1/jobs/{third['job_id']}/cancel")
        await worker.report(third)
        await trio.sleep(1)
        answer = await client.get("/_public/metrics")
        nursery.cancel_scope.cancel()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.content == context.metrics.as_text()
    found = samples(context)
    expected = {
        ("jobs_submitted_total", "walk"): 1,
        ("jobs_submitted_total", "resize"): 3,
        ("jobs_finished_total", "walk", "finished"): 1,
        ("jobs_finished_total", "resize", "finished"): 1,
        ("jobs_finished_total", "resize", "quarantined"): 1,
        ("jobs_finished_total", "resize", "cancelled"): 1,
        ("job_duration_seconds_count",): 4,
        ("tasks_dispatched_total", "scale"): 3,
        ("task_attempts_total", "succeeded", "scale"): 1,
        ("task_attempts_total", "failed", "scale"): 1,
        ("task_attempts_total", "cancelled", "scale"): 1,
        ("task_duration_seconds_count", "scale"): 2,
        ("results_duplicate_total",): 0,
        ("leases_expired_total",): 0,
        ("results_rejected_total", "job_already_terminated"): 1,
        ("task_queue_wait_seconds_count",): 3,
        ("step_commit_seconds_count",): 7,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert 29 < found["task_queue_wait_seconds_sum",] < 31


async def test_a_repetition_is_no_second_rejection(autojump_clock: MockClock) -> None:
    """What no attempt can be found for is not remembered, and rejected each time."""
    context = measured()
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        await client.post("/api/v1/jobs/resize")
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        [task] = await worker.take()
        await client.post(f"/api/v1/jobs/{task['job_id']}/cancel")
        for _ in range(3):
            await worker.report(task)
            await worker.report({"job_id": "stranger", "task_id": "stranger"})
        nursery.cancel_scope.cancel()
    found = samples(context)
    assert found["results_rejected_total", "job_already_terminated"] == 1
    assert found["results_rejected_total", "job_not_found"] == 3
    assert found["results_duplicate_total",] == 2


async def test_what_strangers_send_makes_no_labels() -> None:
    context = measured()
    async with open_client(context) as client:
        before = samples(context).keys()
        await client.get("/_public/metrics/x")
        await client.post("/api/v1/jobs/no-such-blueprint")
        await client.request("BREW", "/coffee")
        worker = Worker(client, "w-" + "x" * 50)
        await worker.register("a-skill-of-strangers")
        await worker.report({"job_id": "stranger", "task_id": "stranger"})
    new = samples(context).keys() - before
    assert new == {("results_rejected_total", "job_not_found")}


async def test_two_orchestrators_in_a_process_count_apart() -> None:
    one, other = measured(), measured()
    async with open_client(one) as client:
        await client.post("/api/v1/jobs/walk")
    assert samples(one)["jobs_submitted_total", "walk"] == 1
    assert ("jobs_submitted_total", "walk") not in samples(other)
