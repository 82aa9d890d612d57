"""Rate limits on the routes: whoever works is not held up, loops that have gone wild are."""

from typing import Any

import trio
from tests.orchestrator.clients import (
    TOKEN,
    WORKER_TOKEN,
    Worker,
    ask_raw,
    blueprints,
    memory,
    open_client,
)
from trio.testing import MockClock

from avtomatika_trio._config import OrchestratorSettings
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._limits import create_limits


def make_context(**limits: Any) -> Context:
    return Context(
        storage=memory(),
        blueprints=blueprints(),
        client_token=TOKEN,
        worker_token=WORKER_TOKEN,
        rates=create_limits(OrchestratorSettings(**limits), trio.current_time),
    )


async def test_a_busy_worker_is_not_held_up_and_an_idle_one_is(autojump_clock: MockClock) -> None:
    context = make_context(rate_limit_polls=5, rate_limit=5)
    async with open_client(context) as client, trio.open_nursery() as loops:
        loops.start_soon(run_engine, context)
        worker = Worker(client)
        await worker.register("scale")
        for _ in range(40):
            await client.post("/api/v1/jobs/resize")
            await trio.sleep(0.01)
            [task] = await worker.take()
            await worker.report(task)
        path = "/_worker/workers/w1/tasks/next?timeout=0&instance=w1-run-1&max_tasks=1&poll="
        headers = {"X-Worker-Token": WORKER_TOKEN}
        answers = [await client.get(f"{path}{n}", headers=headers) for n in range(100, 107)]
        assert [it.status_code for it in answers] == [204] * 5 + [429] * 2
        wait = int(answers[-1].headers["retry-after"])
        await trio.sleep(wait)
        assert (await client.get(f"{path}200", headers=headers)).status_code == 204
        loops.cancel_scope.cancel()


async def test_each_worker_has_limits_of_its_own(autojump_clock: MockClock) -> None:
    async with open_client(make_context(rate_limit=3)) as client:
        for worker_id, statuses in (("w1", [200] * 3 + [429]), ("w2", [200])):
            body = {"worker_id": worker_id, "supported_skills": []}
            headers = {"X-Worker-Token": WORKER_TOKEN, "X-Worker-ID": worker_id}
            for status in statuses:
                path = "/_worker/workers/register"
                answer = await client.post(path, json=body, headers=headers)
                assert answer.status_code == status
                assert (status == 429) == ("RATE_LIMIT_LIMIT" in answer.text)


async def test_health_has_no_limit_and_clients_have(autojump_clock: MockClock) -> None:
    async with open_client(make_context(rate_limit_clients=3)) as client:
        statuses = [(await client.get("/api/v1/jobs")).status_code for _ in range(5)]
        assert statuses == [200] * 3 + [429] * 2
        refused = await client.get("/api/v1/jobs")
        assert int(refused.headers["retry-after"]) >= 1
        for path in ("/healthz", "/readyz", "/livez", "/version", "/_public/status"):
            for _ in range(20):
                assert (await client.get(path)).status_code == 200


async def test_wrong_tokens_slow_down_and_the_right_one_does_not(
    autojump_clock: MockClock,
) -> None:
    app = create_app(make_context())
    wrong = [(b"host", b"o"), (b"x-client-token", b"wrong")]
    for _ in range(12):
        assert (await ask_raw(app, "GET", "/api/v1/jobs", headers=wrong)).status == 401
    assert 1 < trio.current_time() < 4
    path = "/_worker/workers/w1"
    wrong = [(b"x-worker-token", b"wrong")]
    for _ in range(12):
        assert (await ask_raw(app, "PATCH", path, headers=wrong)).status == 403
    assert trio.current_time() > 10
    began = trio.current_time()
    for _ in range(50):
        assert (await ask_raw(app, "GET", "/api/v1/jobs")).status == 200
    assert trio.current_time() == began


async def test_nobody_who_waits_for_a_refusal_holds_up_the_end(autojump_clock: MockClock) -> None:
    context = make_context()
    app = create_app(context)
    wrong = [(b"host", b"o"), (b"x-client-token", b"wrong")]
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append((await ask_raw(app, "GET", "/api/v1/jobs", headers=wrong)).status)

    async with trio.open_nursery() as asking:
        for _ in range(40):
            asking.start_soon(ask)
        await trio.sleep(0.5)
        context.draining.set()
    assert trio.current_time() < 1
    assert sorted(statuses) == [401] * 30 + [429] * 10
