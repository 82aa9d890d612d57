"""Whatever is sent, the answer is a problem with a code, and never the orchestrator's fault."""

import json
import logging
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st
from tests.orchestrator.clients import (
    EPOCH,
    TOKEN,
    WORKER_TOKEN,
    ask_raw,
    http_scope,
    make_context,
    memory,
    open_client,
)
from trio.testing import MockClock

from avtomatika_trio._wire import messages
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._exchange import ClientGone
from avtomatika_trio.orchestrator._table_clients import Cancellation
from avtomatika_trio.storage._memory import MemoryStorage

HEADERS = [
    (b"host", b"o"),
    (b"x-client-token", TOKEN.encode()),
    (b"x-worker-token", WORKER_TOKEN.encode()),
    (b"x-worker-id", b"w"),
]

ROUTES = [
    ("GET", "/_public/status"),
    ("GET", "/readyz"),
    ("GET", "/version"),
    *(
        (method, prefix + path)
        for prefix in ("/api/v1", "/api", "/api/v2")
        for method, path in (
            ("GET", "/jobs"),
            ("POST", "/jobs/{name}"),
            ("POST", "/jobs/pictures"),
            ("GET", "/jobs/{name}"),
            ("GET", "/jobs/{name}/history"),
            ("GET", "/jobs/{name}/tasks"),
            ("POST", "/jobs/{name}/cancel"),
            ("GET", "/blueprints"),
            ("GET", "/blueprints/{name}"),
            ("GET", "/blueprints/{name}/graph"),
            ("GET", "/workers"),
        )
    ),
    ("POST", "/_worker/workers/register"),
    ("PATCH", "/_worker/workers/{name}"),
    ("GET", "/_worker/workers/{name}/tasks/next"),
    ("POST", "/_worker/tasks/result"),
    ("POST", "/_worker/tasks/return"),
    ("POST", "/_worker/events"),
]

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)

MEMBERS = st.sampled_from(
    sorted(
        {
            field.name
            for cls in (
                messages.Submission,
                messages.Registration,
                messages.Heartbeat,
                messages.Result,
                messages.Return,
                messages.WorkerEvent,
                Cancellation,
            )
            for field in attrs.fields(cls)
        }
    )
)

#: Objects of known members with wrong values get further than bare noise.
OBJECTS = st.dictionaries(MEMBERS, JSON, max_size=5)

BODIES = (
    st.binary(max_size=50)
    | (JSON | OBJECTS | st.lists(OBJECTS, max_size=3)).map(lambda said: json.dumps(said).encode())
    | st.builds(
        lambda said, at, noise: said[:at] + noise + said[at:],
        OBJECTS.map(lambda said: json.dumps(said).encode()),
        st.integers(0, 60),
        st.binary(max_size=3),
    )
)

NAMES = st.sampled_from(["w", "resize", "walk", "pictures", "p00-1"]) | st.text(max_size=20)

QUERIES = st.binary(max_size=30) | st.lists(
    st.tuples(
        st.sampled_from(
            ["wait", "after", "limit", "cursor", "status", "timeout", "max_tasks", "poll"]
        ),
        st.text(max_size=12) | st.integers().map(str) | st.floats().map(str) | st.just("9" * 5000),
    ).map("=".join),
    max_size=3,
).map(lambda pairs: "&".join(pairs).encode(errors="surrogatepass"))


def is_problem(status: int, headers: dict[str, str], body: bytes) -> bool:
    """Whether it is an answer that programs can act on."""
    said = json.loads(body)
    return (
        headers["content-type"] == "application/problem+json"
        and said["status"] == status
        and all(isinstance(said[name], str) for name in ("title", "detail", "code"))
        and all({"path", "message"} <= set(error) for error in said["errors"])
    )


def check(method: str, path: str, query: bytes, body: bytes, **more: Any) -> None:
    """Ask a fresh orchestrator, in virtual time; no answer may be its own fault."""

    async def ask() -> None:
        app = create_app(make_context(memory()))
        answer = await ask_raw(
            app, method, path, query=query, body=body, **{"headers": HEADERS, **more}
        )
        assert answer.status < 500, (method, path, query, body, answer)
        if answer.status >= 400 and method != "HEAD":
            assert is_problem(answer.status, answer.headers, answer.body)

    trio.run(ask, clock=MockClock(autojump_threshold=0))


@given(route=st.sampled_from(ROUTES), name=NAMES, query=QUERIES, body=BODIES)
@settings(max_examples=200)
def test_no_body_and_no_query_is_answered_with_a_server_error(
    route: tuple[str, str], name: str, query: bytes, body: bytes
) -> None:
    method, path = route
    check(method, path.replace("{name}", name), query, body)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "X-Y"]),
    path=st.text(max_size=30)
    | st.text(max_size=20).map("/api/v1/".__add__)
    | st.text(max_size=20).map("http://".__add__),
    query=QUERIES,
    host=st.binary(max_size=20),
    content_type=st.sampled_from(
        [b"application/json", b"multipart/form-data; boundary=x", b"a/b; charset=zz", b"\xff"]
    )
    | st.binary(max_size=20),
)
@settings(max_examples=150)
def test_no_target_and_no_header_is_answered_with_a_server_error(
    method: str, path: str, query: bytes, host: bytes, content_type: bytes
) -> None:
    allowed = bytes(byte for byte in host if byte not in b"\r\n\0")
    kind = bytes(byte for byte in content_type if byte not in b"\r\n\0")
    headers = [(b"host", allowed), (b"content-type", kind), *HEADERS[1:]]
    check(method, path, query, b"{}", headers=headers)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nope",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nope",
        "/api//v1/jobs",
        "/healthz/",
        "*",
        "",
    ],
)
async def test_an_unknown_route_is_a_problem(path: str) -> None:
    answer = await ask_raw(create_app(make_context()), "GET", path)
    assert answer.status == 404
    assert is_problem(answer.status, answer.headers, answer.body)
    assert json.loads(answer.body)["code"] == "no_such_route"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/api/v1/jobs", "GET, HEAD"),
        ("PUT", "/api/v1/jobs/x", "GET, HEAD, POST"),
        ("GET", "/api/v1/jobs/x/cancel", "POST"),
        ("OPTIONS", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allow: str) -> None:
    answer = await ask_raw(create_app(make_context()), method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    assert is_problem(answer.status, answer.headers, answer.body)
    assert json.loads(answer.body)["code"] == "method_not_allowed"


async def test_a_whole_url_is_a_target_too() -> None:
    answer = await ask_raw(create_app(make_context()), "GET", "http://o:8080/healthz")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})


