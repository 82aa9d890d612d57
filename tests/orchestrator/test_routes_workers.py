"""What workers say reaches the rules: heartbeats and returns over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from tests.orchestrator.clients import Worker, make_context, open_client
from trio.testing import MockClock, wait_all_tasks_blocked

from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._engine import run_engine


@pytest.fixture
async def context() -> Context:
    return make_context()


@pytest.fixture
async def client(context: Context) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(context) as client:
        yield client


async def beat(worker: Worker, **said: Any) -> dict[str, Any]:
    """A heartbeat that holds nothing, unless it says otherwise."""
    said = {"instance": worker.instance, "beat": 1, "current_tasks": [], **said}
    answer = await worker._send("PATCH", f"/_worker/workers/{worker.worker_id}", said)
    return dict(answer.json())


async def twin_of(client: httpx.AsyncClient, instance: str = "twin") -> Worker:
    worker = Worker(client)
    worker.instance = instance
    await worker.register("scale")
    return worker


async def test_a_successor_is_told_which_instances_it_need_not_name_again(
    client: httpx.AsyncClient,
) -> None:
    first = await twin_of(client, "first")
    second = await twin_of(client, "second")
    answer = await beat(second, replaces=["first", "unheard-of"])
    assert answer["replaced"] == ["first", "unheard-of"]
    assert await first.take() == []


async def test_a_twin_that_was_declared_dead_is_named_in_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    first = await twin_of(client, "first")
    second = await twin_of(client, "second")
    await beat(second, replaces=["first"])
    caplog.clear()
    await beat(first, beat=2)
    assert "instance first of worker w1 is alive, though second said" in caplog.text


async def test_two_processes_under_one_worker_id_are_reported(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    await beat(await twin_of(client, "first"))
    assert "WORKER_ID" not in caplog.text
    await beat(await twin_of(client, "second"))
    assert "worker id 'w1' is used by second and first" in caplog.text


async def submit(client: httpx.AsyncClient) -> str:
    """A job whose task is queued as soon as an engine has run its first step."""
    answer = await client.post("/api/v1/jobs/resize", json={"initial_data": {}})
    answer.raise_for_status()
    return str(answer.json()["job_id"])


async def test_a_worker_whose_loop_is_blocked_is_given_nothing_until_it_turns_again(
    client: httpx.AsyncClient, context: Context, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        await submit(client)
        await wait_all_tasks_blocked()
        worker = await twin_of(client)
        await beat(worker, loop_blocked_seconds=11)
        assert await worker.take() == []
        await beat(worker, beat=2, last_poll=1)
        assert len(await worker.take()) == 1
        nursery.cancel_scope.cancel()


async def test_what_is_returned_unstarted_is_told_from_what_was_begun(
    client: httpx.AsyncClient, context: Context, autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        job_id = await submit(client)
        await wait_all_tasks_blocked()
        worker = await twin_of(client)
        for begun in (True, False):
            [task] = await worker.take()
            task_ids = [task["task_id"]]
            said = {"task_ids": task_ids, "unstarted": [] if begun else task_ids}
            answer = await worker._send("POST", "/_worker/tasks/return", said)
            assert answer.json() == {"status": "returned", "count": 1}
            [stored] = await context.storage.tasks(job_id)
            assert stored.returned == 1
        nursery.cancel_scope.cancel()
