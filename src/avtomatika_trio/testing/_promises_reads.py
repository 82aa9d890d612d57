"""What is read outside of commits."""

import attrs

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import Progress, Service
from avtomatika_trio._core.task import AttemptStatus, TaskStatus
from avtomatika_trio.storage._base import JobQuery, Storage
from avtomatika_trio.testing._samples import (
    START,
    a_job,
    a_row,
    a_task,
    an_attempt,
    an_instance,
    put,
)


async def _listed(storage: Storage, query: JobQuery) -> list[str]:
    return [job.id for job in await storage.jobs(query)]


class ReadPromises:
    """Reads see every commit that was answered before."""

    async def test_what_is_not_there_is_none_or_empty(self, storage: Storage) -> None:
        assert await storage.job("j") is None
        assert await storage.instance("i") is None
        assert list(await storage.jobs(JobQuery())) == []
        assert list(await storage.tasks("j")) == []
        assert list(await storage.attempts("j")) == []
        assert list(await storage.history("j")) == []
        assert list(await storage.progress("j")) == []
        assert list(await storage.instances()) == []
        assert not any((await storage.job_counts()).values())
        assert await storage.commit(lambda ledger: ledger.service()) is None

    async def test_each_commit_is_seen_at_once(self, storage: Storage) -> None:
        for revision in range(1, 50):
            await storage.commit(put(a_job(revision=revision)))
            stored = await storage.job("j")
            assert stored is not None
            assert stored.revision == revision

    async def test_jobs_are_listed_newest_first(self, storage: Storage) -> None:
        jobs = [a_job(name, created_at=START + at) for name, at in (("b", 1), ("a", 1), ("c", 0))]
        await storage.commit(put(*jobs, a_job("d", created_at=START + 2)))
        assert await _listed(storage, JobQuery()) == ["d", "b", "a", "c"]

    async def test_a_listing_goes_on_after_any_job(self, storage: Storage) -> None:
        names = [f"j{at:02}" for at in range(25)]
        await storage.commit(
            put(*(a_job(name, created_at=START + at // 10) for at, name in enumerate(names)))
        )
        pages: list[list[str]] = []
        before: tuple[float, str] | None = None
        while page := await storage.jobs(JobQuery(before=before, limit=7)):
            pages.append([job.id for job in page])
            before = (page[-1].created_at, page[-1].id)
        assert [len(page) for page in pages] == [7, 7, 7, 4]
        assert [name for page in pages for name in page] == names[::-1]

    async def test_a_listing_is_filtered(self, storage: Storage) -> None:
        statuses = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.WAITING_FOR_WORKER)
        for at in range(12):
            job = a_job(
                f"j{at:02}",
                created_at=START + at,
                client="cd"[at % 2],
                blueprint="bx"[at // 2 % 2],
                status=statuses[at % 3],
            )
            await storage.commit(put(job))
        finished = JobQuery(statuses=frozenset({JobStatus.FINISHED}))
        assert await _listed(storage, finished) == ["j09", "j06", "j03", "j00"]
        ended = JobQuery(statuses=frozenset({JobStatus.FINISHED, JobStatus.FAILED}), limit=5)
        assert await _listed(storage, ended) == ["j10", "j09", "j07", "j06", "j04"]
        page_two = attrs.evolve(ended, before=(START + 4, "j04"))
        assert await _listed(storage, page_two) == ["j03", "j01", "j00"]
        mine = JobQuery(client="c")
        assert await _listed(storage, mine) == ["j10", "j08", "j06", "j04", "j02", "j00"]
        assert await _listed(storage, attrs.evolve(mine, blueprint="x")) == ["j10", "j06", "j02"]
        assert await _listed(storage, attrs.evolve(finished, client="c")) == ["j06", "j00"]
        assert await _listed(storage, JobQuery(client="nobody")) == []

    async def test_jobs_are_counted_by_status(self, storage: Storage) -> None:
        await storage.commit(put(a_job("a"), a_job("b"), a_job("c", status=JobStatus.PENDING)))
        await storage.commit(put(a_job("a", revision=2, status=JobStatus.FINISHED)))
        counts = {status: count for status, count in (await storage.job_counts()).items() if count}
        assert counts == {
            JobStatus.PENDING: 1,
            JobStatus.FINISHED: 1,
            JobStatus.WAITING_FOR_WORKER: 1,
        }

    async def test_tasks_are_ordered_by_dispatch_and_branch(self, storage: Storage) -> None:
        tasks = [a_task(dispatch=2, branch=at) for at in (10, 2, 0)]
        await storage.commit(put(*tasks, a_task(dispatch=1), a_task("other")))
        found = [task.id for task in await storage.tasks("j")]
        assert found == ["j-1", "j-2-0", "j-2-2", "j-2-10"]
        assert [task.id for task in await storage.tasks("j", 1)] == ["j-1"]
        assert list(await storage.tasks("j", 7)) == []

    async def test_attempts_are_ordered_by_time_then_number(self, storage: Storage) -> None:
        await storage.commit(
            put(
                an_attempt("late", leased_at=START + 5),
                an_attempt("second", number=2),
                an_attempt("first", number=1),
                an_attempt("others", "other"),
            )
        )
        found = [attempt.wire_id for attempt in await storage.attempts("j")]
        assert found == ["first", "second", "late"]

    async def test_history_is_in_the_order_of_commits_and_paged(self, storage: Storage) -> None:
        for at in range(5):
            rows = [a_row(kind=f"{at}.{part}", at=START - at) for part in range(3)]
            await storage.commit(put(*rows, a_row("other")))
        kinds = [f"{at}.{part}" for at in range(5) for part in range(3)]
        whole = await storage.history("j")
        assert [numbered.row.type for numbered in whole] == kinds
        numbers = [numbered.number for numbered in whole]
        assert numbers == sorted(set(numbers))
        assert min(numbers) > 0
        assert list(await storage.history("j", after=numbers[6], limit=4)) == whole[7:11]
        assert list(await storage.history("j", after=numbers[-1])) == []
        assert len(await storage.history("j", limit=2)) == 2

    async def test_progress_is_the_latest_of_running_tasks(self, storage: Storage) -> None:
        running = [a_task(branch=at, status=TaskStatus.LEASED) for at in range(2)]
        said = [
            Progress(job_id="j", task_id=task.id, at=START, progress=0.1, message="a")
            for task in running
        ]
        await storage.commit(put(*running, *said))
        newer = attrs.evolve(said[0], at=START + 1, progress=None, message="b")
        await storage.commit(put(newer))
        assert list(await storage.progress("j")) == [newer, said[1]]
        await storage.commit(
            put(
                attrs.evolve(running[0], status=TaskStatus.DONE),
                attrs.evolve(running[1], status=TaskStatus.RETRYING),
            )
        )
        assert list(await storage.progress("j")) == []

    async def test_progress_of_an_earlier_attempt_is_not_told(self, storage: Storage) -> None:
        leased = a_task(status=TaskStatus.LEASED, attempt=1)
        said = Progress(
            job_id="j", task_id=leased.id, attempt=1, at=START, progress=0.1, message="a"
        )
        await storage.commit(put(leased, said))
        assert list(await storage.progress("j")) == [said]
        await storage.commit(put(attrs.evolve(leased, attempt=2)))
        assert list(await storage.progress("j")) == []

    async def test_progress_goes_with_its_job(self, storage: Storage) -> None:
        leased = a_task(status=TaskStatus.LEASED)
        said = Progress(job_id="j", task_id=leased.id, at=START, progress=0.1, message="a")
        await storage.commit(put(a_job(), leased, said))
        await storage.commit(put(a_job(revision=2, status=JobStatus.CANCELLED)))
        assert list(await storage.progress("j")) == []

    async def test_instances_are_listed_latest_seen_first(self, storage: Storage) -> None:
        await storage.commit(put(an_instance("a"), an_instance("b", seen_at=START + 1)))
        assert [instance.id for instance in await storage.instances()] == ["b", "a"]
        seen = an_instance("a", seen_at=START + 2, gone=True, open_polls=(3, 4))
        await storage.commit(put(seen))
        assert await storage.instance("a") == seen
        assert [instance.id for instance in await storage.instances()] == ["a", "b"]

    async def test_instances_of_one_worker_are_found(self, storage: Storage) -> None:
        await storage.commit(
            put(
                an_instance("a", worker_id="w1", due_at=START),
                an_instance("b", worker_id="w2"),
                an_instance("c", worker_id="w1", seen_at=START + 1),
            )
        )
        assert [it.id for it in await storage.instances("w1")] == ["c", "a"]
        assert [it.id for it in await storage.instances("w2")] == ["b"]
        await storage.commit(lambda ledger: ledger.drop_instance("a"))
        assert [it.id for it in await storage.instances("w1")] == ["c"]
        assert await storage.instances("nobody") == []

    async def test_leases_are_counted_by_instance(self, storage: Storage) -> None:
        held = [an_attempt(f"w{at}") for at in range(3)]
        over = an_attempt("w3", status=AttemptStatus.SUCCEEDED)
        await storage.commit(put(an_instance("i"), an_instance("idle"), *held, over))
        instances = await storage.instances()
        assert dict(await storage.lease_counts(instances)) == {"i": 3, "idle": 0}
        assert dict(await storage.lease_counts([])) == {}

    async def test_the_service_is_remembered(self, storage: Storage) -> None:
        for at in range(3):
            service = Service(served_at=START + at, serving_since=START)
            await storage.commit(put(service))
            assert await storage.commit(lambda ledger: ledger.service()) == service

    async def test_the_cluster_has_an_id(self, storage: Storage) -> None:
        assert storage.cluster_id
        assert storage.cluster_id == storage.cluster_id.strip()
