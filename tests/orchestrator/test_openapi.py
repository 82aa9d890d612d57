"""The document of the routes is true: every route is in it, and answers as it says."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from tests.orchestrator.clients import (
    TOKEN,
    WORKER_TOKEN,
    Worker,
    let_in,
    make_context,
    open_client,
)
from tests.orchestrator.documented import Documented, closed, successes
from trio.testing import MockClock

from avtomatika_trio._core.access import Role
from avtomatika_trio.blobs import open_folder
from avtomatika_trio.orchestrator._app import create_quart
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._credential_files import CredentialFiles
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._error_codes import CODES
from avtomatika_trio.orchestrator._job_filters import _ARGUMENTS
from avtomatika_trio.orchestrator._openapi import all_routes, create_document
from avtomatika_trio.orchestrator._route import Caller, finder, served
from avtomatika_trio.orchestrator._table_clients import CLIENT_ROUTES, STREAMED
from avtomatika_trio.orchestrator._table_workers import WORKER_ROUTES
from avtomatika_trio.testing import MemoryBlobs

WORKER = {"X-Worker-Token": WORKER_TOKEN, "X-Worker-ID": "w1"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """What the orchestrators of these tests serve."""
    return create_document(make_blueprints())


def make_blueprints() -> Any:
    return make_context().blueprints


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    """An orchestrator with files and credentials."""
    workers, clients = tmp_path / "workers.toml", tmp_path / "clients.toml"
    workers.write_text(
        '[w7]\ntoken = "a-token-of-worker-number-7"\nexpires_at = 2099-01-01T00:00:00Z\n'
    )
    clients.write_text(
        '[acme]\ntoken = "a-token-of-the-client-acme"\nplan = "gold"\nlanguages = ["en"]\n'
    )
    async with open_folder(tmp_path / "files") as blobs:
        context = attrs.evolve(
            make_context(),
            blobs=blobs,
            files=CredentialFiles(workers=workers, clients=clients),
            task_files_dir=tmp_path / "work",
        )
        await context.access.open()
        yield context


class Visitor:
    """Asks every route for what it is there for, and for what it refuses."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def ask(self, status: int, method: str, path: str, **more: Any) -> httpx.Response:
        answer = await self.client.request(method, path, **more)
        assert answer.status_code == status, (path, answer.text)
        return answer

    async def jobs(self) -> str:
        """Returns the id of a job that waits for a worker."""
        ask = self.ask
        said = {"initial_data": {"a": 1}, "labels": {"shop": "north"}}
        first = await ask(202, "POST", "/api/v1/jobs/resize", json=said)
        job_id: str = first.json()["job_id"]
        headers = {"Idempotency-Key": "k"}
        for _ in range(2):
            await ask(202, "POST", "/api/v1/jobs/pictures", json=[{}, {}], headers=headers)
        await ask(422, "POST", "/api/v1/jobs/resize", headers=headers)
        await ask(400, "POST", "/api/v1/jobs/walk", json={"lables": {}})
        await ask(404, "POST", "/api/v1/jobs/nope")
        page = (await ask(200, "GET", "/api/v1/jobs?limit=1&label.shop=north&fields=id")).json()
        assert page == {"jobs": [{"id": job_id}], "next_cursor": None}
        assert (await ask(200, "GET", "/api/v1/jobs?limit=1")).json()["next_cursor"]
        await ask(400, "GET", "/api/v1/jobs?limit=0")
        await ask(404, "GET", "/api/v1/jobs/nope")
        return job_id

    async def work(self, job_id: str) -> None:
        """Do the first job, partly, by a worker."""
        ask = self.ask
        job = f"/api/v1/jobs/{job_id}"
        while (await ask(200, "GET", job)).json()["status"] != "waiting_for_worker":
            await trio.lowlevel.checkpoint()
        worker = "/_worker/workers/w1"
        said = {
            "worker_id": "w1",
            "instance": "i1",
            "supported_skills": [{"name": "scale", "version": "1"}],
            "resources": {"cpu": 4},
        }
        await ask(200, "POST", "/_worker/workers/register", json=said, headers=WORKER)
        await ask(204, "GET", f"{worker}/tasks/next?timeout=0&available_skills=x", headers=WORKER)
        query = "timeout=0&instance=i1&max_tasks=9"
        got = await ask(200, "GET", f"{worker}/tasks/next?{query}", headers=WORKER)
        tasks = {it["job_id"]: it for it in got.json()["tasks"]}
        task = tasks.pop(job_id)
        event = {
            "event_id": "e",
            "worker_id": "w1",
            "origin_worker_id": "w1",
            "event_type": "progress",
            "target_task_id": task["task_id"],
            "payload": {"progress": 0.5, "message": "half"},
        }
        await ask(200, "POST", "/_worker/events", json=event, headers=WORKER)
        await ask(200, "POST", "/_worker/events", json={}, headers=WORKER)
        assert (await ask(200, "GET", job)).json()["progress"][0]["progress"] == 0.5
        beat = {"instance": "i1", "beat": 1, "current_tasks": [task["task_id"]]}
        await ask(200, "PATCH", worker, json=beat, headers=WORKER)
        await ask(404, "PATCH", worker, headers=WORKER)  # a foreign one of that name
        left = [it["task_id"] for it in tasks.values()]
        said = {"task_ids": left[:1]}
        await ask(200, "POST", "/_worker/tasks/return", json=said, headers=WORKER)
        failed = {"status": "failure", "error": {"code": "PERMANENT_ERROR", "message": "m"}}
        reports = [{"job_id": job_id, "task_id": task["task_id"], "data": {"size": 3}}]
        reports += [
            {"job_id": it["job_id"], "task_id": it["task_id"], **failed}
            for it in list(tasks.values())[1:]
        ]
        await ask(200, "POST", "/_worker/tasks/result", json=reports[0], headers=WORKER)
        await ask(200, "POST", "/_worker/tasks/result", json=reports, headers=WORKER)
        await ask(400, "POST", "/_worker/tasks/result", json={}, headers=WORKER)
        await ask(403, "POST", "/_worker/tasks/result", json={})

    async def renew_tokens(self) -> None:
        """Get a token of a worker's, and another for it."""
        ask = self.ask
        tokens = (await ask(200, "POST", "/_worker/auth/token", headers=WORKER)).json()
        again = {"refresh_token": tokens["refresh_token"]}
        path = "/_worker/auth/token/refresh"
        await ask(200, "POST", path, json=again, headers={"X-Worker-ID": "w1"})
        await ask(403, "POST", path, json=again, headers={"X-Worker-ID": "w1"})
        await ask(400, "POST", path, json=again)

    async def look(self, job_id: str) -> None:
        """Look at the first job and its files from all sides."""
        ask = self.ask
        job = f"/api/v1/jobs/{job_id}"
        ended = await ask(200, "GET", f"{job}?wait=5")
        assert ended.json()["result"] == {"size": 3}
        await ask(304, "GET", job, headers={"If-None-Match": ended.headers["etag"]})
        await ask(200, "GET", f"{job}/history?limit=2")
        tasks = (await ask(200, "GET", f"{job}/tasks")).json()["tasks"]
        assert tasks[0]["attempts"]
        await ask(200, "GET", f"{job}/events")
        await ask(409, "POST", f"{job}/cancel")
        await ask(409, "PUT", f"{job}/files/content/a", content=b"x")
        fresh = (await ask(202, "POST", "/api/v1/jobs/resize")).json()["job_id"]
        files = f"/api/v1/jobs/{fresh}/files"
        await ask(200, "PUT", f"{files}/content/a/b.bin", content=b"x")
        await ask(200, "GET", f"{files}/download/a/b.bin")
        await ask(404, "GET", f"{files}/download/a/c.bin")
        await ask(200, "GET", f"{files}?prefix=a/")
        await ask(200, "GET", f"{files}/upload?filename=a")
        await ask(400, "GET", f"{files}/upload")
        await ask(200, "POST", f"/api/v1/jobs/{fresh}/cancel", json={"reason": "r"})
        for one in (await ask(200, "GET", "/api/v1/jobs")).json()["jobs"]:
            await ask(200, "GET", f"/api/v1/jobs/{one['id']}/tasks")
            await ask(200, "GET", f"/api/v1/jobs/{one['id']}/history")

    async def administer(self) -> None:
        """Ask what is about no job."""
        ask = self.ask
        await ask(200, "GET", "/api/v1/blueprints")
        await ask(200, "GET", "/api/v1/blueprints/resize")
        await ask(200, "GET", "/api/v1/blueprints/resize/graph")
        await ask(404, "GET", "/api/v1/blueprints/nope")
        assert (await ask(200, "GET", "/api/v1/workers")).json()["workers"][0]["instances"]
        assert (await ask(200, "POST", "/api/v1/admin/reload-workers")).json()["generation"]
        known = (await ask(200, "GET", "/api/v1/admin/credentials")).json()
        assert (len(known["workers"]), len(known["clients"])) == (1, 1)
        assert (await ask(200, "GET", "/api/v1/admin/audit")).json()["audit"]
        for path in ("/healthz", "/livez", "/readyz", "/_public/status", "/version", "/metrics"):
            await ask(200, "GET", path)
        for path in ("/_public/metrics", "/_public/docs", "/openapi.json"):
            await ask(200, "GET", path)
        await ask(401, "GET", "/openapi.json", headers={"X-Client-Token": "wrong"})
        await ask(401, "GET", "/api/v1/jobs", headers={"X-Client-Token": "wrong"})


