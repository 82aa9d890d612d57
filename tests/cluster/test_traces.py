"""A trace goes with a job to its workers, and comes back with all that they post about it."""

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio
from tests.cluster.scene import at_peace
from trio.testing import MockClock

from avtomatika_trio._task_logs import trace_fields
from avtomatika_trio._wire.tracing import kept_tracing
from avtomatika_trio.orchestrator._context import Security
from avtomatika_trio.testing import Call, Cluster
from avtomatika_trio.worker import TransientError, Worker

TRACES = ["ab" * 16, "cd" * 16]
STATE = "congo=t61rcWkgMzE"


def headers(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "tracestate": STATE}


@attrs.define
class Seen:
    """What handlers were told of the trace, in order."""

    runs: list[tuple[str, dict[str, str]]] = attrs.field(factory=list)
    """Attempts with their tracing context."""

    def worker(self) -> Worker:
        worker = Worker()

        @worker.skill("work", events_schema={"half": {}})
        async def work(
            params: dict[str, Any],
            attempt: int,
            task_id: str,
            tracing_context: dict[str, str],
            send_progress: Any,
            send_event: Any,
        ) -> dict[str, Any]:
            self.runs.append((task_id, tracing_context))
            send_progress(0.5)
            send_event("half")
            await trio.sleep(5)
            if attempt <= params.get("failures", 0):
                raise TransientError("again")
            return {"answer": 1}

        return worker

    def spans(self) -> dict[str, str]:
        """The span of each attempt that is part of a trace."""
        return {
            task_id: trace_fields(tracing)["span_id"] for task_id, tracing in self.runs if tracing
        }


def posts(cluster: Cluster, path: str) -> Iterator[tuple[Call, Any]]:
    """What was posted there by workers, and its body."""
    for seen in cluster.network.seen:
        if seen.call.method == "POST" and seen.call.path == path:
            yield seen.call, json.loads(seen.call.body)


def header_of(call: Call) -> dict[str, str]:
    return kept_tracing({name.decode(): value.decode() for name, value in call.headers})


async def test_attempts_of_a_task_have_spans_of_its_trace(autojump_clock: MockClock) -> None:
    seen = Seen()
    async with at_peace() as cluster:
        await cluster.add_worker(seen.worker()).start()
        ids = await cluster.submit("one", {"failures": 1}, headers=headers(TRACES[0]))
        await cluster.wait_until_final(ids, seconds=60)
        await trio.sleep(1)  # the worker has been answered
        results = list(posts(cluster, "/_worker/tasks/result"))
        events = list(posts(cluster, "/_worker/events"))

    assert len(seen.spans()) == 2
    assert len(set(seen.spans().values())) == 2
    assert {trace_fields(tracing)["trace_id"] for _, tracing in seen.runs} == {TRACES[0]}
    assert {tracing["tracestate"] for _, tracing in seen.runs} == {STATE}
    assert len(results) == 2
    assert len(events) == 4
    said = [(call, one["task_id"], one["trace_context"]) for call, (one,) in results]
    for call, body in events:
        listed = body if isinstance(body, list) else [body]
        said += [(call, one["target_task_id"], one["trace_context"]) for one in listed]
    for call, task_id, in_body in said:
        assert header_of(call) == in_body == dict(seen.runs)[task_id]


async def test_each_result_of_a_list_has_its_own_trace_and_the_post_has_none(
    autojump_clock: MockClock,
) -> None:
    seen = Seen()
    async with at_peace() as cluster:
        worker = cluster.add_worker(seen.worker())
        await worker.start()
        ids = [
            job_id
            for more in (headers(TRACES[0]), headers(TRACES[1]), None)
            for job_id in await cluster.submit("one", {}, headers=more)
        ]
        await trio.sleep(1)
        cluster.network.cut("w1")  # so that they go together
        await trio.sleep(10)
        cluster.network.mend("w1")
        await cluster.wait_until_final(ids, seconds=60)
        await trio.sleep(1)  # the worker has been answered
        results = list(posts(cluster, "/_worker/tasks/result"))

    told = dict(seen.runs)
    assert sorted(map(len, told.values())) == [0, 2, 2]
    together = [body for _, body in results if len(body) > 1]
    assert together
    for call, body in results:
        assert [it.get("trace_context", {}) for it in body] == [told[it["task_id"]] for it in body]
        assert header_of(call) == (told[body[0]["task_id"]] if len(body) == 1 else {})


async def test_a_result_from_the_spool_of_a_dead_process_has_it_still(
    autojump_clock: MockClock,
) -> None:
    seen = Seen()
    async with at_peace() as cluster:
        machine = cluster.add_worker(seen.worker())
        await machine.start()
        ids = await cluster.submit("one", {}, headers=headers(TRACES[0]))
        await trio.sleep(1)
        cluster.network.cut("w1")
        await trio.sleep(10)
        await machine.kill()
        cluster.network.mend("w1")
        await machine.start()
        await cluster.wait_until_final(ids, seconds=60)
        await trio.sleep(1)  # the worker has been answered
        [*_, (call, [said])] = posts(cluster, "/_worker/tasks/result")
    [(task_id, tracing)] = seen.runs
    assert said["task_id"] == task_id
    assert said["trace_context"] == header_of(call) == tracing


async def test_what_is_signed_has_it_too(autojump_clock: MockClock) -> None:
    seen = Seen()
    async with at_peace(security=Security(signing="required")) as cluster:
        await cluster.add_worker(seen.worker()).start()
        ids = await cluster.submit("one", {}, headers=headers(TRACES[0]))
        await cluster.wait_until_final(ids, seconds=60)
        await trio.sleep(1)
        [(call, [said])] = posts(cluster, "/_worker/tasks/result")
        events = [said for _, said in posts(cluster, "/_worker/events")]
        history = await cluster.history(ids[0])
    [(_, tracing)] = seen.runs
    assert "security" in said
    assert said["trace_context"] == header_of(call) == tracing
    progress, [event] = sorted(events, key=lambda it: isinstance(it, list))
    assert progress["trace_context"] == event["trace_context"] == tracing
    assert "worker_event" in history


@pytest.mark.parametrize("malformed", ["x", f"00-{'0' * 32}-00f067aa0ba902b7-01"])
async def test_a_malformed_one_is_not_passed_on(autojump_clock: MockClock, malformed: str) -> None:
    seen = Seen()
    async with at_peace() as cluster:
        await cluster.add_worker(seen.worker()).start()
        ids = await cluster.submit("one", {}, headers={"traceparent": malformed})
        await cluster.wait_until_final(ids, seconds=60)
        await trio.sleep(1)  # the worker has been answered
        [(call, [said])] = posts(cluster, "/_worker/tasks/result")
    assert [tracing for _, tracing in seen.runs] == [{}]
    assert "trace_context" not in said
    assert header_of(call) == {}
