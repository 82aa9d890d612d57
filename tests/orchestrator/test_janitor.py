"""When leases may end: rule O1 as the loops keep it."""

from collections.abc import Awaitable, Callable

import attrs
import trio
from tests.orchestrator.clients import make_context
from trio.testing import MockClock

from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.ledger import Ledger, Service, Timer, TimerKind
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import AsgiApp
from avtomatika_trio.orchestrator._janitor import run_janitor, tick
from avtomatika_trio.orchestrator._service import run_orchestrator
from avtomatika_trio.storage import JobQuery
from avtomatika_trio.testing._samples import a_job, put


async def service_of(context: Context) -> Service | None:
    return await context.storage.commit(lambda ledger: ledger.service())


async def test_a_process_that_starts_alone_gives_every_lease_its_time_again(
    autojump_clock: MockClock,
) -> None:
    """Served a second ago by a process that has died: no gap that the ticks would notice."""
    context = make_context()
    started_at = context.storage.now()

    def served_before(ledger: Ledger) -> None:
        ledger.put_service(Service(served_at=started_at - 1, serving_since=started_at - 9000))

    await context.storage.commit(served_before)
    with trio.move_on_after(5):
        await run_janitor(context)
    service = await service_of(context)
    assert service is not None
    assert service.serving_since >= started_at


async def test_nothing_is_noted_or_ended_before_the_server_accepts(
    autojump_clock: MockClock,
) -> None:
    context = make_context()

    async def slow(
        app: AsgiApp,
        *,
        shutdown: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[list[str]],
    ) -> None:
        await trio.sleep(60)
        assert await service_of(context) is None
        task_status.started(["http://slow"])
        await shutdown()

    stop = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
            await run_orchestrator(context, slow, stop=stop.wait, task_status=task_status)

        assert await nursery.start(run) == ["http://slow"]
        await trio.sleep(5)
        assert await service_of(context) is not None
        stop.set()


async def test_nothing_is_noted_or_ended_while_the_server_drains(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    noted: list[Service | None] = []

    async def draining(
        app: AsgiApp,
        *,
        shutdown: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[list[str]],
    ) -> None:
        task_status.started([])
        await shutdown()
        noted.append(await service_of(context))
        await trio.sleep(60)
        noted.append(await service_of(context))

    async def stop() -> None:
        await trio.sleep(10)

    await run_orchestrator(context, draining, stop=stop)
    assert noted[0] is not None
    assert noted[0] == noted[1]


async def test_jobs_whose_time_is_over_are_forgotten(autojump_clock: MockClock) -> None:
    context = attrs.evolve(make_context(), rules=Rules(jobs_retention_seconds=60))
    ended = [a_job(f"j{at}", status=JobStatus.FINISHED, updated_at=0) for at in range(50)]
    timers = [Timer(kind=TimerKind.FORGET, subject=job.id, due_at=0) for job in ended]
    await context.storage.commit(put(*ended, *timers, a_job("goes on")))
    await tick(context, context.storage.partitions[0])
    assert [job.id for job in await context.storage.jobs(JobQuery())] == ["goes on"]
