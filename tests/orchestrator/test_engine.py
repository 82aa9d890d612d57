"""The engine runs handlers and commits what they chose: once, whatever the handlers do.

The clock is virtual, save where a handler runs in a thread.
"""

import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from tests.orchestrator.clients import TOKEN, WORKER_TOKEN, memory
from trio.testing import MockClock, wait_all_tasks_blocked

from avtomatika_trio import ActionFactory, Blueprint
from avtomatika_trio._core import dispatch, lease, results, steps
from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import InstanceKind
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import TaskResult
from avtomatika_trio._task_logs import TaskContextFilter
from avtomatika_trio.orchestrator._context import Context, Limits
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._janitor import run_janitor
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.storage import MemoryStorage

JOB = "p00-1"


def one_state(handler: Callable[..., Any]) -> Blueprint:
    """A blueprint that starts with *handler*, and whose other state is an end."""
    blueprint = Blueprint("b")
    blueprint.handler("start", is_start=True, to=["done"])(handler)

    @blueprint.handler("done", is_end=True)
    async def done() -> None: ...

    return blueprint


def submit(storage: MemoryStorage, blueprint: str = "b", job_id: str = JOB, **data: Any) -> None:
    new = steps.NewJob(
        id=job_id,
        blueprint=blueprint,
        client="c",
        start="start",
        initial_data=data,
        max_transitions=100,
    )
    storage.run(partial(steps.submit, new=[new]))


@contextlib.asynccontextmanager
async def engine(
    storage: MemoryStorage, *blueprints: Blueprint, **limits: Any
) -> AsyncIterator[None]:
    """An engine, and the janitor whose timers it needs."""
    context = Context(
        storage=storage,
        blueprints=Blueprints(blueprints),
        client_token=TOKEN,
        worker_token=WORKER_TOKEN,
        limits=Limits(**limits),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_engine, context)
        nursery.start_soon(run_janitor, context)
        yield
        nursery.cancel_scope.cancel()


async def final(storage: MemoryStorage, job_id: str = JOB) -> Job:
    """The job, once it has ended."""
    with trio.fail_after(1000), storage.job_news(job_id) as news:
        while True:
            job = await storage.job(job_id)
            assert job is not None
            if job.status.is_final:
                return job
            await news.wait()
    raise AssertionError  # fail_after has raised


async def run_through(*blueprints: Blueprint, **data: Any) -> Job:
    """One job of blueprint `b`, from its start to its end."""
    storage = memory()
    submit(storage, **data)
    async with engine(storage, *blueprints):
        return await final(storage)


def work(storage: MemoryStorage, number: int, data: Any) -> None:
    """A worker takes one task and brings *data*."""
    said = lease.Registration(
        worker_id="w",
        instance=f"i{number}",
        kind=InstanceKind.OURS,
        skills=("k",),
        interval_seconds=10.0,
        said={},
    )
    wire_id = f"wire{number}"
    offer = dispatch.Offer(instance=f"i{number}", poll=1, skills=("k",), most=1)
    storage.run(partial(lease.register, said=said, rules=Rules()))
    given = storage.run(partial(dispatch.hand_out, offer=offer, wire_ids=[wire_id], rules=Rules()))
    assert len(given) == 1
    result = TaskResult(status="success", data=data)
    report = results.Report(worker_id="w", wire_id=wire_id, job_id=JOB, result=result)
    storage.run(partial(results.report, said=report, rules=Rules(), noise=0.0))


# What a handler chooses.


async def test_a_handler_that_chooses_nothing_fails_the_job_and_is_named(
    autojump_clock: MockClock,
) -> None:
    async def start(actions: ActionFactory, go: bool = False) -> None:
        if go:
            actions.go_to("done")

    job = await run_through(one_state(start))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "BLUEPRINT_ERROR"
    assert job.error.state == "start"
    assert "state 'start': its handler chose no action" in job.error.message
    assert trio.current_time() < 1


