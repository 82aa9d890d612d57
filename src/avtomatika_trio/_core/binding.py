"""What a handler is called with: its arguments, found by their names."""

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from avtomatika_trio._core.actions import ActionFactory
from avtomatika_trio._core.state import State
from avtomatika_trio.errors import ArgumentMissing

_NOTHING: Mapping[str, Any] = {}


@attrs.frozen(kw_only=True)
class JobContext:
    """The job as its handler sees it, in one argument: `context`."""

    job_id: str
    blueprint: str
    current_state: str
    initial_data: Mapping[str, Any]
    state_history: Mapping[str, Any]
    client: Any = None
    """Who submitted the job, as far as it is known."""
    data_stores: Mapping[str, Any] = _NOTHING
    task_files: Any = None
    aggregation_results: Mapping[str, Any] = _NOTHING
    """What the branches brought, in an aggregator; else empty."""
    tracing_context: Mapping[str, Any] = _NOTHING


@attrs.frozen(kw_only=True)
class HandlerValues:
    """Everything that a handler can ask for.

    The mappings are handed on as they are: pass copies where a handler must not change them.
    """

    context: JobContext
    actions: ActionFactory

    def lookups(self) -> Iterator[Mapping[str, Any]]:
        """Where names are looked for, the first one first."""
        context = self.context
        yield {
            "job_id": context.job_id,
            "initial_data": context.initial_data,
            "state_history": context.state_history,
            "actions": self.actions,
            "context": context,
            "client": context.client,
            "data_stores": context.data_stores,
            "task_files": context.task_files,
            "aggregation_results": context.aggregation_results,
            "tracing_context": context.tracing_context,
        }
        yield context.state_history
        yield context.initial_data


def bind(state: State, values: HandlerValues) -> dict[str, Any]:
    """The keyword arguments for the handler of *state*.

    A name is looked for among the fixed ones (`job_id`, `initial_data`, `state_history`,
    `actions`, `context`, `client`, `data_stores`, `task_files`, `aggregation_results`,
    `tracing_context`), then among the keys of `state_history`, then of `initial_data`.
    A parameter that is found nowhere keeps its default.

    Raises:
        ArgumentMissing: a parameter is found nowhere and has no default.
    """
    lookups = tuple(values.lookups())
    bound: dict[str, Any] = {}
    for parameter in state.parameters:
        for names in lookups:
            if parameter.name in names:
                bound[parameter.name] = names[parameter.name]
                break
        else:
            if parameter.required:
                available = dict.fromkeys(name for names in lookups for name in names)
                raise ArgumentMissing(state.name, parameter.name, tuple(available))
    return bound
