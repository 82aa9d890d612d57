"""What a worker or a failing disk may do to an orchestrator, and what it must not do to jobs."""

import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import msgspec
import pytest
import trio
from tests.orchestrator.clients import EPOCH, WORKER_TOKEN, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio import ActionFactory, Blueprint
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.storage import MemoryStorage

_NESTED = re.compile(r'"nested:(\d+)"')


def nested(levels: int) -> str:
    """Stands for so many lists in each other; the encoder could not make as many."""
    return f"nested:{levels}"


def as_json(said: Any) -> bytes:
    text = json.dumps(said)
    return _NESTED.sub(lambda it: "[" * int(it[1]) + "]" * int(it[1]), text).encode()


@asynccontextmanager
async def running(context: Context) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an orchestrator whose engine runs."""
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        yield client
        nursery.cancel_scope.cancel()


async def send(
    client: httpx.AsyncClient, method: str, path: str, worker_id: str, said: Any = None
) -> httpx.Response:
    headers = {"X-Worker-Token": WORKER_TOKEN, "X-Worker-ID": worker_id}
    body = b"" if said is None else as_json(said)
    return await client.request(method, f"/_worker/{path}", content=body, headers=headers)


async def register(
    client: httpx.AsyncClient, worker_id: str, instance: str, **more: Any
) -> httpx.Response:
    said = {
        "worker_id": worker_id,
        "instance": instance,
        "supported_skills": [{"name": "scale"}],
        **more,
    }
    return await send(client, "POST", "workers/register", worker_id, said)


async def take(client: httpx.AsyncClient, worker_id: str, instance: str) -> dict[str, Any]:
    query = f"instance={instance}&poll=1&max_tasks=1&timeout=1"
    answer = await send(client, "GET", f"workers/{worker_id}/tasks/next?{query}", worker_id)
    [task] = answer.json()["tasks"]
    assert isinstance(task, dict)
    return task


async def submit(client: httpx.AsyncClient) -> str:
    answer = await client.post("/api/v1/jobs/resize", json={"initial_data": {}})
    return str(answer.json()["job_id"])


async def test_a_worker_cannot_register_the_instance_of_another_worker(
    autojump_clock: MockClock,
) -> None:
    async with running(make_context()) as client:
        await register(client, "w1", "i1")
        await submit(client)
        task = await take(client, "w1", "i1")
        assert (await register(client, "w2", "i1")).status_code == 403
        assert (await register(client, "w2", "foreign/w3")).status_code == 200
        beat = {"instance": "i1", "beat": 1, "last_poll": 1, "current_tasks": [task["task_id"]]}
        answer = await send(client, "PATCH", "workers/w1", "w1", beat)
        assert (answer.status_code, answer.json()["cancel_task_ids"]) == (200, [])


@pytest.mark.parametrize("listed", [False, True])
async def test_a_result_that_could_not_be_read_again_is_refused_for_good(
    autojump_clock: MockClock, listed: bool
) -> None:
    context = make_context()
    async with running(context) as client:
        await register(client, "w1", "i1")
        job_id = await submit(client)
        task = await take(client, "w1", "i1")
        for levels in (250, 500, 900, 940, 960, 980):
            said: Any = {"job_id": job_id, "task_id": task["task_id"], "data": nested(levels)}
            body = [said] if listed else said
            answer = await send(client, "POST", "tasks/result", "w1", body)
            assert answer.status_code == 400, levels
            assert "nested too deeply" in answer.text
        said = {"job_id": job_id, "task_id": task["task_id"], "data": nested(190)}
        answer = await send(client, "POST", "tasks/result", "w1", [said] if listed else said)
        assert answer.status_code == 200
        await trio.sleep(1)
        job = await context.storage.job(job_id)
        assert job is not None
        assert job.status is JobStatus.FINISHED


async def test_a_registration_that_could_not_be_read_again_is_refused(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    async with running(context) as client:
        for levels in (250, 900, 960):
            answer = await register(client, "w1", "i1", metadata={"deep": nested(levels)})
            assert answer.status_code == 400, levels
        assert await context.storage.instances() == []


async def test_a_heartbeat_names_only_so_many_open_polls_as_can_be_looked_through(
    autojump_clock: MockClock,
) -> None:
    async with running(make_context()) as client:
        await register(client, "w1", "i1")
        for count, status in ((1000, 200), (1001, 400)):
            beat = {"instance": "i1", "beat": count, "open_polls": list(range(count))}
            answer = await send(client, "PATCH", "workers/w1", "w1", beat)
            assert answer.status_code == status, answer.text


class _FailsAtFirst(MemoryStorage):
    """A storage whose first claims find the disk failing."""

    claims = 0

    async def claim_ready(self, owner: str, *, most: int, lease_seconds: float) -> Sequence[Job]:
        self.claims += 1
        if self.claims <= 3:
            await trio.lowlevel.checkpoint()
            raise StorageUnavailable("disk I/O error")
        return await super().claim_ready(owner, most=most, lease_seconds=lease_seconds)


async def test_the_engine_outlives_a_storage_that_cannot_tell_which_jobs_are_ready(
    autojump_clock: MockClock,
) -> None:
    storage = _FailsAtFirst(now=lambda: EPOCH + trio.current_time())
    async with running(make_context(storage)) as client:
        answer = await client.post("/api/v1/jobs/walk", json={"initial_data": {}})
        await trio.sleep(10)
        job = await storage.job(answer.json()["job_id"])
        assert job is not None
        assert job.status is JobStatus.FINISHED


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("and so on")


def deadly() -> Blueprint:
    """One way for each thing that a handler may raise."""
    blueprint = Blueprint("deadly")

    @blueprint.handler(is_start=True)
    async def start(actions: ActionFactory, how: str) -> None:
        match how:
            case "exit":
                sys.exit(3)
            case "group":
                raise BaseExceptionGroup("several", [SystemExit(3), ValueError("bad")])
            case "speechless":
                raise Speechless
            case "no unicode":
                raise FileNotFoundError("caf\udce9")
            case _:
                actions.go_to("end")

    @blueprint.handler(is_end=True)
    async def end() -> None:
        return None

    return blueprint


@pytest.mark.parametrize("how", ["exit", "group", "speechless", "no unicode"])
async def test_whatever_a_handler_raises_ends_its_job_and_not_the_orchestrator(
    autojump_clock: MockClock, how: str
) -> None:
    context = attrs.evolve(make_context(), blueprints=Blueprints([deadly()]))
    async with running(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_janitor, context)
        found = []
        for each in (how, "well"):
            answer = await client.post("/api/v1/jobs/deadly", json={"initial_data": {"how": each}})
            found.append(answer.json()["job_id"])
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    jobs = [await context.storage.job(job_id) for job_id in found]
    assert [job.status for job in jobs if job is not None] == [
        JobStatus.QUARANTINED,
        JobStatus.FINISHED,
    ]
    assert msgspec.json.encode(jobs)  # as a storage does