async def test_a_handler_that_chooses_two_actions_fails_the_job_and_is_named(
    autojump_clock: MockClock,
) -> None:
    async def start(actions: ActionFactory) -> None:
        actions.go_to("done")
        actions.dispatch_task("k", {}, {"success": "done"})

    job = await run_through(one_state(start))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error.code == "BLUEPRINT_ERROR"
    assert "'start'" in job.error.message
    assert "go_to" in job.error.message
    assert "dispatch_task" in job.error.message
    assert job.transitions == 0


async def test_an_end_state_that_chooses_an_action_fails_the_job(
    autojump_clock: MockClock,
) -> None:
    blueprint = Blueprint("b")

    @blueprint.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.go_to("end")

    @blueprint.handler("end", is_end=True)
    async def end(context: Any, actions: Any) -> None:
        choose = actions.go_to  # not to be seen in the source text
        choose("start")

    job = await run_through(blueprint)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "state 'end': it is an end state" in job.error.message


async def test_a_state_that_does_not_exist_fails_the_job_naming_the_nearest(
    autojump_clock: MockClock,
) -> None:
    async def start(actions: ActionFactory, target: str) -> None:
        actions.go_to(target)

    job = await run_through(one_state(start), target="done2")
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "did you mean 'done'?" in job.error.message


async def test_params_over_the_limit_fail_the_step_with_a_message(
    autojump_clock: MockClock,
) -> None:
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("k", {"text": "x" * 300}, {"success": "done"})

    storage = memory()
    submit(storage)
    async with engine(storage, one_state(start), max_params_bytes=200):
        job = await final(storage)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "200" in job.error.message
    assert await storage.tasks(JOB) == []


# Arguments.


async def test_arguments_are_found_by_name_and_state_history_wins_over_initial_data(
    autojump_clock: MockClock,
) -> None:
    seen: dict[str, Any] = {}

    async def start(
        job_id: str,
        initial_data: Any,
        state_history: Any,
        actions: ActionFactory,
        context: Any,
        client: str,
        both: str,
        only: str,
        absent: int = 7,
    ) -> None:
        if not state_history:
            state_history["both"] = "from the history"
            actions.go_to("start")
            return
        seen.update(locals())
        actions.go_to("done")

    await run_through(one_state(start), both="from the client", only=1.0)
    assert seen["job_id"] == JOB
    assert seen["initial_data"] == {"both": "from the client", "only": 1.0}
    assert seen["client"].id == "c"
    assert (seen["context"].job_id, seen["context"].current_state) == (JOB, "start")
    assert (seen["both"], seen["only"], seen["absent"]) == ("from the history", 1.0, 7)
    assert type(seen["only"]) is float


async def test_a_parameter_that_nothing_fills_fails_the_job_at_once_and_is_named(
    autojump_clock: MockClock,
) -> None:
    async def start(actions: ActionFactory, width: int) -> None:
        actions.go_to("done")

    job = await run_through(one_state(start), height=3)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "nothing fills the parameter 'width'" in job.error.message
    assert "height" in job.error.message


# What is kept.


async def test_what_a_handler_changes_in_the_state_history_is_kept_as_it_is(
    autojump_clock: MockClock,
) -> None:
    blueprint = Blueprint("b")

    @blueprint.handler("start", is_start=True)
    async def start(actions: ActionFactory, state_history: dict[str, Any]) -> None:
        state_history["kept"] = {"n": 1.0, "nothing": None}
        actions.go_to("middle")

    @blueprint.handler("middle")
    async def middle(actions: ActionFactory, context: Any) -> None:
        context.state_history["too"] = True
        actions.go_to("done")

    @blueprint.handler("done", is_end=True)
    async def done(state_history: dict[str, Any]) -> dict[str, Any]:
        return dict(state_history)

    job = await run_through(blueprint)
    assert job.result == {"kept": {"n": 1.0, "nothing": None}, "too": True}
    assert type(job.result["kept"]["n"]) is float
    assert job.state_history == job.result


