"""Every route, for every role: who may ask what (a new route without a row here fails)."""

import re
from typing import Any

import httpx
import pytest
from tests.orchestrator.clients import (
    TOKEN,
    WORKER_TOKEN,
    Worker,
    let_in,
    make_context,
    open_client,
)
from tests.security.credentials import let_in as let_workers_in
from trio.testing import MockClock

from avtomatika_trio._core.access import Role
from avtomatika_trio.orchestrator._app import create_quart
from avtomatika_trio.orchestrator._registry import prefixes_of
from avtomatika_trio.orchestrator._table_clients import STREAMED

#: Method and path below the prefix -> the least role; None: anybody, also without a token.
ROUTES: dict[tuple[str, str], Role | None] = {
    ("GET", "/_public/status"): None,
    ("GET", "/_public/metrics"): None,
    ("GET", "/metrics"): None,
    ("GET", "/healthz"): None,
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("GET", "/version"): None,
    ("GET", "/_public/docs"): None,
    ("GET", "/openapi.json"): None,
    ("POST", "/jobs/<name>"): Role.SUBMITTER,
    ("POST", "/jobs/pictures"): Role.SUBMITTER,
    ("GET", "/jobs"): Role.VIEWER,
    ("GET", "/jobs/<job_id>"): Role.VIEWER,
    ("GET", "/jobs/<job_id>/history"): Role.VIEWER,
    ("GET", "/jobs/<job_id>/events"): Role.VIEWER,
    ("GET", "/jobs/<job_id>/tasks"): Role.VIEWER,
    ("POST", "/jobs/<job_id>/cancel"): Role.SUBMITTER,
    ("GET", "/jobs/<job_id>/files"): Role.VIEWER,
    ("GET", "/jobs/<job_id>/files/upload"): Role.SUBMITTER,
    ("PUT", "/jobs/<job_id>/files/content/<name>"): Role.SUBMITTER,
    ("GET", "/jobs/<job_id>/files/download/<name>"): Role.VIEWER,
    ("GET", "/blueprints"): Role.VIEWER,
    ("GET", "/blueprints/<name>"): Role.VIEWER,
    ("GET", "/blueprints/<name>/graph"): Role.VIEWER,
    ("GET", "/workers"): Role.OPERATOR,
    ("POST", "/admin/reload-workers"): Role.ADMIN,
    ("GET", "/admin/credentials"): Role.ADMIN,
    ("GET", "/admin/audit"): Role.ADMIN,
}

#: Of a worker; each with the body of somebody who claims to be worker `w2`.
WORKER_ROUTES = [
    ("POST", "/_worker/workers/register", {"worker_id": "w2", "supported_skills": []}),
    ("PATCH", "/_worker/workers/w2", {"status": "idle"}),
    ("GET", "/_worker/workers/w2/tasks/next?timeout=0", None),
    ("POST", "/_worker/tasks/result", {"job_id": "j", "task_id": "t", "worker_id": "w2"}),
    ("POST", "/_worker/tasks/return", {"task_ids": ["t"]}),
    (
        "POST",
        "/_worker/events",
        {
            "event_id": "e",
            "worker_id": "w2",
            "origin_worker_id": "w2",
            "event_type": "progress",
            "payload": {},
        },
    ),
    ("POST", "/_worker/auth/token", None),
    ("POST", "/_worker/auth/token/refresh", {"refresh_token": "t"}),
]

PREFIX = re.compile(r"^/api(/v1|/v2)?(?=/)")

_RANK = list(Role)


