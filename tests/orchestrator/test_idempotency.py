"""A submission that is sent again with its `Idempotency-Key` makes no second jobs."""

from functools import partial
from typing import Any

import httpx
import pytest
import trio
from tests.orchestrator.clients import EPOCH, ask_raw, let_in, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.storage._memory import MemoryStorage

JOBS = "/api/v1/jobs/walk"
KEY = {"Idempotency-Key": "order 7"}


def several(partitions: int = 4) -> MemoryStorage:
    return MemoryStorage(now=lambda: EPOCH + trio.current_time(), partitions=partitions)


async def ids_of(client: httpx.AsyncClient) -> set[str]:
    listed = await client.get("/api/v1/jobs?limit=1000")
    return {job["id"] for job in listed.json()["jobs"]}


@pytest.mark.parametrize("body", [{"initial_data": {"n": 1}}, [{}, {"initial_data": {"n": 1}}]])
@pytest.mark.parametrize("partitions", [1, 4])
async def test_the_first_answer_is_given_again(body: Any, partitions: int) -> None:
    async with open_client(make_context(several(partitions))) as client:
        first = await client.post(JOBS, json=body, headers=KEY)
        again = await client.post(JOBS, json=body, headers=KEY)
        ids = await ids_of(client)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again.headers.get("location") == first.headers.get("location")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(ids) == (len(body) if isinstance(body, list) else 1)


async def test_the_route_of_the_endpoint_is_the_same() -> None:
    async with open_client(make_context()) as client:
        first = await client.post("/api/v1/jobs/pictures", headers=KEY)
        again = await client.post("/api/jobs/resize", headers=KEY)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()


async def test_another_key_and_none_make_other_jobs() -> None:
    async with open_client(make_context()) as client:
        for headers in (KEY, {"Idempotency-Key": "order 8"}, {}, {}):
            answer = await client.post(JOBS, headers=headers)
            assert "idempotent-replayed" not in answer.headers
        assert len(await ids_of(client)) == 4


@pytest.mark.parametrize(
    ("path", "body"),
    [(JOBS, b'{"initial_data": {"n": 2}}'), (JOBS, b"[]"), ("/api/v1/jobs/resize", b"{}")],
)
async def test_a_key_is_good_for_one_submission(path: str, body: bytes) -> None:
    if body == b"[]":
        body = b"[{}]"
    async with open_client(make_context()) as client:
        await client.post(JOBS, content=b"{}", headers=KEY)
        refused = await client.post(path, content=body, headers=KEY)
        assert len(await ids_of(client)) == 1
    assert refused.status_code == 422
    assert refused.json()["code"] == "idempotency_key_reused"


async def test_keys_are_of_their_clients() -> None:
    context = make_context()
    await let_in(context, "a")
    await let_in(context, "b")
    found = set()
    for name in ("a", "b"):
        async with open_client(context, token=f"token-of-{name}") as client:
            found.add((await client.post(JOBS, headers=KEY)).json()["job_id"])
    assert len(found) == 2


@pytest.mark.parametrize("key", [b"", b"\xc3\xa9", b"a\tb", b"x" * 256])
async def test_a_malformed_key_is_refused(key: bytes) -> None:
    app = create_app(make_context())
    token = (b"x-client-token", b"the-token-of-the-client")
    headers = [(b"host", b"o"), token, (b"idempotency-key", key)]
    answer = await ask_raw(app, "POST", JOBS, headers=headers)
    assert answer.status == 400
    assert b'"path":"Idempotency-Key"' in answer.body.replace(b'": "', b'":"')
    longest = [*headers[:2], (b"idempotency-key", b"x" * 255)]
    assert (await ask_raw(app, "POST", JOBS, headers=longest)).status == 202


class Slow(MemoryStorage):
    """Takes a second for each commit."""

    async def commit(self, operation: Any, partition: str | None = None) -> Any:
        await trio.sleep(1)
        return await super().commit(operation, partition)


