"""What is exported from one storage and restored into another is the same there."""

from functools import partial

import attrs
import trio
import trio.testing

from avtomatika_trio._core import dispatch, events, lease, results, steps
from avtomatika_trio._core.access import AuditRow, Usage
from avtomatika_trio._core.actions import Action, DispatchParallel, DispatchTask, TaskSpec
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import InstanceKind, Ledger, Progress, Service
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Attempt, Lane, TaskResult
from avtomatika_trio.storage._base import JobQuery, Storage
from avtomatika_trio.storage._records import (
    MOST_PER_BATCH,
    NumberedAuditRow,
    NumberedRow,
    StorageFacts,
    StoredRecord,
    decode_record,
    encode_record,
)
from avtomatika_trio.testing._promises_access import ACCESS, a_submission, an_issued_token
from avtomatika_trio.testing._promises_commit import EVERYTHING, everything
from avtomatika_trio.testing._samples import (
    START,
    a_job,
    a_ready_job,
    a_row,
    a_task,
    an_attempt,
    put,
)
from avtomatika_trio.testing._suite import SetClock, settled
from avtomatika_trio.testing.invariants import find_violations

_RULES = Rules()
_SPEC = TaskSpec(skill="k", params={"n": 1}, transitions={"success": "end"}, timeout_seconds=60.0)
_JOBS = ("single", "fan", "queued", "over", "ready")


async def exported(storage: Storage) -> list[StoredRecord]:
    """Everything that *storage* holds."""
    return [record async for batch in storage.export() for record in batch]


async def held(storage: Storage) -> list[bytes]:
    """Everything that *storage* holds as sorted lines; the schema is its own affair."""
    facts, *others = await exported(storage)
    assert isinstance(facts, StorageFacts)
    return sorted(encode_record(it) for it in (attrs.evolve(facts, schema=0), *others))


async def copy(source: Storage, target: Storage) -> None:
    """Restore everything that *source* holds into *target*."""
    async for batch in source.export():
        await target.restore(batch)


async def live(storage: Storage) -> None:
    """Have jobs in *storage* that run, wait and have ended, and all that is around them."""
    said = lease.Registration(
        worker_id="w",
        instance="i",
        kind=InstanceKind.OURS,
        skills=("k",),
        interval_seconds=10.0,
        said={"supported_skills": [{"name": "k", "events_schema": {"step": {}}}]},
    )
    await storage.commit(partial(lease.register, said=said, rules=_RULES))
    for name in _JOBS:
        await storage.commit(partial(steps.submit, new=[_new(name)]))
    await _dispatch(storage, "over", DispatchTask(spec=_SPEC), most=1)
    await _report(storage, "over-w0", "over")
    end = steps.ReachedEnd(outcome="finished")
    await storage.commit(partial(_advance, job_id="over", decision=end))
    await _dispatch(storage, "single", DispatchTask(spec=_SPEC), most=1)
    branches = DispatchParallel(specs=(_SPEC,) * 3, aggregate_into="end")
    await _dispatch(storage, "fan", branches, most=2)
    await _report(storage, "fan-w0", "fan")
    await _dispatch(storage, "queued", DispatchTask(spec=_SPEC), most=0)

    def around(ledger: Ledger) -> None:
        [single, *_] = ledger.open_tasks("single")
        said = Progress(
            job_id="single", task_id=single.id, attempt=1, at=START, progress=0.5, message="half"
        )
        ledger.put_progress(said)
        event = events.SaidEvent(id="e1", number=1, type="step", payload={"n": 1})
        report = events.EventReport(
            worker_id="w", wire_id="single-w0", job_id="single", event=event
        )
        assert events.note(ledger, report, _RULES) == {"status": "event_accepted"}
        ledger.put_service(Service(served_at=START, serving_since=START))
        ledger.put_access(ACCESS)
        ledger.put_usage(Usage(client="c", month="2026-01", jobs=7))
        ledger.put_issued_token(an_issued_token("t"))
        ledger.put_submission(a_submission("s"))
        for at in range(3):
            ledger.note_for_audit(AuditRow(at=START + at, who="root", action="a", origin=""))

    await storage.commit(around)


