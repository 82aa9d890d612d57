"""What a job leaves in Redis, and in the processes that have known it, when it is forgotten."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from redis import Redis
from tests.storage.redis_servers import Server, start_server

from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.storage import Storage, open_storage
from avtomatika_trio.storage._redis import RedisStorage
from avtomatika_trio.storage._redis_commits import Commits
from avtomatika_trio.testing._promises_forgetting import BRANCHES, an_ended_job
from avtomatika_trio.testing._samples import a_job, put
from avtomatika_trio.testing._suite import SetClock


@pytest.fixture
def server() -> Iterator[Server]:
    with start_server("valkey") as server:
        yield server


def forget(ledger: Ledger) -> None:
    ledger.forget_job("j")


def keys_of(client: Redis) -> set[bytes]:
    """Those that are there for longer than it takes to ask again for a lost reply."""
    keys = cast("list[bytes]", client.keys())
    return {key for key in keys if b":done:" not in key}


def commits_of(storage: Storage) -> Commits:
    return cast("RedisStorage", storage)._root.commits


def known_of(storage: Storage) -> list[str]:
    """The keys of all that the process remembers of the job."""
    return [key for key in commits_of(storage)._known._entries if ":j" in key]


async def test_no_key_is_left(server: Server) -> None:
    async with open_storage(server.url, now=SetClock()) as storage:
        with server.client() as client:
            await storage.commit(put(*an_ended_job("other")))
            before = keys_of(client)
            await storage.commit(put(*an_ended_job("j")))
            assert len(keys_of(client)) > len(before) + 10
            await storage.commit(forget)
            assert keys_of(client) == before


async def test_the_process_forgets_it_too(server: Server) -> None:
    async with open_storage(server.url, now=SetClock()) as storage:
        await storage.commit(put(*an_ended_job("j", BRANCHES)))
        assert len(known_of(storage)) > BRANCHES
        await storage.commit(forget)
        assert known_of(storage) == ["{p00}:job:j"]  # that it is not there


async def test_one_who_remembers_it_writes_nothing_of_it(server: Server) -> None:
    async with (
        open_storage(server.url, now=SetClock()) as storage,
        open_storage(server.url, now=SetClock()) as other,
    ):
        await storage.commit(put(*an_ended_job("j")))

        def touch(ledger: Ledger) -> bool:
            """As results do that come late."""
            attempt = ledger.attempt("j-w0")
            if attempt is not None:
                ledger.put_attempt(attempt)
            return attempt is not None

        assert await other.commit(touch)
        await storage.commit(forget)
        assert not await other.commit(touch)
        assert await storage.attempts("j") == []


async def test_to_forget_it_while_it_is_written_elsewhere_is_tried_again(server: Server) -> None:
    async with (
        open_storage(server.url, now=SetClock()) as storage,
        open_storage(server.url, now=SetClock()) as other,
    ):
        await storage.commit(put(a_job("j")))
        await other.commit(lambda ledger: ledger.job("j"))
        await storage.commit(put(a_job("j", revision=2)))
        seen: list[int] = []

        def note_and_forget(ledger: Ledger) -> None:
            job = ledger.job("j")
            assert job is not None
            seen.append(job.revision)
            ledger.forget_job("j")

        await other.commit(note_and_forget)
        assert seen == [1, 2]
        assert await storage.job("j") is None


async def test_a_call_that_is_made_again_does_not_take_what_came_between(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply was lost, and the job's id was given again before the call was repeated."""
    async with open_storage(server.url, now=SetClock()) as storage:
        await storage.commit(put(*an_ended_job("j")))
        bridge = commits_of(storage)._bridge
        calls: list[Callable[[], None]] = []
        submit = bridge.submit

        def note(commands: Any, told: Any, *, key: str) -> None:
            calls.append(lambda: submit(commands, lambda _: None, key=key))
            submit(commands, told, key=key)

        monkeypatch.setattr(bridge, "submit", note)
        await storage.commit(forget)
        monkeypatch.undo()
        await storage.commit(put(a_job("j")))
        calls[-1]()
        assert await storage.job("j") == a_job("j")
