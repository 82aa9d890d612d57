"""What earlier results have told of files goes on to the tasks that are given them."""

from typing import Any

import pytest

from avtomatika_trio._core.actions import Action, ActionFactory
from avtomatika_trio._core.binding import HandlerValues, JobContext
from avtomatika_trio.orchestrator._engine import _known_files

ONE, TWO = "s3://b/one", "s3://b/two"


def told(uri: str) -> dict[str, Any]:
    return {
        "status": "success",
        "data": {"f": uri},
        "data_metadata": {"f": {"uri": uri, "size": 1}},
    }


def values(chosen: Action | None = None) -> HandlerValues:
    return HandlerValues(
        context=JobContext(
            job_id="j",
            blueprint="b",
            current_state="s",
            initial_data={"data_metadata": {"x": {"uri": "s3://of/a-client"}}},
            state_history={"cut": told(ONE)},
            aggregation_results={"0": told(TWO)},
        ),
        actions=ActionFactory("s", 1000, lambda _: 0),
    )


def chosen_by(choose: Any) -> Action:
    actions = ActionFactory("s", 1000, lambda _: 0)
    choose(actions)
    assert actions.chosen is not None
    return actions.chosen


@pytest.mark.parametrize(
    "choose",
    [
        lambda it: it.dispatch_task("join", {"one": ONE, "n": [TWO]}, {"success": "s"}),
        lambda it: it.dispatch_parallel(
            [{"type": "join", "params": {"one": ONE}}, {"type": "join", "params": {}}],
            aggregate_into="s",
        ),
    ],
)
def test_results_of_states_and_of_branches_are_known(choose: Any) -> None:
    known = _known_files(chosen_by(choose), values())
    assert known == {ONE: {"uri": ONE, "size": 1}, TWO: {"uri": TWO, "size": 1}}


@pytest.mark.parametrize(
    "choose",
    [
        lambda it: it.go_to("s"),
        lambda it: it.dispatch_task("join", {"n": 1, "s": "no s3://b/one"}, {"success": "s"}),
    ],
)
def test_who_names_no_file_costs_nothing(choose: Any) -> None:
    assert _known_files(chosen_by(choose), values()) == {}
