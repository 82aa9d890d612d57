"""Files of jobs that ended vanish after their time, and not before; so do unfinished uploads."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from tests.orchestrator.clients import (
    EPOCH,
    TOKEN,
    WORKER_TOKEN,
    Worker,
    blueprints,
    memory,
    open_client,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from avtomatika_trio._core import steps
from avtomatika_trio._core.files import LONGEST_URL_SECONDS
from avtomatika_trio._core.ledger import Timer, TimerKind
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.blobs import Unfinished
from avtomatika_trio.errors import BlobUnavailable, StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._file_sweeper import LOOK_SECONDS, SWEEP_SECONDS, run_file_sweeper
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.testing import MemoryBlobs

HOUR = 3600.0
DAY = 24 * HOUR
JOB = "p00-1"


def make_context(retention: float | None = 10 * DAY, **more: Any) -> Context:
    """The parts of an orchestrator that keeps files in memory."""
    storage = memory()
    return Context(
        storage=storage,
        blueprints=blueprints(),
        client_token=TOKEN,
        worker_token=WORKER_TOKEN,
        rules=Rules(files_retention_seconds=retention),
        blobs=MemoryBlobs(storage.now),
        **more,
    )


def blobs_of(context: Context) -> MemoryBlobs:
    assert isinstance(context.blobs, MemoryBlobs)
    return context.blobs


async def submit(context: Context, job_id: str = JOB) -> None:
    new = steps.NewJob(
        id=job_id,
        blueprint="resize",
        client="c",
        start="start",
        initial_data={},
        max_transitions=9,
    )
    await context.storage.commit(partial(steps.submit, new=[new]))


async def cancel(context: Context, job_id: str = JOB) -> None:
    operation = partial(steps.cancel, job_id=job_id, reason="asked for", rules=context.rules)
    await context.storage.commit(operation)


async def timer_of(context: Context, job_id: str = JOB) -> Timer | None:
    return await context.storage.commit(lambda ledger: ledger.timer(TimerKind.FILES, job_id))


async def pass_time(clock: MockClock, seconds: float) -> None:
    """Let *seconds* pass at once: loops wake up once, not a thousand times."""
    clock.jump(seconds)
    await wait_all_tasks_blocked(0.01)


@contextlib.asynccontextmanager
async def sweeping(context: Context) -> AsyncIterator[None]:
    """The loop that is tested."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_file_sweeper, context)
        yield
        nursery.cancel_scope.cancel()


# Files of jobs.


async def test_files_vanish_after_their_time_and_not_before(autojump_clock: MockClock) -> None:
    context = make_context()
    blobs = blobs_of(context)
    await submit(context)
    for key in (f"jobs/{JOB}/a", f"jobs/{JOB}/b/c", f"jobs/{JOB}0/a", "other"):
        blobs.put(key, b"x")
    async with sweeping(context):
        await pass_time(autojump_clock, 20 * DAY)
        await cancel(context)
        await pass_time(autojump_clock, 10 * DAY - 1)
        assert len(blobs.keys()) == 4
        await trio.sleep(2 + LOOK_SECONDS)
        assert blobs.keys() == [f"jobs/{JOB}0/a", "other"]
        await pass_time(autojump_clock, 100 * DAY)
    assert len(blobs.deleted) == 1
    assert await timer_of(context) is None


async def test_a_job_that_has_not_ended_keeps_its_files(autojump_clock: MockClock) -> None:
    context = make_context(retention=0)
    await submit(context)
    await context.storage.commit(
        lambda ledger: ledger.put_timer(Timer(kind=TimerKind.FILES, subject=JOB, due_at=0))
    )
    blobs_of(context).put(f"jobs/{JOB}/a", b"x")
    async with sweeping(context):
        await pass_time(autojump_clock, 100 * DAY)
    assert blobs_of(context).keys() == [f"jobs/{JOB}/a"]


