"""Classes that the annotations of handlers name as texts: wherever they are written."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running, settings, world
from trio.testing import MockClock

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import SkillBlueprint, Worker
from avtomatika_trio.worker._spool_memory import MemoryFolder

HEAD = """
from __future__ import annotations
import dataclasses, pydantic, typing
from avtomatika_trio.worker import TaskFiles, Worker
worker = Worker()
"""

BELOW = """
@worker.skill("it")
def it(params: Order) -> Order:
    \"\"\"Give it back.\"\"\"
    return params

@dataclasses.dataclass
class Order:
    line: Line

@dataclasses.dataclass
class Line:
    n: int
"""

MODEL_BELOW = """
class Order(pydantic.BaseModel):
    line: Line

@worker.skill("it")
def it(params: Order) -> Order:
    return params

class Line(pydantic.BaseModel):
    n: int = pydantic.Field(strict=True)
"""

FILES_BELOW = """
@worker.skill("it")
def it(mine: Mine) -> Order:
    return Order(Line(3))

Mine = typing.Optional[TaskFiles]

@dataclasses.dataclass
class Line:
    n: int

@dataclasses.dataclass
class Order:
    line: Line
"""


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(tmp_path)

    def imports(text: str) -> Worker:
        (tmp_path / "orders_of_a_test.py").write_text(HEAD + textwrap.dedent(text))
        importlib.invalidate_caches()
        return importlib.import_module("orders_of_a_test").worker  # type: ignore[no-any-return]

    yield imports
    sys.modules.pop("orders_of_a_test", None)


async def outcome(worker: Worker, params: Any, **its_settings: Any) -> Any:
    """What becomes of one task of the skill `it`, and what was published of that."""
    fake = FakeOrchestrator()
    (task,) = fake.submit("it", params)
    async with running(worker, fake, **its_settings):
        await fake.all_done()
    (skill,) = fake.registrations[0].supported_skills
    return task.result, skill


@pytest.mark.parametrize("text", [BELOW, MODEL_BELOW, FILES_BELOW])
async def test_a_class_may_be_written_below_the_handler(
    imported: Any, tmp_path: Path, text: str
) -> None:
    worker = imported(text)
    assert worker.skills == ("it",)
    payloads = tmp_path / "payloads"
    result, skill = await outcome(worker, {"line": {"n": 3}}, payload_dir=payloads)
    assert (result.status, result.data) == ("success", {"line": {"n": 3}})
    assert skill.output_schema["$defs"]["Line"]["properties"]["n"]["type"] == "integer"
    if text != FILES_BELOW:
        result, _ = await outcome(worker, {"line": {"n": "3"}}, payload_dir=payloads)
        assert [it["path"] for it in result.error.details["problems"]] == ["$.line.n"]


def test_files_that_are_asked_for_so_are_there_in_tests(imported: Any) -> None:
    worker = imported(FILES_BELOW)
    assert not worker._skills["it"].is_complete
    assert worker.wants_files


async def test_one_that_never_comes_is_told_at_the_start(
    autojump_clock: MockClock, imported: Any
) -> None:
    worker = imported(BELOW.replace("class Line", "class Lime"))
    with pytest.raises(ConfigError) as caught:
        await worker.serve_in(world(FakeOrchestrator(), MemoryFolder()), settings(), "w1")
    text = str(caught.value)
    assert "skill 'it': the annotation of the parameter 'params' has one" in text
    assert "name 'Line' is not defined; define or import its names at the top" in text


async def test_a_class_may_be_written_in_the_function_around(autojump_clock: MockClock) -> None:
    worker = Worker()

    @dataclasses.dataclass
    class Order:
        n: int

    def register() -> None:
        @worker.skill("it")
        async def it(params: Order) -> Order:
            return params

    register()
    result, _ = await outcome(worker, {"n": 3})
    assert (result.status, result.data) == ("success", {"n": 3})


async def test_so_may_one_of_a_skill_blueprint(autojump_clock: MockClock) -> None:
    worker, orders = Worker(), SkillBlueprint()

    @dataclasses.dataclass
    class Order:
        n: int

    @orders.skill("it")
    async def it(params: Order) -> Order:
        return params

    worker.include(orders)
    result, _ = await outcome(worker, {"n": "3"})
    assert result.error.code == "INVALID_INPUT_ERROR"
