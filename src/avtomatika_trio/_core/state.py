"""A state of a blueprint: its handler, and what the author said about it."""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import attrs

from avtomatika_trio._core.analysis import Edge

EndOutcome = Literal["finished", "failed", "cancelled"]

OUTCOMES: tuple[EndOutcome, ...] = ("finished", "failed", "cancelled")

#: States of these very names end a job that way, unless their author says otherwise.
_TELLING_NAMES: dict[str, EndOutcome] = {"failed": "failed", "cancelled": "cancelled"}


@attrs.frozen
class Parameter:
    """A parameter of a handler, filled by name."""

    name: str
    required: bool
    """Whether it has no default."""


@attrs.frozen(kw_only=True)
class State:
    """A node of a blueprint, with the handler that decides there."""

    name: str
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...] = ()
    is_async: bool = False
    is_start: bool = False
    is_end: bool = False
    outcome: EndOutcome | None = None
    """How the job ends here; None = it goes on."""
    is_aggregator: bool = False
    declared_to: tuple[str, ...] = ()
    """What the author wrote as `to=[...]`."""
    edges: tuple[Edge, ...] = ()
    """Every way out: those seen in the source text, then those only declared."""
    line: int | None = None
    file: str | None = None

    @property
    def where(self) -> str:
        """How a message calls it: by name, and by file and line where these are known."""
        place = "" if self.file is None else f" ({self.file}:{self.line})"
        return f"state {self.name!r}{place}"


def end_outcome(name: str, declared: EndOutcome | None) -> EndOutcome:
    """How a job ends in the end state *name*: as declared, or as the name tells."""
    return declared or _TELLING_NAMES.get(name, "finished")


def describe(function: Callable[..., Any]) -> dict[str, Any]:
    """What `State` has to know about its handler: parameters, kind, file and line."""
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None)
    return {
        "function": function,
        "parameters": tuple(
            Parameter(it.name, it.default is it.empty)
            for it in inspect.signature(function).parameters.values()
            if it.kind not in {it.VAR_POSITIONAL, it.VAR_KEYWORD}
        ),
        "is_async": any(map(inspect.iscoroutinefunction, (function, type(function).__call__))),
        "line": getattr(code, "co_firstlineno", None),
        "file": getattr(code, "co_filename", None),
    }


def handler_faults(function: Callable[..., Any]) -> list[str]:
    """Why *function* cannot be a handler at all."""
    faults = [
        f"its parameter {it.name!r} is positional-only, but handlers get their arguments by name;"
        " remove the '/'"
        for it in inspect.signature(function).parameters.values()
        if it.kind is it.POSITIONAL_ONLY
    ]
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        faults.append("its handler contains `yield`; a handler is called once and returns")
    return faults
