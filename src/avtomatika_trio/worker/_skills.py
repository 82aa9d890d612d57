"""Skills: what a worker can do, and the functions that do it.

A handler asks for what it needs by the names of its parameters; whatever cannot be given
is an error when the worker starts, not when the first task arrives at night.
"""

import functools
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Union

import attrs

from avtomatika_trio._core.arguments import NAME, did_you_mean
from avtomatika_trio._core.event_rules import declared_faults
from avtomatika_trio._shapes import Shape, Unknown, shape_of
from avtomatika_trio._wire.codec import decode, encode
from avtomatika_trio._wire.messages import SkillInfo
from avtomatika_trio.errors import ConfigError, InvalidMessage
from avtomatika_trio.worker._annotations import Annotations, is_missing_name
from avtomatika_trio.worker._middlewares import Middlewares
from avtomatika_trio.worker._task_files import TaskFiles

Handler = Callable[..., Any]

#: Calls a handler in a way of its own: given the skill, the params and what calls the handler,
#: which returns what the handler returns; for an `async def` that is to be awaited.
CallHandler = Callable[["Skill", dict[str, Any], Callable[[], Any]], Awaitable[Any]]

_FIND_NAMES = (
    "define or import its names at the top of the module, not in another function and not only"
    " under TYPE_CHECKING"
)

_USE_CLASSES = (
    "use dict, a dataclass, an attrs class, a msgspec.Struct, a TypedDict or a pydantic model"
)

_TELL_APART = (
    "to be told apart, each is to be a msgspec.Struct with a tag (`class Cat(Struct, tag=True)`),"
    " or each a pydantic model, and the union all of the annotation or within a pydantic model"
)

