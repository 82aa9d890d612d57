"""What anybody may ask needs no token, and readiness tells the truth."""

from typing import Any

import pytest
import trio
from tests.orchestrator.clients import EPOCH, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio._wire.messages import RXON_VERSION
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._memory import MemoryStorage


class Silent(MemoryStorage):
    """A storage that does not answer."""

    async def job(self, job_id: str) -> Any:
        await trio.sleep_forever()


class Gone(MemoryStorage):
    """A storage that cannot be used."""

    async def job(self, job_id: str) -> Any:
        raise StorageUnavailable("the disk is full")


@pytest.mark.parametrize("path", ["/_public/status", "/healthz", "/livez", "/readyz"])
async def test_all_is_well_without_a_token(path: str) -> None:
    async with open_client(make_context()) as client:
        del client.headers["X-Client-Token"]
        answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_the_version_is_told() -> None:
    async with open_client(make_context()) as client:
        answer = await client.get("/version")
    assert answer.json() == {"version": "0.1.0", "rxon_version": RXON_VERSION}


async def test_a_process_without_its_storage_is_alive_but_not_ready() -> None:
    async with open_client(make_context(Gone(now=lambda: EPOCH))) as client:
        assert (await client.get("/livez")).status_code == 200
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "storage_unavailable"
    assert answer.json()["detail"] == "the storage cannot be used: the disk is full"


async def test_a_silent_storage_is_given_two_seconds(autojump_clock: MockClock) -> None:
    async with open_client(make_context(Silent(now=lambda: EPOCH))) as client:
        answer = await client.get("/readyz")
    assert trio.current_time() == 2
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the storage has not answered within 2 s"


async def test_who_drains_is_not_ready() -> None:
    context = make_context()
    context.draining.set()
    async with open_client(context) as client:
        answer = await client.get("/readyz")
        assert (await client.get("/healthz")).status_code == 200
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")
    assert answer.headers["retry-after"] == "1"


async def test_a_storage_that_can_be_read_and_not_written_is_not_ready() -> None:
    storage = MemoryStorage(now=lambda: EPOCH)
    storage.fault = "its memory is full"
    async with open_client(make_context(storage)) as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["detail"] == "the storage cannot be used: its memory is full"
