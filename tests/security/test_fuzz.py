"""Whatever is sent to any route: no 5xx, no hang, and nothing changed by what is refused."""

import copy
import json
from typing import Any
from urllib.parse import quote

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st
from tests.orchestrator.clients import (
    TOKEN,
    WORKER_TOKEN,
    Raw,
    ask_raw,
    http_scope,
    make_context,
    memory,
)
from tests.security.test_roles import ROUTES, WORKER_ROUTES
from trio.testing import MockClock

from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.storage._memory import MemoryStorage

#: The longest that any route may take: a poll or a wait of a client, in virtual seconds.
PATIENCE = 61.0

SETTINGS = settings(max_examples=150)

nasty_text = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", ".", "..", "../../etc/passwd", "%2e%2e", "a/b", "a\\b", "\x00", "\ud7ff", "é" * 100]
    ),
    st.sampled_from(["w1", "p00-none", "walk", "*", "client", "p00-000001", "1", "a" * 129]),
)
nasty_number = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([2**63, 2**64, -1, 10**400, 1e308, 1e-320]),
)
nasty_json: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), nasty_number, nasty_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(nasty_text, inner, max_size=4)
    ),
    max_leaves=12,
)

#: Members that mean something somewhere.
MEMBERS = st.sampled_from(
    [
        "worker_id", "supported_skills", "instance", "heartbeat_seconds", "status",
        "current_tasks", "beat", "last_poll", "open_polls", "replaces", "leaving", "job_id",
        "task_id", "data", "error", "task_ids", "unstarted", "event_id", "origin_worker_id",
        "event_type", "payload", "target_task_id", "refresh_token", "security", "timestamp",
        "initial_data", "max_transitions", "reason", "nonce", "message_id",
    ]
)  # fmt: skip

bodies = st.one_of(
    st.binary(max_size=40),
    nasty_json.map(lambda it: json.dumps(it).encode()),
    st.dictionaries(MEMBERS, nasty_json, max_size=8).map(lambda it: json.dumps(it).encode()),
    st.lists(st.dictionaries(MEMBERS, nasty_json, max_size=5), max_size=3).map(
        lambda it: json.dumps(it).encode()
    ),
    st.integers(1, 400).map(lambda n: b"[" * n + b"]" * n),
    st.integers(1, 400).map(lambda n: b'{"initial_data":' * n + b"1" + b"}" * n),
    st.sampled_from([b"NaN", b'{"beat": 1e999}', b'{"a":1,"a":2}', b"\xff\xfe{}", b'"\\ud800"']),
)

queries = st.one_of(
    st.binary(max_size=30),
    st.dictionaries(
        st.sampled_from(
            [
                "timeout", "max_tasks", "instance", "poll", "available_skills", "wait", "after",
                "limit", "cursor", "status", "blueprint", "client",
            ]
        ),
        st.one_of(nasty_text, nasty_number.map(str)),
        max_size=4,
    ).map(
        lambda it: "&".join(f"{k}={quote(v, errors='replace')}" for k, v in it.items()).encode()
    ),
)  # fmt: skip

header_values = st.one_of(
    st.binary(max_size=30), nasty_text.map(lambda it: it.encode(errors="replace"))
).filter(lambda it: not set(it) & set(b"\r\n\x00"))  # the server lets none of these through
extra_headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"content-type", b"authorization", b"x-client-token", b"x-worker-token",
                b"x-worker-id", b"x-rxon-version", b"x-forwarded-for", b"host", b"cookie",
                b"content-encoding", b"expect",
            ]
        ),
        header_values,
    ),
    max_size=3,
)  # fmt: skip

