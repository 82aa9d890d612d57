"""`POST /_worker/events`: what is answered to it, and who sees what came of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpx
import trio
from tests.orchestrator.clients import WORKER_TOKEN, Worker, make_context, open_client
from tests.orchestrator.test_job_events import open_stream, running, submit
from trio.testing import MockClock

from avtomatika_trio.orchestrator._context import Context

ACCEPTED = {"status": "event_accepted"}
SCHEMA = {"frame": {"properties": {"n": {"type": "integer"}}}, "note": {}}


@attrs.define
class Desk:
    """A worker with a task in hand, and a client that looks at its job."""

    context: Context
    client: httpx.AsyncClient
    worker: Worker
    task: dict[str, Any]

    def event(self, number: int | None, event_type: str = "note", **more: Any) -> dict[str, Any]:
        said = {
            "event_id": f"e{number}",
            "worker_id": "w1",
            "origin_worker_id": "w1",
            "event_type": event_type,
            "payload": {"n": number},
            "target_task_id": self.task["task_id"],
            "target_job_id": self.task["job_id"],
            **more,
        }
        return said if number is None else {**said, "number": number}

    async def post(self, said: Any, *, worker_id: str = "w1") -> httpx.Response:
        headers = {"X-Worker-Token": WORKER_TOKEN, "X-Worker-ID": worker_id}
        return await self.client.post("/_worker/events", json=said, headers=headers)

    async def noted(self) -> list[dict[str, Any]]:
        """The rows of its history that are events of workers."""
        answer = await self.client.get(f"/api/v1/jobs/{self.task['job_id']}/history")
        return [row for row in answer.json() if row["event_type"] == "worker_event"]


@asynccontextmanager
async def at_work() -> AsyncIterator[Desk]:
    context = make_context()
    async with running(context), open_client(context) as client:
        await submit(context, "resize", size=3)
        worker = Worker(client)
        await worker.register(supported_skills=[{"name": "scale", "events_schema": SCHEMA}])
        await trio.sleep(1)
        (task,) = await worker.take()
        yield Desk(context, client, worker, task)


async def test_an_event_is_in_the_history(autojump_clock: MockClock) -> None:
    async with at_work() as desk:
        answer = await desk.post(desk.event(1, payload={"text": "hello"}))
        assert (answer.status_code, answer.json()) == (200, ACCEPTED)
        [row] = await desk.noted()
    assert row["details"] == {"type": "note", "payload": {"text": "hello"}}
    assert (row["attempt"], row["worker_id"], row["state"]) == (1, "w1", "start")
    assert row["task_id"] == desk.task["idempotency_key"]


async def test_a_list_of_events_is_answered_one_by_one_and_in_order(
    autojump_clock: MockClock,
) -> None:
    async with at_work() as desk:
        said = [
            desk.event(1),
            desk.event(2, "frame", payload={"n": "two"}),
            desk.event(None, "progress", payload={"progress": 0.5, "message": "half"}),
            desk.event(3, "unknown"),
            desk.event(4, target_task_id="nobodys"),
            desk.event(5),
            desk.event(1),
        ]
        answer = await desk.post(said)
        told = answer.json()["results"]
        job = (await desk.client.get(f"/api/v1/jobs/{desk.task['job_id']}")).json()
        assert [it["status"] for it in told] == [
            "event_accepted",
            "error",
            "event_accepted",
            "error",
            "ignored",
            "event_accepted",
            "event_accepted",
        ]
        assert told[1]["code"] == told[3]["code"] == "CONTRACT_VIOLATION_ERROR"
        assert told[4]["reason"] == "stale_task"
        assert [row["details"]["payload"]["n"] for row in await desk.noted()] == [1, 5]
    [progress] = job["progress"]
    assert (progress["progress"], progress["message"]) == (0.5, "half")


async def test_the_task_may_be_named_as_the_origin_and_has_to_be_named(
    autojump_clock: MockClock,
) -> None:
    async with at_work() as desk:
        said = desk.event(1, target_task_id=None, origin_task_id=desk.task["task_id"])
        assert (await desk.post(said)).json() == ACCEPTED
        answer = await desk.post(desk.event(2, target_task_id=None))
        assert (answer.status_code, answer.json()["reason"]) == (200, "no_task")
        assert "target_task_id" in answer.json()["message"]
        answer = await desk.post(desk.event(2, target_task_id="", origin_task_id=""))
        assert answer.json()["reason"] == "no_task"
        assert len(await desk.noted()) == 1


async def test_what_is_malformed_is_told_as_rxon_tells_it(autojump_clock: MockClock) -> None:
    async with at_work() as desk:
        wrong = [
            {"event_type": "note"},
            desk.event(1, payload=[1]),
            desk.event(0),
            desk.event(1, event_id=""),
            desk.event(1, event_id="e" * 201),
            desk.event(1, target_task_id="t" * 201),
            [desk.event(1), {"event_type": "note"}],
            [desk.event(1)] * 101,
            "text",
        ]
        for said in wrong:
            answer = await desk.post(said)
            assert answer.status_code == 200, said
            assert answer.json()["status"] == "error"
            assert answer.json()["message"].startswith("Invalid event payload: $")
        assert await desk.noted() == []
        assert (await desk.post([])).json() == {"results": []}


async def test_nobody_speaks_for_another_worker(autojump_clock: MockClock) -> None:
    async with at_work() as desk:
        answer = await desk.post([desk.event(1), desk.event(2, worker_id="w2")])
        assert answer.status_code == 403
        theirs = desk.event(1, worker_id="w2", origin_worker_id="w2")
        answer = await desk.post(theirs, worker_id="w2")
        assert answer.json()["reason"] == "worker_mismatch"
        assert await desk.noted() == []


async def test_events_are_announced(autojump_clock: MockClock) -> None:
    async with at_work() as desk:
        headers = {"X-Worker-Token": WORKER_TOKEN, "X-Worker-ID": "w9"}
        said = {"worker_id": "w9", "instance": "i9", "supported_skills": [{"name": "scale"}]}
        answer = await desk.client.post("/_worker/workers/register", json=said, headers=headers)
        assert "events" in answer.json()["extensions"]


async def test_an_event_is_in_the_stream_of_its_job_at_once(autojump_clock: MockClock) -> None:
    async with at_work() as desk, open_stream(desk.context, desk.task["job_id"]) as reader:
        assert reader.kinds[-1] == "attempt_leased"
        await desk.post([desk.event(1), desk.event(2)])
        await trio.sleep(0.001)
        assert reader.kinds[-3:] == ["attempt_leased", "worker_event", "worker_event"]
        assert [event.data for event in reader.events[-2:]] == await desk.noted()
        await desk.post(desk.event(2))  # sent again: nothing is told twice
        carried = [
            {"event_id": "e3", "number": 3, "event_type": "note", "payload": {"n": 3}},
        ]
        await desk.worker.report(desk.task, data={"size": 3}, events=carried, events_lost=2)
        await trio.sleep(0.1)
        assert [it for it in reader.kinds if it.startswith("worker")] == [
            *["worker_event"] * 3,
            "worker_events_lost",
        ]
        assert reader.kinds[-1] == "end"
