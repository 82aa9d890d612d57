"""Clients submit, follow, list and cancel jobs, and look at blueprints and workers."""

import contextlib
import gzip
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import httpx
import pytest
import trio
from tests.orchestrator.clients import (
    EPOCH,
    TOKEN,
    Worker,
    http_scope,
    let_in,
    make_context,
    open_client,
)
from trio.testing import MockClock

from avtomatika_trio._core.access import Role
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.storage._memory import MemoryStorage
from avtomatika_trio.storage._signals import JobWaiter


@contextlib.asynccontextmanager
async def open_orchestrator(context: Context | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an orchestrator whose engine runs."""
    parts = context or make_context()
    async with open_client(parts) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, parts)
        yield client
        nursery.cancel_scope.cancel()


async def submit(client: httpx.AsyncClient, blueprint: str = "walk", **data: Any) -> str:
    answer = await client.post(f"/api/v1/jobs/{blueprint}", json={"initial_data": data})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


# Tokens.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Client-Token", TOKEN),
        ("X-Avtomatika-Token", TOKEN),
        ("Authorization", f"Bearer {TOKEN}"),
        ("Authorization", f"bearer  {TOKEN}"),
    ],
)
async def test_the_token_is_taken_from_each_of_its_headers(name: str, value: str) -> None:
    async with open_client(make_context()) as client:
        del client.headers["X-Client-Token"]
        answer = await client.get("/api/v1/jobs", headers={name: value})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "token_missing"),
        ({"X-Client-Token": ""}, "token_unknown"),
        ({"X-Client-Token": TOKEN + "x"}, "token_unknown"),
        ({"X-Client-Token": b"\xff\xfe"}, "token_unknown"),
        ({"Authorization": f"Basic {TOKEN}"}, "token_missing"),
        ({"Authorization": "Bearer"}, "token_unknown"),
    ],
)
async def test_without_the_right_token_nothing_is_told(headers: dict[str, Any], code: str) -> None:
    async with open_client(make_context()) as client:
        del client.headers["X-Client-Token"]
        for path in ("/api/v1/jobs", "/api/jobs/x", "/api/v1/blueprints", "/api/v1/workers"):
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == 'Bearer realm="avtomatika"'
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == code


async def test_an_empty_configured_token_admits_nobody() -> None:
    context = attrs.evolve(make_context(), client_token="")
    async with open_client(context, token="") as client:
        assert (await client.get("/api/v1/jobs")).status_code == 401


# Submitting.


async def test_one_job_is_accepted_and_can_be_found_where_location_says() -> None:
    async with open_client(make_context()) as client:
        answer = await client.post(
            "/api/v1/jobs/resize", json={"initial_data": {"width": 3}, "max_transitions": 7}
        )
        assert answer.status_code == 202
        job_id = answer.json()["job_id"]
        assert answer.json() == {"job_id": job_id, "status": "accepted"}
        assert answer.headers["location"] == f"/api/v1/jobs/{job_id}"
        job = (await client.get(answer.headers["location"])).json()
    assert job["status"] == "pending"


async def test_a_job_that_waits_is_told_in_full(autojump_clock: MockClock) -> None:
    context = make_context()
    async with open_client(context) as client:
        await trio.sleep(0.25)
        job_id = await submit(client, "resize", width=3)
        job = (await client.get(f"/api/jobs/{job_id}")).json()
    created_at = job.pop("created_at")
    assert created_at.startswith("20")
    assert created_at.endswith("Z")
    assert job == {
        "id": job_id,
        "job_id": job_id,
        "blueprint_name": "resize",
        "tracing_context": {},
        "labels": {},
        "client": "client",
        "status": "pending",
        "state": "start",
        "revision": 1,
        "transitions": 0,
        "error": None,
        "updated_at": created_at,
        "progress": [],
    }


async def test_times_are_rfc_3339_in_utc() -> None:
    storage = MemoryStorage(now=lambda: EPOCH + 0.25)
    async with open_client(make_context(storage)) as client:
        job_id = await submit(client)
        job = (await client.get(f"/api/v1/jobs/{job_id}")).json()
    assert job["created_at"] == "2023-11-14T22:13:20.250Z"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/jobs/resize",
        "/api/jobs/resize",
        "/api/v1/jobs/pictures",
        "/api/jobs/pictures",
        "/api/v2/jobs/walk",
    ],
)
async def test_a_blueprint_is_at_its_name_at_its_endpoint_and_under_its_version(path: str) -> None:
    async with open_client(make_context()) as client:
        answer = await client.post(path)
        assert answer.status_code == 202, answer.text
        job = (await client.get(answer.headers["location"])).json()
    assert job["blueprint_name"] == ("walk" if "walk" in path else "resize")


async def test_a_job_can_be_looked_up_under_an_id_that_is_also_an_endpoint() -> None:
    async with open_client(make_context()) as client:
        answer = await client.get("/api/v1/jobs/pictures")
    assert answer.status_code == 404
    assert answer.json()["code"] == "job_not_found"


async def test_a_list_is_accepted_in_order() -> None:
    context = make_context()
    async with open_client(context) as client:
        bodies = [{"initial_data": {"n": n}} for n in range(1000)]
        answer = await client.post("/api/v1/jobs/resize", json=bodies)
        assert answer.status_code == 202
        accepted = answer.json()["jobs"]
    assert len(accepted) == 1000
    assert all(one["status"] == "accepted" for one in accepted)
    numbers = []
    for one in accepted:
        job = await context.storage.job(one["job_id"])
        assert job is not None
        numbers.append(job.initial_data["n"])
    assert numbers == list(range(1000))


async def test_a_list_is_accepted_as_a_whole_or_not_at_all() -> None:
    async with open_client(make_context()) as client:
        bodies: list[Any] = [{}, {"max_transitions": 101}, {"initial": {}}, {"initial_data": 1}]
        answer = await client.post("/api/v1/jobs/resize", json=bodies)
        assert answer.status_code == 400
        paths = [problem["path"] for problem in answer.json()["errors"]]
        assert paths == ["$[2].initial", "$[3].initial_data"]
        answer = await client.post("/api/v1/jobs/resize", json=bodies[:2])
        assert answer.json()["errors"] == [
            {
                "path": "$[1].max_transitions",
                "message": "must be from 1 to 100 (MAX_TRANSITIONS_PER_JOB)",
            }
        ]
        assert (await client.get("/api/v1/jobs")).json()["jobs"] == []


async def test_an_empty_list_is_no_job() -> None:
    async with open_client(make_context()) as client:
        answer = await client.post("/api/v1/jobs/resize", content=b" [] ")
    assert (answer.status_code, answer.json()) == (202, {"jobs": []})


async def test_more_than_a_thousand_jobs_in_one_submission_are_refused() -> None:
    async with open_client(make_context()) as client:
        answer = await client.post("/api/v1/jobs/resize", json=[{}] * 1001)
    assert answer.status_code == 400
    assert "at most 1000 jobs" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b"{", "$"),
        (b"3", "$"),
        (b"null", "$"),
        (b"\xff", "$"),
        (b'{"initial_data": {"a": "\xff"}}', "$"),
        (b'{"initial_data": {"a": "\\ud800"}}', "$"),
        (b'{"initial_data": {"a": 1e999}}', "$"),
        (b'{"initial_data": []}', "$.initial_data"),
        (b'{"initial_data": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}", "$.initial_data"),
        (b'{"max_transitions": 0}', "$.max_transitions"),
        (b'{"max_transitions": true}', "$.max_transitions"),
        (b'{"max_transitions": 2.5}', "$.max_transitions"),
        (b'{"max_transitions": 1' + b"0" * 50 + b"}", "$.max_transitions"),
        (b'{"webhook_url": "http://x"}', "$.webhook_url"),
        (b"[{}, 3]", "$[1]"),
    ],
)
async def test_a_malformed_submission_is_refused_with_the_path(body: bytes, path: str) -> None:
    async with open_client(make_context()) as client:
        answer = await client.post("/api/v1/jobs/resize", content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "invalid_message"
    assert [problem["path"] for problem in answer.json()["errors"]] == [path]


async def test_a_submission_too_deep_for_the_parser_is_refused() -> None:
    body = b'{"initial_data": {"a": ' + b"[" * 9000 + b"]" * 9000 + b"}}"
    async with open_client(make_context()) as client:
        answer = await client.post("/api/v1/jobs/resize", content=body)
    assert answer.status_code == 400
    # Pythons differ in how deep they read.
    assert answer.json()["errors"][0]["path"] in {"$", "$.initial_data"}


async def test_an_unknown_blueprint_is_refused_naming_those_that_are_known() -> None:
    async with open_client(make_context()) as client:
        answer = await client.post("/api/v1/jobs/rezise")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "there is no blueprint 'rezise'; known here: resize, walk"


# Following one job.


async def test_the_result_is_told_once_the_job_is_final(autojump_clock: MockClock) -> None:
    async with open_orchestrator() as client:
        job_id = await submit(client, pause=5)
        job = (await client.get(f"/api/v1/jobs/{job_id}?wait=30")).json()
        assert trio.current_time() == 5
    assert job["status"] == "finished"
    assert job["result"] == {"walked": True}
    assert job["transitions"] == 2


async def test_a_wait_ends_with_its_time_and_tells_how_the_job_stands(
    autojump_clock: MockClock,
) -> None:
    async with open_orchestrator() as client:
        job_id = await submit(client, pause=50)
        job = (await client.get(f"/api/v1/jobs/{job_id}?wait=3.5")).json()
        assert trio.current_time() == 3.5
        assert (job["state"], job["status"]) == ("middle", "running")
        assert "result" not in job


async def test_a_wait_is_cut_at_a_minute(autojump_clock: MockClock) -> None:
    async with open_client(make_context()) as client:
        job_id = await submit(client)
        await client.get(f"/api/v1/jobs/{job_id}?wait=1e300")
        assert trio.current_time() == 60


async def test_a_wait_after_a_revision_ends_with_the_next_change(
    autojump_clock: MockClock,
) -> None:
    async with open_orchestrator() as client:
        job_id = await submit(client, pause=5)
        path = f"/api/v1/jobs/{job_id}"
        known = (await client.get(f"{path}?wait=1")).json()["revision"]
        assert trio.current_time() == 1
        earlier = (await client.get(f"{path}?wait=30&after={known - 1}")).json()
        assert (trio.current_time(), earlier["revision"]) == (1, known)
        later = (await client.get(f"{path}?wait=30&after={known}")).json()
        assert (trio.current_time(), later["revision"]) == (5, known + 1)
        # It has ended, so there will be no more news.
        await client.get(f"{path}?wait=30&after={known + 1}")
        assert trio.current_time() == 5


async def test_a_wait_ends_when_the_orchestrator_drains(autojump_clock: MockClock) -> None:
    context = make_context()
    async with open_client(context) as client:
        job_id = await submit(client)

        async def drain() -> None:
            await trio.sleep(2)
            context.draining.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            answer = await client.get(f"/api/v1/jobs/{job_id}?wait=30")
        assert answer.json()["status"] == "pending"
        again = await client.get(f"/api/v1/jobs/{job_id}?wait=30")
        assert again.json()["status"] == "pending"
        assert trio.current_time() == 2


class Counting(MemoryStorage):
    """A storage that knows how many follow a job."""

    followers = 0

    @contextlib.contextmanager
    def job_news(self, job_id: str) -> Iterator[JobWaiter]:
        with super().job_news(job_id) as news:
            self.followers += 1
            try:
                yield news
            finally:
                self.followers -= 1


async def test_a_waiting_client_that_goes_away_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    storage = Counting(now=lambda: EPOCH)
    context = make_context(storage)
    async with open_client(context) as client:
        job_id = await submit(client)
    gone = trio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = http_scope("GET", f"/api/v1/jobs/{job_id}", b"wait=30")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(create_app(context), scope, receive, send)
        await trio.sleep(1)
        assert storage.followers == 1
        gone.set()
    assert trio.current_time() == 1
    assert storage.followers == 0
    assert sent == []


class BreaksLater(MemoryStorage):
    """A storage that is gone from the second read of a job on."""

    reads = 0

    async def job(self, job_id: str) -> Any:
        self.reads += 1
        if self.reads > 1:
            raise StorageUnavailable("the disk is gone")
        return await super().job(job_id)


async def test_a_storage_that_breaks_during_a_wait_is_reported() -> None:
    context = make_context(BreaksLater(now=lambda: EPOCH))
    async with open_client(context) as client:
        job_id = await submit(client)
        answer = await client.get(f"/api/v1/jobs/{job_id}?wait=30")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["code"] == "storage_unavailable"
    assert answer.json()["detail"] == "the disk is gone"


@pytest.mark.parametrize(
    "query",
    ["wait=x", "wait=-1", "wait=nan", "wait=inf", "after=-1", "after=x", "after=" + "9" * 30],
)
async def test_an_absurd_query_is_refused_with_its_name(query: str) -> None:
    async with open_client(make_context()) as client:
        job_id = await submit(client)
        answer = await client.get(f"/api/v1/jobs/{job_id}?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "?" + query.partition("=")[0]


@pytest.mark.parametrize("below", ["", "/history", "/tasks"])
async def test_an_unknown_job_is_not_found(below: str) -> None:
    async with open_client(make_context()) as client:
        for job_id in ("nope", "%00", "a" * 3000, "%C3%A9", "%ff", "p00-%2e%2e"):
            answer = await client.get(f"/api/v1/jobs/{job_id}{below}")
            assert answer.status_code == 404
            assert answer.json()["code"] == "job_not_found"
            assert len(answer.json()["detail"]) < 600


async def test_a_job_of_somebody_else_does_not_exist() -> None:
    context = make_context()
    await let_in(context, "me", roles=(Role.SUBMITTER,))
    async with open_client(context, token="token-of-me") as client:
        job_id = await submit(client)
        mine = await context.storage.job(job_id)
        assert mine is not None
        theirs = attrs.evolve(mine, id="p00-theirs", client="somebody else")
        await context.storage.commit(lambda ledger: ledger.put_job(theirs))
        path = "/api/v1/jobs/p00-theirs"
        client.headers["X-Request-ID"] = "all-alike"
        unknown = await client.get("/api/v1/jobs/p00-nobodys")
        answers = [
            await client.get(path),
            await client.get(f"{path}?wait=30"),
            await client.get(f"{path}/history"),
            await client.get(f"{path}/tasks"),
            await client.post(f"{path}/cancel"),
        ]
        listed = (await client.get("/api/v1/jobs")).json()["jobs"]
    expected = unknown.json() | {
        "detail": "there is no job 'p00-theirs'",
        "error": "there is no job 'p00-theirs'",
    }
    assert [(answer.status_code, answer.json()) for answer in answers] == [(404, expected)] * 5
    assert [job["id"] for job in listed] == [job_id]


# What workers do, as the client sees it.


async def test_progress_history_and_attempts_of_a_task_are_told(
    autojump_clock: MockClock,
) -> None:
    async with open_orchestrator() as client:
        worker = Worker(client)
        await worker.register("scale")
        job_id = await submit(client, "resize", width=3)
        await trio.sleep(1)
        [task] = await worker.take()
        await worker.report_progress(task, 0.5)
        job = (await client.get(f"/api/v1/jobs/{job_id}")).json()
        [workers] = (await client.get("/api/v1/workers")).json()["workers"]
        await worker.report(task, data={"size": 9})
        done = (await client.get(f"/api/v1/jobs/{job_id}?wait=30")).json()
        tasks = (await client.get(f"/api/v1/jobs/{job_id}/tasks")).json()["tasks"]
        events = (await client.get(f"/api/v1/jobs/{job_id}/history")).json()
    assert job["status"] == "waiting_for_worker"
    [progress] = job["progress"]
    assert (progress["progress"], progress["message"]) == (0.5, "half way")
    assert workers["worker_id"] == "w1"
    [instance] = workers["instances"]
    assert (instance["instance"], instance["leases"]) == ("w1-run-1", 1)
    assert (instance["skills"], instance["gone"]) == (["scale"], False)
    assert (done["status"], done["result"], done["progress"]) == ("finished", {"size": 9}, [])
    [told] = tasks
    assert (told["skill"], told["status"], told["result_status"]) == ("scale", "done", "success")
    [attempt] = told["attempts"]
    assert (attempt["number"], attempt["worker_id"]) == (1, "w1")
    assert attempt["status"] == "succeeded"
    assert [event["event_type"] for event in events][:2] == ["job_created", "task_dispatched"]
    assert [event["event_id"] for event in events] == sorted(e["event_id"] for e in events)
    by_worker = [event for event in events if event["worker_id"] == "w1"]
    assert by_worker
    assert by_worker[0]["attempt"] == 1


async def test_what_a_worker_announced_of_its_skills_is_told(autojump_clock: MockClock) -> None:
    skill = {"name": "scale", "version": "2", "input_schema": {"type": "object"}}
    async with open_orchestrator() as client:
        worker = Worker(client)
        await worker.register("scale", supported_skills=[{**skill, "description": None}])
        [workers] = (await client.get("/api/v1/workers")).json()["workers"]
    assert workers["instances"][0]["announced"] == [skill]


async def test_history_comes_in_pages_linked_to_each_other(autojump_clock: MockClock) -> None:
    async with open_orchestrator() as client:
        job_id = await submit(client)
        await client.get(f"/api/v1/jobs/{job_id}?wait=30")
        whole = (await client.get(f"/api/v1/jobs/{job_id}/history")).json()
        url: str | None = f"/api/v1/jobs/{job_id}/history?limit=2"
        pages = []
        while url is not None:
            answer = await client.get(url)
            pages.append(answer.json())
            url = answer.links["next"]["url"] if answer.links else None
    assert [len(page) for page in pages] == [2, len(whole) - 2]
    assert [event for page in pages for event in page] == whole


# Lists.


async def test_jobs_are_listed_newest_first_in_pages(autojump_clock: MockClock) -> None:
    async with open_client(make_context()) as client:
        ids = []
        for _ in range(5):
            ids.append(await submit(client))
            await trio.sleep(1 / 3)
        first = await client.get("/api/v1/jobs?limit=2&blueprint=walk")
        body = first.json()
        second = await client.get(first.links["next"]["url"])
        third = await client.get(
            "/api/v1/jobs",
            params={"limit": 2, "cursor": second.json()["next_cursor"]},
        )
    pages = [[job["id"] for job in page.json()["jobs"]] for page in (first, second, third)]
    assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
    assert body["next_cursor"] in first.links["next"]["url"]
    assert third.json()["next_cursor"] is None
    assert "next" not in third.links
    assert "result" not in body["jobs"][0]


async def test_jobs_are_filtered_by_status_and_blueprint(autojump_clock: MockClock) -> None:
    async with open_orchestrator() as client:
        walked = await submit(client, "walk")
        resized = await submit(client, "resize")
        await trio.sleep(1)

        async def listed(query: str) -> list[str]:
            answer = await client.get(f"/api/v1/jobs?{query}")
            return [job["id"] for job in answer.json()["jobs"]]

        assert await listed("status=finished") == [walked]
        assert await listed("status=waiting_for_worker,failed") == [resized]
        assert await listed("status=finished,waiting_for_worker&blueprint=walk") == [walked]
        assert await listed("status=waiting_for_parallel_tasks") == []
        assert await listed("blueprint=nobody") == []


async def test_an_unknown_status_is_refused_with_the_choices() -> None:
    async with open_client(make_context()) as client:
        answer = await client.get("/api/v1/jobs?status=finished,done")
    assert answer.status_code == 400
    [problem] = answer.json()["errors"]
    assert problem["path"] == "?status"
    assert "'done'" in problem["message"]
    assert all(status in problem["message"] for status in JobStatus)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=1e3",
        "limit=%EF%BC%91",
        "cursor=",
        "cursor=x",
        "cursor=%00",
        "cursor=%C3%A9",
        "cursor=bnVsbA",
        "cursor=_____w",
        "cursor=eyJhdCI6MSwiaWQiOiJ4In0x",
        "status=",
    ],
)
async def test_an_absurd_page_is_refused(query: str) -> None:
    async with open_client(make_context()) as client:
        answer = await client.get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "?" + query.partition("=")[0]


# Cancelling.


async def test_a_cancelled_job_tells_why() -> None:
    async with open_client(make_context()) as client:
        job_id = await submit(client)
        path = f"/api/v1/jobs/{job_id}/cancel"
        answer = await client.post(path, json={"reason": "too late"})
        assert answer.status_code == 200
        assert answer.json()["status"] == "cancellation_request_accepted"
        job = answer.json()["job"]
        assert (job["status"], job["error"]["message"]) == ("cancelled", "too late")
        again = await client.post(path)
    assert again.status_code == 409
    assert again.json()["code"] == "job_is_final"
    assert again.json()["detail"] == f"job '{job_id}' is cancelled already"


@pytest.mark.parametrize("path", ["resize", "JOB/cancel"])
async def test_a_body_that_is_packed_is_refused_as_that(path: str) -> None:
    async with open_client(make_context()) as client:
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]
        url = f"/api/v1/jobs/{path.replace('JOB', job_id)}"
        packed = {"Content-Encoding": "GZIP"}
        refused = await client.post(url, content=gzip.compress(b"{}"), headers=packed)
        plain = await client.post(url, content=b"{}", headers={"Content-Encoding": "identity"})
    assert (refused.status_code, refused.json()["code"]) == (415, "body_packed")
    assert "Content-Encoding: gzip" in refused.json()["detail"]
    assert refused.headers["accept-encoding"] == "identity"
    assert plain.is_success


async def test_a_cancel_needs_no_body_and_refuses_a_wrong_one() -> None:
    async with open_client(make_context()) as client:
        job_id = await submit(client)
        path = f"/api/v1/jobs/{job_id}/cancel"
        for body, where in (
            (b'{"reasn": "x"}', "$.reasn"),
            (b'{"reason": 3}', "$.reason"),
            (b'{"reason": "' + b"x" * 1001 + b'"}', "$.reason"),
        ):
            answer = await client.post(path, content=body)
            assert answer.status_code == 400
            assert answer.json()["errors"][0]["path"] == where
        assert (await client.post(path)).status_code == 200


async def test_a_cancel_ends_a_wait_at_once(autojump_clock: MockClock) -> None:
    async with open_client(make_context()) as client:
        job_id = await submit(client)

        async def cancel() -> None:
            await trio.sleep(2)
            await client.post(f"/api/v1/jobs/{job_id}/cancel")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            job = (await client.get(f"/api/v1/jobs/{job_id}?wait=30")).json()
        assert (trio.current_time(), job["status"]) == (2, "cancelled")


# Blueprints.


async def test_blueprints_are_listed_with_their_endpoints() -> None:
    async with open_client(make_context()) as client:
        answer = await client.get("/api/v1/blueprints")
    assert answer.json() == {
        "blueprints": [
            {
                "name": "resize",
                "endpoints": ["/api/v1/jobs/pictures", "/api/v1/jobs/resize"],
                "states": 2,
            },
            {"name": "walk", "endpoints": ["/api/v1/jobs/walk"], "states": 3},
        ]
    }


async def test_a_graph_comes_as_dot_and_as_json() -> None:
    async with open_client(make_context()) as client:
        dot = await client.get("/api/v1/blueprints/resize/graph")
        json = (await client.get("/api/v1/blueprints/resize")).json()
        unknown = await client.get("/api/v1/blueprints/nope/graph")
    assert dot.headers["content-type"] == "text/vnd.graphviz; charset=utf-8"
    assert dot.text.startswith('digraph "resize" {')
    assert '"start" -> "done"' in dot.text
    assert json["start"] == "start"
    assert [state["name"] for state in json["states"]] == ["start", "done"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "blueprint_not_found")
