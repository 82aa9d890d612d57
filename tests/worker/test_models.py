"""Models of pydantic: as results, which their classes have checked already, and in unions."""

import dataclasses
from typing import Annotated, Any, Literal

import pydantic
import pytest
from tests.worker.fake_orchestrator import FakeOrchestrator
from tests.worker.worker_cases import running
from trio.testing import MockClock

from avtomatika_trio._shapes import shape_of
from avtomatika_trio.worker import Worker


class Area(pydantic.BaseModel):
    """Writes what it may not read: a member that it computes."""

    model_config = pydantic.ConfigDict(extra="forbid")
    width: int

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def square(self) -> int:
        return self.width**2


class Renamed(pydantic.BaseModel):
    """Reads one name and writes another, and keeps a member to itself."""

    width: int = pydantic.Field(validation_alias="w", serialization_alias="W")
    secret: str = pydantic.Field(exclude=True)


@dataclasses.dataclass
class Room:
    floor: Area
    walls: list[Area] = dataclasses.field(default_factory=list)


async def outcome(handler: Any, returns: Any, params: Any = None) -> Any:
    """What becomes of a task whose *handler* promises to return *returns*."""
    handler.__annotations__["return"] = returns
    fake, worker = FakeOrchestrator(), Worker()
    worker.skill("it")(handler)
    (task,) = fake.submit("it", params or {})
    async with running(worker, fake):
        await fake.all_done()
    assert task.result is not None
    return task.result


AREA = {"width": 2, "square": 4}
RENAMED = Renamed.model_validate({"w": 2, "secret": "s"})
A_ROOM = Room(Area(width=2), [Area(width=2)])


@pytest.mark.parametrize(
    ("returned", "returns", "sent"),
    [
        (Area(width=2), Area, AREA),
        (Area(width=2), Area | None, AREA),
        ([Area(width=2)], list[Area], [AREA]),
        ({"a": Area(width=2)}, dict[str, Area], {"a": AREA}),
        (A_ROOM, Room, {"floor": AREA, "walls": [AREA]}),
        (RENAMED, Renamed, {"W": 2}),
        ([RENAMED], list[Renamed], [{"W": 2}]),
    ],
)
async def test_a_model_need_not_be_able_to_read_what_it_writes(
    autojump_clock: MockClock, returned: Any, returns: Any, sent: Any
) -> None:
    async def handler() -> Any:
        return returned

    result = await outcome(handler, returns)
    assert (result.status, result.error, result.data) == ("success", None, sent)


@pytest.mark.parametrize(
    ("returned", "returns", "paths"),
    [
        ({"width": "x"}, Area, ["$.width"]),
        (RENAMED, Area, ["$"]),
        ([Area(width=1), {"width": "x"}], list[Area], ["$[1].width"]),
        (Room("no area"), Room, ["$.floor"]),  # type: ignore[arg-type]
    ],
)
async def test_what_is_no_instance_of_it_is_checked_all_the_same(
    autojump_clock: MockClock, returned: Any, returns: Any, paths: list[str]
) -> None:
    async def handler() -> Any:
        return returned

    result = await outcome(handler, returns)
    assert result.error.code == "CONTRACT_VIOLATION_ERROR"
    assert sorted(it["path"] for it in result.error.details["problems"]) == paths


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = pydantic.Field(gt=0)


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = []


PETS = [Cat | Dog, Cat | Dog | None, Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]


@pytest.mark.parametrize("pets", PETS)
async def test_params_and_results_may_be_one_of_several_models(
    autojump_clock: MockClock, pets: Any
) -> None:
    async def handler(params: Any) -> Any:
        assert type(params).__name__.lower() == params.kind
        return params

    handler.__annotations__["params"] = pets
    result = await outcome(handler, pets, {"kind": "dog", "tricks": ["sit"]})
    assert (result.error, result.data) == (None, {"kind": "dog", "tricks": ["sit"]})
    result = await outcome(handler, pets, {"kind": "cat", "lives": 0})
    assert result.error.code == "INVALID_INPUT_ERROR"
    paths = [it["path"] for it in result.error.details["problems"]]
    assert any(it.endswith("at.lives") for it in paths)


def test_values_of_a_dict_may_be_constrained() -> None:
    shape = shape_of(dict[str, Annotated[int, pydantic.Field(gt=0)]])
    assert shape is not None
    assert shape.build({"a": 1}) == {"a": 1}
    assert shape_of(dict[str, Annotated[Any, ["no hash"]]]) is not None


@pytest.mark.parametrize("pets", PETS)
def test_their_schemas_are_published(pets: Any) -> None:
    shape = shape_of(pets)
    assert shape is not None
    assert set(shape.schema["$defs"]) == {"Cat", "Dog"}
