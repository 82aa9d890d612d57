"""Short-lived tokens: issued for a credential, good as long as it is, refreshed once each."""

from typing import Any

import httpx
import pytest
import trio
from tests.orchestrator.clients import Worker, make_context, open_client
from tests.security.credentials import let_in
from trio.testing import MockClock

from avtomatika_trio.orchestrator._context import Context


async def with_worker(**fields: Any) -> Context:
    context = make_context()
    await let_in(context.storage, {"w1": ["token-of-w1"], "w2": ["token-of-w2"]}, **fields)
    await context.access.open()
    return context


async def issue(client: httpx.AsyncClient, token: str, worker_id: str = "w1") -> httpx.Response:
    headers = {"X-Worker-Token": token, "X-Worker-ID": worker_id}
    return await client.post("/_worker/auth/token", headers=headers)


async def refresh(client: httpx.AsyncClient, token: Any, worker_id: str = "w1") -> httpx.Response:
    return await client.post(
        "/_worker/auth/token/refresh",
        json={"refresh_token": token},
        headers={"X-Worker-ID": worker_id},
    )


async def status_of(client: httpx.AsyncClient, token: str, worker_id: str = "w1") -> int:
    """What a heartbeat is answered."""
    headers = {"X-Worker-Token": token}
    path = f"/_worker/workers/{worker_id}"
    return (await client.patch(path, headers=headers)).status_code


async def test_an_issued_token_stands_for_the_worker_until_its_time(
    autojump_clock: MockClock,
) -> None:
    async with open_client(await with_worker()) as client:
        await Worker(client, "w1", token="token-of-w1").register("scale")
        issued = (await issue(client, "token-of-w1")).json()
        assert issued["expires_in"] == 3600
        assert issued["worker_id"] == "w1"
        access = issued["access_token"]
        assert len(access) == 43
        await Worker(client, "w1", token=access).register("scale")
        answer = await issue(client, access, "w2")
        assert answer.status_code == 403
        assert "Access Token belongs to 'w1', but request is for 'w2'" in answer.json()["error"]
        await trio.sleep(3599)
        assert await status_of(client, access) != 403
        await trio.sleep(2)
        assert await status_of(client, access) == 403


async def test_a_refresh_token_is_good_once_and_for_its_owner(autojump_clock: MockClock) -> None:
    async with open_client(await with_worker()) as client:
        first = (await issue(client, "token-of-w1")).json()
        stolen = await refresh(client, first["refresh_token"], "w2")
        assert stolen.status_code == 403
        assert "owner mismatch" in stolen.json()["error"]
        second = await refresh(client, first["refresh_token"])
        assert second.status_code == 200
        again = await refresh(client, first["refresh_token"])
        assert again.status_code == 403
        assert "Invalid refresh token (not found)" in again.json()["error"]
        for token in (first["access_token"], second.json()["access_token"]):
            await Worker(client, "w1", token=token).register("scale")  # both until their time
        assert (await refresh(client, second.json()["refresh_token"])).status_code == 200


async def test_of_many_who_refresh_at_once_one_succeeds(autojump_clock: MockClock) -> None:
    async with open_client(await with_worker()) as client:
        first = (await issue(client, "token-of-w1")).json()
        statuses: list[int] = []

        async def one() -> None:
            statuses.append((await refresh(client, first["refresh_token"])).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(one)
        assert sorted(statuses) == [200] + [403] * 7


async def test_a_token_ends_with_the_credential_that_it_was_issued_for(
    autojump_clock: MockClock,
) -> None:
    context = await with_worker()
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(context.access.run, context.rules)
        issued = (await issue(client, "token-of-w1")).json()
        await Worker(client, "w1", token=issued["access_token"]).register("scale")
        await let_in(context.storage, {"w1": ["changed"], "w2": ["token-of-w2"]})
        await trio.sleep(1)
        assert await status_of(client, issued["access_token"]) == 403
        refused = await refresh(client, issued["refresh_token"])
        assert refused.status_code == 403
        nursery.cancel_scope.cancel()


async def test_tokens_that_are_over_are_forgotten(autojump_clock: MockClock) -> None:
    context = await with_worker()
    async with open_client(context) as client:
        for _ in range(30):
            await issue(client, "token-of-w1")
            await trio.sleep(86_000)
            await trio.sleep(4_000)
        left = await context.storage.commit(lambda ledger: ledger.expired_tokens(most=100))
    assert len(left) <= 2


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"refresh_token": 5}', b"nonsense"])
async def test_a_malformed_refresh_is_told_what_is_missing(
    autojump_clock: MockClock, body: bytes
) -> None:
    async with open_client(make_context()) as client:
        path = "/_worker/auth/token/refresh"
        answer = await client.post(path, content=body, headers={"X-Worker-ID": "w1"})
        assert answer.status_code == 400
        answer = await client.post(path, json={"refresh_token": "x"})
        assert answer.status_code == 400
        assert "Missing worker_id" in answer.json()["error"]


async def test_no_issued_token_is_in_the_storage(autojump_clock: MockClock) -> None:
    context = await with_worker()
    async with open_client(context) as client:
        issued = (await issue(client, "token-of-w1")).json()
    dump = repr(context.storage._records)  # type: ignore[attr-defined]
    assert "hs256$" in dump
    assert issued["access_token"] not in dump
    assert issued["refresh_token"] not in dump
    assert "token-of-w1" not in dump
