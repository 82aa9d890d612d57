"""One attempt: a handler runs, and what it did becomes an outcome, or nothing."""

import enum
import inspect
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

import attrs
import trio

from avtomatika_trio._core.json_values import NotJson
from avtomatika_trio._models import Misfit
from avtomatika_trio._shapes import is_record, plain
from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio._wire.tracing import span_of
from avtomatika_trio.errors import (
    BlobDenied,
    BlobError,
    BlobMismatch,
    BlobMissing,
    BlobRefused,
    HandlerError,
    InvalidInput,
    PermanentError,
)
from avtomatika_trio.worker._attempt_files import AttemptFiles
from avtomatika_trio.worker._cancellation import CheckForCancellation
from avtomatika_trio.worker._events import SendEvent
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._hot_skills import HotSkills
from avtomatika_trio.worker._middlewares import TaskContext, call_through
from avtomatika_trio.worker._outcome import (
    INVALID_INPUT,
    PERMANENT,
    TRANSIENT,
    Outcome,
    failed,
    not_json,
    outcome_of_error,
    outcome_of_return,
    unwrapped,
)
from avtomatika_trio.worker._requests import Terms
from avtomatika_trio.worker._seal import RefusedTask
from avtomatika_trio.worker._skills import CallHandler, Skill
from avtomatika_trio.worker._task_files import TaskFiles
from avtomatika_trio.worker._tracebacks import of_author

logger = logging.getLogger(__name__)

#: How often a thread that nobody waits for is looked at.
_LOOK_SECONDS = 0.1


class Ending(enum.Enum):
    """Why an attempt ends before its handler does."""

    CANCELLED = "cancelled"
    """The orchestrator told so: nobody wants its result."""
    CUT_OFF = "cut off"
    """The worker stops and the time of grace is over: it is given back."""


@attrs.define(kw_only=True, eq=False)
class Attempt:
    """An attempt that is running."""

    task: TaskPayload
    skill: Skill | None
    """None if the worker has no such skill."""
    home: Home
    """The orchestrator that issued it."""
    terms: Terms
    """What that one had announced."""
    files: AttemptFiles
    """Its folder, if it needs one."""
    hot: HotSkills
    """What the worker has loaded."""
    tracing_context: dict[str, str] = attrs.field()
    """What the task came with, the attempt's own span in it."""
    call: CallHandler | None = None
    """Calls the handler in a way of its own."""
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ending: Ending | None = None
    thread_runs: bool = False
    """Whether a thread of its handler is under way; it cannot be stopped."""
    thread_is_unwanted: bool = False
    """Whether a middleware has gone on without that thread."""

    @tracing_context.default
    def _span(self) -> dict[str, str]:
        given = self.task.tracing_context
        return {**given, **span_of(given, self.task.task_id)}

    def is_over(self) -> bool:
        """Whether nobody wants its result any more; to be asked from any thread."""
        return self.ending is not None or self.thread_is_unwanted

    def cancel(self) -> None:
        """Stop it: nobody wants its result.

        A handler in a thread cannot be stopped.  It keeps its slot until it ends by itself,
        as it does at once if it asks `check_for_cancellation`.
        """
        if self.ending is None:
            self.ending = Ending.CANCELLED
        self.files.end_transfers()
        if not self.thread_runs:
            self.scope.cancel()

    def cut_off(self) -> None:
        """End it now; a handler in a thread is left to itself."""
        if self.ending is None:
            self.ending = Ending.CUT_OFF
        self.files.end_transfers()
        self.scope.cancel()


#: The attempt whose handler this is; threads of handlers inherit it, their own threads do not.
RUNNING: ContextVar[Attempt] = ContextVar("avtomatika_running_attempt")


async def run_attempt(attempt: Attempt, threads: trio.CapacityLimiter) -> Outcome | None:
    """Run the handler of *attempt*.

    Returns:
        How it ended; None if it was cancelled or cut off, whatever the handler made of that:
        one that answers a cancellation with a value or an error of its own has not done its
        task.

    Raises:
        KeyboardInterrupt: the handler did in the loop, or the signal arrived in it.
    """
    outcome: Outcome | None = None
    before = RUNNING.set(attempt)
    attempt.home.events.begin(attempt.task)
    try:
        with attempt.scope:
            outcome = await _outcome(attempt, threads)
    finally:
        RUNNING.reset(before)
    return outcome if attempt.ending is None else None


