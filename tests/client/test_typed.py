"""Classes in the place of dicts: what is submitted, and what comes of a job."""

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import attrs
import httpx
import msgspec
import pydantic
import pytest
from tests.client.orchestrators import KINDS, InProcess, job_json, open_client
from tests.orchestrator.clients import make_context

from avtomatika_trio.client import Job
from avtomatika_trio.errors import InvalidMessage, JobFailed


@dataclasses.dataclass
class Size:
    width: int
    height: int = 2


@attrs.frozen
class Film:
    path: Path
    sizes: list[Size]


class Struct(msgspec.Struct):
    width: int


class Model(pydantic.BaseModel):
    width: int = pydantic.Field(gt=0)


class Typed(TypedDict):
    width: int


def job(result: Any, status: str = "finished") -> Job:
    return Job.read({**job_json(status), "result": result})


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (Size, Size(3)),
        (Struct, Struct(3)),
        (Model, Model(width=3)),
        (Typed, {"width": 3}),
        (dict[str, int], {"width": 3}),
        (dict, {"width": 3}),
        (Any, {"width": 3}),
        (dict[str, Any], {"width": 3}),
        (Size | None, Size(3)),
    ],
)
def test_a_result_is_what_it_is_asked_as(kind: Any, made: object) -> None:
    assert job({"width": 3}).result_as(kind) == made


def test_records_may_hold_others() -> None:
    raw = {"path": "/films/one.mp4", "sizes": [{"width": 1}, {"width": 3, "height": 4}]}
    assert job(raw).result_as(Film) == Film(Path("/films/one.mp4"), [Size(1), Size(3, 4)])


@pytest.mark.parametrize(
    ("kind", "raw", "paths"),
    [
        (Film, {"path": 1, "sizes": [{"width": "3"}, {}]}, ["path", "sizes[0].width"]),
        (Size, {"width": None}, ["width"]),
        (Model, {"width": 0}, ["width"]),
        (list[int], [1, "x"], ["[1]"]),
        (int, None, [""]),
        (dict, None, [""]),
        (dict[str, Any], [1], [""]),
    ],
)
def test_a_result_that_does_not_fit_is_told_with_every_path(
    kind: Any, raw: Any, paths: list[str]
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        job(raw).result_as(kind)
    told = [it.path.removeprefix("$.result").removeprefix(".") for it in caught.value.problems]
    assert told[: len(paths)] == paths


def test_a_job_that_failed_has_no_result_of_any_type() -> None:
    error = {"code": "c", "message": "m", "state": "scale", "details": {"line": 3}}
    failed = Job.read({**job_json("failed"), "error": error})
    for ask in (failed.result_or_raise, partial(failed.result_as, Size)):
        with pytest.raises(JobFailed) as caught:
            ask()
        told = caught.value
        assert (told.code, told.message) == ("c", "m")
        assert (told.state, told.details) == ("scale", {"line": 3})


def test_what_json_cannot_be_made_into_is_told() -> None:
    with pytest.raises(TypeError, match=r"a result cannot be a .*httpx\.Client"):
        job({"width": 3}).result_as(httpx.Client)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [Size, Struct, lambda width: Model(width=width)])
def test_an_instance_is_submitted_as_its_members(kind: str, make: Callable[[int], Any]) -> None:
    transport = InProcess(make_context())
    with open_client(kind, transport) as client:
        client.submit("walk", make(3))
        client.submit_many("walk", [make(4), {"inner": make(5)}])
    one, many = map(json.loads, transport.bodies)
    assert one["initial_data"]["width"] == 3
    assert many[0]["initial_data"]["width"] == 4
    assert many[1]["initial_data"]["inner"]["width"] == 5


def test_an_instance_that_holds_no_json_is_told() -> None:
    with (
        open_client("sync", InProcess(make_context())) as client,
        pytest.raises(InvalidMessage, match=r"^\$\.initial_data: .*\.width"),
    ):
        client.submit("walk", Size(object()))  # type: ignore[arg-type]  # what is told