async def test_without_a_retention_everything_stays(autojump_clock: MockClock) -> None:
    context = make_context(retention=None)
    await submit(context)
    await cancel(context)
    blobs_of(context).put(f"jobs/{JOB}/a", b"x")
    async with sweeping(context):
        await pass_time(autojump_clock, 100 * DAY)
    assert await timer_of(context) is None
    assert blobs_of(context).keys() == [f"jobs/{JOB}/a"]


@pytest.mark.parametrize(("later", "stays_for"), [(None, 100 * DAY), (30 * DAY, 29 * DAY)])
async def test_who_lets_files_stay_longer_puts_off_what_was_set_before(
    autojump_clock: MockClock, later: float | None, stays_for: float
) -> None:
    before = make_context(retention=DAY)
    await submit(before)
    await cancel(before)
    blobs_of(before).put(f"jobs/{JOB}/a", b"x")
    context = attrs.evolve(before, rules=Rules(files_retention_seconds=later))
    async with sweeping(context):
        await pass_time(autojump_clock, stays_for)
        assert blobs_of(context).keys() == [f"jobs/{JOB}/a"]
        if later is not None:
            await pass_time(autojump_clock, 2 * DAY)
            assert blobs_of(context).keys() == []


async def test_what_a_url_that_is_still_valid_brings_is_removed_too(
    autojump_clock: MockClock,
) -> None:
    context = make_context(retention=0)
    blobs = blobs_of(context)
    await submit(context)
    async with sweeping(context):
        await trio.sleep(1)
        await cancel(context)
        await trio.sleep(2 * LOOK_SECONDS)
        blobs.put(f"jobs/{JOB}/late", b"x")
        await pass_time(autojump_clock, LONGEST_URL_SECONDS)
        assert blobs.keys() == []
        await pass_time(autojump_clock, 10 * LONGEST_URL_SECONDS)
    assert len(blobs.deleted) == 2
    assert await timer_of(context) is None


@attrs.define(eq=False)
class _DiesAfterDeleting(MemoryBlobs):
    """The process dies when files are gone, and nobody knows of it yet."""

    died: trio.Event = attrs.field(factory=trio.Event)

    async def delete(self, at: Any) -> int:
        await super().delete(at)
        self.died.set()
        await trio.sleep_forever()
        raise AssertionError


