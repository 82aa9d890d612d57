"""A route as it is declared: where it is, whom it is for, what it takes and what it answers.

The tables of them (`_table_clients`, `_table_public`, `_table_workers`) are the one place where
routes stand: what is served, the labels of metrics and `/openapi.json` come from there.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, TypeVar

import attrs

from avtomatika_trio._core.access import Role
from avtomatika_trio.orchestrator._registry import PREFIXES

T = TypeVar("T")

JSON = "application/json"


class Caller(StrEnum):
    """Who calls a route."""

    ANYBODY = "anybody"
    CLIENT = "client"
    WORKER = "worker"


@attrs.frozen(kw_only=True)
class Parameter:
    """Something in the path, the query or the head of a request."""

    name: str
    where: Literal["path", "query", "header"] = "query"
    kind: Any = str
    """Its type, as of a member of a message."""
    is_required: bool = False
    """What fills the path always is."""
    text: str = ""
    """What it means: a sentence."""
    example: str | None = None
    has_slashes: bool = False
    """Whether it is all that is left of the path."""


@attrs.frozen(kw_only=True)
class Answered:
    """One of the answers that are no errors."""

    status: int = 200
    text: str
    """What it means: a sentence."""
    kind: Any = None
    """The type of the body, or a tuple of those it may have; None: it is not JSON."""
    content: str | None = JSON
    """The type of its content; None: it has no body."""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Their names, and what they mean."""


@attrs.frozen(kw_only=True)
class Body:
    """What a request carries."""

    kind: Any = None
    """The type, or a tuple of those it may have; None: it is not JSON."""
    content: str = JSON
    is_required: bool = False
    is_closed: bool = True
    """Whether members that the type does not have are refused."""
    example: Any = None


@attrs.frozen(kw_only=True)
class Route:
    """One method at one path."""

    id: str
    """Of the operation; also what its handler is found by."""
    method: str
    path: str
    """With `{name}` for what is to be filled in; of clients what follows `PREFIXES`."""
    caller: Caller
    role: Role | None = None
    """The least that a client needs; where anybody may ask, to be shown more."""
    group: str
    summary: str
    text: str = ""
    """More of it: sentences."""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    answers: tuple[Answered, ...]
    problems: tuple[str, ...] = ()
    """The codes of the errors that are its own, besides those that every route has."""

    @property
    def template(self) -> str:
        """The whole path."""
        return PREFIXES[0] + self.path if self.caller is Caller.CLIENT else self.path

    @property
    def needed(self) -> Role:
        """The role, of a route that has one."""
        assert self.role is not None
        return self.role

    @property
    def rule(self) -> str:
        """Its path as Quart writes it."""
        return self.path.replace("{", "<").replace("}", ">")

    def pattern(self, prefixes: Iterable[str] = ("",)) -> re.Pattern[str]:
        """What paths of this route look like below one of *prefixes*."""
        wide = {it.name for it in self.parameters if it.has_slashes}
        parts = re.split(r"\{(\w+)\}", self.path)
        for at, name in enumerate(parts):
            if at % 2 == 0:
                parts[at] = re.escape(name)
            else:
                parts[at] = f"(?P<{name}>{'.*' if name in wide else '[^/]+'})"
        return re.compile(f"(?:{'|'.join(map(re.escape, prefixes))}){''.join(parts)}", re.DOTALL)


def served(routes: Sequence[Route], handlers: Mapping[str, T]) -> list[tuple[Route, T]]:
    """Each of *routes* with what serves it.

    Raises:
        LookupError: a route has no handler, or a handler no route; a fault of the code.
    """
    odd = {it.id for it in routes} ^ set(handlers)
    if odd:
        raise LookupError(f"in the table of routes or among the handlers alone: {sorted(odd)}")
    return [(it, handlers[it.id]) for it in routes]


def finder(routes: Iterable[Route]) -> Callable[[str, str], tuple[Route | None, dict[str, str]]]:
    """What finds the route of a method and a path, and what fills the path.

    The first in order counts.  None, and nothing, if there is none.
    """
    patterns = [(it, it.pattern()) for it in routes]

    def find(method: str, path: str) -> tuple[Route | None, dict[str, str]]:
        for route, pattern in patterns:
            found = pattern.fullmatch(path) if route.method == method else None
            if found is not None:
                return route, found.groupdict()
        return None, {}

    return find


def allowed(routes: Iterable[Route], path: str) -> list[str]:
    """The methods that there are at *path*."""
    return sorted({it.method for it in routes if it.pattern().fullmatch(path)})
