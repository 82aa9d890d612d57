"""Where a state's handler may lead, read from its source text.

The text is handed in: reading it is the business of whoever may touch files.  What is looked
for are calls on the parameter named `actions`, or on another name bound to it.  Nothing is run,
and what the text does not tell is reported, never guessed.
"""

import ast
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import unwrap
from typing import Any, Literal

import attrs

from avtomatika_trio._core.arguments import NAME, did_you_mean
from avtomatika_trio._core.literals import Function, Names, parts

EdgeKind = Literal["go_to", "task", "parallel", "declared"]

_PARAMETER = "actions"
_CALLS: Mapping[str, tuple[str, ...]] = {
    "go_to": ("state",),
    "transition_to": ("state",),
    "dispatch_task": ("task_type", "params", "transitions"),
    "dispatch_parallel": ("tasks", "aggregate_into"),
}
"""The methods of `ActionFactory`, with their positional parameters."""


def _none_first(value: str | None) -> str:
    return "" if value is None else value


@attrs.frozen(kw_only=True, order=True)
class Edge:
    """One way out of a state."""

    target: str
    status: str | None = attrs.field(default=None, order=_none_first)
    """The status of the result that leads there; None = no task is asked for."""
    skill: str | None = attrs.field(default=None, order=_none_first)
    """What the worker must be able to do; None = no task, or known only at run time."""
    kind: EdgeKind = "go_to"
    """By which action; `declared` = not seen in the text, named by `to=[...]`."""


@attrs.frozen(kw_only=True)
class HandlerSource:
    """The text in which a handler is written, and how to find it there."""

    file: str
    text: str
    """Of the whole file: then line numbers need no correction."""
    first_line: int
    """Of the function with its decorators, counted from 1."""
    name: str
    """As the function's code has it; `<lambda>` for a lambda."""


@attrs.frozen
class Note:
    """Something seen in a handler."""

    line: int
    text: str


@attrs.frozen(kw_only=True)
class Analysis:
    """What the text of one handler tells."""

    line: int
    """Where the function begins, after its decorators."""
    takes_actions: bool
    """Whether it has the parameter `actions` at all."""
    edges: Mapping[Edge, int]
    """Every way out that was seen, with its line, in the order of the text."""
    calls: tuple[Note, ...]
    """Every action that was seen."""
    unseen: tuple[Note, ...]
    """What may lead somewhere that the text does not tell."""
    faults: tuple[Note, ...]
    """What cannot be right."""


def analyse(
    source: HandlerSource, tree: ast.Module, outer: Mapping[str, object]
) -> Analysis | None:
    """What the text of one handler tells.

    Args:
        source: How to find the handler.
        tree: The parsed `source.text`; parsed by the caller, once for all handlers of a file.
        outer: The names around the handler, as `outer_names` gives them.

    Returns:
        None when the function is not in the text, or is one of several on its line.
    """
    found = [node for node in ast.walk(tree) if _is_at(node, source)]
    if len(found) != 1:
        return None
    function = found[0]
    assert isinstance(function, Function)
    reader = _Reader(Names(function, outer))
    takes_actions = any(
        isinstance(part, ast.arg) and part.arg == _PARAMETER for part in parts(function)
    )
    if takes_actions:
        reader.read(function)
    return Analysis(
        line=function.lineno,
        takes_actions=takes_actions,
        edges=reader.edges,
        calls=tuple(reader.calls),
        unseen=tuple(reader.unseen),
        faults=tuple(reader.faults),
    )


def outer_names(function: Callable[..., Any]) -> Mapping[str, object]:
    """The names that *function* sees around it, with their present values."""
    inner = unwrap(function)
    inner = getattr(inner, "__func__", inner)
    closure: dict[str, object] = {}
    code = getattr(inner, "__code__", None)
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(inner, "__closure__", None) or (), strict=False
    ):
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # bound further down, and not yet
            closure[name] = None
    return ChainMap(closure, getattr(inner, "__globals__", {}))


def _is_at(node: ast.AST, source: HandlerSource) -> bool:
    match node:
        case ast.Lambda(lineno=line):
            return (line, "<lambda>") == (source.first_line, source.name)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            line = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            return (line, node.name) == (source.first_line, source.name)
    return False


