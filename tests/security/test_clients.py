"""Clients of `clients.toml`: what their handlers see, and what a withdrawal does to them."""

from pathlib import Path
from typing import Any

import pytest
import trio
from tests.orchestrator.clients import let_in as let_client_in, make_context, open_client
from tests.security.credentials import let_in
from trio.testing import MockClock

from avtomatika_trio import Blueprint
from avtomatika_trio._core.access import Role
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._credential_files import CredentialFiles
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.storage import MemoryStorage

seen: list[Any] = []
looks = Blueprint("looks")


@looks.handler(is_start=True)
async def look(actions: Any, client: Any) -> None:
    seen.append(client)
    actions.go_to("done")


@looks.handler(is_end=True)
async def done(client: Any) -> Any:
    return {"plan": client.plan, "languages": client.params.get("languages"), "id": str(client)}


async def test_handlers_see_plan_and_params_of_who_submitted(autojump_clock: MockClock) -> None:
    context = Context(
        storage=MemoryStorage(now=trio.current_time),
        blueprints=Blueprints([looks]),
        client_token="c",
        worker_token="w",
    )
    await let_client_in(context, "acme", plan="gold", params={"languages": ["en"]})
    async with open_client(context, token="token-of-acme") as client, trio.open_nursery() as loops:
        loops.start_soon(run_engine, context)
        job_id = (await client.post("/api/v1/jobs/looks")).json()["job_id"]
        job = (await client.get(f"/api/v1/jobs/{job_id}?wait=10")).json()
        assert job["result"] == {"plan": "gold", "languages": ["en"], "id": "acme"}
        loops.cancel_scope.cancel()


async def test_a_removed_client_is_refused_also_while_it_waits(autojump_clock: MockClock) -> None:
    context = make_context()
    await let_client_in(context, "acme")
    async with open_client(context, token="token-of-acme") as client, trio.open_nursery() as loops:
        loops.start_soon(context.access.run, context.rules)
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]

        async def withdraw() -> None:
            await trio.sleep(3)
            await let_in(context.storage, clients={"other": ["token"]})

        loops.start_soon(withdraw)
        answer = await client.get(f"/api/v1/jobs/{job_id}?wait=60")
        assert answer.status_code == 401
        assert trio.current_time() < 4
        assert (await client.get("/api/v1/jobs")).status_code == 401
        loops.cancel_scope.cancel()


async def test_a_new_token_beside_the_old_one_ends_nothing(autojump_clock: MockClock) -> None:
    context = make_context()
    await let_in(context.storage, clients={"acme": ["the-old-token"]})
    await context.access.open()
    async with open_client(context, token="the-old-token") as client, trio.open_nursery() as loops:
        loops.start_soon(context.access.run, context.rules)
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]

        async def rotate() -> None:
            await trio.sleep(3)
            await let_in(context.storage, clients={"acme": ["new-token", "the-old-token"]})

        loops.start_soon(rotate)
        assert (await client.get(f"/api/v1/jobs/{job_id}?wait=10")).status_code == 200
        assert trio.current_time() > 9
        loops.cancel_scope.cancel()


async def test_an_expired_client_is_refused(autojump_clock: MockClock) -> None:
    context = make_context()
    await let_client_in(context, "acme", expires_at=context.storage.now() + 10)
    async with open_client(context, token="token-of-acme") as client:
        assert (await client.get("/api/v1/jobs")).status_code == 200
        await trio.sleep(11)
        assert (await client.get("/api/v1/jobs")).status_code == 401


# From the files to the storage; real files, so real time.


def with_files(folder: Path, storage: MemoryStorage) -> Context:
    return Context(
        storage=storage,
        blueprints=Blueprints([looks]),
        client_token="c",
        worker_token="w",
        files=CredentialFiles(workers=folder / "w.toml", clients=folder / "c.toml"),
    )


async def test_a_file_is_applied_at_the_first_start_and_by_a_reload(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = MemoryStorage(now=trio.current_time)
    (tmp_path / "w.toml").write_text('[w1]\ntoken = "the-token-of-one"\n')
    (tmp_path / "c.toml").write_text('[acme]\ntoken = "the-token-of-acme"\nroles = ["admin"]\n')
    first = with_files(tmp_path, storage)
    await first.access.open()
    assert first.access.worker_credential("w1", "the-token-of-one") is not None
    client = first.access.client("the-token-of-acme")
    assert client is not None
    assert client.roles == (Role.ADMIN,)

    (tmp_path / "w.toml").write_text('[w2]\ntoken = "the-token-of-two"\n')
    second = with_files(tmp_path, storage)
    await second.access.open()  # the storage wins
    assert "added w2; removed w1" in caplog.text
    assert second.access.worker_credential("w1", "the-token-of-one") is not None
    assert second.access.worker_credential("w2", "the-token-of-two") is None

    applied = await second.access.reload("root", "127.0.0.1", second.rules)
    assert (applied.workers.added, applied.workers.removed) == (("w2",), ("w1",))
    assert not applied.clients
    assert second.access.worker_credential("w1", "the-token-of-one") is None
    assert second.access.worker_credential("w2", "the-token-of-two") is not None


async def test_a_malformed_file_changes_nothing(tmp_path: Path) -> None:
    storage = MemoryStorage(now=trio.current_time)
    (tmp_path / "w.toml").write_text('[w1]\ntoken = "the-token-of-one"\n')
    (tmp_path / "c.toml").touch()
    context = with_files(tmp_path, storage)
    await context.access.open()
    before = await storage.access()
    (tmp_path / "w.toml").write_text("")  # well formed, and would let nobody in
    (tmp_path / "c.toml").write_text("[client]\ntoken = 5\n")
    with pytest.raises(ConfigError) as caught:
        await context.access.reload("root", "127.0.0.1", context.rules)
    assert len(caught.value.problems) == 1
    assert "c.toml line 2, token" in caught.value.problems[0]
    assert await storage.access() == before
    assert context.access.worker_credential("w1", "the-token-of-one") is not None
    assert context.files.clear == {"w1": ("the-token-of-one",)}


async def test_a_file_that_has_vanished_is_a_mistake_and_no_withdrawal(tmp_path: Path) -> None:
    storage = MemoryStorage(now=trio.current_time)
    (tmp_path / "w.toml").write_text('[w1]\ntoken = "the-token-of-one"\n')
    (tmp_path / "c.toml").touch()
    await with_files(tmp_path, storage).access.open()
    context = Context(
        storage=storage,
        blueprints=Blueprints([looks]),
        client_token="c",
        worker_token="w",
        files=CredentialFiles(clients=tmp_path / "c.toml"),
    )
    await context.access.open()
    with pytest.raises(ConfigError, match="put an empty file in its place"):
        await context.access.reload("root", "127.0.0.1", context.rules)
    assert context.access.worker_credential("w1", "the-token-of-one") is not None