@pytest.mark.parametrize("host", [b"a..b", b"x" * 64])
async def test_a_host_that_cannot_be_one_is_refused(host: bytes) -> None:
    answer = await ask_raw(create_app(make_context()), "GET", "/livez", headers=[(b"host", host)])
    assert answer.status == 400
    assert is_problem(answer.status, answer.headers, answer.body)
    # Quart 0.22 fails before it looks for a handler of errors, 0.23 after.
    assert json.loads(answer.body)["code"] in {"bad_host", "bad_request"}


async def test_a_query_that_is_not_utf_8_is_refused() -> None:
    answer = await ask_raw(create_app(make_context()), "GET", "/livez", query=b"a=\xff")
    assert answer.status == 400
    assert json.loads(answer.body)["errors"][0]["path"] == "?"


@pytest.mark.parametrize("path", ["/api/v1/jobs/resize", "/_worker/tasks/result"])
async def test_a_body_over_the_limit_is_refused_everywhere(path: str) -> None:
    app = create_app(make_context(max_body_bytes=100))
    answer = await ask_raw(app, "POST", path, body=b"x" * 101, headers=HEADERS)
    assert answer.status == 413
    assert json.loads(answer.body)["code"] == "body_too_large"


class Broken(MemoryStorage):
    """A storage with a bug."""

    async def jobs(self, query: Any) -> Any:
        raise RuntimeError("a secret of the implementation")

    async def commit(self, operation: Any, partition: str | None = None) -> Any:
        raise RuntimeError("a secret of the implementation")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/jobs", b""),
        ("POST", "/_worker/tasks/return", b'{"task_ids": ["p00-1"]}'),
    ],
)
async def test_a_bug_is_logged_with_its_traceback_and_told_without_details(
    method: str, path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(make_context(Broken(now=lambda: EPOCH)))
    with caplog.at_level(logging.ERROR):
        answer = await ask_raw(app, method, path, body=body, headers=HEADERS)
    assert answer.status == 500
    assert is_problem(500, answer.headers, answer.body)
    assert json.loads(answer.body)["code"] == "internal_error"
    assert b"secret" not in answer.body
    assert "a secret of the implementation" in caplog.text
    assert "Traceback" in caplog.text


class Unavailable(MemoryStorage):
    """A storage that cannot be used."""

    async def commit(self, operation: Any, partition: str | None = None) -> Any:
        raise StorageUnavailable("the disk is full")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/v1/jobs/resize", b"{}"), ("/_worker/tasks/return", b'{"task_ids": ["p00-1"]}')],
)
async def test_a_storage_that_is_away_is_503(path: str, body: bytes) -> None:
    app = create_app(make_context(Unavailable(now=lambda: EPOCH)))
    answer = await ask_raw(app, "POST", path, body=body, headers=HEADERS)
    assert answer.status == 503
    assert json.loads(answer.body)["code"] == "storage_unavailable"


async def test_a_client_that_is_gone_when_it_is_answered_is_no_bug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unread = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop()
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        raise ClientGone("the client is gone")

    await create_app(make_context())(http_scope("GET", "/healthz"), receive, send)
    assert caplog.records == []


async def test_the_lifespan_is_answered() -> None:
    sent: list[str] = []
    to_app, app_receives = trio.open_memory_channel[dict[str, Any]](2)
    to_app.send_nowait({"type": "lifespan.startup"})
    to_app.send_nowait({"type": "lifespan.shutdown"})

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    await create_app(make_context())(scope, app_receives.receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_to_nowhere_is_refused() -> None:
    sent: list[Any] = []
    unread = [{"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop()
        await trio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    scope = http_scope("GET", "/_worker/workers/w") | {
        "type": "websocket",
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    await create_app(make_context())(scope, receive, send)
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 404


async def test_a_head_request_has_no_body() -> None:
    async with open_client(make_context()) as client:
        answer = await client.head("/healthz")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("host", [b".", b"a..b", b"x" * 70 + b".y"])
async def test_a_body_that_is_too_large_with_a_host_that_is_none_is_answered_once(
    host: bytes,
) -> None:
    """Its length was not announced: it is refused while Quart refuses the host."""
    app = create_app(make_context(max_body_bytes=1000))
    answer = await ask_raw(
        app, "GET", "/_public/status", body=b"x" * 2000, headers=[(b"host", host)]
    )
    assert answer.status in {400, 413}
    # Which of the two is first is chance; for the first two see the test of hosts alone.
    assert json.loads(answer.body)["code"] in {"bad_host", "bad_request", "body_too_large"}
