"""Jobs are listed from many indexes at once, and what has no index is found without many looks."""

import random
from collections.abc import Sequence

import attrs
import pytest
from tests.storage.redis_servers import start_server

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio.storage import open_storage
from avtomatika_trio.storage._base import JobQuery
from avtomatika_trio.testing._samples import START, a_job, put


def jobs_of(partitions: Sequence[str], count: int, seed: int) -> list[Job]:
    """Jobs of all statuses and partitions, many of them of the same second; some are rare."""
    chance = random.Random(seed)
    return [
        a_job(
            f"{chance.choice(partitions)}-{at:04}",
            created_at=START + chance.randrange(count // 4),
            status=chance.choice(list(JobStatus)),
            blueprint="rare" if at % 17 == 0 else "common",
            labels={"n": str(at % 3)},
        )
        for at in range(count)
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_pages_have_every_job_once_and_in_order(url: str, seed: int, limit: int) -> None:
    async with open_storage(url, partitions=4, now=lambda: START) as storage:
        made = jobs_of(storage.partitions, 300, seed)
        for job in made:
            await storage.commit(put(job), storage.partition_of(job.id))
        for query in (
            JobQuery(limit=limit),
            JobQuery(blueprint="rare", limit=limit),
            JobQuery(blueprint="rare", labels={"n": "1"}, limit=limit),
            JobQuery(statuses=frozenset({JobStatus.FAILED, JobStatus.FINISHED}), limit=limit),
            JobQuery(blueprint="none", limit=limit),
        ):
            wanted = sorted(
                ((job.created_at, job.id) for job in made if query.fits(job)), reverse=True
            )
            found: list[tuple[float, str]] = []
            page = query
            while jobs := await storage.jobs(page):
                assert len(jobs) <= limit
                found += [(job.created_at, job.id) for job in jobs]
                page = attrs.evolve(page, before=found[-1])
            assert found == wanted


async def test_a_blueprint_without_jobs_takes_few_looks() -> None:
    with start_server("valkey") as server:
        async with open_storage(server.url, partitions=1, now=lambda: START) as storage:
            made = jobs_of(storage.partitions, 3_000, 0)
            for first in range(0, len(made), 500):
                await storage.commit(put(*made[first : first + 500]))
            with server.client() as client:
                client.config_resetstat()
            assert await storage.jobs(JobQuery(blueprint="none", limit=20)) == []
            with server.client() as client:
                stats = client.info("commandstats")
    looks = sum(stats[f"cmdstat_{name}"]["calls"] for name in ("zrevrangebyscore", "mget"))
    assert looks < 150  # 20 at a time, they are more than 1,500
