"""Every answer has the id of its request: in its head, in its problem, and in the log."""

import json
import logging
import re
from typing import Any

import attrs
import pytest
import trio
from tests.client.orchestrators import InProcess
from tests.orchestrator.clients import (
    EPOCH,
    TOKEN,
    WORKER_TOKEN,
    Raw,
    ask_raw,
    http_scope,
    make_context,
    open_client,
)
from trio.testing import MockClock

from avtomatika_trio._task_logs import JsonFormatter, TaskContextFilter, TextFormatter
from avtomatika_trio.client import Client
from avtomatika_trio.client._answers import error_of
from avtomatika_trio.client._plans import Fault, Reply
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.orchestrator import Orchestrator
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import SystemChance
from avtomatika_trio.orchestrator._observed import observed
from avtomatika_trio.storage._memory import MemoryStorage


class Counting(SystemChance):
    """Draws ids that a test knows."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = 0

    def request_id(self) -> str:
        self.drawn += 1
        return f"drawn-{self.drawn}"


async def ask(method: str, path: str, *ids: bytes, **more: Any) -> Raw:
    """Ask a fresh orchestrator, with tokens of clients and workers."""
    limits = more.pop("limits", {})
    storage = more.pop("storage", None)
    context = attrs.evolve(make_context(storage, **limits), chance=Counting())
    headers = [
        (b"host", b"o"),
        (b"x-client-token", more.pop("token", TOKEN).encode()),
        (b"x-worker-token", WORKER_TOKEN.encode()),
        (b"x-worker-id", b"w1"),
        *((b"X-Request-Id", it) for it in ids),
    ]
    return await ask_raw(create_app(context), method, path, headers=headers, **more)


@pytest.mark.parametrize(
    ("method", "path", "status", "more"),
    [
        ("GET", "/healthz", 200, {}),
        ("GET", "/api/v1/jobs", 200, {}),
        ("HEAD", "/api/v1/jobs", 200, {}),
        ("POST", "/api/v1/jobs/walk", 202, {}),
        ("POST", "/api/v1/jobs/no-such", 404, {}),
        ("GET", "/api/v1/jobs", 401, {"token": "wrong"}),
        ("GET", "/api/v1/jobs", 400, {"query": b"limit=x"}),
        ("GET", "/api/v1/jobs/none/events", 404, {}),
        ("POST", "/api/v1/jobs/none/events", 405, {}),
        ("PUT", "/api/v1/jobs/none/files/content/a", 404, {}),
        ("GET", "/_worker/workers/w1/tasks/next", 204, {"query": b"timeout=0"}),
        ("POST", "/_worker/tasks/return", 200, {"body": b'{"task_ids": []}'}),
        ("POST", "/_worker/tasks/return", 400, {"body": b"x"}),
        ("GET", "/_worker/tasks/return", 405, {}),
        ("GET", "/_worker/nope", 404, {}),
        ("GET", "/nope", 404, {}),
        ("DELETE", "/api/v1/jobs", 405, {}),
        ("GET", "/livez", 400, {"query": b"a=\xff"}),
        ("POST", "/api/v1/jobs/walk", 413, {"body": b"x" * 101, "limits": {"max_body_bytes": 100}}),
    ],
)
async def test_every_answer_has_the_id(
    autojump_clock: MockClock, method: str, path: str, status: int, more: dict[str, Any]
) -> None:
    for ids, shown in (((), "drawn-1"), ((b"mine-1",), "mine-1")):
        answer = await ask(method, path, *ids, **more)
        assert (answer.status, answer.headers["x-request-id"]) == (status, shown)
        if status >= 400:
            assert json.loads(answer.body)["request_id"] == shown


@pytest.mark.parametrize(
    "ids", [[b"a"], [b"x" * 128], [b"0af7651916cd43dd8448eb211c80319c"], [b"a-b_c.d~e/f+g=h:i@j"]]
)
async def test_a_callers_own_id_is_taken(ids: list[bytes]) -> None:
    answer = await ask("GET", "/nope", *ids)
    assert answer.headers["x-request-id"] == ids[0].decode()


@pytest.mark.parametrize(
    "ids",
    [
        [b""],
        [b"x" * 129],
        [b"a b"],
        [b"a\tb"],
        [b'a"b'],
        [b"<b>"],
        [b"a,b"],
        [b"%0a"],
        [b"\xff"],
        ["ключ".encode()],
        [b"a\n"],
        [b"a", b"b"],
        [b"a", b"a"],
    ],
)
async def test_an_id_that_is_not_safe_to_repeat_is_not_repeated(ids: list[bytes]) -> None:
    answer = await ask("GET", "/nope", *ids)
    assert answer.headers["x-request-id"] == "drawn-1"
    assert json.loads(answer.body)["request_id"] == "drawn-1"


async def test_a_stream_has_the_id(autojump_clock: MockClock) -> None:
    context = make_context()
    async with open_client(context) as client:
        job_id = (await client.post("/api/v1/jobs/walk")).json()["job_id"]
        await client.post(f"/api/v1/jobs/{job_id}/cancel")
        path = f"/api/v1/jobs/{job_id}/events"
        answer = await client.get(path, headers={"X-Request-ID": "of-a-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-request-id"] == "of-a-stream"


async def test_requests_that_run_together_keep_their_own_ids(autojump_clock: MockClock) -> None:
    found: dict[str, str] = {}
    async with open_client(make_context()) as client:

        async def ask_for(name: str) -> None:
            path = f"/api/v1/jobs/{name}?wait=1"
            answer = await client.get(path, headers={"X-Request-ID": name})
            found[answer.headers["x-request-id"]] = answer.json()["request_id"]

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask_for, f"r{number}")
    assert found == {f"r{number}": f"r{number}" for number in range(20)}


class Broken(MemoryStorage):
    """A storage with a bug."""

    async def jobs(self, query: Any) -> Any:
        raise RuntimeError("a bug")


async def test_a_bug_is_logged_with_the_id_that_its_answer_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.handler.addFilter(fields := TaskContextFilter())
    try:
        storage = Broken(now=lambda: EPOCH)
        answer = await ask("GET", "/api/v1/jobs", b"case-7", storage=storage)
    finally:
        caplog.handler.removeFilter(fields)
    assert (answer.status, json.loads(answer.body)["request_id"]) == (500, "case-7")
    (record,) = [it for it in caplog.records if it.levelno >= logging.ERROR]
    assert json.loads(JsonFormatter().format(record))["request_id"] == "case-7"
    assert " [case-7]" in TextFormatter().format(record)


async def test_one_that_does_not_run_inside_another_server_has_the_id_too() -> None:
    hosted = Orchestrator([], environ={"CLIENT_TOKEN": "c" * 20, "WORKER_TOKEN": "w" * 20})
    answer = await ask_raw(hosted.asgi_app, "GET", "/livez", headers=[(b"x-request-id", b"mine")])
    assert (answer.status, answer.headers["x-request-id"]) == (503, "mine")
    assert json.loads(answer.body)["request_id"] == "mine"


async def test_what_is_no_request_passes_unchanged() -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append((scope, receive, send))

    def unexpected(*_: Any) -> Any:
        raise AssertionError

    scope = {**http_scope("GET", "/"), "type": "websocket"}
    await observed(app, new_id=unexpected, count=unexpected)(scope, 1, 2)
    assert scopes == [(scope, 1, 2)]


def test_ids_that_are_drawn_are_fresh() -> None:
    chance = SystemChance()
    drawn = {chance.request_id() for _ in range(1000)}
    assert len(drawn) == 1000
    assert {len(it) for it in drawn} == {32}


def test_ids_of_attempts_are_fresh_and_in_order_however_many_are_drawn_at_a_time() -> None:
    chance = SystemChance()
    drawn = [it for count in (1, 100, 0, 3) for it in chance.wire_ids("p0", count)]
    assert len(set(drawn)) == len(drawn) == 104
    assert drawn == sorted(drawn)
    assert len({it[-24:] for it in drawn}) == 104, "each has all of its chance to itself"
    assert all(re.fullmatch(r"p0-task-[0-9a-f]{15}[0-9a-f]{24}", it) for it in drawn)


def test_the_python_client_tells_the_id_of_one_that_is_away() -> None:
    reply = Reply(status=503, headers={"x-request-id": "of-a-proxy"}, body=b"<html>")
    error = error_of("http://o", reply, None, None)
    assert isinstance(error, OrchestratorUnavailable)
    assert error.request_id == "of-a-proxy"
    assert str(error).endswith(" (request of-a-proxy)")
    unheard = error_of("http://o", Fault(reason="refused", sent=False), None, None)
    assert str(unheard) == "http://o is not available: refused"


def test_the_python_client_tells_the_id_with_its_errors() -> None:
    context = attrs.evolve(make_context(), chance=Counting())
    transport = InProcess(context)
    with (
        Client("http://orchestrator", TOKEN, transport=transport) as client,
        pytest.raises(Refused, match=r"\(request [0-9a-f]{32}\)$") as caught,
    ):
        client.submit("no-such")
    [sent], [answer] = transport.requests, transport.answers
    assert caught.value.request_id == sent.headers["x-request-id"]
    assert caught.value.request_id == answer.headers["x-request-id"]
    assert caught.value.request_id == answer.json()["request_id"]
    assert str(caught.value).endswith(f" (request {caught.value.request_id})")