async def test_a_handler_that_raises_leaves_no_change_behind(autojump_clock: MockClock) -> None:
    seen: list[dict[str, Any]] = []

    async def start(
        actions: ActionFactory, state_history: dict[str, Any], initial_data: dict[str, Any]
    ) -> None:
        seen.append({**state_history, **initial_data})
        state_history["half"] = initial_data["half"] = "done"
        if len(seen) == 1:
            raise RuntimeError("halfway")
        actions.go_to("done")

    await run_through(one_state(start))
    assert seen == [{}, {}]


async def test_what_is_no_json_in_the_state_history_fails_the_job_naming_the_place(
    autojump_clock: MockClock,
) -> None:
    async def start(actions: ActionFactory, state_history: dict[str, Any]) -> None:
        state_history["bad"] = [object()]
        actions.go_to("done")

    job = await run_through(one_state(start))
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "bad" in job.error.message


async def test_an_aggregator_gets_the_results_in_the_order_of_submission(
    autojump_clock: MockClock,
) -> None:
    blueprint = Blueprint("b")

    @blueprint.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        specs = [
            {"type": "k", "key": "zebra", "params": {}, "priority": 0},
            {"task_type": "k", "params": {}, "priority": 1},
            {"type": "k", "key": "ape", "params": {}, "priority": 2},
        ]
        actions.dispatch_parallel(specs, aggregate_into="merge")

    @blueprint.aggregator("merge", is_end=True)
    async def merge(aggregation_results: dict[str, Any]) -> list[Any]:
        return [[name, it["data"], it["index"]] for name, it in aggregation_results.items()]

    storage = memory()
    submit(storage)
    async with engine(storage, blueprint):
        await wait_all_tasks_blocked()
        for number, data in enumerate([1.0, None, {"n": 3}]):
            work(storage, number, data)  # the last one first: it has the highest priority
        job = await final(storage)
    assert job.result == [["zebra", {"n": 3}, 0], ["1", None, 1], ["ape", 1.0, 2]]


async def test_an_empty_fan_out_goes_to_its_aggregator_with_nothing(
    autojump_clock: MockClock,
) -> None:
    blueprint = Blueprint("b")

    @blueprint.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_parallel([], aggregate_into="merge")

    @blueprint.aggregator("merge", is_end=True)
    async def merge(aggregation_results: dict[str, Any]) -> Any:
        return aggregation_results

    job = await run_through(blueprint)
    assert (job.status, job.result) == (JobStatus.FINISHED, {})


@pytest.mark.parametrize(
    ("name", "declared", "status"),
    [
        ("failed", None, JobStatus.FAILED),
        ("cancelled", None, JobStatus.CANCELLED),
        ("failed", "finished", JobStatus.FINISHED),
        ("sorry", "failed", JobStatus.FAILED),
        ("done", None, JobStatus.FINISHED),
    ],
)
async def test_an_end_state_ends_as_declared_or_as_its_name_tells(
    name: str, declared: Any, status: JobStatus, autojump_clock: MockClock
) -> None:
    blueprint = Blueprint("b")

    @blueprint.handler("start", is_start=True, to=[name])
    async def start(actions: ActionFactory, end: str) -> None:
        actions.go_to(end)

    @blueprint.handler(name, is_end=True, outcome=declared)
    async def end() -> dict[str, Any]:
        return {"n": 2.0, "nothing": None}

    job = await run_through(blueprint, end=name)
    assert (job.status, job.result) == (status, {"n": 2.0, "nothing": None})
    assert type(job.result["n"]) is float


# Handlers that fail.


