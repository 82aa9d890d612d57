"""Reading messages: strictly, with the path of every problem."""

import json
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, strategies as st

from avtomatika_trio._wire import messages
from avtomatika_trio._wire.codec import decode, decode_any, encode
from avtomatika_trio.errors import InvalidMessage

CLASSES: list[Any] = [
    messages.Registration,
    messages.Heartbeat,
    messages.Result,
    list[messages.Result],
    messages.Return,
    messages.WorkerEvent,
    messages.Submission,
    list[messages.Submission],
    messages.ResultsAnswer,
    messages.Tasks,
]


def paths(body: Any, cls: Any, *, closed: bool = False) -> list[str]:
    with pytest.raises(InvalidMessage) as caught:
        decode(json.dumps(body).encode(), cls, closed=closed)
    assert all(problem.message for problem in caught.value.problems)
    return [problem.path for problem in caught.value.problems]


def refused(body: bytes, cls: Any, *, closed: bool) -> InvalidMessage | None:
    try:
        decode(body, cls, closed=closed)
    except InvalidMessage as exc:
        return exc
    return None


def test_every_problem_is_told_with_its_path() -> None:
    body = {
        "worker_id": "not a name!",
        "instance": "",
        "supported_skills": [{"name": "fine"}, {"nam": "x"}, {"name": 1}],
        "heartbeat_seconds": 0,
    }
    assert paths(body, messages.Registration) == [
        "$.worker_id",
        "$.supported_skills[1].name",
        "$.supported_skills[2].name",
        "$.instance",
        "$.heartbeat_seconds",
    ]


@pytest.mark.parametrize(
    ("cls", "body", "path"),
    [
        (messages.Heartbeat, {"beat": 10**60}, "$.beat"),
        (messages.Heartbeat, {"last_poll": -1}, "$.last_poll"),
        (messages.Heartbeat, {"open_polls": [1, 1.5]}, "$.open_polls[1]"),
        (messages.Heartbeat, {"loop_blocked_seconds": -1}, "$.loop_blocked_seconds"),
        (messages.Result, {"job_id": "j"}, "$.task_id"),
        (messages.Result, {"job_id": "j", "task_id": "t", "status": ""}, "$.status"),
        (
            messages.Result,
            {"job_id": "j", "task_id": "t", "error": {"message": "x"}},
            "$.error.code",
        ),
        (list[messages.Result], [{"job_id": "j", "task_id": 3}], "$[0].task_id"),
        (messages.Submission, {"initial_data": []}, "$.initial_data"),
        (messages.Submission, [], "$"),
        (list[messages.Submission], {}, "$"),
    ],
)
def test_a_fault_is_found_where_it_is(cls: Any, body: Any, path: str) -> None:
    assert paths(body, cls) == [path]


def test_a_label_that_is_wrong_is_named() -> None:
    labels = {"shop": "north", "a b": "x", "count": 3, "long": "x" * 300}
    with pytest.raises(InvalidMessage) as caught:
        decode(json.dumps([{}, {"labels": labels}]).encode(), list[messages.Submission])
    name, count, long = caught.value.problems
    assert name.path == "$[1].labels"
    assert name.message.startswith("the name 'a b': ")
    assert (count.path, long.path) == ("$[1].labels.count", "$[1].labels.long")
    assert paths({"labels": {str(n): "" for n in range(21)}}, messages.Submission) == ["$.labels"]


def test_unknown_members_are_refused_where_they_are_mistakes_and_ignored_elsewhere() -> None:
    assert paths({"webhook_url": "x"}, messages.Submission, closed=True) == ["$.webhook_url"]
    assert decode(b'{"task_ids": [], "later": 1}', messages.Return).task_ids == []


def test_members_that_are_not_known_are_found_within_lists_and_members() -> None:
    jobs: list[dict[str, Any]] = [{"initial_data": {"any": 1}}, {"initial_data": {}, "odd": 1}]
    assert paths(jobs, list[messages.Submission], closed=True) == ["$[1].odd"]
    skills = [{"name": "a", "type": "a"}, {"name": "b", "type": "b", "odd": {}}]
    said = {"worker_id": "w", "supported_skills": skills}
    assert paths(said, messages.Registration, closed=True) == ["$.supported_skills[1].odd"]
    error = {"code": "C", "message": "m", "odd": None}
    result = {"job_id": "j", "task_id": "t", "status": "failure", "error": error}
    assert paths(result, messages.Result, closed=True) == ["$.error.odd"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"worker_id": "\xff"}', b"[" * 100_000])
def test_what_is_not_json_is_said_to_be_none(body: bytes) -> None:
    for read in (decode_any, lambda it: decode(it, messages.Registration)):
        with pytest.raises(InvalidMessage) as caught:
            read(body)
        assert [problem.path for problem in caught.value.problems] == ["$"]


MEMBERS = st.sampled_from(
    ["initial_data", "labels", "max_transitions", "odd", r"initial\u005fdata", r"odd\ud800"]
)
ODD = ("5.0", "1e400", "NaN", r'"\ud800"', "[" * 1200 + "]" * 1200, '{"a b": "c"}', '{"a": NaN}')
TWICE = ('{"a": 1, "a": "b"}', '{"a": "b", "a": 1}')
VALUES = st.sampled_from(["{}", "null", "5", '"x"', "[]", '{"a": "b"}', *ODD, *TWICE])


@given(st.lists(st.tuples(MEMBERS, VALUES), max_size=4))
def test_what_is_read_at_once_is_what_would_be_read_member_by_member(
    members: list[tuple[str, str]],
) -> None:
    """Also where a member comes twice: the last one counts, and none is overlooked."""
    body = ("{" + ", ".join(f'"{name}": {value}' for name, value in members) + "}").encode()
    fields = {it.name for it in attrs.fields(messages.Submission)}
    refusal = refused(body, messages.Submission, closed=True)
    try:
        raw = msgspec.json.decode(body)
        told = msgspec.convert(raw, messages.Submission)
    except (msgspec.DecodeError, RecursionError):
        assert refusal is not None
    else:
        assert (refusal is None) is (raw.keys() <= fields)
        assert refusal or decode(body, messages.Submission, closed=True) == told


@given(st.binary(), st.sampled_from(CLASSES), st.booleans())
def test_bytes_are_read_or_refused(body: bytes, cls: Any, closed: bool) -> None:
    refusal = refused(body, cls, closed=closed)
    assert refusal is None or refusal.problems


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
members = sorted({field.name for cls in CLASSES[:3] for field in attrs.fields(cls)})


@given(
    st.dictionaries(st.sampled_from(members), json_values), st.sampled_from(CLASSES), st.booleans()
)
def test_any_json_is_read_or_refused(
    body: dict[str, Any],
    cls: Any,
    closed: bool,
) -> None:
    refusal = refused(json.dumps(body).encode(), cls, closed=closed)
    assert refusal is None or all(it.path.startswith("$") for it in refusal.problems)


def test_values_travel_as_given() -> None:
    data = {"float": 1.0, "null": None, "deep": [[{"é": 2**63}]], "big": 1e20}
    sent = encode(messages.Result(job_id="j", task_id="t", data=data))
    read = decode(sent, messages.Result)
    assert read.data == data
    assert isinstance(read.data["float"], float)
