"""What was answered is there after the storage was closed and opened again."""

from collections.abc import Awaitable, Callable

import attrs

from avtomatika_trio._core.access import AuditRow, Usage
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import Ledger, Service, Timer, TimerKind
from avtomatika_trio._core.task import TaskStatus
from avtomatika_trio.storage._base import JobQuery, Storage
from avtomatika_trio.testing._promises_access import ACCESS, an_issued_token
from avtomatika_trio.testing._promises_commit import EVERYTHING, everything
from avtomatika_trio.testing._samples import (
    START,
    a_job,
    a_ready_job,
    a_row,
    a_task,
    an_attempt,
    an_instance,
    put,
)
from avtomatika_trio.testing._suite import SetClock

Reopen = Callable[[], Awaitable[Storage]]


class DurabilityPromises:
    """For storages that outlive their process."""

    async def test_every_record_is_found_again(self, storage: Storage, reopen: Reopen) -> None:
        await storage.commit(put(*EVERYTHING))
        leased = attrs.evolve(a_task(), status=TaskStatus.LEASED)
        await storage.commit(put(leased))
        inside = await storage.commit(everything)
        outside = await _outside(storage)
        assert await storage.progress("j")
        again = await reopen()
        assert await again.commit(everything) == inside
        assert await _outside(again) == outside

    async def test_the_backlog_stays(self, storage: Storage, reopen: Reopen) -> None:
        timer = Timer(kind=TimerKind.RETRY, subject="j-1", due_at=START - 9)
        await storage.commit(
            put(a_task(), a_task("b"), an_attempt("w1"), an_instance(gone=True), timer)
        )
        backlog = await storage.backlog(["k"])
        assert backlog.queues["k"].depth == 2
        assert await (await reopen()).backlog(["k"]) == backlog

    async def test_the_cluster_id_stays(self, storage: Storage, reopen: Reopen) -> None:
        assert (await reopen()).cluster_id == storage.cluster_id

    async def test_who_may_talk_stays(self, storage: Storage, reopen: Reopen) -> None:
        row = AuditRow(at=START, who="root", action="a", origin="")

        def write(ledger: Ledger) -> None:
            ledger.put_access(ACCESS)
            ledger.put_usage(Usage(client="c", month="2026-01", jobs=7))
            ledger.put_issued_token(an_issued_token("t"))
            ledger.note_for_audit(row)

        await storage.commit(write)
        again = await reopen()
        assert await again.access() == ACCESS
        assert [it.row for it in await again.audit()] == [row]
        found = await again.commit(
            lambda ledger: [ledger.usage("c", "2026-01"), ledger.issued_token("t")]
        )
        assert found == [Usage(client="c", month="2026-01", jobs=7), an_issued_token("t")]

    async def test_history_goes_on_with_its_numbers(self, storage: Storage, reopen: Reopen) -> None:
        await storage.commit(put(a_row(), a_row()))
        again = await reopen()
        await again.commit(put(a_row(kind="later")))
        rows = await again.history("j")
        assert [numbered.row.type for numbered in rows] == ["job_created", "job_created", "later"]
        numbers = [numbered.number for numbered in rows]
        assert numbers == sorted(set(numbers))

    async def test_ready_jobs_are_offered_again(self, storage: Storage, reopen: Reopen) -> None:
        jobs = [a_ready_job(f"j{at}", created_at=START + at) for at in range(3)]
        await storage.commit(put(*jobs, a_job("waits"), a_ready_job("later", ready_at=START)))
        await storage.claim_ready("one", most=2, lease_seconds=30)
        again = await reopen()
        assert list(await again.claim_ready("two", most=10, lease_seconds=30)) == jobs

    async def test_who_waits_is_woken_for_tasks_of_before(
        self, storage: Storage, reopen: Reopen
    ) -> None:
        await storage.commit(put(a_task()))
        again = await reopen()
        with again.queue_news(["k"]) as news:
            await again.commit(lambda ledger: ledger.wake("k"))
            await news.wait()

    async def test_time_does_not_go_back_over_a_restart(
        self, storage: Storage, reopen: Reopen, clock: SetClock
    ) -> None:
        clock.time += 100
        await storage.commit(put(Service(served_at=storage.now(), serving_since=START)))
        clock.time -= 1000
        again = await reopen()
        assert again.now() == START + 100

    async def test_revisions_go_on(self, storage: Storage, reopen: Reopen) -> None:
        await storage.commit(put(a_job()))
        again = await reopen()
        await again.commit(put(a_job(revision=2, status=JobStatus.FINISHED)))
        assert {status: n for status, n in (await again.job_counts()).items() if n} == {
            JobStatus.FINISHED: 1
        }


async def _outside(storage: Storage) -> tuple[object, ...]:
    return (
        await storage.job("j"),
        list(await storage.jobs(JobQuery())),
        list(await storage.tasks("j")),
        list(await storage.attempts("j")),
        list(await storage.history("j")),
        list(await storage.progress("j")),
        await storage.instance("i"),
        list(await storage.instances()),
        dict(await storage.job_counts()),
    )