async def _outcome(attempt: Attempt, threads: trio.CapacityLimiter) -> Outcome:
    task, skill, progress = attempt.task, attempt.skill, attempt.home.progress
    if isinstance(task, RefusedTask):
        return failed("SECURITY_ERROR", f"the worker refuses this task: {task.refusal}")
    if skill is None:
        return failed(PERMANENT, f"Unsupported skill: {task.type}")
    if not isinstance(task.params, dict):
        kind = type(task.params).__name__
        return failed(INVALID_INPUT, f"params must be an object, not {kind}")
    progress.begin(task)
    try:
        if not attempt.files.are_possible:
            return await _with_files(attempt, skill, threads)
        async with attempt.files.open():
            return await _with_files(attempt, skill, threads)
    finally:
        progress.end(task)


async def _with_files(attempt: Attempt, skill: Skill, threads: trio.CapacityLimiter) -> Outcome:
    """Bring the inputs, call the handler, take its outputs away."""
    task, files = attempt.task, attempt.files
    try:
        params = await files.fetch(task.params, task.params_metadata)
        if "task_files" in skill.wants:
            await files.make()
    except Exception as exc:  # noqa: BLE001 - whatever names and disks do: one attempt fails
        return _of_files(attempt, exc, _CODES)
    outcome = await _call(attempt, skill, params, threads)
    if attempt.thread_runs:
        await _let_thread_end(attempt)
    if attempt.ending is not None:
        return outcome  # nobody wants it
    try:
        return await files.deliver(outcome)
    except Exception as exc:  # noqa: BLE001 - as above
        return _of_files(attempt, exc, _CODES_OF_OUTPUTS)


#: Whose fault it is if a file cannot be had or put; what is not named may pass.
_CODES: Mapping[type[BlobError], str] = {
    BlobMissing: INVALID_INPUT,
    BlobRefused: INVALID_INPUT,
    BlobDenied: PERMANENT,
    BlobMismatch: "INTEGRITY_MISMATCH_ERROR",
}


#: Who submitted the job has no part in where its outputs go.
_CODES_OF_OUTPUTS: Mapping[type[BlobError], str] = dict.fromkeys(_CODES, PERMANENT)


def _of_files(attempt: Attempt, exc: Exception, codes: Mapping[type[BlobError], str]) -> Outcome:
    """What a transfer that failed means; the message names the URI."""
    expected = isinstance(exc, BlobError | HandlerError | OSError)
    logger.warning(
        "task %s of job %s: %s",
        attempt.task.task_id,
        attempt.task.job_id,
        exc,
        exc_info=None if expected else exc,
    )
    if not isinstance(exc, BlobError):
        return outcome_of_error(exc)
    return failed(codes.get(type(exc), TRANSIENT), str(exc), {"uri": exc.uri})


def _arguments(attempt: Attempt, skill: Skill, params: dict[str, Any]) -> dict[str, Any]:
    """What the handler asks for by name."""
    task, progress = attempt.task, attempt.home.progress
    values = {
        "params": params,
        "task_id": task.task_id,
        "job_id": task.job_id,
        "attempt": task.attempt,
        # A server without the extension has no stable id: the attempt's is better than none.
        "idempotency_key": task.idempotency_key or task.task_id,
        "send_progress": progress.of(task) if "send_progress" in skill.wants else None,
        "send_event": SendEvent(task, skill, attempt.home),
        "check_for_cancellation": CheckForCancellation(attempt.is_over),
        "task_files": TaskFiles(attempt.files),
        "add_to_hot_skills": attempt.hot.add,
        "remove_from_hot_skills": attempt.hot.remove,
        "priority": task.priority,
        "tracing_context": attempt.tracing_context,
    }
    return {name: values[source] for name, source in skill.arguments.items()}