async def test_every_operation_answers_as_the_document_says(
    context: Context, document: dict[str, Any]
) -> None:
    documented = Documented(closed(document))
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        client.event_hooks["response"].append(documented.check)
        visitor = Visitor(client)
        job_id = await visitor.jobs()
        await visitor.work(job_id)
        await visitor.renew_tokens()
        await visitor.look(job_id)
        await visitor.administer()
        nursery.cancel_scope.cancel()
    elsewhere = {("get_file", 302)}  # see the next test
    assert documented.seen >= successes(document) - elsewhere


async def test_files_on_s3_answer_as_the_document_says(
    context: Context, document: dict[str, Any]
) -> None:
    context = attrs.evolve(context, blobs=MemoryBlobs(context.storage.now))
    documented = Documented(closed(document))
    async with open_client(context) as client:
        client.event_hooks["response"].append(documented.check)
        ask = Visitor(client).ask
        job_id = (await ask(202, "POST", "/api/v1/jobs/resize")).json()["job_id"]
        files = f"/api/v1/jobs/{job_id}/files"
        await ask(200, "PUT", f"{files}/content/a", content=b"x")
        await ask(302, "GET", f"{files}/download/a")
        await ask(200, "GET", f"{files}/upload?filename=a")


async def test_an_orchestrator_without_files_answers_as_the_document_says(
    document: dict[str, Any],
) -> None:
    documented = Documented(closed(document))
    async with open_client(make_context()) as client:
        client.event_hooks["response"].append(documented.check)
        ask = Visitor(client).ask
        job_id = (await ask(202, "POST", "/api/v1/jobs/resize")).json()["job_id"]
        await ask(501, "GET", f"/api/v1/jobs/{job_id}/files")


