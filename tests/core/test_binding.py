"""Handlers get their arguments by name."""

from collections.abc import Callable
from typing import Any

import pytest

from avtomatika_trio._core.actions import ActionFactory
from avtomatika_trio._core.binding import HandlerValues, JobContext, bind
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio.errors import ArgumentMissing

ACTIONS = ActionFactory("state")


def values(**more: Any) -> HandlerValues:
    context = {
        "job_id": "j1",
        "blueprint": "bp",
        "current_state": "state",
        "initial_data": {"width": 1, "height": 2, "job_id": "mine"},
        "state_history": {"width": 10, "client": "a result"},
    }
    return HandlerValues(context=JobContext(**{**context, **more}), actions=ACTIONS)


def bound(function: Callable[..., Any], **more: Any) -> dict[str, Any]:
    blueprint = Blueprint("bp")
    blueprint.handler("state")(function)
    return bind(blueprint.states["state"], values(**more))


def test_the_fixed_names_are_filled() -> None:
    def handler(
        job_id: str,
        initial_data: object,
        state_history: object,
        actions: object,
        context: object,
        client: object,
        data_stores: object,
        task_files: object,
        aggregation_results: object,
        tracing_context: object,
    ) -> None: ...

    more = {
        "client": "who",
        "data_stores": {"cache": 1},
        "task_files": "folder",
        "aggregation_results": {"0": {}},
        "tracing_context": {"traceparent": "00"},
    }
    assert bound(handler, **more) == {
        "job_id": "j1",
        "initial_data": {"width": 1, "height": 2, "job_id": "mine"},
        "state_history": {"width": 10, "client": "a result"},
        "actions": ACTIONS,
        "context": values(**more).context,
        **more,
    }


def test_history_goes_before_initial_data() -> None:
    assert bound(lambda width, height: None) == {"width": 10, "height": 2}


def test_a_fixed_name_goes_before_a_key_of_the_same_name() -> None:
    assert bound(lambda job_id, client: None) == {"job_id": "j1", "client": None}


def test_a_default_is_kept_only_where_nothing_fills_the_name() -> None:
    assert bound(lambda width=0, depth=0: None) == {"width": 10}


def test_keyword_only_parameters_are_filled_and_collecting_ones_get_nothing() -> None:
    def handler(*args: object, width: int, **rest: object) -> None: ...

    assert bound(handler) == {"width": 10}


def test_a_bound_method_needs_no_self() -> None:
    class Jobs:
        def state(self, width: int) -> None: ...

    assert bound(Jobs().state) == {"width": 10}


def test_a_name_that_nothing_fills_is_reported_with_what_there_is() -> None:
    with pytest.raises(ArgumentMissing) as caught:
        bound(lambda depth: None)
    assert caught.value.state == "state"
    assert caught.value.parameter == "depth"
    assert caught.value.available[-2:] == ("width", "height")
    assert str(caught.value) == (
        "state 'state': nothing fills the parameter 'depth' of its handler; give it a default,"
        " or use one of job_id, initial_data, state_history, actions, context, client,"
        " data_stores, task_files, aggregation_results, tracing_context, width, height"
    )


def test_the_context_shows_the_job_and_cannot_be_changed() -> None:
    context = values().context
    assert (context.job_id, context.current_state) == ("j1", "state")
    assert context.state_history["width"] == 10
    with pytest.raises(AttributeError):
        context.job_id = "other"  # type: ignore[misc]  # what is tested
