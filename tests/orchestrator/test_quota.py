"""A quota counts the jobs that are there, also where the storage did not tell whether they are."""

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from tests.orchestrator.clients import EPOCH, let_in, make_context, open_client

from avtomatika_trio._core.job import Job
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import SystemChance
from avtomatika_trio.storage._memory import MemoryStorage

JOBS = "/api/v1/jobs/walk"


class Faulty(MemoryStorage):
    """Four partitions, of which all but the root have one fault."""

    trouble = ""

    async def commit(self, operation: Any, partition: str | None = None) -> Any:
        if partition in (None, self.partitions[0]) or not self.trouble:
            return await super().commit(operation, partition)
        if self.trouble != "not stored":
            await super().commit(operation, partition)
        raise StorageUnavailable(self.trouble)

    async def job(self, job_id: str) -> Job | None:
        if self.trouble == "away":
            raise StorageUnavailable(self.trouble)
        return await super().job(job_id)


class Backwards(SystemChance):
    """The last partition comes first, and the root last."""

    def in_any_order(self, names: Sequence[str]) -> Sequence[str]:
        return names[::-1]


@pytest.mark.parametrize(
    ("fault", "jobs", "counted"),
    [("lost answer", 2, 2), ("not stored", 0, 0), ("away", 2, 2)],
)
async def test_jobs_of_a_submission_that_failed_count_unless_they_are_seen_not_to_be_there(
    fault: str, jobs: int, counted: int
) -> None:
    storage = Faulty(now=lambda: EPOCH, partitions=4)
    context = attrs.evolve(make_context(storage), chance=Backwards())
    await let_in(context, "me", monthly_attempts=9)
    storage.trouble = fault
    async with open_client(context, token="token-of-me") as client:
        answer = await client.post(JOBS, json=[{}, {}])
        storage.trouble = ""
        listed = (await client.get("/api/v1/jobs")).json()["jobs"]
    usage = await storage.commit(lambda ledger: ledger.usage("me", context.month()))
    assert answer.status_code == 503
    assert usage is not None
    assert (len(listed), usage.jobs) == (jobs, counted)