def test_app_and_document_have_the_same_routes(document: dict[str, Any]) -> None:
    app = create_quart(make_context())
    served_here = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    common = {it for it in served_here if not it[1].startswith("/api/")}
    common |= {it for it in served_here if it[1].startswith("/api/v1/")}
    common |= {(it.method, it.template) for it in (*STREAMED, *WORKER_ROUTES)}
    documented = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert documented == common
    aliases = {(method, path) for method, path in served_here if (method, path) not in common}
    unversioned = {("/".join(["/api", *path.split("/")[3:]]), method) for method, path in common}
    for method, path in aliases:
        alias = path.replace("/api/v2/", "/api/", 1)
        assert (alias, method) in unversioned, path


def test_a_route_without_a_handler_is_not_served() -> None:
    handlers = {it.id: it for it in CLIENT_ROUTES}
    assert len(served(CLIENT_ROUTES, handlers)) == len(CLIENT_ROUTES)
    with pytest.raises(LookupError, match="audit"):
        served(CLIENT_ROUTES, {name: it for name, it in handlers.items() if name != "audit"})
    with pytest.raises(LookupError, match="forgotten"):
        served(CLIENT_ROUTES, {**handlers, "forgotten": CLIENT_ROUTES[0]})


def test_a_route_is_found_by_method_and_path() -> None:
    find = finder(WORKER_ROUTES)
    route, named = find("GET", "/_worker/workers/w-1/tasks/next")
    assert route is not None
    assert (route.id, named) == ("poll", {"worker_id": "w-1"})
    for method, path in [
        ("POST", "/_worker/workers/w/tasks/next"),
        ("GET", "/_worker/workers/w/x/tasks/next"),
        ("GET", "/_worker/workers//tasks/next"),
        ("GET", "/_worker/workers/w/tasks/next/"),
    ]:
        assert find(method, path) == (None, {})