def _new(job_id: str) -> steps.NewJob:
    return steps.NewJob(
        id=job_id,
        blueprint="b",
        client="c",
        start="start",
        initial_data={"job": job_id},
        max_transitions=9,
    )


async def _dispatch(storage: Storage, job_id: str, action: Action, *, most: int) -> None:
    """Carry out what the job's handler chose; the worker takes *most* of the tasks."""
    decision = steps.Chose(action=action)
    await storage.commit(partial(_advance, job_id=job_id, decision=decision))
    if most:
        offer = dispatch.Offer(instance="i", poll=1, skills=("k",), most=most)
        wire_ids = [f"{job_id}-w{at}" for at in range(most)]
        await storage.commit(
            partial(dispatch.hand_out, offer=offer, wire_ids=wire_ids, rules=_RULES)
        )


def _advance(ledger: Ledger, job_id: str, decision: steps.Decision) -> None:
    job = ledger.job(job_id)
    assert job is not None
    steps.advance(ledger, job, job.state_history, decision, _RULES, 0.0)


async def _report(storage: Storage, wire_id: str, job_id: str) -> None:
    result = TaskResult(status="success", data={"n": 1})
    said = results.Report(worker_id="w", wire_id=wire_id, job_id=job_id, result=result)
    await storage.commit(partial(results.report, said=said, rules=_RULES, noise=0.0))


async def _reads(storage: Storage) -> list[object]:
    """What can be read of the jobs of `live`."""
    seen: list[object] = []
    for name in _JOBS:
        seen += [
            await storage.job(name),
            list(await storage.tasks(name)),
            list(await storage.attempts(name)),
            list(await storage.history(name)),
            list(await storage.progress(name)),
        ]
    counts = await storage.job_counts()
    return [
        *seen,
        list(await storage.jobs(JobQuery())),
        {status: count for status, count in counts.items() if count},
        await storage.instance("i"),
        list(await storage.instances()),
        await storage.access(),
        list(await storage.audit()),
        await storage.commit(
            lambda ledger: (
                ledger.service(),
                ledger.access(),
                ledger.usage("c", "2026-01"),
                ledger.issued_token("t"),
                ledger.submission("s"),
                _leased(ledger),
                [it for name in _JOBS for it in ledger.open_tasks(name)],
            )
        ),
    ]


def _leased(ledger: Ledger) -> list[Attempt]:
    return sorted(ledger.leased("i"), key=lambda it: it.wire_id)