#: What a handler can ask for.
INJECTED = (
    "params",
    "task_id",
    "job_id",
    "attempt",
    "idempotency_key",
    "send_progress",
    "send_event",
    "check_for_cancellation",
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
    arguments: Mapping[str, str]
    """What it is called with: its parameters, and which of `INJECTED` fills each."""
    provided: frozenset[str]
    """Its parameters that are left to middlewares and must be filled."""
    optional: frozenset[str]
    """Those with a default, which middlewares may fill."""
    takes_all: bool
    """Whether it has `**kwargs`."""
    params: Shape | None
    """What its params are made into; None: a dict as it came."""
    returns: Shape | None
    """What it promises to return; None: anything."""
    middlewares: Middlewares
    """What is done around it; those of its worker."""
    is_complete: bool = True
    """Whether every class that its annotations name was there when it was looked at."""

    @property
    def name(self) -> str:
        """What tasks call it."""
        return self.info.name

    @property
    def wants(self) -> frozenset[str]:
        """The names out of `INJECTED` that it is called with."""
        return frozenset(self.arguments.values())


def checked_name(name: Any, function: Handler, taken: "Mapping[str, Skill]") -> str:
    """*name*, if the skill of *function* can be called so.

    Raises:
        ConfigError: it cannot be a name, or is one of those *taken*.
    """
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        problem = (
            f"a skill's name has 1 to 128 letters, digits, '_', '.' or '-', not {name!r};"
            ' give one: @worker.skill("resize")'
        )
        raise ConfigError((problem,))
    if name in taken:
        first, second = place_of(taken[name].function), place_of(function)
        problem = f"the skill {name!r} is registered twice, at {first} and at {second};"
        problem += (
            " rename one of them"
            if first != second
            else " register it once; where files of a folder of skills import each other, what"
            " they share goes into one whose name begins with '_'"
        )
        raise ConfigError((problem,))
    return name


def create_skill(
    info: SkillInfo, function: Handler, middlewares: Middlewares, *, is_early: bool = False
) -> Skill:
    """Look at *function* and make a skill of it.

    What *info* leaves open is taken from the function: the description from its docstring, the
    version from `__version__` of its module, the schemas from its annotations.

    Args:
        info: What its author has written.
        function: The handler.
        middlewares: Those of the worker; `check_provided` looks at what they provide.
        is_early: Whether names of classes may be missing, which its module has yet to define.

    Raises:
        ConfigError: it cannot be called as a handler; the message says why, and how it could.
    """
    if not callable(function):
        raise ConfigError((f"skill {info.name!r}: {function!r} cannot be called",))
    if inspect.isclass(function):
        problem = f"skill {info.name!r}: {function!r} is a class; register a function"
        raise ConfigError((problem,))
    # An object with `__call__` is as good as a function; a `partial` inspect looks through.
    called = function if inspect.isroutine(function) else type(function).__call__
    if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
        problem = f"skill {info.name!r}: its handler yields; it has to return its result"
        raise ConfigError((problem,))
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
    reading = _Reading(info.name, function, is_early=is_early)
    reading.read()
    if info.events_schema is not None:
        reading.problems += [
            f"skill {info.name!r}: {it}" for it in declared_faults(info.events_schema)
        ]
    if reading.problems:
        raise ConfigError(tuple(reading.problems))
    return Skill(
        info=_sendable(_described(info, function, reading)),
        function=function,
        is_async=is_async,
        arguments=reading.arguments,
        provided=frozenset(reading.provided),
        optional=frozenset(reading.optional),
        takes_all=reading.takes_all,
        params=reading.params,
        returns=reading.returns,
        middlewares=middlewares,
        is_complete=reading.is_complete,
    )


def completed(skill: Skill) -> Skill:
    """*skill* with the classes that were not there when it was registered.

    Raises:
        ConfigError: they are not there still.
    """
    if skill.is_complete:
        return skill
    return create_skill(skill.info, skill.function, skill.middlewares)


def check_provided(skills: Iterable[Skill], provides: Collection[str]) -> None:
    """Look whether all that handlers ask for is given to them, in whichever order it was added.

    Args:
        skills: All of a worker.
        provides: What its middlewares provide.

    Raises:
        ConfigError: there are parameters that nothing fills.
    """
    known = (*INJECTED, *sorted(provides))

    def remedy(skill: Skill, name: str) -> str:
        if name == "self":
            method = getattr(skill.function, "__name__", "method")
            return f"register the method of an object: worker.skill({skill.name!r})(it.{method})"
        hint = did_you_mean(name, known)
        return f"{hint}, or give it a default, or add a middleware that provides it"

    problems = tuple(
        f"skill {skill.name!r}: nothing fills the parameter {name!r} ({place_of(skill.function)});"
        f" {remedy(skill, name)}"
        for skill in skills
        for name in sorted(skill.provided - set(provides))
    )
    if problems:
        raise ConfigError(problems)


def place_of(function: Handler) -> str:
    """Where *function* is written, such as `skills/resize.py:12`."""
    inner = inspect.unwrap(_inner(function))
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    return "an unknown place" if code is None else f"{code.co_filename}:{code.co_firstlineno}"


def _inner(function: Handler) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _described(info: SkillInfo, function: Handler, reading: "_Reading") -> SkillInfo:
    inner = _inner(function)
    text = inspect.getdoc(inner) if inspect.isroutine(inner) else None
    paragraph = " ".join((text or "").partition("\n\n")[0].split())
    version = getattr(sys.modules.get(getattr(inner, "__module__", "")), "__version__", None)
    found: dict[str, Any] = {
        "description": paragraph or None,
        "version": version if isinstance(version, str) else None,
        "input_schema": reading.params.schema if reading.params else None,
        "output_schema": reading.returns.schema if reading.returns else None,
    }
    return attrs.evolve(
        info, **{name: it for name, it in found.items() if getattr(info, name) is None}
    )


def _sendable(info: SkillInfo) -> SkillInfo:
    """*info* as orchestrators will read it.

    Raises:
        ConfigError: they would refuse it, and with it the worker.
    """
    try:
        return decode(encode(info), SkillInfo)
    except InvalidMessage as exc:
        told = [f"{it.path.removeprefix('$.')}: {it.message}" for it in exc.problems]
    except (TypeError, ValueError) as exc:
        told = [f"what it publishes is not JSON: {exc}"]
    raise ConfigError(tuple(f"skill {info.name!r}: {it}" for it in told))


class _Reading:
    """What the signature of a handler says."""

    def __init__(self, name: str, function: Handler, *, is_early: bool) -> None:
        self._name = name
        inner = inspect.unwrap(_inner(function))
        called = inner if inspect.isroutine(inner) else type(inner).__call__
        self._annotations = Annotations(called)
        self._may_wait = is_early and self._annotations.may_come
        self.is_complete = True
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):
            problem = (
                f"skill {name!r}: its handler's parameters cannot be read; wrap it in a function"
            )
            raise ConfigError((problem,)) from None
        self.arguments: dict[str, str] = {}
        self.provided: list[str] = []
        self.optional: list[str] = []
        self.takes_all = False
        self.params: Shape | None = None
        self.returns: Shape | None = None
        self.problems: list[str] = []

    def read(self) -> None:
        """Look at every parameter and at what is returned."""
        for parameter in self._signature.parameters.values():
            match parameter.kind:
                case inspect.Parameter.VAR_KEYWORD:
                    self.takes_all = True
                    self.arguments |= {it: it for it in INJECTED}
                case inspect.Parameter.VAR_POSITIONAL:
                    continue
                case inspect.Parameter.POSITIONAL_ONLY:
                    self._tell(
                        f"the parameter {parameter.name!r} is positional-only;"
                        " handlers are called by name, remove the '/'"
                    )
                case _:
                    self._parameter(parameter)
        self.returns = self._shape(
            self._signature.return_annotation, "its return value", is_output=True
        )

    def _parameter(self, parameter: inspect.Parameter) -> None:
        name = parameter.name
        if name in INJECTED:
            self.arguments[name] = name
            if name == "params":
                self.params = self._shape(
                    parameter.annotation, "the parameter 'params'", is_output=False
                )
        elif self._is_task_files(parameter.annotation):
            self.arguments[name] = "task_files"
        elif parameter.default is not inspect.Parameter.empty:
            self.optional.append(name)
        else:
            self.provided.append(name)

    def _shape(self, annotation: Any, what: str, *, is_output: bool) -> Shape | None:
        if annotation is inspect.Signature.empty:
            return None
        try:
            resolved = self._annotations.resolve(annotation)
        except Exception as exc:  # noqa: BLE001 - the border to foreign code: evaluates a text
            if self._waits_for(exc):
                return None
            self._tell(
                f"the annotation of {what}, {annotation!r}, cannot be resolved: {exc};"
                f" {_FIND_NAMES}"
            )
            return None
        try:
            return shape_of(resolved, is_output=True) if is_output else _params_shape(resolved)
        except Unknown as exc:
            if self._waits_for(exc.__cause__):
                return None
            if is_missing_name(exc.__cause__):
                self._tell(
                    f"the annotation of {what} has one that cannot be resolved: {exc};"
                    f" {_FIND_NAMES}"
                )
            elif not is_output:
                is_union = str(exc).startswith("Type unions may not contain")
                self._tell(
                    f"the annotation of {what} is none that params can be made into: {exc};"
                    f" {_TELL_APART if is_union else _USE_CLASSES}"
                )
        return None

    def _is_task_files(self, annotation: Any) -> bool:
        try:
            resolved = self._annotations.resolve(annotation)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is not that
            self._waits_for(exc)
            return False
        if typing.get_origin(resolved) in (Union, types.UnionType):
            return TaskFiles in typing.get_args(resolved)
        return resolved is TaskFiles

    def _waits_for(self, fault: BaseException | None) -> bool:
        """Whether *fault* is a name that may yet come; the skill is not complete then."""
        waits = self._may_wait and is_missing_name(fault)
        self.is_complete = self.is_complete and not waits
        return waits

    def _tell(self, problem: str) -> None:
        self.problems.append(f"skill {self._name!r}: {problem}")


def _params_shape(annotation: Any) -> Shape | None:
    shape = shape_of(annotation)
    if shape is not None and not shape.takes_object:
        raise Unknown("params are an object, which it does not take")
    return shape