def test_the_document_has_what_programs_need(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    ids: list[str] = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            ids.append(operation["operationId"])
            assert operation["summary"], path
            assert any(status < "400" for status in operation["responses"]), path
            in_path = {it["name"] for it in operation["parameters"] if it.get("in") == "path"}
            assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            for parameter in operation["parameters"]:
                assert "$ref" in parameter or parameter["description"], (path, parameter)
    assert len(ids) == len(set(ids))


def test_releases_of_msgspec_do_not_differ_in_the_document(document: dict[str, Any]) -> None:
    members = [
        (name, member, schema)
        for name, of in document["components"]["schemas"].items()
        for member, schema in of.get("properties", {}).items()
    ]

    # From 0.23 on it tells the defaults that a factory makes.
    assert [it[:2] for it in members if it[2].get("default") in ({}, [])] == []
    assert any("default" in schema for _, _, schema in members)


def test_every_route_names_its_role_with_its_security(document: dict[str, Any]) -> None:
    for route in all_routes(make_blueprints()):
        security = document["paths"][route.template][route.method.lower()]["security"]
        roles = {role for it in security for named in it.values() for role in named}
        assert roles == ({str(route.role)} if route.role else set())
        assert ({} in security) is (route.caller is Caller.ANYBODY)


def test_every_error_code_belongs_to_a_route() -> None:
    told = json.dumps(create_document())
    # A method that a path does not have is no operation.
    assert {code for code in CODES if f"`{code}`" not in told} == {"method_not_allowed"}


def test_the_arguments_of_the_list_of_jobs_are_those_that_are_read() -> None:
    [route] = [it for it in CLIENT_ROUTES if it.id == "list_jobs"]
    assert {it.name for it in route.parameters} == {*_ARGUMENTS, "label.NAME"}


def test_requests_are_described_as_they_are_read(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Submission"]["additionalProperties"] is False
    assert schemas["Submission"]["properties"]["labels"]["maxProperties"] == 20
    assert schemas["Cancellation"]["properties"]["reason"]["maxLength"] == 1000
    assert "additionalProperties" not in schemas["Registration"]
    for route, most in (("tasks/result", 1000), ("events", 100)):
        body = document["paths"][f"/_worker/{route}"]["post"]["requestBody"]
        _, several = body["content"]["application/json"]["schema"]["anyOf"]
        assert several["maxItems"] == most
    revision = schemas["JobDetails"]["properties"]["revision"]
    assert revision == {
        "type": "integer",
        "description": "Grows by one with each change of the job.",
    }


# Who is shown what.


async def test_endpoints_of_blueprints_are_for_those_with_a_token(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    await let_in(context, "me", roles=(Role.VIEWER,))
    endpoint = "/api/v1/jobs/pictures"
    for path in ("/openapi.json", "/_public/docs"):
        async with open_client(context, token="") as client:
            told = await client.get(path)
            assert (told.status_code, endpoint in told.text) == (200, False)
            assert "resize" not in told.text
            for headers in (
                {"X-Client-Token": TOKEN},
                {"X-Client-Token": "token-of-me"},
            ):
                told = await client.get(path, headers=headers)
                assert (told.status_code, endpoint in told.text) == (200, True)
            told = await client.get(path, headers={"X-Client-Token": "wrong"})
            assert (told.status_code, told.json()["code"]) == (401, "token_unknown")


async def test_the_document_is_the_same_again(document: dict[str, Any]) -> None:
    async with open_client(make_context()) as client:
        first, second = [(await client.get("/openapi.json")).json() for _ in range(2)]
    assert first == second == json.loads(json.dumps(document))


async def test_a_worker_of_these_tests_is_one_of_the_document(document: dict[str, Any]) -> None:
    documented = Documented(closed(document))
    async with open_client(make_context()) as client:
        client.event_hooks["response"].append(documented.check)
        await Worker(client).register("scale")
    assert documented.seen == {("register", 200)}
