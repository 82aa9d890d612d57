"""Signed messages of workers: what is let through, what is not, and that nothing changes then."""

from typing import Any

import httpx
import pytest
import trio
from tests.orchestrator.clients import EPOCH, WORKER_TOKEN, blueprints, memory, open_client
from tests.security.credentials import let_in
from trio.testing import MockClock

from avtomatika_trio._wire.signing import check_task, sign_message
from avtomatika_trio.orchestrator._context import Context, Security
from avtomatika_trio.orchestrator._engine import run_engine

KEY = WORKER_TOKEN.encode()


def make_context(**fields: Any) -> Context:
    return Context(
        storage=memory(),
        blueprints=blueprints(),
        client_token="c",
        worker_token=WORKER_TOKEN,
        security=Security(**fields),
    )


def signed(body: dict[str, Any], key: bytes = KEY, **security: Any) -> dict[str, Any]:
    body = {"timestamp": int(EPOCH + trio.current_time()), **body}
    return {**body, "security": {"signature": sign_message(body, key), **security}}


REGISTRATION = {"worker_id": "w1", "supported_skills": [{"name": "scale"}], "instance": "i1"}


async def send(
    client: httpx.AsyncClient, method: str, path: str, body: Any, token: str = WORKER_TOKEN
) -> httpx.Response:
    headers = {"X-Worker-Token": token, "X-Worker-ID": "w1"}
    return await client.request(method, f"/_worker{path}", json=body, headers=headers)


async def register(client: httpx.AsyncClient, body: Any) -> httpx.Response:
    return await send(client, "POST", "/workers/register", body)


EVENT: dict[str, Any] = {
    "event_id": "e",
    "worker_id": "w1",
    "origin_worker_id": "w1",
    "event_type": "x",
    "payload": {},
}

BODIES = [
    ("POST", "/workers/register", REGISTRATION),
    ("PATCH", "/workers/w1", {"status": "idle", "instance": "i1", "beat": 1}),
    ("POST", "/tasks/result", {"job_id": "j", "task_id": "t"}),
    ("POST", "/tasks/result", [{"job_id": "j", "task_id": "t"}]),
    ("POST", "/tasks/return", {"task_ids": ["t"]}),
    ("POST", "/events", EVENT),
]


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
async def test_where_signatures_are_required_each_message_needs_one(
    autojump_clock: MockClock, method: str, path: str, body: Any
) -> None:
    async with open_client(make_context(signing="required")) as client:
        await register(client, signed(REGISTRATION))
        bare = await send(client, method, path, body)
        assert bare.status_code == 403
        assert bare.json()["error"].startswith("Missing required security context")
        whole = [signed(it) for it in body] if isinstance(body, list) else signed(body)
        assert (await send(client, method, path, whole)).status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
async def test_a_message_that_was_changed_is_refused_wherever_it_was_changed(
    autojump_clock: MockClock, method: str, path: str, body: Any
) -> None:
    async with open_client(make_context()) as client:
        whole = signed(body[0]) if isinstance(body, list) else signed(body)
        for name in whole.keys() - {"security"}:
            for changed in (
                {**whole, name: "other"},
                {k: v for k, v in whole.items() if k != name},
            ):
                said = [changed] if isinstance(body, list) else changed
                answer = await send(client, method, path, said)
                malformed = answer.status_code == 200 and answer.json()["status"] == "error"
                assert malformed or answer.status_code in (400, 403), (name, answer.text)
        added = {**whole, "added": 1}
        answer = await send(client, method, path, [added] if isinstance(body, list) else added)
        assert answer.json()["error"] == "Invalid cryptographic signature"


async def test_nothing_is_stored_of_a_message_that_is_refused(autojump_clock: MockClock) -> None:
    context = make_context(signing="required")
    async with open_client(context) as client:
        for body in (
            REGISTRATION,
            signed(REGISTRATION, key=b"another"),
            signed(REGISTRATION, signer_id="w2"),
            signed({**REGISTRATION, "timestamp": 1}),
            signed({**REGISTRATION, "timestamp": (EPOCH + trio.current_time()) * 1000}),
            signed({**REGISTRATION, "timestamp": None}),
            signed({**REGISTRATION, "timestamp": True}),
            {**REGISTRATION, "security": "x"},
            {**REGISTRATION, "security": {}},
            {**REGISTRATION, "security": {"signature": 5}},
            {**REGISTRATION, "security": {"signature": "ключ"}},
        ):
            answer = await register(client, body)
            assert answer.status_code == 403, body
            assert await context.storage.instances() == []


