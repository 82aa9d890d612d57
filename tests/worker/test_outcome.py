"""What a handler may return or raise."""

import datetime as dt
import json
import math
from typing import Any

import pytest

from avtomatika_trio.errors import InvalidInput, PermanentError, TransientError
from avtomatika_trio.worker._outcome import (
    Outcome,
    outcome_of_error,
    outcome_of_return,
    unwrapped,
)


def sent(outcome: Outcome, *, any_data: bool = True) -> dict[str, Any]:
    """What goes over the wire, without the ids."""
    body = outcome.body(job_id="j", task_id="t", worker_id="w", any_data=any_data)
    said: dict[str, Any] = json.loads(body)
    assert (said.pop("job_id"), said.pop("task_id"), said.pop("worker_id")) == ("j", "t", "w")
    return said


def failure(code: str, message: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
    error = {"code": code, "message": message, "details": details or {}}
    return {"status": "failure", "error": error}


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (None, {"status": "success"}),
        ({}, {"status": "success", "data": {}}),
        ({"message": "hi"}, {"status": "success", "data": {"message": "hi"}}),
        (
            {"a": None, "b": 1.0, "c": [None]},
            {"status": "success", "data": {"a": None, "b": 1.0, "c": [None]}},
        ),
        ([1, "two"], {"status": "success", "data": [1, "two"]}),
        ((1, 2), {"status": "success", "data": [1, 2]}),
        ("text", {"status": "success", "data": "text"}),
        (0, {"status": "success", "data": 0}),
        (False, {"status": "success", "data": False}),
        ({"status": "success"}, {"status": "success"}),
        ({"status": "success", "data": {"n": 1}}, {"status": "success", "data": {"n": 1}}),
        ({"status": "needs_review", "data": [1]}, {"status": "needs_review", "data": [1]}),
        ({"status": "cancelled"}, {"status": "cancelled"}),
        (
            {"status": "success", "costs": {"gpu": 2}, "metadata": {"m": 1}, "data_metadata": {}},
            {"status": "success", "costs": {"gpu": 2}, "metadata": {"m": 1}, "data_metadata": {}},
        ),
        # Data that only looks like a result: nothing of it is lost.
        (
            {"status": "shipped", "order": 7},
            {"status": "success", "data": {"status": "shipped", "order": 7}},
        ),
        ({"status": 200}, {"status": "success", "data": {"status": 200}}),
        ({"data": 1}, {"status": "success", "data": {"data": 1}}),
        ({"error": "boom"}, {"status": "success", "data": {"error": "boom"}}),
        # Errors, in each of their shapes.
        ({"status": "failure"}, failure("TRANSIENT_ERROR", "the handler gave no reason")),
        ({"status": "failure", "error": "boom"}, failure("TRANSIENT_ERROR", "boom")),
        (
            {"status": "failure", "error": "boom", "error_type": "PERMANENT_ERROR"},
            failure("PERMANENT_ERROR", "boom"),
        ),
        (
            {"status": "failure", "error_type": "PERMANENT_ERROR"},
            failure("PERMANENT_ERROR", "PERMANENT_ERROR"),
        ),
        (
            {"status": "failure", "error": {"code": "X", "message": "m", "details": {"d": 1}}},
            failure("X", "m", {"d": 1}),
        ),
        (
            {"status": "failure", "error": {"message": "m", "hint": "h", "details": [1]}},
            failure("TRANSIENT_ERROR", "m", {"hint": "h", "details": [1]}),
        ),
        ({"status": "failure", "error": [1, 2]}, failure("TRANSIENT_ERROR", "[1, 2]")),
        (
            {"status": "failure", "error": "boom", "data": {"partial": 1}},
            {**failure("TRANSIENT_ERROR", "boom"), "data": {"partial": 1}},
        ),
    ],
)
def test_what_is_returned_is_what_is_sent(returned: Any, expected: dict[str, Any]) -> None:
    assert sent(outcome_of_return(returned)) == expected


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ({"tags": {"a", "b"}}, "result.tags: a set is not JSON; use a list"),
        ({"x": {"y": [1, math.nan]}}, "result.x.y[1]: nan is not a JSON number"),
        (object(), "result: a object is not JSON"),
        ({"at": dt.date(2026, 1, 1)}, "result.at: a date is not JSON; use .isoformat()"),
        ({1: "x"}, "result: the key 1 is not a string"),
        ({"status": "success", "data": {"raw": b"x"}}, "result.data.raw: a bytes is not JSON"),
        ({"status": ""}, "the status ''"),
        ({"status": "x" * 200}, "128 printable characters"),
    ],
)
def test_what_is_not_json_is_a_permanent_failure_that_names_the_place(
    returned: Any, told: str
) -> None:
    said = sent(outcome_of_return(returned))
    assert said["status"] == "failure"
    assert said["error"]["code"] == "PERMANENT_ERROR"
    assert told in said["error"]["message"]