class _Reader:
    """Collects what one handler does with its `actions`."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._aliases = _aliases(names)
        self.edges: dict[Edge, int] = {}
        self.calls: list[Note] = []
        self.unseen: list[Note] = []
        self.faults: list[Note] = []

    def read(self, function: Function) -> None:
        """Walk through the handler."""
        body = [part for part in parts(function) if not isinstance(part, ast.arg)]
        understood: set[ast.AST] = set()
        nodes = [node for part in body for node in ast.walk(part)]
        nodes.sort(key=lambda node: (getattr(node, "lineno", 0), getattr(node, "col_offset", 0)))
        for node in nodes:
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name() as owner, attr=method)) if (
                    owner.id in self._aliases
                ):
                    understood.add(owner)
                    self._call(node, method)
                case ast.Attribute(value=ast.Name() as owner, attr="chosen"):
                    understood.add(owner)
                case (
                    ast.Assign(value=ast.Name() as value)
                    | ast.NamedExpr(value=ast.Name() as value)
                    | ast.AnnAssign(value=ast.Name() as value)
                ):
                    if self._only_aliases(node):
                        understood.add(value)
        for node in nodes:
            match node:
                case ast.Name(id=name, ctx=ast.Load()) if (
                    name in self._aliases and node not in understood
                ):
                    self.unseen.append(Note(node.lineno, f"`{name}` is handed to something else"))

    def _only_aliases(self, assignment: ast.Assign | ast.NamedExpr | ast.AnnAssign) -> bool:
        """Whether all that is assigned to are names that stand for `actions` alone."""
        targets: Sequence[ast.expr] = (
            assignment.targets if isinstance(assignment, ast.Assign) else [assignment.target]
        )
        return all(isinstance(it, ast.Name) and it.id in self._aliases for it in targets)

    def _call(self, call: ast.Call, method: str) -> None:
        line = call.lineno
        if method not in _CALLS:
            text = f"there is no action {method!r}: {did_you_mean(method, _CALLS)}"
            self.faults.append(Note(line, text))
            return
        self.calls.append(Note(line, method))
        spread = any(isinstance(arg, ast.Starred) for arg in call.args)
        if spread or any(keyword.arg is None for keyword in call.keywords):
            self.unseen.append(Note(line, f"the arguments of {method} are spread with * or **"))
            return
        given: dict[str | None, ast.expr] = dict(zip(_CALLS[method], call.args, strict=False))
        given.update((keyword.arg, keyword.value) for keyword in call.keywords)
        match method:
            case "dispatch_task":
                self._dispatch_task(line, given)
            case "dispatch_parallel":
                self._dispatch_parallel(line, given)
            case _:
                for target in self._targets(line, method, given.get("state")):
                    self._add(line, Edge(target=target))

    def _dispatch_task(self, line: int, given: Mapping[str | None, ast.expr]) -> None:
        skills = self._skills(line, given.get("task_type"))
        routes = self._routes(line, "dispatch_task", given.get("transitions"))
        self._add_all(line, routes, skills, "task")

    def _dispatch_parallel(self, line: int, given: Mapping[str | None, ast.expr]) -> None:
        targets = self._targets(line, "dispatch_parallel", given.get("aggregate_into"))
        skills: dict[str | None, None] = {}
        for branch in self._branches(given.get("tasks")):
            skills.update(dict.fromkeys(self._branch_skills(line, branch)))
        routes = self._routes(line, "dispatch_parallel", given.get("transitions"))
        onward = [("success", target) for target in targets]
        self._add_all(line, [*onward, *routes], tuple(skills) or (None,), "parallel")

    def _add_all(
        self,
        line: int,
        routes: Iterable[tuple[str, str]],
        skills: tuple[str | None, ...],
        kind: EdgeKind,
    ) -> None:
        for status, target in routes:
            for skill in skills:
                self._add(line, Edge(target=target, status=status, skill=skill, kind=kind))

    def _add(self, line: int, edge: Edge) -> None:
        self.edges.setdefault(edge, line)

    def _targets(self, line: int, method: str, expr: ast.expr | None) -> tuple[str, ...]:
        if expr is None:
            self.faults.append(Note(line, f"{method} is called without a state"))
            return ()
        targets = self._names.strings(expr)
        if not targets.complete:
            self._not_known(line, method, expr)
        return targets.values

    def _routes(self, line: int, method: str, expr: ast.expr | None) -> tuple[tuple[str, str], ...]:
        if expr is None:
            return ()
        pairs = self._names.pairs(expr)
        if not pairs.complete:
            self._not_known(line, f"{method}'s transitions", expr)
        return pairs.values

    def _not_known(self, line: int, what: str, expr: ast.expr) -> None:
        text = ast.unparse(expr)
        text = text if len(text) <= 60 else f"{text[:57]}..."
        self.unseen.append(Note(line, f"{what} leads to `{text}`, which is known only at run time"))

    def _skills(self, line: int, expr: ast.expr | None) -> tuple[str | None, ...]:
        if expr is None:
            return (None,)
        skills = self._names.strings(expr)
        for skill in skills.values:
            if not NAME.fullmatch(skill):
                text = f"{skill!r} is not a skill's name: 1 to 128 letters, digits, '_', '.' or '-'"
                self.faults.append(Note(line, text))
        return skills.values if skills.complete else (*skills.values, None)

    def _branches(self, expr: ast.expr | None) -> list[ast.expr]:
        """The expressions of the single branches, as far as they are written down in place."""
        match expr:
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return items
            case ast.ListComp(elt=item) | ast.GeneratorExp(elt=item):
                return [item]
            case ast.Name(id=name):
                values = self._names.values(name)
                return [
                    item
                    for value in values
                    if not isinstance(value, ast.Name)
                    for item in self._branches(value)
                ]
        return []

    def _branch_skills(self, line: int, branch: ast.expr) -> tuple[str | None, ...]:
        if isinstance(branch, ast.Dict):
            for key, value in zip(branch.keys, branch.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in {"type", "task_type"}:
                    return self._skills(line, value)
        return (None,)


def _aliases(names: Names) -> frozenset[str]:
    """`actions`, and every name that is bound to it and to nothing else."""
    aliases = {_PARAMETER}
    while True:
        more = {
            name
            for name, values in names.bound.items()
            if name not in aliases
            and all(isinstance(value, ast.Name) and value.id in aliases for value in values)
        }
        if not more:
            return frozenset(aliases)
        aliases |= more
