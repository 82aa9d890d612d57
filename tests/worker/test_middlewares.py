"""Middlewares: around every handler, and what they provide."""

import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio.errors import ConfigError, InvalidInput, PermanentError
from avtomatika_trio.worker import TaskContext, Worker

Next = Callable[[], Awaitable[Any]]


@attrs.frozen
class Count:
    n: int


async def outcome(worker: Worker, params: Any = None) -> Any:
    """What becomes of one task of the skill `it`."""
    fake = FakeOrchestrator()
    (task,) = fake.submit("it", params or {})
    async with running(worker, fake):
        await fake.all_done()
    assert task.result is not None
    return task.result


async def test_the_first_is_the_outermost(autojump_clock: MockClock) -> None:
    worker, seen = Worker(), []

    async def outer(context: TaskContext, call_next: Next) -> Any:
        seen.append(f"outer {context.skill} {context.params} {context.attempt}")
        value = await call_next()
        seen.append("outer after")
        return {"outer": value}

    async def inner(context: TaskContext, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
        seen.append(f"inner {context.job_id} {context.task_id} {context.idempotency_key}")
        return {"inner": await call_next(context)}

    worker.add_middleware(outer)
    worker.add_middleware(inner)

    @worker.skill("it")
    async def it(params: Count) -> int:
        seen.append("handler")
        return params.n

    worker._skills["it"] = attrs.evolve(worker._skills["it"], returns=None)
    result = await outcome(worker, {"n": 1})
    assert result.data == {"outer": {"inner": 1}}
    assert seen == ["outer it {'n': 1} 1", "inner job-k0 k0-1 k0", "handler", "outer after"]


async def _takes_one(context: TaskContext) -> None: ...


async def _provide_db(context: TaskContext, call_next: Next) -> Any:
    context.provide("db", "the database")
    return await call_next()


async def test_handlers_get_what_is_provided(autojump_clock: MockClock) -> None:
    def needs(db: str) -> str:
        return db

    async def may_have(db: str = "none") -> str:
        return db

    async def takes_all(**everything: Any) -> Any:
        return everything["db"]

    for handler in (needs, may_have, takes_all):
        worker = Worker()
        worker.add_middleware(_provide_db, provides=("db",))
        worker.skill("it")(handler)
        if handler is needs:
            continue  # runs in a thread, which a virtual clock does not see
        assert (await outcome(worker)).data == "the database"


async def test_a_handler_in_a_thread_gets_it_too() -> None:
    worker = Worker()
    worker.add_middleware(_provide_db, provides=("db",))

    @worker.skill("it")
    def needs(db: str) -> str:
        return db

    assert (await outcome(worker)).data == "the database"


async def test_what_nothing_provides_is_an_error_at_the_start(autojump_clock: MockClock) -> None:
    worker = Worker()
    worker.add_middleware(_provide_db, provides=("db",))
    worker.skill("it")(lambda dbs: None)
    with pytest.RaisesGroup(ConfigError) as caught:
        await outcome(worker)
    (error,) = caught.value.exceptions
    for text in ("nothing fills the parameter 'dbs'", "did you mean 'db'"):
        assert text in str(error)


async def test_a_middleware_may_be_added_after_the_skills_that_need_it(
    autojump_clock: MockClock,
) -> None:
    worker = Worker()

    @worker.skill("it")
    async def it(db: str) -> str:
        return db

    worker.add_middleware(_provide_db, provides=("db",))
    assert (await outcome(worker)).data == "the database"


async def test_what_was_promised_and_not_provided_is_told(autojump_clock: MockClock) -> None:
    async def forgets(context: TaskContext, call_next: Next) -> Any:
        return await call_next()

    worker = Worker()
    worker.add_middleware(forgets, provides=("db",))

    @worker.skill("it")
    async def it(db: Any) -> None: ...

    result = await outcome(worker)
    assert result.error.code == "PERMANENT_ERROR"
    assert "nothing has provided the parameter 'db'" in result.error.message


async def test_what_was_not_promised_cannot_be_provided(autojump_clock: MockClock) -> None:
    worker = Worker()
    worker.add_middleware(_provide_db)

    @worker.skill("it")
    async def it(db: Any = None) -> None: ...

    result = await outcome(worker)
    assert result.error.code == "PERMANENT_ERROR"
    assert "add it with provides=('db',)" in result.error.message


async def test_it_sees_faults_of_params_and_may_replace_the_outcome(
    autojump_clock: MockClock,
) -> None:
    async def lenient(context: TaskContext, call_next: Next) -> Any:
        try:
            return await call_next()
        except InvalidInput as exc:
            return {"status": "odd", "data": exc.details}

    worker = Worker()
    worker.add_middleware(lenient)

    @worker.skill("it")
    async def it(params: Count) -> int:
        return params.n

    result = await outcome(worker, {"n": "1"})
    assert result.status == "odd"
    assert [problem["path"] for problem in result.data["problems"]] == ["$.n"]


async def test_it_may_mend_the_params(autojump_clock: MockClock) -> None:
    async def mend(context: TaskContext, call_next: Next) -> Any:
        context.params = {"n": int(context.params["n"])}
        return await call_next()

    worker = Worker()
    worker.add_middleware(mend)

    @worker.skill("it")
    async def it(params: Count) -> int:
        return params.n

    assert (await outcome(worker, {"n": "1"})).data == 1


@pytest.mark.parametrize(
    ("error", "code"), [(PermanentError("no"), "PERMANENT_ERROR"), (OSError(), "TRANSIENT_ERROR")]
)
async def test_its_errors_are_as_those_of_the_handler(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, error: Exception, code: str
) -> None:
    async def failing(context: TaskContext, call_next: Next) -> Any:
        raise error

    worker = Worker()
    worker.add_middleware(failing)
    worker.skill("it")(lambda: None)
    caplog.set_level(logging.CRITICAL)
    assert (await outcome(worker)).error.code == code


async def test_what_it_returns_is_held_against_the_annotation_of_the_handler(
    autojump_clock: MockClock,
) -> None:
    """That is what is published of the skill; whose value it was is told."""
    worker = Worker()

    async def wrap(context: TaskContext, call_next: Next) -> Any:
        returned = await call_next()
        return {"wrapped": returned} if context.params.get("wraps") else returned

    worker.add_middleware(wrap)

    @worker.skill("it")
    async def it(params: dict[str, Any]) -> int:
        return params["n"]  # type: ignore[no-any-return]

    told = [await outcome(worker, it) for it in ({"n": 1, "wraps": True}, {"n": "one"})]
    assert [it.error.code for it in told] == ["CONTRACT_VIOLATION_ERROR"] * 2
    assert [it.error.message.partition(" does not")[0] for it in told] == [
        "what a middleware, in its handler's place, returned",
        "what the handler returned",
    ]


async def test_one_that_forgets_to_return_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def forgetful(context: TaskContext, call_next: Next) -> Any:
        await call_next()

    worker = Worker()
    worker.add_middleware(forgetful)

    @worker.skill("it")
    async def it() -> int:
        return 1

    result = await outcome(worker)
    # None does not fit the annotation either, so nothing is lost in silence.
    assert result.error.code == "CONTRACT_VIOLATION_ERROR"
    assert "'forgetful' returns None" in caplog.text


async def test_it_is_cancelled_with_its_handler(autojump_clock: MockClock) -> None:
    worker, seen = Worker(), []

    async def around(context: TaskContext, call_next: Next) -> Any:
        try:
            return await call_next()
        finally:
            seen.append("cleaned up")

    worker.add_middleware(around)

    @worker.skill("it")
    async def it() -> None:
        await trio.sleep_forever()

    fake = FakeOrchestrator()
    fake.submit("it")
    async with running(worker, fake, shutdown_timeout_seconds=1.0):
        await trio.sleep(5)
    assert seen == ["cleaned up"]


@pytest.mark.parametrize(
    ("function", "provides", "told"),
    [
        (lambda context, call_next: None, (), "is an `async def`"),
        (_takes_one, (), "is an `async def`"),
        (_provide_db, "db", "tuple of names"),
        (_provide_db, ("params",), "given 'params' already"),
        (_provide_db, ("a b",), "cannot be the name of a parameter"),
    ],
)
def test_what_cannot_be_a_middleware_is_refused(function: Any, provides: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Worker().add_middleware(function, provides=provides)


async def test_a_thread_that_a_middleware_does_not_wait_for_keeps_its_slot_and_is_told() -> None:
    """In real time; a fraction of a second."""
    worker, at_once, most = Worker(), [0], [0]

    async def hasty(context: TaskContext, call_next: Next) -> Any:
        with trio.move_on_after(0.01):
            return await call_next()
        return "too slow"

    worker.add_middleware(hasty)

    @worker.skill("it")
    def it(check_for_cancellation: Any) -> Any:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        while not check_for_cancellation():
            time.sleep(0.001)
        at_once[0] -= 1

    fake = FakeOrchestrator()
    fake.submit("it", count=3)
    async with running(worker, fake, max_concurrent_tasks=1):
        await fake.until(lambda: all(task.result for task in fake.tasks.values()), seconds=5)
    assert {data for _, data in fake.results().values()} == {"too slow"}
    assert (at_once, most) == ([0], [1])


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
async def test_the_log_shows_of_an_error_what_its_author_has_written(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, level: str
) -> None:
    worker = Worker()

    async def around(context: TaskContext, call_next: Next) -> Any:
        return await call_next()

    worker.add_middleware(around)

    @worker.skill("it")
    async def it() -> None:
        json.loads("{")

    with caplog.at_level(level):
        await outcome(worker)
    text = next(record.exc_text for record in caplog.records if record.exc_text)
    assert text is not None
    lines = [line for line in text.splitlines() if line.startswith("  File")]
    if level == "DEBUG":
        assert any("_middlewares.py" in line for line in lines)
        return
    functions = [line.rpartition(" in ")[2] for line in lines]
    assert functions == ["around", "it", "loads", "decode", "raw_decode"]