def test_a_value_that_contains_itself_is_a_permanent_failure() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert sent(outcome_of_return(endless))["error"]["code"] == "PERMANENT_ERROR"


def test_later_changes_of_what_was_returned_change_nothing() -> None:
    returned = {"list": [1]}
    outcome = outcome_of_return(returned)
    returned["list"].append(2)
    assert outcome.data == {"list": [1]}


@pytest.mark.parametrize(
    ("data", "expected"),
    [({"a": 1}, {"a": 1}), ([1], {"result": [1]}), ("x", {"result": "x"}), (0, {"result": 0})],
)
def test_a_server_that_takes_only_objects_gets_one(data: Any, expected: dict[str, Any]) -> None:
    assert sent(outcome_of_return(data), any_data=False)["data"] == expected


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (TransientError("later", {"after": 5}), failure("TRANSIENT_ERROR", "later", {"after": 5})),
        (PermanentError("never"), failure("PERMANENT_ERROR", "never")),
        (InvalidInput("no width"), failure("INVALID_INPUT_ERROR", "no width")),
        (ValueError("bad"), failure("TRANSIENT_ERROR", "ValueError: bad")),
        (KeyError(), failure("TRANSIENT_ERROR", "KeyError")),
        (SystemExit(3), failure("TRANSIENT_ERROR", "SystemExit: 3")),
        (ValueError("half \ud800"), failure("TRANSIENT_ERROR", "ValueError: half ?")),
        (
            Mute(),
            failure("TRANSIENT_ERROR", "Mute: (its text cannot be had: RuntimeError)"),
        ),
        (
            ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
            failure(
                "TRANSIENT_ERROR",
                "ExceptionGroup: two (2 sub-exceptions)",
                {"exceptions": ["ValueError: a", "KeyError: 'b'"]},
            ),
        ),
        (
            ExceptionGroup("two", [PermanentError("a"), ExceptionGroup("", [PermanentError("b")])]),
            failure(
                "PERMANENT_ERROR",
                "ExceptionGroup: two (2 sub-exceptions)",
                {"exceptions": ["PermanentError: a", "ExceptionGroup:  (1 sub-exception)"]},
            ),
        ),
        (
            ExceptionGroup("two", [PermanentError("a"), ValueError("b")]),
            failure(
                "TRANSIENT_ERROR",
                "ExceptionGroup: two (2 sub-exceptions)",
                {"exceptions": ["PermanentError: a", "ValueError: b"]},
            ),
        ),
    ],
)
def test_what_is_raised_is_what_is_sent(raised: BaseException, expected: dict[str, Any]) -> None:
    assert sent(outcome_of_error(raised)) == expected


def test_details_that_are_not_json_are_kept_as_text() -> None:
    said = sent(outcome_of_error(PermanentError("no", {"tags": {1}})))
    assert said["error"]["details"]["details"] == "{'tags': {1}}"
    assert "details.tags: a set is not JSON" in said["error"]["details"]["not_json"]


def test_details_that_are_no_dict_are_kept() -> None:
    raised = PermanentError("no such model", ["sdxl"])
    expected = failure("PERMANENT_ERROR", "no such model", {"details": ["sdxl"]})
    assert sent(outcome_of_error(raised)) == expected


class OutOfPaper(PermanentError):
    """Of an author who has an `__init__` of their own, and does not call ours."""

    code = 507  # type: ignore[assignment]  # which no checker has looked at

    def __init__(self, tray: int) -> None:
        self.tray = tray


def test_an_error_that_was_never_initialised_is_told_like_any_other() -> None:
    assert sent(outcome_of_error(OutOfPaper(3))) == failure("507", "3")


class Unreadable(PermanentError):
    """Its details cannot be had."""

    @property
    def details(self) -> dict[str, Any]:  # type: ignore[override]
        raise ZeroDivisionError

    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("raised", [Unreadable(), PermanentError("", {"n": 10**5000})])
def test_details_that_cannot_be_had_hide_no_error(raised: PermanentError) -> None:
    error = sent(outcome_of_error(raised))["error"]
    assert error["code"] == "PERMANENT_ERROR"
    assert "not_json" in error["details"]


def test_an_endless_error_text_is_cut() -> None:
    message = sent(outcome_of_error(ValueError("x" * 1_000_000)))["error"]["message"]
    assert len(message) < 11_000
    assert message.endswith("(1000012 characters)")


def test_a_group_of_one_counts_as_that_one() -> None:
    inner = PermanentError("never")
    assert unwrapped(ExceptionGroup("o", [ExceptionGroup("i", [inner])])) is inner
