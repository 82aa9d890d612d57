"""What is measured is what has happened, and nobody from outside adds labels."""

from typing import Any

import attrs
import httpx
import trio
from prometheus_client.parser import text_string_to_metric_families
from tests.orchestrator.clients import (
    WORKER_TOKEN,
    Worker,
    http_scope,
    let_in,
    make_context,
    open_client,
)
from trio.testing import MockClock

from avtomatika_trio._core.access import Role
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._counted_storage import counted
from avtomatika_trio.orchestrator._engine import run_engine


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
    told = context.metrics.as_text().decode().splitlines()
    # The request for them counts once it is answered.
    assert set(told) - set(answer.text.splitlines()) == {
        it for it in told if "http_requests" in it and "/_public/metrics" in it
    }
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


async def test_the_bodies_of_tasks_and_results_are_measured(autojump_clock: MockClock) -> None:
    context = measured()
    answers: list[httpx.Response] = []

    async def note(answer: httpx.Response) -> None:
        await answer.aread()
        answers.append(answer)

    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        client.event_hooks["response"] = [note]
        await client.post("/api/v1/jobs/resize", json=[{}, {}])
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        first, second = await worker.take()
        await worker.report(first, data={"text": "x" * 1000})
        await client.post("/api/v1/jobs/resize")
        await trio.sleep(1)
        asking = f"instance={worker.instance}&poll=2&max_tasks=1"
        said = {"job_id": second["job_id"], "task_id": second["task_id"], "status": "success"}
        path = f"/_worker/tasks/result?{asking}"
        headers = {"X-Worker-Token": worker.token, "X-Worker-ID": worker.worker_id}
        both = await client.post(path, json=[said], headers=headers)
        assert len(both.json()["tasks"]) == 1
        worker.polls = 2
        assert await worker.take() == []  # an answer without tasks is none with tasks
        nursery.cancel_scope.cancel()
    results = [it.request.content for it in answers if it.url.path == "/_worker/tasks/result"]
    [tasks, nothing] = [it.content for it in answers if it.url.path.endswith("/tasks/next")]
    found = samples(context)
    assert nothing == b""
    assert found["payload_bytes_count", "in"] == len(results) == 2
    assert found["payload_bytes_sum", "in"] == sum(map(len, results))
    assert found["payload_bytes_count", "out"] == 2
    assert found["payload_bytes_sum", "out"] == len(tasks) + len(both.content)


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
        other = Worker(client, "w2")
        await other.register("scale")
        await other.report(task)
        nursery.cancel_scope.cancel()
    found = samples(context)
    assert found["results_rejected_total", "job_already_terminated"] == 1
    assert found["results_rejected_total", "job_not_found"] == 3
    assert found["results_rejected_total", "worker_mismatch"] == 1
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
    assert new == {
        ("results_rejected_total", "job_not_found"),
        ("http_requests_total", "GET", "unmatched", "404"),
        ("http_requests_total", "other", "unmatched", "404"),
        ("http_requests_total", "POST", "/api/v1/jobs/{name}", "404"),
        ("http_requests_total", "POST", "/_worker/workers/register", "200"),
        ("http_requests_total", "POST", "/_worker/tasks/result", "200"),
    }


async def test_two_orchestrators_in_a_process_count_apart() -> None:
    one, other = measured(), measured()
    async with open_client(one) as client:
        await client.post("/api/v1/jobs/walk")
    assert samples(one)["jobs_submitted_total", "walk"] == 1
    assert ("jobs_submitted_total", "walk") not in samples(other)


# Requests.


async def test_requests_are_counted_by_the_template_of_their_route(
    autojump_clock: MockClock,
) -> None:
    context = measured()
    async with open_client(context) as client:
        job_id = (await client.post("/api/v1/jobs/pictures")).json()["job_id"]
        await client.post(f"/api/v2/jobs/{job_id}/cancel")
        for prefix in ("/api", "/api/v1", "/api/v2"):
            await client.get(f"{prefix}/jobs/{job_id}")
        await client.head(f"/api/jobs/{job_id}")
        await client.get(f"/api/jobs/{job_id}/events")
        await client.get(f"/api/jobs/{job_id}/files/download/a/b?c=d")
        await client.put(f"/api/jobs/{job_id}/files/content/a/b")
        await client.get("/_worker/workers/w9/tasks/next?timeout=0")
        await client.get("/livez")
        await client.delete("/livez")
    job, files = "/api/v1/jobs/{job_id}", "/api/v1/jobs/{job_id}/files"
    assert requests(context) == {
        ("POST", "/api/v1/jobs/pictures", "202"): 1,
        ("POST", f"{job}/cancel", "200"): 1,
        ("GET", job, "200"): 3,
        ("HEAD", job, "200"): 1,
        ("GET", f"{job}/events", "200"): 1,
        ("GET", f"{files}/download/{{name}}", "501"): 1,
        ("PUT", f"{files}/content/{{name}}", "409"): 1,
        ("GET", "/_worker/workers/{worker_id}/tasks/next", "403"): 1,
        ("GET", "/livez", "200"): 1,
        ("DELETE", "unmatched", "405"): 1,
    }


async def test_a_request_whose_client_has_gone_is_counted_as_unanswered() -> None:
    context = measured()
    headers = [
        (b"host", b"o"),
        (b"x-worker-token", WORKER_TOKEN.encode()),
        (b"x-worker-id", b"w1"),
    ]
    messages: list[Any] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"", "more_body": False},
    ]

    async def receive() -> Any:
        return messages.pop() if len(messages) > 1 else messages[0]

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = http_scope("GET", "/_worker/workers/w1/tasks/next", headers=headers)
    await create_app(context)(scope, receive, send)
    assert requests(context) == {("GET", "/_worker/workers/{worker_id}/tasks/next", "none"): 1}


async def test_who_was_refused_for_what_they_showed_is_counted_by_kind(
    autojump_clock: MockClock,
) -> None:
    context = measured()
    await let_in(context, "me", roles=(Role.VIEWER,))
    worker = {"X-Worker-Token": WORKER_TOKEN, "X-Worker-ID": "w1"}
    other = {"worker_id": "w2", "supported_skills": []}
    async with open_client(context, token="token-of-me") as client:
        await client.get("/api/v1/jobs")
        await client.get("/api/v1/jobs/nobodys")
        await client.post("/api/v1/jobs/walk")
        await client.get("/api/v1/jobs", headers={"X-Client-Token": "wrong"})
        await client.get("/api/v1/jobs/x/events", headers={"X-Client-Token": "wrong"})
        await client.post("/_worker/tasks/result", headers={**worker, "X-Worker-Token": "wrong"})
        await client.post("/_worker/workers/register", json=other, headers=worker)
    found = {key[1]: it for key, it in samples(context).items() if key[0] == "auth_failures_total"}
    assert found == {"role": 1, "client": 2, "worker": 2}


def requests(context: Context) -> dict[tuple[str, ...], float]:
    """Method, route and status -> how many."""
    counters = samples(context).items()
    return {key[1:]: it for key, it in counters if key[0] == "http_requests_total"}
