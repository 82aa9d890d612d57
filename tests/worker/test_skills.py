"""Registering handlers, and what they are called with."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import TaskFiles, Worker


def test_a_skill_can_be_registered_in_every_way() -> None:
    worker = Worker()

    @worker.skill
    def plain() -> None: ...

    @worker.skill()
    def called() -> None: ...

    @worker.skill("named", type="image", description="for people", version="1.2")
    async def whatever() -> None: ...

    @worker.task
    def old_plain() -> None: ...

    @worker.task("old_named", task_type="image")
    def old() -> None: ...

    assert worker.skills == ("plain", "called", "named", "old_plain", "old_named")
    info = worker._skills["named"].info
    assert (info.type, info.description, info.version) == ("image", "for people", "1.2")
    assert worker._skills["old_named"].info.type == "image"
    assert worker._skills["plain"].info.type == "plain"


async def test_handlers_get_what_their_parameters_name(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    got: dict[str, dict[str, Any]] = {}

    @worker.skill
    async def some(job_id: str, params: dict[str, Any], extra: int = 7, *args: Any) -> None:
        got["some"] = {"job_id": job_id, "params": params, "extra": extra, "args": args}

    @worker.skill
    async def everything(**kwargs: Any) -> None:
        kwargs.pop("send_progress")
        kwargs.pop("send_event")
        assert not kwargs.pop("check_for_cancellation")()
        kwargs.pop("add_to_hot_skills")("everything")
        kwargs.pop("remove_from_hot_skills")("everything")
        assert isinstance(kwargs.pop("task_files"), TaskFiles)
        got["everything"] = kwargs

    @worker.skill
    async def keyword(*, attempt: int, idempotency_key: str) -> None:
        got["keyword"] = {"attempt": attempt, "idempotency_key": idempotency_key}

    for skill in ("some", "everything", "keyword"):
        fake.submit(skill, {"n": 1})
    async with running(worker, fake):
        await fake.all_done()
    assert got["some"] == {"job_id": "job-k0", "params": {"n": 1}, "extra": 7, "args": ()}
    assert got["everything"] == {
        "params": {"n": 1},
        "task_id": "k1-1",
        "job_id": "job-k1",
        "attempt": 1,
        "idempotency_key": "k1",
        "priority": 0.0,
        "tracing_context": {},
    }
    assert got["keyword"] == {"attempt": 1, "idempotency_key": "k2"}


class Callable:
    async def __call__(self, params: dict[str, Any]) -> Any:
        return params


async def test_objects_and_partials_are_handlers_too(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()

    async def scaled(params: dict[str, Any], factor: int) -> int:
        return int(params["n"]) * factor

    worker.skill("object")(Callable())
    worker.skill("partial")(functools.partial(scaled, factor=3))
    fake.submit("object", {"n": 1})
    fake.submit("partial", {"n": 2})
    async with running(worker, fake):
        await fake.all_done()
    assert fake.results() == {"k0": ("success", {"n": 1}), "k1": ("success", 6)}


def _unknown(parms: Any) -> None: ...
def _positional(params: Any, /) -> None: ...
def _yields() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (_positional, "'params' is positional-only"),
        (_yields, "yields"),
        ("text", "cannot be called"),
        (dict, "is a class; register a function"),
    ],
)
def test_a_handler_that_cannot_be_called_is_refused_when_it_is_registered(
    handler: Any, told: str
) -> None:
    with pytest.raises(ConfigError, match="resize") as caught:
        Worker().skill("resize")(handler)
    assert told in str(caught.value)


class _Service:
    def method(self, params: Any) -> None: ...


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (_unknown, "did you mean 'params'?"),
        (lambda quantum: None, "there are 'params', 'task_id'"),
        (_Service.method, "the method of an object: worker.skill('resize')(it.method)"),
    ],
)
async def test_a_parameter_that_nothing_fills_is_told_at_the_start(
    autojump_clock: MockClock, handler: Any, told: str
) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    worker.skill("resize")(handler)
    place = f"{__file__}:{handler.__code__.co_firstlineno}"
    name = handler.__code__.co_varnames[0]
    with pytest.RaisesGroup(ConfigError) as caught:
        async with running(worker, fake):
            pass
    (error,) = caught.value.exceptions
    for text in (f"nothing fills the parameter '{name}'", place, told):
        assert text in str(error)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"type": 5}, "type: Expected `str | null`, got `int`"),
        ({"output_statuses": "failed"}, "output_statuses: Expected `array | null`"),
        ({"input_schema": {"const": object()}}, "what it publishes is not JSON"),
    ],
)
def test_what_orchestrators_would_refuse_of_a_skill_is_told_when_it_is_registered(
    said: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match="skill 'resize': ") as caught:
        Worker().skill("resize", **said)(lambda: None)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 129, 5])
def test_a_malformed_name_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="1 to 128 letters"):
        Worker().skill(name)(lambda: None)


def test_a_name_is_registered_once() -> None:
    worker = Worker()
    worker.skill("a")(lambda: None)
    with pytest.raises(ConfigError, match="twice"):
        worker.skill("a")(lambda: None)


def test_an_unknown_setting_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="did you mean 'max_concurrent_tasks'"):
        Worker(max_concurent_tasks=3)


async def test_wrong_settings_are_all_told_when_the_worker_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAX_CONCURRENT_TASKS", "many")
    monkeypatch.setenv("ORCHESTRATOR_URL", "nowhere")
    worker = Worker()
    worker.skill("a")(lambda: None)
    with pytest.raises(ConfigError) as caught:
        await worker.serve()
    assert "MAX_CONCURRENT_TASKS" in str(caught.value)
    assert "ORCHESTRATOR_URL" in str(caught.value)
