"""A handler chooses exactly one action, and what it writes is checked where it is written."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, strategies as st

from avtomatika_trio._core.actions import (
    ActionFactory,
    DispatchParallel,
    DispatchTask,
    GoTo,
    TaskSpec,
)
from avtomatika_trio._core.json_values import MAX_DEPTH, NotJson, copy_json
from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio.errors import ActionError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@pytest.fixture
def actions() -> ActionFactory:
    return ActionFactory("start")


def complaint(call: Callable[[], object]) -> str:
    """What the author reads after a wrong call."""
    with pytest.raises(ActionError) as caught:
        call()
    assert caught.value.state == "start"
    assert str(caught.value) == f"state 'start': {caught.value.message}"
    return caught.value.message


def test_nothing_is_chosen_at_first(actions: ActionFactory) -> None:
    assert actions.chosen is None


def test_go_to_is_recorded(actions: ActionFactory) -> None:
    actions.go_to("next")
    assert actions.chosen == GoTo(state="next")


def test_the_old_name_of_go_to_records_the_same(actions: ActionFactory) -> None:
    actions.transition_to("next")
    assert actions.chosen == GoTo(state="next")


def test_a_task_is_recorded_with_all_that_was_said(actions: ActionFactory) -> None:
    actions.dispatch_task(
        "resize",
        {"width": 10},
        {"success": "done", "timeout": "late"},
        priority=5,
        timeout_seconds=60,
        dispatch_timeout=30,
        result_timeout=90,
        retry=1,
    )
    assert actions.chosen == DispatchTask(
        spec=TaskSpec(
            skill="resize",
            params={"width": 10},
            transitions={"success": "done", "timeout": "late"},
            priority=5.0,
            timeout_seconds=60.0,
            dispatch_timeout=30.0,
            result_timeout=90.0,
            retry=RetryPolicy(max_retries=1),
        )
    )


def test_a_task_without_options_has_the_defaults(actions: ActionFactory) -> None:
    actions.dispatch_task("resize")
    assert actions.chosen == DispatchTask(spec=TaskSpec(skill="resize", params={}))


def test_the_older_names_of_the_timeouts_are_understood(actions: ActionFactory) -> None:
    actions.dispatch_task("resize", dispatch_timeout_seconds=1, result_timeout_seconds=2)
    assert isinstance(actions.chosen, DispatchTask)
    assert actions.chosen.spec.dispatch_timeout == 1.0
    assert actions.chosen.spec.result_timeout == 2.0


def test_both_names_of_one_timeout_are_refused(actions: ActionFactory) -> None:
    said = complaint(
        lambda: actions.dispatch_task("a", dispatch_timeout=1, dispatch_timeout_seconds=2)
    )
    assert said == (
        "dispatch_task: dispatch_timeout and dispatch_timeout_seconds are the same;"
        " write one of them"
    )


def test_branches_are_recorded_in_order(actions: ActionFactory) -> None:
    actions.dispatch_parallel(
        [
            {"type": "resize", "params": {"n": 0}, "key": "first"},
            {"task_type": "crop", "priority": 2, "timeout_seconds": 3, "retry": 0},
        ],
        "merge",
        max_concurrency=4,
        transitions={"failure": "sorry"},
    )
    assert actions.chosen == DispatchParallel(
        specs=(
            TaskSpec(skill="resize", params={"n": 0}, key="first"),
            TaskSpec(
                skill="crop",
                params={},
                priority=2.0,
                timeout_seconds=3.0,
                retry=RetryPolicy(max_retries=0),
            ),
        ),
        aggregate_into="merge",
        max_concurrency=4,
        transitions={"failure": "sorry"},
    )


def test_branches_may_come_from_a_generator_and_may_be_none_at_all(actions: ActionFactory) -> None:
    actions.dispatch_parallel(({"type": "a"} for _ in range(0)), "merge")
    assert actions.chosen == DispatchParallel(specs=(), aggregate_into="merge")


def test_an_error_of_the_authors_own_generator_stays_what_it_is(actions: ActionFactory) -> None:
    def tasks() -> Iterator[dict[str, Any]]:
        yield {"type": "a", "params": {"n": int("ten")}}

    with pytest.raises(ValueError, match="invalid literal for int"):
        actions.dispatch_parallel(tasks(), "merge")


def test_a_second_action_is_refused_naming_both(actions: ActionFactory) -> None:
    actions.go_to("done")
    said = complaint(lambda: actions.dispatch_task("resize"))
    assert said == (
        "chose dispatch_task('resize') after go_to('done'); a handler chooses exactly one"
        " action: return after the first"
    )
    assert actions.chosen == GoTo(state="done")


def test_a_refused_action_leaves_room_for_another(actions: ActionFactory) -> None:
    complaint(lambda: actions.dispatch_task("resize", {"bad": {1}}))
    actions.go_to("sorry")
    assert actions.chosen == GoTo(state="sorry")


def test_an_unknown_argument_of_a_task_names_the_choices(actions: ActionFactory) -> None:
    with pytest.raises(TypeError) as caught:
        actions.dispatch_task("resize", prioritee=1)  # type: ignore[arg-type]  # what is tested
    assert str(caught.value).startswith(
        "dispatch_task takes no 'prioritee'; did you mean 'priority'?; it takes task_type, "
    )


def test_an_unknown_argument_of_a_fan_out_names_the_choices(actions: ActionFactory) -> None:
    with pytest.raises(TypeError) as caught:
        actions.dispatch_parallel([], "merge", limit=1)  # type: ignore[arg-type]  # what is tested
    assert str(caught.value) == (
        "dispatch_parallel takes no 'limit';"
        " it takes tasks, aggregate_into, max_concurrency, transitions"
    )


@pytest.mark.parametrize(
    ("given_arguments", "said"),
    [
        ({"task_type": "re size"}, "dispatch_task: task_type is a skill's name"),
        ({"task_type": "x" * 129}, "dispatch_task: task_type is a skill's name"),
        ({"task_type": {}}, "dispatch_task: task_type is a skill's name"),
        ({"params": [1]}, "dispatch_task: params is a dict, not a list"),
        ({"params": {"a": [{1}]}}, "dispatch_task: params.a[0]: a set is not JSON; use a list"),
        ({"transitions": ["done"]}, "dispatch_task: transitions is a dict of status and next"),
        ({"transitions": {"success": 1}}, "dispatch_task: transitions['success'] is a string"),
        ({"transitions": {"": "x"}}, "dispatch_task: transitions: the status has 1 to 128"),
        ({"priority": float("nan")}, "dispatch_task: priority is a finite number, not nan"),
        ({"priority": "high"}, "dispatch_task: priority is a finite number, not 'high'"),
        ({"priority": True}, "dispatch_task: priority is a finite number, not True"),
        ({"timeout_seconds": 0}, "dispatch_task: timeout_seconds is a number of seconds above 0"),
        ({"dispatch_timeout": "30"}, "dispatch_task: dispatch_timeout is a finite number"),
        ({"result_timeout": float("inf")}, "dispatch_task: result_timeout is a finite number"),
        ({"retry": -1}, "dispatch_task: retry: "),
        ({"retry": {"tries": 1}}, "dispatch_task: retry: retry takes max_retries"),
        ({"retry": {"base_seconds": "1"}}, "dispatch_task: retry: "),
    ],
)
def test_a_malformed_argument_is_named(
    actions: ActionFactory, given_arguments: dict[str, Any], said: str
) -> None:
    assert complaint(
        lambda: actions.dispatch_task(**{"task_type": "resize", **given_arguments})
    ).startswith(said)
    assert actions.chosen is None


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("resize", "tasks is a list of dicts, such as [{'type': 'resize', 'params': {}}], not"),
        ({"type": "a"}, "tasks is a list of dicts"),
        (7, "tasks is a list of dicts"),
        (["a"], "tasks[0] is a dict with 'type' and 'params', not 'a'"),
        ([{"params": {}}], "tasks[0] has one of 'type' and 'task_type'"),
        ([{"type": "a", "task_type": "a"}], "tasks[0] has one of 'type' and 'task_type'"),
        ([{"type": "a"}, {"type": "a b"}], "tasks[1].type is a skill's name"),
        ([{"type": "a", "parms": {}}], "tasks[0] takes no 'parms'; did you mean 'params'?"),
        ([{"type": "a", "params": {"t": b""}}], "tasks[0].params.t: a bytes is not JSON; encode"),
        ([{"type": "a", "key": 7}], "tasks[0].key is a string, not 7"),
        ([{"type": "a", "priority": None}], "tasks[0].priority is a finite number, not None"),
        (
            [{"type": "a", "key": "k"}, {"type": "a"}, {"type": "a", "key": "k"}],
            "tasks[2].key: 'k' is already the key of [0]",
        ),
    ],
)
def test_a_malformed_branch_is_named_by_its_index(
    actions: ActionFactory, tasks: Any, said: str
) -> None:
    message = complaint(lambda: actions.dispatch_parallel(tasks, "merge"))
    assert message.startswith(f"dispatch_parallel: {said}")
    assert actions.chosen is None


def test_a_fan_out_takes_no_transition_but_failure(actions: ActionFactory) -> None:
    said = complaint(lambda: actions.dispatch_parallel([], "merge", transitions={"success": "x"}))
    assert said.startswith("dispatch_parallel: transitions has 'success', but only 'failure'")


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "4"])
def test_a_limit_of_branches_is_a_whole_number(actions: ActionFactory, value: Any) -> None:
    said = complaint(lambda: actions.dispatch_parallel([], "merge", max_concurrency=value))
    assert said.startswith("dispatch_parallel: max_concurrency is a whole number from 1, or None")


def test_params_over_the_limit_are_refused_with_both_sizes() -> None:
    actions = ActionFactory("start", max_params_bytes=20, measure=lambda it: len(json.dumps(it)))
    said = complaint(lambda: actions.dispatch_task("resize", {"text": "x" * 20}))
    assert said.startswith("dispatch_task: params: 32 bytes are more than the 20 that one task may")
    actions.dispatch_task("resize", {"text": "x" * 8})
    assert isinstance(actions.chosen, DispatchTask)


def test_params_are_a_copy(actions: ActionFactory) -> None:
    shared = {"list": [1]}
    actions.dispatch_task("resize", shared)
    shared["list"].append(2)
    assert isinstance(actions.chosen, DispatchTask)
    assert actions.chosen.spec.params == {"list": [1]}


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 2


def test_what_stands_for_json_becomes_plain() -> None:
    value = MappingProxyType({Colour.RED: (Colour.RED, Size.BIG)})
    copied = copy_json(value, "params")
    assert copied == {"red": ["red", 2]}
    assert type(copied) is dict
    assert [type(item) for item in copied["red"]] == [str, int]
    assert type(next(iter(copied))) is str


@given(JSON)
def test_json_is_copied_as_it_is(value: Any) -> None:
    assert json.dumps(copy_json(value, "params")) == json.dumps(value)


NOT_JSON = st.sampled_from(
    [float("nan"), float("-inf"), {1}, b"", datetime(2026, 1, 1, tzinfo=UTC), 1j, "\ud800", object]
)


@given(st.lists(st.integers(0, 3) | st.sampled_from(["a", "two words", "ä", "it's"])), NOT_JSON)
def test_the_path_of_a_fault_leads_to_it(steps: list[int | str], bad: Any) -> None:
    value, path = bad, ""
    for step in reversed(steps):
        if isinstance(step, int):
            value, path = [None] * step + [value], f"[{step}]{path}"
        else:
            here = f".{step}" if step.isidentifier() else f"[{step!r}]"
            value, path = {step: value}, f"{here}{path}"
    with pytest.raises(NotJson) as caught:
        copy_json(value, "params")
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith(f"params{path}: ")


def test_every_fault_is_found_and_the_first_five_are_shown() -> None:
    with pytest.raises(NotJson) as caught:
        copy_json({"a": [set() for _ in range(7)]}, "params")
    assert len(caught.value.faults) == 7
    assert str(caught.value).endswith("params.a[4]: a set is not JSON; use a list: sorted(...);"
                                      " and 2 more")  # fmt: skip


def test_a_key_that_is_no_string_is_refused_with_the_remedy() -> None:
    with pytest.raises(NotJson, match=r"^params\.a: the key 1 is not a string; write '1'$"):
        copy_json({"a": {1: "x"}}, "params")


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NotJson, match=f"nested deeper than {MAX_DEPTH} levels, or contains itself"):
        copy_json(loop, "params")


def test_an_integer_that_could_not_be_read_back_is_refused() -> None:
    assert copy_json(2**64, "params") == 2**64
    with pytest.raises(NotJson, match="4,200 digits"):
        copy_json(10**4300, "params")
