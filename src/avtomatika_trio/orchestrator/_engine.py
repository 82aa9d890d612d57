"""Advances jobs: claims those that are ready, runs the handler, commits what it decided.

Handlers may run again after a crash, or beside a late twin; the commit is fenced by the
job's revision, so that only one of them counts (rule S1).
"""

import logging
from functools import partial
from typing import Any, NoReturn

import msgspec
import trio

from avtomatika_trio._core import steps
from avtomatika_trio._core.actions import (
    Action,
    ActionFactory,
    DispatchParallel,
    DispatchTask,
    TaskSpec,
)
from avtomatika_trio._core.binding import HandlerValues, JobContext, bind
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._core.job import Job, JobFault
from avtomatika_trio._core.json_values import NotJson, copy_json
from avtomatika_trio._core.known_files import files_known, uris_in
from avtomatika_trio._core.outcomes import as_branch_result
from avtomatika_trio._core.state import State
from avtomatika_trio._own_errors import is_its_own
from avtomatika_trio._task_logs import log_fields, trace_fields
from avtomatika_trio.errors import ActionError, StaleRevision, StateError, StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._job_files import JobFiles, open_job_files

logger = logging.getLogger(__name__)

#: How many steps are under way at a time: what a slow handler of one job takes from others.
STEPS_AT_A_TIME = 200

#: How many jobs one look at the ready index claims; keeps the claims of one loop small.
_MOST_PER_CLAIM = 50

#: A claim outlives this many seconds without renewal only if its process is dead.
_CLAIM_SECONDS = 30.0

#: How many handlers that are not `async` run at a time, each in a thread.
_THREADS = 20

#: A handler that asks for one of these may use the files of its job.
_WITH_FILES = frozenset({"context", "task_files"})

#: After the storage refused a step, how long until it is tried again.
_PAUSE_SECONDS = 1.0


async def run_engine(context: Context) -> NoReturn:
    """Advance jobs until cancelled; survives an outage of the storage, and nothing else."""
    [owner] = context.chance.wire_ids(context.storage.partitions[0], 1)
    steps_free = trio.Semaphore(STEPS_AT_A_TIME)
    threads = trio.CapacityLimiter(_THREADS)
    left: set[str] = set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_renew_claims, context, owner)
        while True:
            await steps_free.acquire()
            try:
                jobs = await context.storage.claim_ready(
                    owner,
                    most=min(steps_free.value + 1, _MOST_PER_CLAIM),
                    lease_seconds=_CLAIM_SECONDS,
                )
            except StorageUnavailable as exc:
                logger.warning("jobs must wait: %s", exc)
                await trio.sleep(_PAUSE_SECONDS)
                continue
            finally:
                steps_free.release()
            for job in jobs:
                blueprint = context.blueprints.get(job.blueprint)
                if blueprint is None:
                    _leave(context, job, owner, left)
                    continue
                steps_free.acquire_nowait()
                nursery.start_soon(_run_step, context, blueprint, job, steps_free, threads)
    raise AssertionError  # the loop above does not end


async def _renew_claims(context: Context, owner: str) -> NoReturn:
    while True:
        await trio.sleep(_CLAIM_SECONDS / 3)
        context.storage.renew_claims(owner, lease_seconds=_CLAIM_SECONDS)


def _leave(context: Context, job: Job, owner: str, left: set[str]) -> None:
    """Leave *job* to others: it goes on where, or when, its blueprint is served."""
    if job.blueprint not in left:
        left.add(job.blueprint)
        logger.warning(
            "jobs of blueprint %r wait: it is not served here (--blueprints)", job.blueprint
        )
    context.storage.leave_claim(job, owner)


async def _run_step(
    context: Context,
    blueprint: Blueprint,
    job: Job,
    steps_free: trio.Semaphore,
    threads: trio.CapacityLimiter,
) -> None:
    try:
        with log_fields(job_id=job.id, state=job.state, **trace_fields(job.tracing_context)):
            await _step(context, blueprint, job, threads)
    finally:
        steps_free.release()


async def _step(
    context: Context, blueprint: Blueprint, job: Job, threads: trio.CapacityLimiter
) -> None:
    try:
        decision, state_history = await _decide(context, blueprint, job, threads)
        operation = partial(
            steps.advance,
            claimed=job,
            state_history=state_history,
            decision=decision,
            rules=context.rules,
            noise=context.chance.noise(),
        )
        await context.storage.commit(operation, context.storage.partition_of(job.id))
    except StaleRevision:
        context.storage.settle_claim(job)  # it was cancelled, or another run was faster
    except StorageUnavailable as exc:
        logger.warning("job %s cannot advance now: %s", job.id, exc)
        await trio.sleep(_PAUSE_SECONDS)
        context.storage.release_claim(job)
    else:
        context.storage.settle_claim(job)


async def _decide(
    context: Context, blueprint: Blueprint, job: Job, threads: trio.CapacityLimiter
) -> tuple[steps.Decision, dict[str, Any]]:
    """Run the handler of the job's state.

    Returns:
        What it decided, and the state history as it left it.
    """
    state = blueprint.states.get(job.state)
    if state is None:
        known = ", ".join(blueprint.states)
        message = f"blueprint {blueprint.name!r} has no state {job.state!r} (any more): {known}"
        return steps.Broke(fault=_blueprint_fault(job, message)), job.state_history
    if _WITH_FILES.isdisjoint(it.name for it in state.parameters):
        values = await _values(context, blueprint, state, job, None)
        return await _run_handler(context, blueprint, state, job, values, threads)
    async with open_job_files(context, job) as files:
        values = await _values(context, blueprint, state, job, files)
        return await _run_handler(context, blueprint, state, job, values, threads)


