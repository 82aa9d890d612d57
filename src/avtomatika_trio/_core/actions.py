"""What a state's handler may choose: exactly one action.

The handler gets an `ActionFactory` and calls one of its methods; the engine reads what
was recorded.  Pure: nothing happens here, the action is carried out by the step's commit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Never

import attrs

from avtomatika_trio._core import arguments
from avtomatika_trio._core.arguments import BadArgument
from avtomatika_trio._core.json_values import NotJson, copy_json
from avtomatika_trio._core.retry import RetryPolicy
from avtomatika_trio.errors import ActionError

#: What one task takes beside its skill, in `dispatch_task` and in a branch.
_TASK_OPTIONS = (
    "params",
    "priority",
    "timeout_seconds",
    "dispatch_timeout",
    "result_timeout",
    "retry",
)
_OLDER_NAMES = ("dispatch_timeout_seconds", "result_timeout_seconds")
_BRANCH_KEYS = ("type", "task_type", "key", *_TASK_OPTIONS, *_OLDER_NAMES)


@attrs.frozen(kw_only=True)
class TaskSpec:
    """What a blueprint asks of one worker."""

    skill: str
    params: dict[str, Any]
    priority: float = 0.0
    """Higher first; equal ones first come, first served."""
    transitions: dict[str, str] = attrs.field(factory=dict)
    """Status of the result -> next state; also `timeout` and `dispatch_timeout`."""
    timeout_seconds: float | None = None
    """For each attempt, from hand-out; None = no limit."""
    dispatch_timeout: float | None = None
    """Seconds that the task may wait in the queue; None = for ever."""
    result_timeout: float | None = None
    """Seconds for the whole task, retries included; None = no limit."""
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    key: str | None = None
    """The author's own name of a branch, in `aggregation_results`."""


@attrs.frozen(kw_only=True)
class GoTo:
    """Continue in another state."""

    state: str


@attrs.frozen(kw_only=True)
class DispatchTask:
    """Have one task done, then continue by the status of its result."""

    spec: TaskSpec


@attrs.frozen(kw_only=True)
class DispatchParallel:
    """Have many tasks done, then continue in the aggregator."""

    specs: tuple[TaskSpec, ...]
    aggregate_into: str
    transitions: dict[str, str] = attrs.field(factory=dict)
    """`failure` -> the state to go to when a branch has failed for good."""
    max_concurrency: int | None = None
    """How many branches are queued or leased at the same time; None = all."""


Action = GoTo | DispatchTask | DispatchParallel