async def test_a_handler_that_raises_is_retried_with_back_off_and_then_quarantined(
    autojump_clock: MockClock,
) -> None:
    began: list[float] = []

    async def start(actions: ActionFactory) -> None:
        began.append(trio.current_time())
        raise LookupError("no such thing")

    storage = memory()
    async with engine(storage, one_state(start)):
        await trio.sleep(5)  # until the janitor has seen that nobody else serves
        submit(storage)
        job = await final(storage)
    assert job.status is JobStatus.QUARANTINED
    assert job.error is not None
    assert (job.error.code, job.error.state) == ("HANDLER_ERROR", "start")
    assert job.error.message == "state 'start': LookupError: no such thing"
    assert len(began) == 4
    pauses = [after - before for before, after in pairwise(began)]
    assert pauses == [pytest.approx(seconds, abs=0.25 + seconds / 10) for seconds in (1, 2, 4)]


async def test_a_handler_that_recovers_goes_on(autojump_clock: MockClock) -> None:
    tries = 0

    async def start(actions: ActionFactory) -> None:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise OSError("not yet")
        actions.go_to("done")

    job = await run_through(one_state(start))
    assert (job.status, tries) == (JobStatus.FINISHED, 4)


async def test_a_handler_that_takes_too_long_is_ended_and_counts_as_one_that_raised(
    autojump_clock: MockClock,
) -> None:
    ended_after: list[float] = []

    async def start(actions: ActionFactory) -> None:
        began = trio.current_time()
        try:
            await trio.sleep_forever()
        finally:
            ended_after.append(trio.current_time() - began)

    storage = memory()
    submit(storage)
    async with engine(storage, one_state(start), handler_timeout_seconds=5):
        job = await final(storage)
    assert ended_after == pytest.approx([5, 5, 5, 5])
    assert job.status is JobStatus.QUARANTINED
    assert job.error is not None
    assert "longer than HANDLER_TIMEOUT_SECONDS=5" in job.error.message


async def test_a_slow_handler_holds_up_no_other_job(autojump_clock: MockClock) -> None:
    async def start(actions: ActionFactory, seconds: float) -> None:
        await trio.sleep(seconds)
        actions.go_to("done")

    storage = memory()
    submit(storage, job_id="p00-slow", seconds=50)
    submit(storage, job_id="p00-quick", seconds=0)
    async with engine(storage, one_state(start)):
        await final(storage, "p00-quick")
        assert trio.current_time() < 1
        await final(storage, "p00-slow")


# Fencing.


async def test_a_step_of_a_job_that_was_cancelled_meanwhile_is_discarded(
    autojump_clock: MockClock,
) -> None:
    ran = 0

    async def start(actions: ActionFactory) -> None:
        nonlocal ran
        ran += 1
        await trio.sleep(10)
        actions.dispatch_task("k", {}, {"success": "done"})

    storage = memory()
    submit(storage)
    async with engine(storage, one_state(start)):
        await trio.sleep(1)
        storage.run(partial(steps.cancel, job_id=JOB, reason="asked for", rules=Rules()))
        await trio.sleep(100)
        job = await final(storage)
    assert (job.status, job.revision, ran) == (JobStatus.CANCELLED, 2, 1)
    assert await storage.tasks(JOB) == []


async def test_a_step_that_takes_longer_than_a_claim_is_run_by_one_engine_only(
    autojump_clock: MockClock,
) -> None:
    runs = 0

    async def start(actions: ActionFactory) -> None:
        nonlocal runs
        runs += 1
        await trio.sleep(55)
        actions.go_to("done")

    storage = memory()
    submit(storage)
    blueprint = one_state(start)
    async with engine(storage, blueprint), engine(storage, blueprint):
        job = await final(storage)
    assert (job.status, runs) == (JobStatus.FINISHED, 1)


async def test_a_step_of_an_engine_that_died_is_run_by_another(autojump_clock: MockClock) -> None:
    runs = 0

    async def start(actions: ActionFactory) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            await trio.sleep_forever()
        actions.go_to("done")

    storage = memory()
    submit(storage)
    blueprint = one_state(start)
    async with engine(storage, blueprint):
        await trio.sleep(1)
    async with engine(storage, blueprint):
        job = await final(storage)
    assert (job.status, runs) == (JobStatus.FINISHED, 2)
    assert trio.current_time() < 35