async def _call(
    attempt: Attempt, skill: Skill, params: dict[str, Any], threads: trio.CapacityLimiter
) -> Outcome:
    """The border to foreign code, and the only place where any error is caught."""
    task = attempt.task
    context = TaskContext(
        skill=skill.name,
        params=params,
        job_id=task.job_id,
        task_id=task.task_id,
        attempt=task.attempt,
        idempotency_key=task.idempotency_key or task.task_id,
        tracing_context=attempt.tracing_context,
        provides=frozenset(skill.middlewares.provides),
    )
    by_handler: list[Any] = []
    returned: Any = None

    async def handle() -> Any:
        by_handler.append(await _handle(attempt, skill, context, threads))
        return by_handler[-1]

    def who() -> str:
        is_own = any(it is returned for it in by_handler)
        return "the handler" if is_own else "a middleware, in its handler's place,"

    try:
        returned = await call_through(tuple(skill.middlewares.functions), context, handle)
        outcome = _of_return(attempt, skill, returned, who())
    except (trio.Cancelled, KeyboardInterrupt):
        # A thread that was left to itself may use them on.
        attempt.files.is_left = attempt.thread_runs
        raise
    except BaseExceptionGroup as group:
        _let_out(group)
        return _failure(attempt, unwrapped(group))
    except NotJson as exc:
        return not_json(exc, who())
    except BaseException as exc:  # noqa: BLE001 - the border: also a handler's SystemExit
        return _failure(attempt, exc)
    return outcome


def _of_return(attempt: Attempt, skill: Skill, returned: Any, who: str) -> Outcome:
    unwritten: Any = None
    if skill.returns is not None and skill.returns.has_models:
        unwritten = attempt.files.as_texts(plain(returned, keeps_models=True))
    return outcome_of_return(
        attempt.files.as_texts(plain(returned)),
        skill.returns,
        is_data=is_record(returned),
        unwritten=unwritten,
        who=who,
    )


async def _handle(
    attempt: Attempt, skill: Skill, context: TaskContext, threads: trio.CapacityLimiter
) -> Any:
    """Make the params what the handler wants them to be, and call it."""
    arguments = _arguments(attempt, skill, context.params)
    if skill.params is not None:
        try:
            arguments["params"] = skill.params.build(context.params)
        except Misfit as exc:
            raise InvalidInput(f"the params do not fit: {exc}", exc.details) from exc
    arguments |= context.for_handler(skill.provided, skill.optional, everything=skill.takes_all)
    if attempt.call is not None:
        call = partial(skill.function, **arguments)
        return await attempt.call(skill, context.params, call)
    if skill.is_async:
        return await skill.function(**arguments)
    work = partial(_in_thread, attempt, partial(skill.function, **arguments))
    # Set before the thread exists: from here on it can only be left to itself.
    attempt.thread_runs = True
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=threads)


async def _let_thread_end(attempt: Attempt) -> None:
    """A middleware has gone on without the thread, which keeps slot and files until it ends."""
    logger.warning(
        "a middleware did not wait for the thread of %s (task %s), which cannot be stopped;"
        " the outcome waits for its end, and check_for_cancellation tells it",
        attempt.task.type,
        attempt.task.task_id,
    )
    attempt.thread_is_unwanted = True
    try:
        while attempt.thread_runs:  # noqa: ASYNC110 - a thread ends it, and this is rare
            await trio.sleep(_LOOK_SECONDS)
    except trio.Cancelled:
        attempt.files.is_left = attempt.thread_runs
        raise


def _in_thread(attempt: Attempt, work: partial[Any]) -> Any:
    try:
        return _awaited(work())
    except KeyboardInterrupt as exc:  # no signal, which would end the worker: those end elsewhere
        raise RuntimeError("the handler raised KeyboardInterrupt") from exc
    finally:
        attempt.thread_runs = False


def _awaited(returned: Any) -> Any:
    """*returned* by a handler in a thread, if it is not still to be awaited.

    Raises:
        PermanentError: it is.
    """
    if not inspect.iscoroutine(returned):
        return returned
    returned.close()
    raise PermanentError(
        "the handler, a `def`, returned a coroutine that nobody awaits;"
        " make it, or what wraps it, an `async def` that ends with `return await ...`"
    )


def _let_out(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise what is in *group* and is not for us: a cancellation, an interrupt."""
    ours, others = group.split((trio.Cancelled, KeyboardInterrupt))
    if ours is None:
        return
    if others is not None:
        logger.warning("a handler that was cancelled also raised", exc_info=others)
    raise ours


def _failure(attempt: Attempt, exc: BaseException) -> Outcome:
    if not isinstance(exc, HandlerError) and attempt.ending is None:
        if not logger.isEnabledFor(logging.DEBUG):
            exc = exc.with_traceback(of_author(exc))
        logger.error(
            "the handler of %s failed (task %s of job %s)",
            attempt.task.type,
            attempt.task.task_id,
            attempt.task.job_id,
            exc_info=exc,
        )
    return outcome_of_error(exc)