class ActionFactory:
    """Records the one action that a state's handler chooses.

    Args:
        state: The state whose handler runs; named in every error.
        max_params_bytes: How large the params of one task may be; None = any size.
        measure: The size in bytes of a JSON value as it is stored; needed for the limit.

    Every method raises `ActionError` when an action was chosen before, or when an argument
    is not what it has to be; the message has the path of the fault.
    """

    def __init__(
        self,
        state: str,
        max_params_bytes: int | None = None,
        measure: Callable[[Any], int] | None = None,
    ) -> None:
        self._state = state
        self._max_params_bytes = max_params_bytes
        self._measure = measure
        self._chosen: Action | None = None
        self._call = ""

    @property
    def chosen(self) -> Action | None:
        """What the handler chose; None = nothing yet."""
        return self._chosen

    def go_to(self, state: str) -> None:
        """Continue in *state* at once.

        Raises:
            ActionError: an action was chosen before, or *state* is not a name.
        """
        with self._choosing(f"go_to({state!r})"):
            self._chosen = GoTo(state=arguments.label(state, "go_to: state"))

    def transition_to(self, state: str) -> None:
        """The old name of `go_to`."""
        self.go_to(state)

    def dispatch_task(
        self,
        task_type: str,
        params: Mapping[str, Any] | None = None,
        transitions: Mapping[str, str] | None = None,
        *,
        priority: float = 0.0,
        timeout_seconds: float | None = None,
        dispatch_timeout: float | None = None,
        result_timeout: float | None = None,
        retry: RetryPolicy | int | dict[str, Any] | None = None,
        dispatch_timeout_seconds: float | None = None,
        result_timeout_seconds: float | None = None,
        **unknown: Never,
    ) -> None:
        """Have one task done by a worker, then continue by the status of its result.

        Args:
            task_type: The skill that a worker must have.
            params: What the worker's handler gets: a JSON object; None = an empty one.
            transitions: Status of the result -> next state: `success`, `failure` (taken when
                the retries are used up), statuses of your own, `timeout`, `dispatch_timeout`.
            priority: Higher first; equal ones first come, first served.
            timeout_seconds: For each attempt, from hand-out; None = no limit.
            dispatch_timeout: Seconds that the task may wait for a worker; None = for ever.
            result_timeout: Seconds for the whole task, retries included; None = no limit.
            retry: A number of retries, a dict of `RetryPolicy`'s fields, or such a policy.
            dispatch_timeout_seconds, result_timeout_seconds: The older names.

        Raises:
            ActionError: an action was chosen before, or an argument is not what it has to be.
            TypeError: there is no argument of that name.
        """
        if unknown:
            choices = ("task_type", "transitions", *_TASK_OPTIONS, *_OLDER_NAMES)
            raise TypeError(arguments.unknown_names("dispatch_task", unknown, choices))
        written = {
            "params": params,
            "priority": priority,
            "timeout_seconds": timeout_seconds,
            "dispatch_timeout": dispatch_timeout,
            "result_timeout": result_timeout,
            "retry": retry,
            "dispatch_timeout_seconds": dispatch_timeout_seconds,
            "result_timeout_seconds": result_timeout_seconds,
        }
        with self._choosing(f"dispatch_task({task_type!r})"):
            skill = arguments.skill_name(task_type, "dispatch_task: task_type")
            routes = arguments.transitions(transitions, "dispatch_task: transitions")
            spec = self._spec(skill, written, "dispatch_task: ", transitions=routes)
            self._chosen = DispatchTask(spec=spec)

    def dispatch_parallel(
        self,
        tasks: Iterable[Mapping[str, Any]],
        aggregate_into: str,
        *,
        max_concurrency: int | None = None,
        transitions: Mapping[str, str] | None = None,
        **unknown: Never,
    ) -> None:
        """Have many tasks done, each a branch of its own, then continue in the aggregator.

        Args:
            tasks: One dict for each branch: `type` (or `task_type`), and where wanted `params`,
                `key`, `priority`, `timeout_seconds`, `dispatch_timeout`, `result_timeout`,
                `retry`.  No branch at all leads straight to the aggregator.
            aggregate_into: The state that gets `aggregation_results`.
            max_concurrency: How many branches are queued or leased at a time; None = all.
            transitions: `failure` -> the state to continue in when a branch has failed for good;
                without it the job fails.

        Raises:
            ActionError: an action was chosen before, or an argument is not what it has to be.
            TypeError: there is no argument of that name.
        """
        if unknown:
            choices = ("tasks", "aggregate_into", "max_concurrency", "transitions")
            raise TypeError(arguments.unknown_names("dispatch_parallel", unknown, choices))
        where = "dispatch_parallel: "
        with self._choosing(f"dispatch_parallel(aggregate_into={aggregate_into!r})"):
            self._chosen = DispatchParallel(
                specs=tuple(self._branches(tasks, f"{where}tasks")),
                aggregate_into=arguments.label(aggregate_into, f"{where}aggregate_into"),
                transitions=_failure_only(transitions, f"{where}transitions"),
                max_concurrency=arguments.count(max_concurrency, f"{where}max_concurrency"),
            )

    @contextmanager
    def _choosing(self, call: str) -> Iterator[None]:
        """Refuse a second action, and name the state in every complaint."""
        if self._chosen is not None:
            raise ActionError(
                self._state,
                f"chose {call} after {self._call}; a handler chooses exactly one action:"
                " return after the first",
            )
        try:
            yield
        except BadArgument as fault:
            raise ActionError(self._state, str(fault)) from None
        self._call = call

    def _branches(self, tasks: Iterable[Mapping[str, Any]], path: str) -> Iterator[TaskSpec]:
        if isinstance(tasks, Mapping | str) or not isinstance(tasks, Iterable):
            raise BadArgument(
                f"{path} is a list of dicts, such as [{{'type': 'resize', 'params': {{}}}}],"
                f" not a {type(tasks).__name__}"
            )
        keys: dict[str, int] = {}
        for index, task in enumerate(tasks):
            here = f"{path}[{index}]"
            spec = self._branch(task, here)
            if spec.key is not None:
                first = keys.setdefault(spec.key, index)
                if first != index:
                    raise BadArgument(f"{here}.key: {spec.key!r} is already the key of [{first}]")
            yield spec

    def _branch(self, task: object, path: str) -> TaskSpec:
        if not isinstance(task, Mapping):
            raise BadArgument(f"{path} is a dict with 'type' and 'params', not {task!r}")
        if unknown := [key for key in task if key not in _BRANCH_KEYS]:
            raise BadArgument(arguments.unknown_names(path, unknown, _BRANCH_KEYS))
        if ("type" in task) == ("task_type" in task):
            raise BadArgument(f"{path} has one of 'type' and 'task_type': the skill of its worker")
        name = "type" if "type" in task else "task_type"
        skill = arguments.skill_name(task[name], f"{path}.{name}")
        key = task.get("key")
        if key is not None:
            key = arguments.label(key, f"{path}.key")
        return self._spec(skill, task, f"{path}.", key=key)

    def _spec(self, skill: str, written: Mapping[str, Any], path: str, **more: Any) -> TaskSpec:
        dispatch_timeout = arguments.one_of_two_names(written, "dispatch_timeout", path)
        result_timeout = arguments.one_of_two_names(written, "result_timeout", path)
        return TaskSpec(
            skill=skill,
            params=self._params(written.get("params"), f"{path}params"),
            priority=arguments.number(written.get("priority", 0.0), f"{path}priority"),
            timeout_seconds=arguments.seconds(
                written.get("timeout_seconds"), f"{path}timeout_seconds"
            ),
            dispatch_timeout=arguments.seconds(dispatch_timeout, f"{path}dispatch_timeout"),
            result_timeout=arguments.seconds(result_timeout, f"{path}result_timeout"),
            retry=_retry(written.get("retry"), f"{path}retry"),
            **more,
        )

    def _params(self, value: object, path: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise BadArgument(f"{path} is a dict, not a {type(value).__name__}")
        try:
            params: dict[str, Any] = copy_json(value, path)
        except NotJson as fault:
            raise BadArgument(str(fault)) from None
        if self._max_params_bytes is not None and self._measure is not None:
            size = self._measure(params)
            if size > self._max_params_bytes:
                raise BadArgument(
                    f"{path}: {size} bytes are more than the {self._max_params_bytes} that one"
                    " task may have; put the data into a file and pass its name"
                )
        return params


def _failure_only(value: object, path: str) -> dict[str, str]:
    routes = arguments.transitions(value, path)
    if other := [status for status in routes if status != "failure"]:
        raise BadArgument(
            f"{path} has {other[0]!r}, but only 'failure' can be taken; when all branches have"
            " succeeded the job continues in aggregate_into"
        )
    return routes


def _retry(value: object, path: str) -> RetryPolicy:
    try:
        return RetryPolicy.parse(value)
    except (TypeError, ValueError) as fault:
        raise BadArgument(f"{path}: {fault}") from None
