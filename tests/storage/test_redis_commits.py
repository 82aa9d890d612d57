"""What a commit does where another process was faster."""

from functools import partial

import attrs
from tests.storage.redis_servers import start_server

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.task import Lane
from avtomatika_trio.storage import open_storage
from avtomatika_trio.storage._redis import RedisStorage
from avtomatika_trio.testing._samples import a_job

NAMES = [f"j{number}" for number in range(50)]


def submit(ledger: Ledger) -> None:
    """All of them."""
    for name in NAMES:
        ledger.put_job(a_job(name))


def advance(ledger: Ledger, names: list[str]) -> None:
    """The next revision of each."""
    for name in names:
        job = ledger.job(name)
        assert job is not None
        ledger.put_job(attrs.evolve(job, revision=job.revision + 1))


async def test_a_refused_operation_on_many_records_runs_a_few_times() -> None:
    """Not once for each record that was forgotten with the refused run."""
    runs = 0

    def advance_all(ledger: Ledger) -> None:
        nonlocal runs
        runs += 1
        advance(ledger, NAMES)

    with start_server() as server:
        async with open_storage(server.url) as one, open_storage(server.url) as other:
            await one.commit(submit)
            await other.commit(lambda ledger: advance(ledger, NAMES[-1:]))
            await one.commit(advance_all)
            found = await other.job("j0")
            last = await other.job(NAMES[-1])
    assert found is not None
    assert last is not None
    assert (found.revision, last.revision) == (2, 3)
    assert runs <= 3


async def test_a_look_into_several_queues_is_one_look() -> None:
    """However many skills a worker has."""
    runs = 0

    def look(ledger: Ledger) -> int:
        nonlocal runs
        runs += 1
        return sum(len(ledger.queued(f"k{n}", Lane.NORMAL, most=9)) for n in range(20))

    with start_server() as server:
        async with open_storage(server.url) as storage:
            assert await storage.commit(look) == 0
    assert runs == 2


async def test_a_process_keeps_no_long_records() -> None:
    """Whatever clients send, its memory is bounded; others may have written them."""
    text = "x" * 100_000

    def read(ledger: Ledger) -> int:
        jobs = [ledger.job(name) for name in NAMES]
        return sum(len(job.initial_data["text"]) for job in jobs if job is not None)

    with start_server() as server:
        async with open_storage(server.url) as one, open_storage(server.url) as other:
            for name in NAMES:
                job = a_job(name, initial_data={"text": text}, status=JobStatus.PENDING)
                await one.commit(partial(_put, job=job))
            assert await other.commit(read) == len(NAMES) * len(text)
            claimed = await other.claim_ready("other", most=50, lease_seconds=30)
            assert len(claimed) == 50
            for storage in (one, other):
                assert isinstance(storage, RedisStorage)
                known = storage._root.commits._known
                assert [key for key in known._entries if "job:" in key] == []


def _put(ledger: Ledger, job: Job) -> None:
    ledger.put_job(job)
