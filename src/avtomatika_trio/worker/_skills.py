"""Skills: what a worker can do, and the functions that do it.

A handler asks for what it needs by the names of its parameters; whatever cannot be given
is an error when the skill is registered, not when the first task arrives at night.
"""

import inspect
from collections.abc import Callable
from typing import Any

import attrs

from avtomatika_trio._core.arguments import did_you_mean
from avtomatika_trio._wire.messages import SkillInfo
from avtomatika_trio.errors import ConfigError

Handler = Callable[..., Any]

#: What a handler can ask for.
INJECTED = (
    "params",
    "task_id",
    "job_id",
    "attempt",
    "idempotency_key",
    "send_progress",
    "task_files",
    "add_to_hot_skills",
    "remove_from_hot_skills",
    "priority",
    "tracing_context",
)


@attrs.frozen(kw_only=True, eq=False)
class Skill:
    """A skill and its handler."""

    info: SkillInfo
    function: Handler
    is_async: bool
    """Whether it runs in the loop; otherwise in a thread."""
    wants: frozenset[str]
    """The names out of `INJECTED` that it is called with."""

    @property
    def name(self) -> str:
        """What tasks call it."""
        return self.info.name


def create_skill(info: SkillInfo, function: Handler) -> Skill:
    """Look at *function* and make a skill of it.

    Raises:
        ConfigError: it cannot be called as a handler; the message says why, and how it could.
    """
    if not callable(function):
        raise ConfigError((f"skill {info.name!r}: {function!r} cannot be called",))
    # An object with `__call__` is as good as a function; a `partial` inspect looks through.
    called = function if inspect.isroutine(function) else type(function).__call__
    if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
        problem = f"skill {info.name!r}: its handler yields; it has to return its result"
        raise ConfigError((problem,))
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
    return Skill(info=info, function=function, is_async=is_async, wants=_wants(info.name, function))


def _wants(name: str, function: Handler) -> frozenset[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        problem = f"skill {name!r}: its handler's parameters cannot be read; wrap it in a function"
        raise ConfigError((problem,)) from None
    wanted: set[str] = set()
    problems: list[str] = []
    for parameter in parameters:
        match parameter.kind:
            case inspect.Parameter.VAR_KEYWORD:
                wanted.update(INJECTED)
            case inspect.Parameter.VAR_POSITIONAL:
                continue
            case inspect.Parameter.POSITIONAL_ONLY:
                problems.append(
                    f"skill {name!r}: the parameter {parameter.name!r} is positional-only;"
                    " handlers are called by name, remove the '/'"
                )
            case _ if parameter.name in INJECTED:
                wanted.add(parameter.name)
            case _ if parameter.default is inspect.Parameter.empty:
                problems.append(
                    f"skill {name!r}: nothing fills the parameter {parameter.name!r};"
                    f" {did_you_mean(parameter.name, INJECTED)}, or give it a default"
                )
    if problems:
        raise ConfigError(tuple(problems))
    return frozenset(wanted)