def _rules() -> list[tuple[str, str]]:
    """Method and path of every route of the app."""
    context = make_context()
    app = create_quart(context)
    rules = [
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    prefixes = prefixes_of(context.blueprints)
    return rules + [(it.method, prefix + it.rule) for prefix in prefixes for it in STREAMED]


def _filled(path: str) -> str:
    return path.replace("<name>", "walk").replace("<job_id>", "p00-none")


def test_every_route_of_the_app_has_a_row() -> None:
    assert {(method, PREFIX.sub("", path)) for method, path in _rules()} == set(ROUTES)


@pytest.mark.parametrize("role", [None, *Role])
async def test_each_route_is_for_its_role_and_those_above(
    autojump_clock: MockClock, role: Role | None
) -> None:
    context = make_context()
    if role is not None:
        await let_in(context, "me", roles=(role,))
    token = "" if role is None else "token-of-me"
    async with open_client(context, token=token) as client:
        for method, path in _rules():
            needed = ROUTES[method, PREFIX.sub("", path)]
            answer = await client.request(method, _filled(path))
            if needed is None:
                assert answer.status_code == 200, path
            elif role is None:
                assert answer.status_code == 401, path
            elif _RANK.index(role) < _RANK.index(needed):
                assert answer.status_code == 403, path
                assert answer.json()["code"] == "role_missing"
                assert str(needed) in answer.json()["detail"]
            else:
                assert answer.status_code not in (401, 403), path
                assert answer.status_code < 500, path


async def test_whoever_has_the_one_client_token_may_do_everything() -> None:
    async with open_client(make_context(), token=TOKEN) as client:
        for method, path in _rules():
            answer = await client.request(method, _filled(path))
            assert answer.status_code not in (401, 403), path


async def test_operators_see_and_cancel_everybodys_jobs_and_that_is_audited() -> None:
    context = make_context()
    await let_in(context, "me", roles=(Role.SUBMITTER,))
    await let_in(context, "boss", roles=(Role.OPERATOR,))
    async with (
        open_client(context, token="token-of-me") as mine,
        open_client(context, token="token-of-boss") as boss,
        open_client(context) as root,
    ):
        job_id = (await mine.post("/api/v1/jobs/walk")).json()["job_id"]
        assert (await boss.get("/api/v1/jobs")).json()["jobs"] == []
        listed = (await boss.get("/api/v1/jobs?client=*")).json()["jobs"]
        assert [job["id"] for job in listed] == [job_id]
        listed = (await root.get("/api/v1/jobs?client=me")).json()["jobs"]
        assert [job["id"] for job in listed] == [job_id]
        assert (await mine.get("/api/v1/jobs?client=boss")).status_code == 403
        assert (await boss.get(f"/api/v1/jobs/{job_id}")).status_code == 200
        assert (await boss.post(f"/api/v1/jobs/{job_id}/cancel")).status_code == 200
        audit = (await root.get("/api/v1/admin/audit")).json()["audit"]
    last = audit[-1]
    assert (last["who"], last["action"], last["from"]) == ("boss", "cancel_job", "127.0.0.1")
    assert last["details"] == {"job": job_id}


@pytest.mark.parametrize(("method", "path", "body"), WORKER_ROUTES)
async def test_worker_a_cannot_act_as_worker_b(method: str, path: str, body: Any) -> None:
    """Neither by the path, nor by the header, nor by the body."""
    context = make_context()
    await _let_workers_in(context, w1="token-of-w1", w2="token-of-w2")
    async with open_client(context) as client:
        for worker_id in ("w1", "w2"):
            headers = {"X-Worker-Token": "token-of-w1", "X-Worker-ID": worker_id}
            answer = await client.request(method, path, json=body, headers=headers)
            if worker_id == "w1" and path.endswith(("return", "auth/token")):
                assert answer.status_code == 200  # these name nobody: it acts as itself
                assert '"w2"' not in answer.text  # a token may have these letters
            else:
                assert answer.status_code == 403, (worker_id, answer.text)
        assert await context.storage.instances() == []


@pytest.mark.parametrize(("method", "path", "body"), WORKER_ROUTES)
@pytest.mark.parametrize("token", [None, "", "wrong", WORKER_TOKEN.upper(), "ключ"])
async def test_no_worker_route_is_open(
    method: str, path: str, body: Any, token: str | None
) -> None:
    async with open_client(make_context()) as client:
        headers = [(b"X-Worker-ID", b"w2")]
        if token is not None:
            headers.append((b"X-Worker-Token", token.encode()))
        answer = await client.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"].startswith("Unauthorized: ")


async def test_one_cannot_give_back_or_report_what_another_holds() -> None:
    context = make_context()
    await _let_workers_in(context, w1="token-of-w1", w2="token-of-w2")
    async with open_client(context) as client:
        thief = Worker(client, "w1", token="token-of-w1")
        await thief.register("scale")
        answer = await client.get(
            "/_worker/workers/w1/tasks/next?timeout=0&max_tasks=1&instance=w2-run-1",
            headers={"X-Worker-Token": "token-of-w1"},
        )
        assert answer.status_code in (204, 403)


async def _let_workers_in(context: Any, **tokens: str) -> None:
    await let_workers_in(context.storage, {name: [token] for name, token in tokens.items()})
    await context.access.open()


async def test_what_a_client_is_refused_it_is_told_with_a_remedy() -> None:
    context = make_context()
    async with open_client(context, token="no such token") as client:
        answer: httpx.Response = await client.get("/api/v1/jobs")
    assert answer.status_code == 401
    assert "clients.toml" in answer.json()["detail"]
