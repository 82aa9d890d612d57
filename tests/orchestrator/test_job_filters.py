"""Which jobs are listed: by label, by age, page by page."""

from typing import Any

import httpx
import pytest
import trio
from tests.orchestrator.clients import let_in, make_context, open_client
from trio.testing import MockClock


async def submit(client: httpx.AsyncClient, **labels: str) -> str:
    answer = await client.post("/api/v1/jobs/resize", json={"labels": labels})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


async def listed(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get("/api/v1/jobs", params=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["jobs"]]


async def test_jobs_are_listed_by_label() -> None:
    async with open_client(make_context()) as client:
        north = await submit(client, shop="north", size="a+b & c=d")
        south = await submit(client, shop="south", size="a+b & c=d")
        await submit(client)
        assert await listed(client, **{"label.shop": "north"}) == [north]
        assert set(await listed(client, **{"label.size": "a+b & c=d"})) == {north, south}
        both = {"label.shop": "south", "label.size": "a+b & c=d"}
        assert await listed(client, **both) == [south]
        assert await listed(client, **both, status="finished") == []
        assert await listed(client, **both, blueprint="resize") == [south]
        assert await listed(client, **{"label.shop": ""}) == []


async def test_others_jobs_are_not_found_by_their_labels() -> None:
    context = make_context()
    await let_in(context, "a")
    await let_in(context, "b")
    async with open_client(context, token="token-of-a") as client:
        await submit(client, shop="north")
    async with open_client(context, token="token-of-b") as client:
        mine = await submit(client, shop="north")
        assert await listed(client, **{"label.shop": "north"}) == [mine]


async def test_jobs_are_listed_by_age(autojump_clock: MockClock) -> None:
    async with open_client(make_context()) as client:
        ids, times = [], []
        for _ in range(3):
            ids.append(await submit(client))
            times.append((await client.get(f"/api/v1/jobs/{ids[-1]}")).json()["created_at"])
            await trio.sleep(10)
        assert await listed(client, created_after=times[1]) == [ids[2], ids[1]]
        assert await listed(client, created_before=times[1]) == [ids[0]]
        window = {"created_after": times[1], "created_before": times[2]}
        assert await listed(client, **window) == [ids[1]]
        local = times[1].replace("Z", "+00:00")
        assert await listed(client, created_before=local) == [ids[0]]
        east = "2023-11-15T03:13:20+05:00"  # the epoch of the tests
        assert set(await listed(client, created_after=east)) == set(ids)
        assert await listed(client, created_before=east) == []


@pytest.mark.parametrize("name", ["created_after", "created_before"])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "1767225600",
        "2026-02-30T12:00:00Z",
        "2026-01-31T12:00:60Z",
        "2026-01-31T12:00:00+99:00",
        "0001-01-01T00:00:00+23:00",
        "2026-01-31T12:00:00Z\n",
    ],
)
async def test_a_malformed_time_is_refused(name: str, text: str) -> None:
    async with open_client(make_context()) as client:
        answer = await client.get("/api/v1/jobs", params={name: text})
    if text.startswith("0001"):
        assert answer.status_code in (200, 400)  # as far back as the platform goes
        return
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["path"] == f"?{name}"
    assert "2026-01-31T12:00:00Z" in error["message"]


async def test_the_next_page_keeps_the_filters() -> None:
    async with open_client(make_context()) as client:
        wanted = {await submit(client, shop="a&b") for _ in range(5)}
        for _ in range(3):
            await submit(client, shop="other")
        query = {"label.shop": "a&b", "created_after": "2020-01-01T00:00:00+01:00", "limit": "2"}
        answer = await client.get("/api/v1/jobs", params=query)
        found = [job["id"] for job in answer.json()["jobs"]]
        while "next" in answer.links:
            answer = await client.get(answer.links["next"]["url"])
            assert answer.status_code == 200, answer.text
            found += [job["id"] for job in answer.json()["jobs"]]
    assert len(found) == 5
    assert set(found) == wanted


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("statuss", "did you mean 'status'?"),
        ("label", "label.NAME"),
        ("label.", "label.NAME"),
        ("createdafter", "did you mean 'created_after'?"),
        ("zzz", "it takes status"),
    ],
)
async def test_an_unknown_argument_is_refused(name: str, hint: str) -> None:
    async with open_client(make_context()) as client:
        answer = await client.get("/api/v1/jobs", params={name: "x"})
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["path"] == f"?{name}"
    assert hint in error["message"]


async def test_a_label_has_one_value() -> None:
    async with open_client(make_context()) as client:
        for name in ("a b", "é", "x" * 65, "a:b"):
            answer = await client.get("/api/v1/jobs", params={f"label.{name}": "1"})
            assert answer.status_code == 400
            assert answer.json()["errors"][0]["path"].startswith("?label.")
        answer = await client.get("/api/v1/jobs?label.a=1&label.a=2")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "?label.a"


@pytest.mark.parametrize(
    ("query", "hint"),
    [
        ("status=finished&status=failed", "give it once, with commas between its values"),
        ("fields=id&fields=status", "give it once, with commas between its values"),
        ("limit=1&limit=2", "is given more than once; give it once"),
        ("created_after=x&created_after=y", "is given more than once; give it once"),
    ],
)
async def test_nothing_that_is_asked_for_is_dropped_silently(query: str, hint: str) -> None:
    async with open_client(make_context()) as client:
        answer = await client.get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert error["path"] == f"?{query.partition('=')[0]}"
    assert hint in error["message"]
