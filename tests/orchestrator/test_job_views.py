"""Clients that want to see some members of a job, or only what is new."""

import pytest
import trio
from tests.orchestrator.clients import Worker, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._job_views import DETAILS, SUMMARY

JOB = "/api/v1/jobs/resize"


async def test_some_members_are_shown_and_always_the_id() -> None:
    async with open_client(make_context()) as client:
        job_id = (await client.post(JOB, json={"labels": {"a": "b"}})).json()["job_id"]
        one = await client.get(f"/api/v1/jobs/{job_id}?fields=status,labels,result")
        listed = await client.get("/api/v1/jobs?fields=client")
    assert one.json() == {"id": job_id, "status": "pending", "labels": {"a": "b"}}
    assert listed.json()["jobs"] == [{"id": job_id, "client": "client"}]


async def test_all_members_can_be_asked_for() -> None:
    async with open_client(make_context()) as client:
        job_id = (await client.post(JOB)).json()["job_id"]
        await client.post(f"/api/v1/jobs/{job_id}/cancel")
        one = (await client.get(f"/api/v1/jobs/{job_id}")).json()
        [listed] = (await client.get("/api/v1/jobs")).json()["jobs"]
    assert set(one) == set(DETAILS)
    assert set(listed) == set(SUMMARY)


@pytest.mark.parametrize(
    ("path", "name"),
    [("", "zzz"), ("", "result"), ("", ""), ("/nobodys", "initial_data"), ("/x", "state_history")],
)
async def test_an_unknown_member_is_refused(path: str, name: str) -> None:
    async with open_client(make_context()) as client:
        answer = await client.get(f"/api/v1/jobs{path}", params={"fields": f"status,{name}"})
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["path"] == "?fields"
    assert "there are: id, job_id" in error["message"]


async def test_what_the_client_has_is_not_sent_again() -> None:
    async with open_client(make_context()) as client:
        path = "/api/v1/jobs/" + (await client.post(JOB)).json()["job_id"]
        etag = (await client.get(path)).headers["etag"]
        for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
            same = await client.get(path, headers={"If-None-Match": known})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
            assert "content-type" not in same.headers
            assert "content-length" not in same.headers  # it would be that of the body
        assert (await client.get(path, headers={"If-None-Match": '"x"'})).status_code == 200
        in_lines = [("If-None-Match", '"other"'), ("If-None-Match", etag)]
        assert (await client.get(path, headers=in_lines)).status_code == 304
        fewer = await client.get(f"{path}?fields=id", headers={"If-None-Match": etag})
        assert fewer.status_code == 200
        await client.post(f"{path}/cancel")
        changed = await client.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


async def test_progress_is_news(autojump_clock: MockClock) -> None:
    context = make_context()
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        worker = Worker(client)
        await worker.register("scale")
        path = "/api/v1/jobs/" + (await client.post(JOB)).json()["job_id"]
        await trio.sleep(1)
        [task] = await worker.take()
        etag = (await client.get(path)).headers["etag"]
        await worker.report_progress(task, 0.5)
        news = await client.get(path, headers={"If-None-Match": etag})
        nursery.cancel_scope.cancel()
    assert news.status_code == 200
    assert [it["progress"] for it in news.json()["progress"]] == [0.5]


async def test_nobody_learns_of_others_jobs_by_their_tags() -> None:
    async with open_client(make_context()) as client:
        answer = await client.get("/api/v1/jobs/p00-nobodys", headers={"If-None-Match": "*"})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("path", "argument", "hint"),
    [
        ("", "wiat=30", "did you mean 'wait'?"),
        ("", "field=id", "did you mean 'fields'?"),
        ("/history", "offset=3", "it takes after, limit"),
        ("/tasks", "nope=3", "takes no arguments; leave it out"),
        ("", "wait=0&wait=1", "more than once"),
    ],
)
async def test_an_argument_that_a_route_does_not_have_is_refused(
    path: str, argument: str, hint: str
) -> None:
    async with open_client(make_context()) as client:
        url = "/api/v1/jobs/" + (await client.post(JOB)).json()["job_id"] + path
        answer = await client.get(f"{url}?{argument}")
        posted = await client.post(f"{JOB}?wait=1")
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["path"] == "?" + argument.partition("=")[0]
    assert hint in error["message"]
    assert posted.status_code == 400