class ArchivePromises:
    """`storage` and `another` are open and empty, with the same clock; their kinds may differ."""

    async def test_all_reads_are_the_same_in_another_storage(
        self, storage: Storage, another: Storage
    ) -> None:
        await live(storage)
        assert await storage.progress("single")
        await copy(storage, another)
        assert await _reads(another) == await _reads(storage)
        assert await held(another) == await held(storage)

    async def test_every_kind_of_record_is_the_same_for_operations(
        self, storage: Storage, another: Storage
    ) -> None:
        await storage.commit(put(*EVERYTHING, a_task(dispatch=2)))
        await copy(storage, another)
        assert await another.commit(everything) == await storage.commit(everything)

    async def test_every_record_survives_its_way_through_json(self, storage: Storage) -> None:
        await live(storage)
        records = await exported(storage)
        assert [decode_record(encode_record(it), 1) for it in records] == records

    async def test_the_facts_come_first_and_bring_the_cluster_id(
        self, storage: Storage, another: Storage
    ) -> None:
        await storage.commit(put(a_job()))
        assert another.cluster_id != storage.cluster_id
        facts, *others = await exported(storage)
        assert isinstance(facts, StorageFacts)
        assert facts.cluster_id == storage.cluster_id
        assert not any(isinstance(it, StorageFacts) for it in others)
        await another.restore(others)
        assert another.cluster_id != storage.cluster_id
        await another.restore([facts])
        assert another.cluster_id == storage.cluster_id

    async def test_an_export_comes_in_bounded_batches_and_leaves_nothing_out(
        self, storage: Storage, another: Storage
    ) -> None:
        names = [f"j{at:04}" for at in range(2 * MOST_PER_BATCH + 3)]
        for at in range(0, len(names), 100):
            some = names[at : at + 100]
            jobs = [a_job(name) for name in some]
            await storage.commit(put(*jobs, *map(a_row, some), *map(a_task, some)))
        sizes = [len(batch) async for batch in storage.export()]
        assert sum(sizes) == 3 * len(names) + 1
        assert max(sizes) <= MOST_PER_BATCH
        await copy(storage, another)
        assert await held(another) == await held(storage)

    async def test_an_export_has_jobs_by_age_and_rows_by_number(
        self, storage: Storage, another: Storage
    ) -> None:
        ages = {f"j{at}": START + at * 7 % 10 for at in range(10)}
        final = JobStatus.FINISHED
        for at, (name, age) in enumerate(ages.items()):
            status = {"status": final} if at % 2 else {}
            await storage.commit(put(a_job(name, created_at=age, **status)))
        rows = MOST_PER_BATCH + 3
        for _ in range(rows):
            await storage.commit(put(a_row("j1"), a_row("j2")))
        audit = AuditRow(at=START, who="root", action="a", origin="")
        for _ in range(3):
            await storage.commit(lambda ledger: ledger.note_for_audit(audit))
        await copy(storage, another)
        for one in (storage, another):
            records = await exported(one)
            jobs = [it.id for it in records if isinstance(it, Job)]
            assert jobs == sorted(ages, key=lambda it: ages[it])
            for name in ("j1", "j2"):
                history = [it for it in records if isinstance(it, NumberedRow)]
                numbers = [it.number for it in history if it.row.job_id == name]
                assert len(numbers) == rows
                assert numbers == sorted(numbers)
            numbers = [it.number for it in records if isinstance(it, NumberedAuditRow)]
            assert len(numbers) == 3
            assert numbers == sorted(numbers)

    async def test_revisions_are_kept_and_go_on(self, storage: Storage, another: Storage) -> None:
        for revision in (1, 2, 3):
            await storage.commit(put(a_job(revision=revision)))
        await copy(storage, another)
        await another.commit(put(a_job(revision=4)))
        job = await another.job("j")
        assert job is not None
        assert job.revision == 4

    async def test_running_attempts_keep_their_leases(
        self, storage: Storage, another: Storage
    ) -> None:
        await live(storage)
        await copy(storage, another)
        leased = await another.commit(_leased)
        assert [it.wire_id for it in leased] == ["fan-w1", "single-w0"]
        assert leased == await storage.commit(_leased)
        await _report(another, "single-w0", "single")
        job = await another.job("single")
        assert job is not None
        assert (job.status, job.state) == (JobStatus.RUNNING, "end")
        assert await find_violations(another) == []

    async def test_ready_jobs_are_offered(self, storage: Storage, another: Storage) -> None:
        jobs = [a_ready_job(f"j{at}", created_at=START + at) for at in range(3)]
        await storage.commit(put(*jobs, a_job("waits"), a_ready_job("later", ready_at=START)))
        await storage.claim_ready("one", most=2, lease_seconds=30)
        await copy(storage, another)
        assert list(await another.claim_ready("two", most=10, lease_seconds=30)) == jobs

    async def test_the_order_of_queues_is_kept(self, storage: Storage, another: Storage) -> None:
        tasks = [
            a_task("late", created_at=START + 2),
            a_task("first", created_at=START + 1),
            a_task("urgent", priority=5.0, created_at=START + 3),
            *(a_task("fan", branch=branch, created_at=START + 1.5) for branch in range(12)),
        ]
        await storage.commit(put(*map(a_job, ("late", "first", "urgent", "fan")), *tasks))
        await copy(storage, another)
        queue = await another.commit(lambda at: list(at.queued("k", Lane.NORMAL, most=99)))
        assert queue == await storage.commit(lambda at: list(at.queued("k", Lane.NORMAL, most=99)))
        assert [it.job_id for it in queue] == ["urgent", "first", *["fan"] * 12, "late"]
        assert [it.branch for it in queue[2:-1]] == list(range(12))
        assert another.partitions_with(["k"])

    async def test_who_waits_is_woken_for_restored_tasks(
        self, storage: Storage, another: Storage
    ) -> None:
        await storage.commit(put(a_job(), a_task()))
        with trio.fail_after(30), another.queue_news(["k"]) as news:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(news.wait)
                await settled(another)
                await copy(storage, another)

    async def test_numbers_of_the_history_are_kept_and_go_on(
        self, storage: Storage, another: Storage
    ) -> None:
        await storage.commit(put(a_job("a"), a_job("b"), a_row("a"), a_row("b"), a_row("a")))
        await copy(storage, another)
        assert list(await another.history("a")) == list(await storage.history("a"))
        await another.commit(put(a_row("b", kind="later")))
        last = (await another.history("b"))[-1]
        assert last.row.type == "later"
        assert last.number > (await another.history("a"))[-1].number

    async def test_numbers_of_the_audit_are_kept_and_go_on(
        self, storage: Storage, another: Storage
    ) -> None:
        row = AuditRow(at=START, who="root", action="a", origin="")
        for _ in range(2):
            await storage.commit(lambda ledger: ledger.note_for_audit(row))
        await copy(storage, another)
        before = list(await storage.audit())
        await another.commit(lambda ledger: ledger.note_for_audit(row))
        after = list(await another.audit())
        assert after[:2] == before
        assert after[2].number > before[1].number

    async def test_time_does_not_go_back(
        self, storage: Storage, another: Storage, clock: SetClock
    ) -> None:
        clock.time += 100
        await storage.commit(put(a_job()))
        clock.time -= 1000
        await copy(storage, another)
        assert another.now() >= START + 100
        assert await another.commit(lambda ledger: ledger.now) >= START + 100
        clock.time += 10
        assert another.now() >= START + 110

    async def test_the_invariants_hold(self, storage: Storage, another: Storage) -> None:
        await live(storage)
        assert await find_violations(storage) == []
        await copy(storage, another)
        assert await find_violations(another) == []

    async def test_a_batch_may_be_restored_again(self, storage: Storage, another: Storage) -> None:
        await live(storage)
        batches = [batch async for batch in storage.export()]
        for batch in (*batches, *batches, *reversed(batches)):
            await another.restore(batch)
            await another.restore(batch)
        assert await held(another) == await held(storage)
        assert await _reads(another) == await _reads(storage)
        claimed = await another.claim_ready("one", most=10, lease_seconds=30)
        assert [job.id for job in claimed] == ["ready"]
        await another.commit(partial(_drain, taken=[]))
        assert not another.partitions_with(["k"])

    async def test_what_is_restored_takes_the_place_of_what_was_there(
        self, storage: Storage
    ) -> None:
        await storage.commit(put(a_ready_job(state="other"), a_task(), an_attempt(instance="x")))
        job = attrs.evolve(a_job(), revision=7)
        await storage.restore([job, an_attempt()])
        assert await storage.job("j") == job
        assert not await storage.commit(lambda ledger: list(ledger.leased("x")))
        assert len(await storage.commit(lambda ledger: list(ledger.leased("i")))) == 1
        with trio.move_on_after(0) as scope:
            await storage.claim_ready("one", most=1, lease_seconds=30)
        assert scope.cancelled_caught


def _drain(ledger: Ledger, taken: list[str]) -> None:
    """Take every task out of the queue."""
    while queued := ledger.queued("k", Lane.NORMAL, most=9):
        offer = dispatch.Offer(instance="i", poll=2, skills=("k",), most=len(queued))
        wire_ids = [f"again-w{len(taken) + at}" for at in range(len(queued))]
        dispatch.hand_out(ledger, offer=offer, wire_ids=wire_ids, rules=_RULES)
        taken.extend(wire_ids)