async def test_a_crash_between_removing_and_noting_it_costs_nothing(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    await submit(context)
    await cancel(context)
    await pass_time(autojump_clock, 11 * DAY)
    dying = _DiesAfterDeleting(context.storage.now)
    dying.put(f"jobs/{JOB}/a", b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_file_sweeper, attrs.evolve(context, blobs=dying))
        await dying.died.wait()
        nursery.cancel_scope.cancel()
    assert dying.keys() == []
    assert await timer_of(context) is not None
    async with sweeping(context):
        await pass_time(autojump_clock, HOUR)
    assert len(blobs_of(context).deleted) == 1
    assert await timer_of(context) is None


async def test_a_server_that_is_away_is_asked_again_and_keeps_nothing_waiting(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context()
    blobs = blobs_of(context)
    for number in range(500):
        await submit(context, f"p00-{number}")
        await cancel(context, f"p00-{number}")
        blobs.put(f"jobs/p00-{number}/a", b"x")
    await pass_time(autojump_clock, 11 * DAY)
    async with sweeping(context), open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        with blobs.broken(BlobUnavailable("s3://b/k", "it is away")):
            await pass_time(autojump_clock, HOUR)
            begun = trio.current_time()
            job_id = (await client.post("/api/v1/jobs/walk")).json()["job_id"]
            job = await client.get(f"/api/v1/jobs/{job_id}?wait=60")
            assert job.json()["status"] == "finished"
            assert trio.current_time() - begun < 1
        assert len(blobs.keys()) == 500
        await pass_time(autojump_clock, HOUR)
        assert blobs.keys() == []
        nursery.cancel_scope.cancel()
    assert "it is away" in caplog.text


@attrs.define(eq=False)
class _Stubborn(MemoryBlobs):
    """Some things cannot be removed from it."""

    async def delete(self, at: Any) -> int:
        if "stubborn" in at.key:
            raise BlobUnavailable(at.uri, "not this one")
        return await super().delete(at)

    async def abort(self, upload: Unfinished) -> None:
        if "stubborn" in upload.location.key:
            raise BlobUnavailable(upload.location.uri, "not this one")
        await super().abort(upload)


async def test_what_cannot_be_removed_keeps_nothing_else_waiting(
    autojump_clock: MockClock,
) -> None:
    plain = make_context()
    blobs = _Stubborn(plain.storage.now)
    context = attrs.evolve(plain, blobs=blobs)
    for job_id in (*(f"p00-stubborn{number}" for number in range(20)), JOB):
        await submit(context, job_id)
        await cancel(context, job_id)
        blobs.begin_upload(f"jobs/{job_id}/film.mp4")
        await trio.sleep(1)
    blobs.put(f"jobs/{JOB}/a", b"x")
    await pass_time(autojump_clock, 11 * DAY)
    async with sweeping(context):
        await trio.sleep(3 * LOOK_SECONDS)
        assert blobs.keys() == []
        assert len(blobs.uploads) == 20


async def test_files_of_a_job_that_is_forgotten_vanish_too(autojump_clock: MockClock) -> None:
    context = make_context()
    await context.storage.commit(
        lambda ledger: ledger.put_timer(Timer(kind=TimerKind.FILES, subject=JOB, due_at=0))
    )
    blobs_of(context).put(f"jobs/{JOB}/a", b"x")
    async with sweeping(context):
        await trio.sleep(2 * LOOK_SECONDS)
    assert blobs_of(context).keys() == []
    assert await timer_of(context) is None


async def test_other_timers_do_not_wait_behind_those_of_files(autojump_clock: MockClock) -> None:
    """Also where nobody removes files, as in an orchestrator that keeps none."""
    context = make_context(retention=0)
    for number in range(1000):
        await submit(context, f"p00-{number}")
        await cancel(context, f"p00-{number}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_janitor, context)
        await trio.sleep(10)
        due_at = EPOCH + trio.current_time()
        timer = Timer(kind=TimerKind.RETRY, subject="t", due_at=due_at)
        await context.storage.commit(lambda ledger: ledger.put_timer(timer))
        await trio.sleep(1)
        gone = await context.storage.commit(lambda ledger: ledger.timer(TimerKind.RETRY, "t"))
        assert gone is None
        nursery.cancel_scope.cancel()


async def test_an_outage_of_the_storage_is_survived(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context()
    await submit(context)
    await cancel(context)
    blobs_of(context).put(f"jobs/{JOB}/a", b"x")
    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patched:

            async def refuse(operation: Any, partition: str | None = None) -> None:
                await trio.lowlevel.checkpoint()
                raise StorageUnavailable("it is away")

            patched.setattr(context.storage, "commit", refuse)
            nursery.start_soon(run_file_sweeper, context)
            await pass_time(autojump_clock, 11 * DAY)
        await pass_time(autojump_clock, HOUR)
        assert blobs_of(context).keys() == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ending", ["finished", "failed", "cancelled"])
async def test_every_end_of_a_job_sets_the_timer(autojump_clock: MockClock, ending: str) -> None:
    context = make_context()
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        [task] = await worker.take()
        assert await timer_of(context, job_id) is None
        if ending == "cancelled":
            await client.post(f"/api/v1/jobs/{job_id}/cancel")
        elif ending == "failed":
            error = {"code": "PERMANENT_ERROR", "message": "no"}
            await worker.report(task, status="failure", error=error)
        else:
            await worker.report(task)
        await trio.sleep(1)
        job = await context.storage.job(job_id)
        assert job is not None
        assert job.status.is_final
        timer = await timer_of(context, job_id)
        assert timer is not None
        assert timer.due_at == job.updated_at + 10 * DAY
        nursery.cancel_scope.cancel()


# Unfinished uploads.


@contextlib.asynccontextmanager
async def leased(context: Context) -> AsyncIterator[tuple[str, dict[str, Any], Worker]]:
    """A job whose task a worker has: its id, the task and the worker."""
    async with open_client(context) as client, trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        job_id = (await client.post("/api/v1/jobs/resize")).json()["job_id"]
        await trio.sleep(1)
        worker = Worker(client)
        await worker.register("scale")
        [task] = await worker.take()
        yield job_id, task, worker
        nursery.cancel_scope.cancel()


async def test_the_upload_of_a_running_attempt_goes_on(autojump_clock: MockClock) -> None:
    context = make_context()
    async with leased(context) as (job_id, task, _), trio.open_nursery() as nursery:
        blobs_of(context).begin_upload(f"jobs/{job_id}/{task['task_id']}/film.mp4")
        nursery.start_soon(run_file_sweeper, context)
        await pass_time(autojump_clock, 10 * DAY)
        assert len(blobs_of(context).uploads) == 1
        nursery.cancel_scope.cancel()


async def test_an_upload_that_bears_the_name_of_an_attempt_of_another_job_is_aborted(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    async with leased(context) as (_, task, _), trio.open_nursery() as nursery:
        await submit(context)
        blobs_of(context).begin_upload(f"jobs/{JOB}/{task['task_id']}/film.mp4")
        nursery.start_soon(run_file_sweeper, context)
        await pass_time(autojump_clock, DAY)
        await trio.sleep(2 * SWEEP_SECONDS)
        assert blobs_of(context).uploads == []
        nursery.cancel_scope.cancel()


async def test_the_upload_of_an_attempt_that_has_ended_is_aborted(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    async with leased(context) as (job_id, task, worker), trio.open_nursery() as nursery:
        nursery.start_soon(run_file_sweeper, context)
        blobs_of(context).begin_upload(f"jobs/{job_id}/{task['task_id']}/film.mp4")
        await worker.report(task, status="failure", error={"code": "TRANSIENT_ERROR"})
        await pass_time(autojump_clock, HOUR - SWEEP_SECONDS)
        assert len(blobs_of(context).uploads) == 1
        await trio.sleep(2 * SWEEP_SECONDS)
        assert blobs_of(context).uploads == []
        nursery.cancel_scope.cancel()


async def test_an_upload_of_a_job_that_has_ended_is_aborted(autojump_clock: MockClock) -> None:
    context = make_context(retention=None)
    await submit(context)
    blobs_of(context).begin_upload(f"jobs/{JOB}/film.mp4")
    async with sweeping(context):
        await pass_time(autojump_clock, 2 * HOUR)
        assert len(blobs_of(context).uploads) == 1
        await cancel(context)
        await trio.sleep(SWEEP_SECONDS + 1)
        assert blobs_of(context).uploads == []


async def test_no_upload_stays_for_good_whoever_has_begun_it(autojump_clock: MockClock) -> None:
    """Those of jobs that are not known here may be another installation's, which is patient."""
    context = make_context()
    await submit(context)
    for key in ("jobs/p00-unknown/t/a", f"jobs/{JOB}/a", "jobs/strange"):
        blobs_of(context).begin_upload(key)
    async with sweeping(context):
        await pass_time(autojump_clock, DAY - SWEEP_SECONDS)
        assert len(blobs_of(context).uploads) == 3
        await trio.sleep(2 * SWEEP_SECONDS)
        assert blobs_of(context).uploads == []


async def test_uploads_that_cannot_be_aborted_now_are_later(autojump_clock: MockClock) -> None:
    context = make_context()
    blobs_of(context).begin_upload("jobs/p00-unknown/t/a")
    async with sweeping(context):
        with blobs_of(context).broken(BlobUnavailable("s3://b/k", "it is away")):
            await pass_time(autojump_clock, 3 * DAY)
        assert len(blobs_of(context).uploads) == 1
        await trio.sleep(2 * SWEEP_SECONDS)
        assert blobs_of(context).uploads == []


async def test_an_orchestrator_that_keeps_no_files_has_nothing_to_sweep() -> None:
    context = attrs.evolve(make_context(), blobs=None)
    await run_file_sweeper(context)
