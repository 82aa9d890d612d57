"""One partition does not answer, or is not what it was; the others go on."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from tests.storage.redis_servers import Server

from avtomatika_trio._core import lease, steps
from avtomatika_trio._core.ledger import Ledger, Service
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import TaskStatus
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage import Storage, open_storage
from avtomatika_trio.storage._redis import RedisStorage
from avtomatika_trio.testing._promises_partitions import at_home_in
from avtomatika_trio.testing._samples import a_job, a_task, an_attempt, an_instance, put

RULES = Rules()


@pytest.fixture
async def storage(url: str) -> AsyncIterator[RedisStorage]:
    async with open_storage(url, partitions=3) as opened:
        assert isinstance(opened, RedisStorage)
        yield opened


@contextmanager
def away(storage: RedisStorage, partition: str) -> Iterator[None]:
    """Nobody answers what is asked about *partition*."""
    bridge = storage._bridge
    submit = bridge._submit

    def refuse(request: Any, key: str) -> None:
        if key.startswith(f"{{{partition}}}"):
            request.error = StorageUnavailable(f"{partition} is away")
            trio.lowlevel.current_trio_token().run_sync_soon(request.tell)
        else:
            submit(request, key)

    bridge._submit = refuse  # type: ignore[method-assign]
    try:
        yield
    finally:
        bridge._submit = submit  # type: ignore[method-assign]


async def submit(storage: Storage, job_id: str) -> None:
    new = steps.NewJob(
        id=job_id, blueprint="b", client="c", start="s", initial_data={}, max_transitions=9
    )
    await storage.commit(partial(steps.submit, new=[new]), storage.partition_of(job_id))


async def claimed(storage: Storage) -> list[str]:
    jobs = await storage.claim_ready("one", most=9, lease_seconds=30)
    return sorted(job.id for job in jobs)


async def test_jobs_of_the_others_are_claimed(storage: RedisStorage) -> None:
    await submit(storage, "p00-j")
    await submit(storage, "p01-j")
    await submit(storage, "p02-j")
    with away(storage, "p01"):
        assert await claimed(storage) == ["p00-j", "p02-j"]
        await submit(storage, "p02-k")
        assert await claimed(storage) == ["p02-k"]


async def test_nobody_tells_of_all_what_waits_in_some(storage: RedisStorage) -> None:
    await storage.commit(put(a_task("p00-j")), "p00")
    with away(storage, "p01"), pytest.raises(StorageUnavailable, match="p01 is away"):
        await storage.backlog(["k"])
    assert (await storage.backlog(["k"])).queues["k"].depth == 1


async def test_who_finds_nothing_anywhere_is_told_so(url: str) -> None:
    async with open_storage(url, partitions=1) as storage:
        assert isinstance(storage, RedisStorage)
        with away(storage, "p00"), pytest.raises(StorageUnavailable, match="p00 is away"):
            await claimed(storage)


async def test_leases_of_those_whose_home_is_there_end(storage: RedisStorage) -> None:
    lost, kept = at_home_in(storage, "p00"), at_home_in(storage, "p01")
    for instance_id in (lost, kept):
        past = an_instance(instance_id, lease_until=1.0, due_at=None)
        await storage.commit(put(past), storage.home_of(instance_id))
    for name, who in (("lost", lost), ("kept", kept)):
        wire_id = f"p02-{name}-w"
        task = attrs.evolve(
            a_task(f"p02-{name}"), status=TaskStatus.LEASED, wire_id=wire_id, attempt=1
        )
        attempt = an_attempt(
            wire_id, task_id=task.id, job_id=task.job_id, instance=who, lease_until=1.0
        )
        await storage.commit(put(task, attempt), "p02")
    await storage.commit(_is_served, "p02")
    with away(storage, "p01"):
        await storage.commit(partial(lease.end_leases, rules=RULES, most=9), "p02")
        [task] = await storage.tasks("p02-lost")
        assert task.status is TaskStatus.QUEUED
        [task] = await storage.tasks("p02-kept")
        assert task.status is TaskStatus.LEASED
    await storage.commit(partial(lease.end_leases, rules=RULES, most=9), "p02")
    [task] = await storage.tasks("p02-kept")
    assert task.status is TaskStatus.QUEUED


def _is_served(ledger: Ledger) -> None:
    """It has been for long."""
    ledger.put_service(Service(served_at=ledger.now, serving_since=0.0))


async def test_a_heartbeat_that_replaces_one_whose_home_is_away_renews(
    storage: RedisStorage,
) -> None:
    mine, dead = at_home_in(storage, "p00"), at_home_in(storage, "p01")
    await storage.commit(put(an_instance(dead)), "p01")
    await storage.commit(put(an_instance(mine, lease_until=1.0)), "p00")
    beat = lease.Beat(
        worker_id=an_instance(mine).worker_id,
        instance=mine,
        number=1,
        current_tasks=(),
        replaces=(dead,),
    )
    with away(storage, "p01"):
        answer = await storage.commit(partial(lease.heartbeat, beat=beat, rules=RULES), "p00")
        assert answer.known
        renewed = await storage.instance(mine)
        assert renewed is not None
        assert renewed.lease_until > storage.now()


async def test_a_skill_whose_first_news_was_lost_is_looked_for(url: str) -> None:
    async with open_storage(url, partitions=3) as one, open_storage(url, partitions=3) as two:
        assert isinstance(two, RedisStorage)
        for partition in two._partitions.values():
            partition.commits._channel = "nobody's"
        await two.commit(put(a_task("p02-j")), "p02")
        assert "p02" in one.partitions_with(["k"])
        with one.queue_news(["k"]) as news, trio.fail_after(5):
            await news.wait()
        assert list(one.partitions_with(["k"])) == ["p02"]
        assert list(one.partitions_with(["other"])) == ["p00", "p01", "p02"]  # not heard of
        with one.queue_news(["other"]):
            await one.job("p02-x")
            await trio.testing.wait_all_tasks_blocked()
            assert list(one.partitions_with(["other"])) == []


@pytest.mark.parametrize("message", ["hello", '{"token":"x"}', '{"place":7}', "[]"])
async def test_news_that_nobody_understands_wake_everyone(
    storage: RedisStorage, server: Server, message: str
) -> None:
    with storage.job_news("p00-j") as news, server.client() as client:
        client.publish("{p00}:news", message)
        with trio.fail_after(5):
            await news.wait()


async def test_news_of_another_database_are_another_storages(url: str) -> None:
    async with (
        open_storage(url, partitions=1) as one,
        open_storage(f"{url}/1", partitions=1) as two,
    ):
        for storage in (one, two):
            await storage.commit(put(a_task()))
        taken = attrs.evolve(a_task(), status=TaskStatus.LEASED)
        await two.commit(put(taken))
        await two.commit(put(a_job("elsewhere")))
        await one.commit(put(a_job("here")))
        assert list(one.partitions_with(["k"])) == ["p00"]


async def test_one_who_may_not_hear_news_is_refused_at_the_start(url: str, server: Server) -> None:
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "deaf", "on", ">pw", "~*", "resetchannels", "+@all"
        )
    address = url.replace("redis://", "redis://deaf:pw@")
    with pytest.raises(StorageUnavailable, match="news of Redis cannot be heard"):
        async with open_storage(address, partitions=1):
            pass


async def test_a_partition_that_was_emptied_is_not_made_anew(url: str, server: Server) -> None:
    async with open_storage(url, partitions=2) as one:
        await submit(one, "p01-j")
        with server.client() as client:
            client.delete(*client.keys("{p01}*"))
        with pytest.raises(StorageUnavailable, match="does not hold the storage"):
            await one.commit(lambda ledger: ledger.job("p01-k"), "p01")
        with pytest.raises(StorageUnavailable, match="partition p01 of the storage has gone"):
            async with open_storage(url, partitions=2):
                pass


async def test_a_damaged_job_is_left_alone_and_the_others_go_on(
    storage: RedisStorage, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await submit(storage, "p00-bad")
    await submit(storage, "p00-good")
    with server.client() as client:
        record = client.get("{p00}:job:p00-bad")
        assert isinstance(record, bytes)
        client.set("{p00}:job:p00-bad", record[:20] + b'{"id": 1}')
    assert await claimed(storage) == ["p00-good"]
    assert "job p00-bad in Redis is damaged" in caplog.text
