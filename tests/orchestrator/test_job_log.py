"""What becomes of a job is in the log, where its trace is found."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio
from tests.orchestrator.clients import Worker, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio import Blueprint
from avtomatika_trio._task_logs import JsonFormatter, TaskContextFilter
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._counted_storage import counted
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.orchestrator._registry import Blueprints

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def traceparent(trace_id: str = TRACE, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-{flags}"}


class Lines(logging.Handler):
    """What a log in JSON would have."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[dict[str, Any]] = []
        self.addFilter(TaskContextFilter())
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(json.loads(self.format(record)))

    def of(self, job_id: str) -> list[dict[str, Any]]:
        return [it for it in self.said if it.get("job_id") == job_id]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("avtomatika_trio.orchestrator")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


def context() -> Context:
    retried = Blueprint("retried")

    @retried.handler(is_start=True)
    async def start(actions: Any) -> None:
        logging.getLogger("avtomatika_trio.orchestrator.of_a_handler").info("here")
        actions.dispatch_task("scale", {}, {"success": "broken"})

    @retried.handler(is_end=True)
    async def broken() -> None:
        raise RuntimeError("on purpose")

    plain = make_context()
    storage = counted(plain.storage, plain.metrics)
    return attrs.evolve(plain, storage=storage, blueprints=Blueprints([retried]))


async def play(lines: Lines, headers: dict[str, str]) -> str:
    """A job whose task fails once, and whose end does not work; the id."""
    parts = context()
    async with open_client(parts) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, parts)
        job_id = (await client.post("/api/v1/jobs/retried", headers=headers)).json()["job_id"]
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        [task] = await worker.take()
        failure = {"status": "failure", "error": {"code": "TRANSIENT_ERROR", "message": "a secret"}}
        await worker.report(task, **failure)
        await client.post(f"/api/v1/jobs/{job_id}/cancel")
        await worker.report({**task, "task_id": "another"}, trace_context=headers)
        nursery.cancel_scope.cancel()
    return str(job_id)


async def test_all_that_becomes_of_a_job_of_a_sampled_trace_is_told_with_its_trace(
    autojump_clock: MockClock, lines: Lines
) -> None:
    told = lines.of(await play(lines, traceparent()))
    assert [it["msg"] for it in told] == [
        "job created: blueprint retried",
        "here",
        "task dispatched: skill scale",
        "attempt leased",
        "attempt failed",
        "job cancelled: code CANCELLED",
        "result ignored: stale_task",
    ]
    assert {it["level"] for it in told} == {"INFO"}
    assert {it["trace_id"] for it in told} == {TRACE}
    assert {it["span_id"] for it in told} == {"00f067aa0ba902b7"}
    leased, failed = told[3:5]
    for line in (leased, failed):
        assert line["attempt"] == 1
        assert line["worker_id"] == "w1"
        assert line["task_id"] == told[2]["task_id"]
    assert all("a secret" not in it["msg"] for it in lines.said)


@pytest.mark.parametrize("headers", [{}, traceparent(flags="00"), {"traceparent": "x"}])
async def test_of_others_only_those_hear_who_ask_for_debug(
    autojump_clock: MockClock, lines: Lines, headers: dict[str, str]
) -> None:
    assert [it["msg"] for it in lines.of(await play(lines, headers))] == ["here"]
    logging.getLogger("avtomatika_trio.orchestrator").setLevel(logging.DEBUG)
    told = lines.of(await play(lines, headers))
    assert len(told) == 7
    assert {it["level"] for it in told if it["msg"] != "here"} == {"DEBUG"}


async def test_what_the_engine_says_of_a_job_is_told_with_its_trace(
    autojump_clock: MockClock, lines: Lines
) -> None:
    """Also what is logged when the handler has ended."""
    parts = context()
    async with open_client(parts) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, parts)
        await client.post("/api/v1/jobs/retried", headers=traceparent())
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        [task] = await worker.take()
        await worker.report(task)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    [raised, *_] = [it for it in lines.said if "raised" in it["msg"]]
    assert (raised["trace_id"], raised["state"]) == (TRACE, "broken")
    assert "on purpose" in raised["exc"]


async def test_nobody_forges_lines(autojump_clock: MockClock, lines: Lines) -> None:
    parts = context()
    forged = "x\n2026-11-29 ERROR all is lost\x1b[31m"
    async with open_client(parts) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, parts)
        await client.post("/api/v1/jobs/retried", headers=traceparent())
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        [task] = await worker.take()
        ids = {"job_id": forged, "task_id": "another"}
        await worker.report(ids, trace_context=traceparent())
        await worker.report(task, status=forged)
        nursery.cancel_scope.cancel()
    texts = [text for it in lines.said for text in (it["msg"], str(it.get("job_id")))]
    assert all(text.isprintable() for text in texts)
    assert sum("all is lost" in text for text in texts) == 2


async def test_no_line_is_longer_than_people_read(autojump_clock: MockClock, lines: Lines) -> None:
    parts = context()
    failure = {"status": "failure", "error": {"code": "X" * 100_000, "message": "m"}}
    async with open_client(parts) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, parts)
        nursery.start_soon(run_janitor, parts)
        await client.post("/api/v1/jobs/retried", headers=traceparent())
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        for _ in range(4):
            await trio.sleep(6)  # the longest delay is 4 s
            [task] = await worker.take()
            await worker.report(task, **failure)
        nursery.cancel_scope.cancel()
    assert any(it["msg"].startswith("job quarantined: code XXX") for it in lines.said)
    assert max(len(it["msg"]) for it in lines.said) < 600


async def test_jobs_that_run_together_keep_their_traces(
    autojump_clock: MockClock, lines: Lines
) -> None:
    parts, wanted = context(), {}
    async with open_client(parts) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, parts)
        for n in range(1, 6):
            trace_id = f"{n:032x}"
            answer = await client.post("/api/v1/jobs/retried", headers=traceparent(trace_id))
            wanted[answer.json()["job_id"]] = trace_id
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        for task in await worker.take():
            await worker.report(task)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    for job_id, trace_id in wanted.items():
        told = lines.of(job_id)
        assert len(told) > 5
        assert {it["trace_id"] for it in told} == {trace_id}