@pytest.mark.parametrize(("late", "status"), [(-60, 200), (60, 200), (-61.5, 403), (61.5, 403)])
async def test_the_clocks_may_differ_by_a_minute(
    autojump_clock: MockClock, late: float, status: int
) -> None:
    async with open_client(make_context()) as client:
        await trio.sleep(1000)
        said = int(EPOCH + trio.current_time() + late)
        answer = await register(client, signed({**REGISTRATION, "timestamp": said}))
        assert answer.status_code == status


async def test_an_honest_retry_gets_the_first_answer_again_however_late(
    autojump_clock: MockClock,
) -> None:
    async with open_client(make_context()) as client:
        body = signed(REGISTRATION)
        first = await register(client, body)
        await trio.sleep(500)
        again = await register(client, body)
        assert (again.status_code, again.json()) == (200, first.json())
        unheard = signed({**REGISTRATION, "timestamp": body["timestamp"], "metadata": {"n": 1}})
        assert (await register(client, unheard)).status_code == 403  # was never let through


async def test_a_message_whose_name_was_used_for_another_is_refused(
    autojump_clock: MockClock,
) -> None:
    event = EVENT
    async with open_client(make_context()) as client:
        assert (await send(client, "POST", "/events", signed(event))).status_code == 200
        await trio.sleep(5)  # signed anew, with another time: the same said again
        assert (await send(client, "POST", "/events", signed(event))).status_code == 200
        other = signed({**event, "payload": {"progress": 1}})
        answer = await send(client, "POST", "/events", other)
        assert answer.json()["error"] == "Duplicate message detected (replay attack)"


async def test_a_wrong_message_does_not_use_up_the_name_of_the_right_one(
    autojump_clock: MockClock,
) -> None:
    event = EVENT
    async with open_client(make_context()) as client:
        forged = signed({**event, "payload": {"forged": True}}, key=b"another")
        assert (await send(client, "POST", "/events", forged)).status_code == 403
        assert (await send(client, "POST", "/events", signed(event))).status_code == 200


async def test_where_signatures_are_off_they_are_not_looked_at(autojump_clock: MockClock) -> None:
    async with open_client(make_context(signing="off")) as client:
        answer = await register(client, signed(REGISTRATION, key=b"another"))
        assert (answer.status_code, answer.json()["signing"]) == (200, "off")


async def test_the_key_is_the_token_that_was_shown(autojump_clock: MockClock) -> None:
    context = make_context()
    await let_in(context.storage, {"w1": ["the-first-one", "the-second-one"]})
    await context.access.open()
    async with open_client(context) as client:
        for token in ("the-first-one", "the-second-one"):
            for key in ("the-first-one", "the-second-one"):
                body = signed(REGISTRATION, key=key.encode())
                answer = await send(client, "POST", "/workers/register", body, token)
                assert answer.status_code == (200 if key == token else 403)


async def test_tasks_are_signed_without_their_extensions(autojump_clock: MockClock) -> None:
    secret = b"the-secret-of-the-orchestrator"
    context = make_context(secret_key=secret)
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        await register(client, REGISTRATION)
        headers = {"X-Client-Token": "c"}
        for query in ("max_tasks=1&instance=i1&poll=1", "instance=i1&poll=2"):
            posted = {"initial_data": {"width": 2.0, "none": None, "small": 1e-7}}
            await client.post("/api/v1/jobs/resize", json=posted, headers=headers)
            path = f"/workers/w1/tasks/next?available_skills=scale&{query}"
            answer = await send(client, "GET", path, None)
            task = answer.json()["tasks"][0] if "max_tasks" in query else answer.json()
            assert check_task(task, secret)
            assert not check_task({**task, "params": {"width": 3}}, secret)
            assert ("attempt" in task) == ("max_tasks" in query)
        nursery.cancel_scope.cancel()