# Blueprints that are not served.


async def test_a_job_whose_blueprint_is_not_served_waits_and_goes_on_when_it_is(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def start(actions: ActionFactory) -> None:
        actions.go_to("done")

    storage = memory()
    submit(storage)
    other = Blueprint("other")

    @other.handler("start", is_start=True, is_end=True)
    async def only() -> None: ...

    async with engine(storage, other):
        submit(storage, "b", "p00-2")
        submit(storage, "other", "p00-3")
        assert (await final(storage, "p00-3")).status is JobStatus.FINISHED
        await trio.sleep(100)
        waiting = await storage.job(JOB)
        assert waiting is not None
        assert (waiting.status, waiting.revision) == (JobStatus.PENDING, 1)
    assert caplog.text.count("jobs of blueprint 'b' wait") == 1
    async with engine(storage, one_state(start), other):
        assert (await final(storage)).status is JobStatus.FINISHED


async def test_a_state_that_is_gone_from_its_blueprint_fails_the_job_naming_those_there_are(
    autojump_clock: MockClock,
) -> None:
    blueprint = Blueprint("b")

    @blueprint.handler("begin", is_start=True, is_end=True)
    async def begin() -> None: ...

    job = await run_through(blueprint)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert "has no state 'start' (any more): begin" in job.error.message


# Handlers that are not async: in real time, for virtual time does not see threads.


async def test_a_plain_handler_runs_in_a_thread_and_the_loop_goes_on() -> None:
    loop = threading.get_ident()
    ran_in: list[int] = []
    began = trio.Event()
    go = threading.Event()

    def start(actions: ActionFactory) -> None:
        ran_in.append(threading.get_ident())
        trio.from_thread.run_sync(began.set)
        assert go.wait(10)
        actions.go_to("done")

    storage = memory()
    submit(storage)
    async with engine(storage, one_state(start)):
        await began.wait()
        go.set()  # the loop turns while the handler waits
        job = await final(storage)
    assert job.status is JobStatus.FINISHED
    assert ran_in != [loop]


async def test_a_plain_handler_that_takes_too_long_is_left_to_itself_and_fenced() -> None:
    go = threading.Event()
    ended = threading.Event()
    runs: list[int] = []

    def start(actions: ActionFactory) -> None:
        runs.append(len(runs))
        if len(runs) > 1:
            actions.go_to("done")
            return
        go.wait(10)
        actions.dispatch_task("k", {}, {"success": "done"})
        ended.set()

    storage = memory()
    submit(storage)
    async with engine(storage, one_state(start), handler_timeout_seconds=0.05):
        job = await final(storage)
        go.set()
        assert await trio.to_thread.run_sync(ended.wait, 10)
    assert (job.status, runs) == (JobStatus.FINISHED, [0, 1])
    assert await storage.tasks(JOB) == []


@pytest.mark.parametrize("in_thread", [False, True])
async def test_what_a_handler_logs_knows_its_job_and_state(
    caplog: pytest.LogCaptureFixture, in_thread: bool
) -> None:
    """In real time, a few milliseconds: one of them runs in a thread."""
    storage = memory()

    async def in_loop(actions: ActionFactory) -> None:
        logging.getLogger("mine").warning("here")
        actions.go_to("done")

    def threaded(actions: ActionFactory) -> None:
        logging.getLogger("mine").warning("here")
        actions.go_to("done")

    submit(storage, job_id=JOB)
    submit(storage, job_id="p00-2")
    with caplog.filtering(TaskContextFilter()), trio.fail_after(5):
        async with engine(storage, one_state(threaded if in_thread else in_loop)):
            await final(storage, JOB)
            await final(storage, "p00-2")
    told = {(it.__dict__["job_id"], it.__dict__["state"]) for it in caplog.records[:2]}
    assert told == {(JOB, "start"), ("p00-2", "start")}