client_routes = st.sampled_from(sorted(ROUTES))
worker_routes = st.sampled_from([(method, path) for method, path, _ in WORKER_ROUTES])
methods = st.sampled_from(["GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])


@attrs.frozen(kw_only=True)
class Asked:
    """A request, and whether it shows the right token."""

    method: str
    path: str
    query: bytes
    body: bytes
    headers: list[tuple[bytes, bytes]]


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """A request to some route, with something wrong in it, perhaps."""
    if draw(st.booleans()):
        method, template = draw(client_routes)
        prefix = (
            ""
            if template.startswith(("/_public", "/healthz", "/livez", "/re", "/ver"))
            else "/api/v1"
        )
        path = prefix + template.replace("<name>", draw(nasty_text)).replace(
            "<job_id>", draw(nasty_text)
        )
        shown = [(b"x-client-token", TOKEN.encode())]
    else:
        method, path = draw(worker_routes)
        path = path.partition("?")[0].replace("w2", draw(nasty_text))
        shown = [(b"x-worker-token", WORKER_TOKEN.encode()), (b"x-worker-id", b"w1")]
    if draw(st.integers(0, 9)) == 0:
        method = draw(methods)
    headers = [(b"host", b"o")]
    if draw(st.integers(0, 4)):
        headers += shown
    return Asked(
        method=method,
        path=path,
        query=draw(queries),
        body=draw(bodies),
        headers=[*draw(extra_headers), *headers],
    )


#: Routes that read a body.
POSTS = [
    (method, (path if needed is None else f"/api/v1{path}").replace("<name>", "walk"))
    for (method, path), needed in sorted(ROUTES.items())
    if method == "POST"
] + [(method, path) for method, path, body in WORKER_ROUTES if body is not None]


def state_of(context: Context) -> str:
    """Everything that is stored."""
    assert isinstance(context.storage, MemoryStorage)
    return repr(context.storage._records)


@given(st.lists(asked(), min_size=1, max_size=4), st.sampled_from(["optional", "required"]))
@SETTINGS
def test_no_request_breaks_anything(requests: list[Asked], signing: str) -> None:
    async def ask_all() -> None:
        context = make_context(memory())
        context.signatures.policy = signing
        await context.access.open()
        app = create_app(context)
        for request in requests:
            before = copy.copy(state_of(context))
            with trio.fail_after(PATIENCE + 25):  # and the wait of one who shows no right token
                answer = await ask(app, request)
            assert answer.status < 500, (request, answer)
            if answer.status >= 400:
                assert state_of(context) == before, (request, answer)
                said = json.loads(answer.body) if answer.body else {}
                assert request.method == "HEAD" or said["status"] == answer.status
                for secret in (TOKEN, WORKER_TOKEN):
                    assert secret.encode() not in answer.body

    trio.run(ask_all, clock=MockClock(autojump_threshold=0.001))


async def ask(app: Any, request: Asked) -> Raw:
    return await ask_raw(
        app,
        request.method,
        request.path,
        query=request.query,
        body=request.body,
        headers=request.headers,
    )


@given(st.lists(st.one_of(bodies, nasty_json.map(lambda it: json.dumps(it).encode())), max_size=3))
@SETTINGS
def test_a_known_worker_that_talks_nonsense_changes_nothing_of_others(said: list[bytes]) -> None:
    """Its own record may change; nobody's jobs, tasks, attempts or credentials do."""

    async def ask_all() -> None:
        context = make_context(memory())
        app = create_app(context)
        worker = [(b"x-worker-token", WORKER_TOKEN.encode()), (b"x-worker-id", b"w1")]
        await ask_raw(app, "POST", "/api/v1/jobs/walk", body=b"{}")
        assert isinstance(context.storage, MemoryStorage)
        records = context.storage._records
        before = repr((records.jobs, records.tasks, records.attempts, records.access))
        for body in said:
            for method, path, _ in WORKER_ROUTES:
                answer = await ask_raw(
                    app, method, path.partition("?")[0].replace("w2", "w1"), body=body,
                    query=b"timeout=0", headers=worker,
                )  # fmt: skip
                assert answer.status < 500
        assert repr((records.jobs, records.tasks, records.attempts, records.access)) == before

    trio.run(ask_all, clock=MockClock(autojump_threshold=0.001))


@given(asked(), st.integers(1, 3))
@settings(max_examples=60)
def test_what_is_too_large_is_refused_wherever_it_is_sent(request: Asked, times: int) -> None:
    """Announced or not, and whoever sends it; nothing of it is kept."""

    async def ask_it() -> None:
        context = make_context(memory(), max_body_bytes=1000)
        await context.access.open()
        before = state_of(context)
        headers = [it for it in request.headers if it[0] != b"content-length"]
        large = attrs.evolve(request, body=b"[1]" * 400 * times, headers=headers)
        with trio.fail_after(PATIENCE + 25):
            answer = await ask(create_app(context), large)
        assert answer.status < 500
        if answer.status >= 400:
            assert state_of(context) == before

    trio.run(ask_it, clock=MockClock(autojump_threshold=0.001))


@pytest.mark.parametrize(("method", "path"), POSTS)
@pytest.mark.parametrize("after_seconds", [0, 29])
async def test_a_body_that_does_not_end_changes_nothing(
    autojump_clock: MockClock, method: str, path: str, after_seconds: float
) -> None:
    """The server gives such a client up, which the app hears as a disconnect."""
    context = make_context(memory())
    await context.access.open()
    before = state_of(context)
    sent: list[dict[str, Any]] = []
    parts = [{"type": "http.request", "body": b'{"worker_id": "w', "more_body": True}]
    shown = [
        (b"x-client-token", TOKEN.encode()),
        (b"x-worker-token", WORKER_TOKEN.encode()),
        (b"x-worker-id", b"w1"),
        (b"content-length", b"500"),
        (b"host", b"o"),
    ]

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await trio.sleep(after_seconds)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    with trio.fail_after(PATIENCE):
        await create_app(context)(http_scope(method, path, b"", shown), receive, send)
    assert [it["status"] for it in sent if "status" in it and it["status"] >= 500] == []
    assert state_of(context) == before