async def _run_handler(
    context: Context,
    blueprint: Blueprint,
    state: State,
    job: Job,
    values: HandlerValues,
    threads: trio.CapacityLimiter,
) -> tuple[steps.Decision, dict[str, Any]]:
    try:
        arguments = bind(state, values)
        returned = await _call(context, state, arguments, threads)
        history = _kept_history(arguments, values, state, job)
        return _decision(blueprint, state, values, returned), history
    except StateError as exc:
        return steps.Broke(fault=_blueprint_fault(job, str(exc))), job.state_history
    except BaseException as exc:  # the border to blueprints' handlers: also their SystemExit
        if not is_its_own(exc):
            raise
        message = f"state {job.state!r}: {type(exc).__name__}: {_text_of(exc)}"
        logger.exception("the handler of state %r of job %s raised", job.state, job.id)
        fault = JobFault(code="HANDLER_ERROR", message=message, state=job.state)
        return steps.Raised(fault=fault), job.state_history


def _text_of(exc: BaseException) -> str:
    """What *exc* says, such as can be stored: file names may be no Unicode, `__str__` may fail."""
    try:
        return str(exc).encode(errors="replace").decode()
    except Exception:  # noqa: BLE001 - the border to foreign code: its __str__
        return "(its message cannot be had)"


async def _values(
    context: Context, blueprint: Blueprint, state: State, job: Job, files: JobFiles | None
) -> HandlerValues:
    """What the handler may ask for: copies, so that a second run sees what the first one saw."""
    results: dict[str, Any] = {}
    if job.aggregates is not None:
        for task in await context.storage.tasks(job.id, job.aggregates):
            name = task.key if task.key is not None else str(task.branch)
            results[name] = _copy(as_branch_result(task))
    return HandlerValues(
        context=JobContext(
            job_id=job.id,
            blueprint=job.blueprint,
            current_state=job.state,
            initial_data=_copy(job.initial_data),
            state_history=_copy(job.state_history),
            client=context.access.job_client(job.client),
            data_stores=blueprint.data_stores,
            task_files=files,
            aggregation_results=results,
            tracing_context=dict(job.tracing_context),
        ),
        actions=ActionFactory(state.name, context.limits.max_params_bytes, _size_of),
    )


async def _call(
    context: Context, state: State, arguments: dict[str, Any], threads: trio.CapacityLimiter
) -> Any:
    with trio.move_on_after(context.limits.handler_timeout_seconds) as scope:
        if state.is_async:
            return await state.function(**arguments)
        call = partial(state.function, **arguments)
        # Methods of `task_files` wait for the loop, so they need a thread in any case.
        if not context.handlers_in_thread and not arguments.keys() & {"task_files", "context"}:
            return call()
        return await trio.to_thread.run_sync(call, limiter=threads, abandon_on_cancel=True)
    assert scope.cancelled_caught
    limit = context.limits.handler_timeout_seconds
    raise TimeoutError(f"it took longer than HANDLER_TIMEOUT_SECONDS={limit:g}")


def _decision(
    blueprint: Blueprint, state: State, values: HandlerValues, returned: Any
) -> steps.Decision:
    chosen = values.actions.chosen
    blueprint.allows(state.name, chosen)
    if chosen is not None:
        return steps.Chose(action=chosen, known_files=_known_files(chosen, values))
    result = _as_json(returned, state, "the returned value")
    return steps.ReachedEnd(outcome=state.outcome or "finished", returned=result)


def _known_files(chosen: Action, values: HandlerValues) -> dict[str, Any]:
    """What earlier results tell of files that tasks are given now.

    Found before the commit, and once for all branches: a history may be large.
    """
    match chosen:
        case DispatchTask(spec=spec):
            specs: tuple[TaskSpec, ...] = (spec,)
        case DispatchParallel(specs=specs):
            pass
        case _:
            return {}
    if not any(uris_in(spec.params) for spec in specs):
        return {}
    return files_known(values.context.state_history, values.context.aggregation_results)


def _kept_history(
    arguments: dict[str, Any], values: HandlerValues, state: State, job: Job
) -> dict[str, Any]:
    """The state history as the handler left it, if it was given it."""
    if not arguments.keys() & {"state_history", "context"}:
        return job.state_history
    kept = _as_json(values.context.state_history, state, "state_history")
    assert isinstance(kept, dict)
    return kept


def _as_json(value: Any, state: State, what: str) -> Any:
    try:
        return copy_json(value, what)
    except NotJson as exc:
        raise ActionError(state.name, str(exc)) from None


def _blueprint_fault(job: Job, message: str) -> JobFault:
    return JobFault(code="BLUEPRINT_ERROR", message=message, state=job.state)


def _copy(value: dict[str, Any]) -> dict[str, Any]:
    if not value:
        return {}
    copied = msgspec.json.decode(msgspec.json.encode(value))
    assert isinstance(copied, dict)
    return copied


def _size_of(value: Any) -> int:
    return len(msgspec.json.encode(value))
