"""Params and results that are classes: built, checked, written as JSON, described."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker import TaskFiles, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    class OnlyForTypes: ...


@dataclasses.dataclass
class Corner:
    x: int
    y: int = 0


@dataclasses.dataclass
class Crop:
    width: int
    name: str
    corners: list[Corner] = dataclasses.field(default_factory=list)
    note: str | None = None


@attrs.frozen
class AttrsCrop:
    width: int
    name: str
    corners: list[Corner] = attrs.field(factory=list)
    note: str | None = None


class StructCrop(msgspec.Struct):
    width: int
    name: str
    corners: list[Corner] = []
    note: str | None = None


class _NeededCrop(TypedDict):
    width: int
    name: str


class DictCrop(_NeededCrop, total=False):
    corners: list[Corner]
    note: str | None


class ModelCorner(pydantic.BaseModel):
    x: int = pydantic.Field(strict=True)
    y: int = 0


class ModelCrop(pydantic.BaseModel):
    width: int = pydantic.Field(strict=True)
    name: str
    corners: list[ModelCorner] = []
    note: str | None = None


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    width: int


class ClosedModel(pydantic.BaseModel, extra="forbid"):
    width: int


@dataclasses.dataclass
class Dangling:
    it: OnlyForTypes


CLASSES: list[Any] = [Crop, AttrsCrop, StructCrop, DictCrop, ModelCrop]
GOOD = {"width": 3, "name": "a", "corners": [{"x": 1, "y": 2}], "beyond": True}


async def outcome(handler: Callable[..., Any], params: Any = None) -> Any:
    """What becomes of one task with *params* that *handler* is called for."""
    fake, worker = FakeOrchestrator(), Worker()
    worker.skill("it")(handler)
    (task,) = fake.submit("it", params or {})
    async with running(worker, fake):
        await fake.all_done()
    assert task.result is not None
    return task.result


def problems_of(result: Any) -> list[str]:
    return sorted(it["path"] for it in result.error.details["problems"])


def taking(kind: Any) -> tuple[Callable[..., Any], list[Any]]:
    got: list[Any] = []

    async def handler(params: Any) -> None:
        got.append(params)

    handler.__annotations__["params"] = kind
    return handler, got


@pytest.mark.parametrize("kind", CLASSES)
async def test_params_are_made_into_what_they_are_annotated_with(
    autojump_clock: MockClock, kind: Any
) -> None:
    handler, got = taking(kind)
    result = await outcome(handler, GOOD)
    assert result.status == "success", result.error
    (params,) = got
    if kind is DictCrop:
        assert (params["width"], params["corners"]) == (3, [Corner(1, 2)])
    else:
        assert type(params) is kind
        assert (params.width, params.corners[0].y, params.note) == (3, 2, None)


@attrs.frozen
class Sheet:
    source: Path
    taken: dt.date
    copies: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    corner: ModelCorner | None = None


async def test_members_may_be_paths_dates_and_models(autojump_clock: MockClock) -> None:
    handler, got = taking(Sheet)
    raw = {"source": "/a/b", "taken": "2026-01-02", "corner": {"x": 1}}
    result = await outcome(handler, raw)
    assert result.status == "success", result.error
    assert got == [Sheet(Path("/a/b"), dt.date(2026, 1, 2), 1, ModelCorner(x=1))]


async def test_what_a_class_itself_refuses_is_told(autojump_clock: MockClock) -> None:
    handler, _ = taking(Sheet)
    result = await outcome(handler, {"source": "/a/b", "taken": "2026-01-02", "copies": 0})
    assert result.error.code == "INVALID_INPUT_ERROR"
    assert "'copies' must be >= 1" in result.error.message
    result = await outcome(
        handler, {"source": 1, "taken": "never", "corner": {"x": "1", "y": "odd"}}
    )
    assert problems_of(result) == ["$.corner.x", "$.corner.y", "$.source", "$.taken"]


@pytest.mark.parametrize("kind", CLASSES)
async def test_every_problem_of_params_is_told_with_its_path(
    autojump_clock: MockClock, kind: Any
) -> None:
    handler, got = taking(kind)
    corners = [{"x": 1}, {"x": "1"}, {"y": 2}]
    result = await outcome(handler, {"width": "3", "corners": corners})
    assert (result.status, result.error.code) == ("failure", "INVALID_INPUT_ERROR")
    assert problems_of(result) == ["$.corners[1].x", "$.corners[2].x", "$.name", "$.width"]
    assert "$.width: " in result.error.message
    assert got == []


@attrs.frozen
class Album:
    sheets: Sequence[Corner] = ()
    by_name: Mapping[str, Corner] = attrs.field(factory=dict)
    numbers: set[int] = attrs.field(factory=set)
    model: ModelCorner | None = None
    models: list[ModelCorner] = attrs.field(factory=list)


async def test_paths_lead_through_every_kind_of_container(autojump_clock: MockClock) -> None:
    handler, _ = taking(Album)
    result = await outcome(
        handler,
        {
            "sheets": [{"x": 1, "y": 2}, {"x": "1", "y": 2}, {"x": 1, "y": "2"}],
            "by_name": {"a": {"x": "1", "y": 2}, "b": {"y": 1}},
            "numbers": [1, "2", "3"],
            "model": 5,
            "models": [None, "odd"],
        },
    )
    assert problems_of(result) == [
        "$.by_name.a.x",
        "$.by_name.b.x",
        "$.model",
        "$.models[0]",
        "$.models[1]",
        "$.numbers[1]",
        "$.numbers[2]",
        "$.sheets[1].x",
        "$.sheets[2].y",
    ]
    for problem in result.error.details["problems"]:
        assert "$" not in problem["message"]


async def test_an_annotated_model_tells_its_paths_too(autojump_clock: MockClock) -> None:
    handler, _ = taking(Annotated[ModelCorner, "where it is"])
    assert problems_of(await outcome(handler, {"x": "1", "y": "odd"})) == ["$.x", "$.y"]


@pytest.mark.parametrize("kind", [Closed, ClosedModel])
async def test_a_closed_class_refuses_unknown_members(autojump_clock: MockClock, kind: Any) -> None:
    handler, _ = taking(kind)
    result = await outcome(handler, {"width": 1, "widht": 2, "more": 3})
    assert problems_of(result) == ["$.more", "$.widht"]


async def test_params_without_a_class_come_as_they_are(autojump_clock: MockClock) -> None:
    for kind in (dict, dict[str, Any], Any):
        handler, got = taking(kind)
        await outcome(handler, {"x": None, "n": 1.0})
        assert repr(got) == "[{'x': None, 'n': 1.0}]"


async def test_annotations_that_are_texts_count_as_what_they_name(
    autojump_clock: MockClock,
) -> None:
    result = await outcome(written_as_text, GOOD)
    assert result.data == {"width": 3, "name": "a", "corners": [{"x": 1, "y": 2}], "note": None}


async def written_as_text(params: Crop) -> Crop:
    assert type(params) is Crop
    return params


def in_thread(params: ModelCrop) -> ModelCrop:
    return params


async def test_an_instance_of_the_annotated_class_is_a_result(autojump_clock: MockClock) -> None:
    result = await outcome(in_thread, GOOD)
    assert result.status == "success", result.error
    assert result.data == {"width": 3, "name": "a", "corners": [{"x": 1, "y": 2}], "note": None}


async def test_instances_are_written_wherever_they_are(autojump_clock: MockClock) -> None:
    async def handler() -> Any:
        return {
            "one": Corner(1),
            "many": [AttrsCrop(1, "a", [Corner(2)]), StructCrop(2, "b"), ModelCorner(x=3)],
        }

    result = await outcome(handler)
    assert result.data == {
        "one": {"x": 1, "y": 0},
        "many": [
            {"width": 1, "name": "a", "corners": [{"x": 2, "y": 0}], "note": None},
            {"width": 2, "name": "b", "corners": [], "note": None},
            {"x": 3, "y": 0},
        ],
    }


async def test_what_is_in_an_instance_may_be_more_than_json(autojump_clock: MockClock) -> None:
    class Shot(msgspec.Struct, rename="camel", tag="shot"):
        taken_at: dt.date
        tags: set[str]
        by_size: dict[int, Corner]
        place: Path

    async def handler() -> Shot:
        return Shot(dt.date(2026, 1, 2), {"a"}, {3: Corner(1)}, Path("/a/b"))

    handler.__annotations__["return"] = Shot
    result = await outcome(handler)
    assert result.data == {
        "type": "shot",
        "takenAt": "2026-01-02",
        "tags": ["a"],
        "bySize": {"3": {"x": 1, "y": 0}},
        "place": "/a/b",
    }


async def test_an_instance_in_a_result_is_written_too(autojump_clock: MockClock) -> None:
    async def handler() -> Crop:
        return {"status": "sharp", "data": Corner(1)}  # type: ignore[return-value]

    result = await outcome(handler)
    assert (result.status, result.data) == ("sharp", {"x": 1, "y": 0})


async def test_an_instance_with_the_fields_of_a_result_is_data(autojump_clock: MockClock) -> None:
    @dataclasses.dataclass
    class Order:
        status: str
        data: int

    async def handler() -> Any:
        return Order("failure", 1)

    result = await outcome(handler)
    assert (result.status, result.data) == ("success", {"status": "failure", "data": 1})


@pytest.mark.parametrize("kind", CLASSES)
async def test_what_does_not_fit_the_return_annotation_is_a_broken_contract(
    autojump_clock: MockClock, kind: Any
) -> None:
    async def handler() -> Any:
        return {"width": "wide", "corners": [{"x": "1"}]}

    handler.__annotations__["return"] = kind
    result = await outcome(handler)
    assert (result.status, result.error.code) == ("failure", "CONTRACT_VIOLATION_ERROR")
    assert problems_of(result) == ["$.corners[0].x", "$.name", "$.width"]


async def test_an_instance_with_wrong_values_is_a_broken_contract(
    autojump_clock: MockClock,
) -> None:
    async def handler() -> list[Corner]:
        return [Corner(1), Corner("1")]  # type: ignore[arg-type]

    result = await outcome(handler)
    assert (result.error.code, problems_of(result)) == ("CONTRACT_VIOLATION_ERROR", ["$[1].x"])


async def test_an_instance_that_cannot_be_written_is_a_permanent_failure(
    autojump_clock: MockClock,
) -> None:
    async def handler() -> Any:
        return {"it": [Corner(object())]}  # type: ignore[arg-type]

    result = await outcome(handler)
    assert result.error.code == "PERMANENT_ERROR"
    assert "result.it[0].x: a object is not JSON" in result.error.message


def test_schemas_are_published() -> None:
    worker = Worker()

    @worker.skill
    async def crop(params: Crop) -> ModelCrop:
        """Cut a piece
        out of a picture.

        The rest is for readers of the code.
        """
        raise NotImplementedError

    info = worker._skills["crop"].info
    assert info.description == "Cut a piece out of a picture."
    assert info.input_schema is not None
    assert info.output_schema is not None
    for schema in (info.input_schema, info.output_schema):
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        names = {name.rpartition("/")[2] for name in references(schema)}
        assert names <= schema["$defs"].keys()
    assert info.input_schema["$defs"]["Crop"]["required"] == ["width", "name"]
    assert info.output_schema["properties"]["width"] == {"title": "Width", "type": "integer"}


def references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [it for each in schema for it in references(each)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if "$ref" in schema else []
    return own + [it for each in schema.values() for it in references(each)]


def test_a_schema_with_models_inside_is_self_contained() -> None:
    @dataclasses.dataclass
    class Outer:
        crop: ModelCrop

    handler, _ = taking(Outer)
    worker = Worker()
    worker.skill("it")(handler)
    schema = worker._skills["it"].info.input_schema
    assert schema is not None
    assert {it.rpartition("/")[2] for it in references(schema)} <= schema["$defs"].keys()
    assert {"Outer", "ModelCorner"} <= schema["$defs"].keys()


async def test_what_is_written_at_the_skill_wins(autojump_clock: MockClock) -> None:
    fake, worker = FakeOrchestrator(), Worker()
    given: dict[str, Any] = {
        "description": "d",
        "version": "2",
        "input_schema": {"type": "object"},
        "output_schema": {"type": "string"},
        "events_schema": {"seen": {"type": "object"}},
        "output_statuses": ["sharp"],
    }
    worker.skill("it", **given)(written_as_text)
    async with running(worker, fake):
        fake.submit("it", GOOD)
        await fake.all_done()
    (said,) = fake.registrations[0].supported_skills
    assert {name: getattr(said, name) for name in given} == given


def test_the_version_of_the_module_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "__version__", "7.1", raising=False)
    worker = Worker()
    worker.skill("it")(functools.partial(written_as_text))
    assert worker._skills["it"].info.version == "7.1"


def unresolved(params: OnlyForTypes) -> None: ...
def unresolved_return() -> OnlyForTypes: ...  # type: ignore[empty-body]
def unresolved_inside(params: Dangling) -> None: ...


@pydantic.dataclasses.dataclass
class Unchecked:
    width: Annotated[int, pydantic.Field(gt=3)]


class Pair(NamedTuple):
    x: int
    y: int


class Row(msgspec.Struct, array_like=True):
    x: int


class ModelRows(pydantic.RootModel[list[int]]): ...


def unchecked(params: Unchecked | None) -> None: ...
def in_rows(params: list[Corner]) -> None: ...
def in_pairs(params: Pair | None) -> None: ...
def in_a_row(params: Row) -> None: ...
def in_model_rows(params: ModelRows) -> None: ...
def as_a_number(params: int) -> None: ...
def as_one_of_two(params: Crop | Corner) -> None: ...
def no_json(params: TaskFiles) -> None: ...


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (unresolved, "annotation of the parameter 'params', 'OnlyForTypes', cannot be resolved"),
        (unresolved_return, "annotation of its return value, 'OnlyForTypes', cannot be resolved"),
        (unresolved_inside, "name 'OnlyForTypes' is not defined"),
        (no_json, "use dict, a dataclass"),
        (in_rows, "params are an object, which it does not take; use dict, a dataclass"),
        (in_pairs, "params are an object"),
        (in_a_row, "params are an object"),
        (in_model_rows, "params are an object"),
        (as_a_number, "params are an object"),
        (as_one_of_two, "to be told apart, each is to be a msgspec.Struct with a tag"),
        (unchecked, "what a dataclass of pydantic asks for would not be checked; use dict"),
    ],
)
def test_an_annotation_that_cannot_be_used_is_told_at_registration(handler: Any, told: str) -> None:
    with pytest.raises(ConfigError, match="skill 'it'") as caught:
        Worker().skill("it")(handler)
    assert told in str(caught.value)


async def test_files_are_injected_by_their_type(tmp_path: Path) -> None:
    got: list[Any] = []

    async def handler(mine: TaskFiles | None) -> None:
        assert mine is not None
        got.append(mine.root)

    fake, worker = FakeOrchestrator(), Worker()
    worker.skill("it")(handler)
    fake.submit("it")
    async with running(worker, fake, payload_dir=tmp_path / "payloads"):
        await fake.all_done()
    assert got[0].is_relative_to(tmp_path / "payloads")


def test_pydantic_is_not_imported() -> None:
    code = "import avtomatika_trio.worker, sys; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