async def test_a_key_in_use_is_told(autojump_clock: MockClock) -> None:
    storage = Slow(now=lambda: EPOCH + trio.current_time())
    answers: list[httpx.Response] = []

    async with open_client(make_context(storage)) as client:

        async def post() -> None:
            answers.append(await client.post(JOBS, headers=KEY))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(post)
            nursery.start_soon(post)
        again = await client.post(JOBS, headers=KEY)
    refused, first = answers
    assert (refused.status_code, first.status_code) == (409, 202)
    assert refused.json()["code"] == "idempotency_key_in_use"
    assert refused.headers["retry-after"] == "1"
    assert again.json() == first.json()


@pytest.mark.parametrize("partitions", [1, 4])
async def test_two_orchestrators_make_one_job(autojump_clock: MockClock, partitions: int) -> None:
    storage = Slow(now=lambda: EPOCH + trio.current_time(), partitions=partitions)
    answers: list[httpx.Response] = []
    contexts = [make_context(storage), make_context(storage)]
    await let_in(contexts[0], "me", monthly_attempts=5)
    await contexts[1].access.open()

    async def post(at: int) -> None:
        async with open_client(contexts[at], token="token-of-me") as client:
            answers.append(await client.post(JOBS, headers=KEY))

    async with trio.open_nursery() as nursery:
        for at in range(2):
            nursery.start_soon(post, at)
    assert len({it.json()["job_id"] for it in answers}) == 1
    assert sorted("idempotent-replayed" in it.headers for it in answers) == [False, True]
    usage = await storage.commit(lambda ledger: ledger.usage("me", contexts[0].month()))
    assert usage is not None
    assert usage.jobs == 1


class Forgetful(MemoryStorage):
    """Commits a submission, and loses the answer."""

    lost = 0

    async def commit(self, operation: Any, partition: str | None = None) -> Any:
        answer = await super().commit(operation, partition)
        if self.lost and self._divided[self.partition_of(partition or "")].submissions:
            self.lost -= 1
            raise StorageUnavailable("the answer was lost")
        return answer


async def test_a_retry_after_a_lost_answer_finds_the_job() -> None:
    storage = Forgetful(now=lambda: EPOCH)
    storage.lost = 1
    async with open_client(make_context(storage)) as client:
        assert (await client.post(JOBS, headers=KEY)).status_code == 503
        made = await ids_of(client)
    async with open_client(make_context(storage)) as client:
        again = await client.post(JOBS, headers=KEY)
        assert await ids_of(client) == made
    assert again.headers["idempotent-replayed"] == "true"
    assert {again.json()["job_id"]} == made


@pytest.mark.parametrize("partitions", [1, 4])
async def test_to_be_answered_again_does_not_count(partitions: int) -> None:
    context = make_context(several(partitions))
    await let_in(context, "me", monthly_attempts=1)
    async with open_client(context, token="token-of-me") as client:
        for _ in range(3):
            assert (await client.post(JOBS, headers=KEY)).status_code == 202
        assert (await client.post(JOBS)).status_code == 429


async def test_after_a_day_the_key_is_as_good_as_new(autojump_clock: MockClock) -> None:
    storage = several(1)
    async with open_client(make_context(storage)) as client:
        first = await client.post(JOBS, headers=KEY)
        await trio.sleep(86_399)
        again = await client.post(JOBS, headers=KEY)
        await trio.sleep(1)
        other = await client.post(JOBS, json={"initial_data": {"n": 1}}, headers=KEY)
    assert first.json() == again.json() != other.json()
    assert other.status_code == 202


async def test_what_is_remembered_is_bounded(autojump_clock: MockClock) -> None:
    storage = several(1)
    async with open_client(make_context(storage)) as client:
        for number in range(25):
            await client.post(JOBS, headers={"Idempotency-Key": str(number)})
        await trio.sleep(86_400)
        for number in range(3):
            await client.post(JOBS, headers={"Idempotency-Key": f"new {number}"})
    left = await storage.commit(lambda ledger: ledger.expired_submissions(most=99))
    assert not left
    kept = [await storage.commit(partial(_of, name=str(at))) for at in range(25)]
    assert kept == [None] * 25


def _of(ledger: Any, name: str) -> Any:
    return ledger.submission(name)
