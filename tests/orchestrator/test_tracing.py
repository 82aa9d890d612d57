"""The trace of a request goes with its job: to handlers, tasks and workers."""

from typing import Any

import attrs
import pytest
import trio
from tests.orchestrator.clients import Worker, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio import Blueprint
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._registry import Blueprints

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        (
            {"traceparent": PARENT, "tracestate": "a=1"},
            {"traceparent": PARENT, "tracestate": "a=1"},
        ),
        ({"traceparent": "00-malformed", "tracestate": "a=1"}, {}),
        ({}, {}),
    ],
)
async def test_a_trace_goes_from_the_client_to_handler_and_worker(
    autojump_clock: MockClock, headers: dict[str, str], kept: dict[str, str]
) -> None:
    seen: list[Any] = []
    blueprint = Blueprint("traced")

    @blueprint.handler(is_start=True)
    async def start(actions: Any, tracing_context: Any) -> None:
        seen.append(dict(tracing_context))
        actions.dispatch_task("scale", {}, {"success": "done"})

    @blueprint.handler(is_end=True)
    async def done() -> None:
        pass

    context = attrs.evolve(make_context(), blueprints=Blueprints([blueprint]))
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        answer = await client.post("/api/v1/jobs/traced", headers=headers)
        job_id = answer.json()["job_id"]
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        (task,) = await worker.take()
        assert task["tracing_context"] == kept
        assert seen == [kept]
        job = (await client.get(f"/api/v1/jobs/{job_id}")).json()
        assert job["tracing_context"] == kept
        nursery.cancel_scope.cancel()
