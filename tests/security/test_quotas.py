"""`monthly_attempts`: only submissions count, per calendar month where the installation is."""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from tests.orchestrator.clients import blueprints, let_in, make_context, open_client

from avtomatika_trio.orchestrator._context import Context, Security
from avtomatika_trio.storage import open_storage
from avtomatika_trio.storage._memory import MemoryStorage
from avtomatika_trio.testing.conformance import SetClock

JOBS = "/api/v1/jobs/walk"


async def test_only_submissions_count_and_each_job_of_a_list() -> None:
    context = make_context()
    await let_in(context, "me", monthly_attempts=4)
    async with open_client(context, token="token-of-me") as client:
        job_id = (await client.post(JOBS)).json()["job_id"]
        for _ in range(20):
            assert (await client.get(f"/api/v1/jobs/{job_id}")).status_code == 200
            assert (await client.get("/api/v1/jobs")).status_code == 200
        assert (await client.post("/api/v1/jobs/nothing")).status_code == 404
        assert (await client.post(JOBS, content=b"{")).status_code == 400
        assert (await client.post(JOBS, json=[{}, {}, {}, {}])).status_code == 429
        assert (await client.post(JOBS, json=[{}, {}, {}])).status_code == 202
        refused = await client.post(JOBS)
        assert len((await client.get("/api/v1/jobs")).json()["jobs"]) == 4
    assert refused.status_code == 429
    assert refused.json()["code"] == "quota_exceeded"
    assert "4 of the 4 jobs of this month are used" in refused.json()["detail"]


async def test_others_and_those_without_a_quota_are_not_counted() -> None:
    context = make_context()
    await let_in(context, "me", monthly_attempts=0)
    await let_in(context, "other")
    for token, status in (("token-of-me", 429), ("token-of-other", 202)):
        async with open_client(context, token=token) as client:
            assert (await client.post(JOBS)).status_code == status
    async with open_client(context) as client:
        assert (await client.post(JOBS)).status_code == 202


async def test_a_month_begins_where_the_installation_is() -> None:
    # 23:30 on the last of November in Rio is half past two in the December of UTC.
    rio = ZoneInfo("America/Sao_Paulo")
    clock = SetClock(datetime(2026, 11, 30, 23, 30, tzinfo=rio).timestamp())
    context = Context(
        storage=MemoryStorage(now=clock),
        blueprints=blueprints(),
        client_token="c",
        worker_token="w",
        security=Security(time_zone=rio),
    )
    await let_in(context, "me", monthly_attempts=1)
    async with open_client(context, token="token-of-me") as client:
        assert (await client.post(JOBS)).status_code == 202
        refused = await client.post(JOBS)
        assert refused.status_code == 429
        assert 1700 <= int(refused.headers["retry-after"]) <= 1801
        clock.time += int(refused.headers["retry-after"])
        assert (await client.post(JOBS)).status_code == 202


async def test_quotas_survive_a_restart(tmp_path: Path) -> None:
    statuses = []
    for _ in range(3):
        now = datetime(2026, 5, 5, tzinfo=UTC).timestamp
        async with open_storage(f"sqlite:{tmp_path / 'a.db'}", now=now) as storage:
            context = make_context(storage)
            if await storage.access() is None:
                await let_in(context, "me", monthly_attempts=2)
            await context.access.open()
            async with open_client(context, token="token-of-me") as client:
                answer: httpx.Response = await client.post(JOBS)
                statuses.append(answer.status_code)
    assert statuses == [202, 202, 429]
