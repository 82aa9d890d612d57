"""A blueprint: a named graph of states that a job follows, written with decorators.

The source text of the handlers is read by whoever may touch files: see `read_source`.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, assert_never, overload

import attrs

from avtomatika_trio._core import arguments
from avtomatika_trio._core.actions import Action, DispatchParallel, DispatchTask, GoTo
from avtomatika_trio._core.analysis import Analysis, Edge, HandlerSource, analyse, outer_names
from avtomatika_trio._core.arguments import NAME, BadArgument, did_you_mean
from avtomatika_trio._core.check import graph_problems
from avtomatika_trio._core.state import (
    OUTCOMES,
    EndOutcome,
    Parameter,
    State,
    describe,
    end_outcome,
    handler_faults,
)
from avtomatika_trio.errors import ActionError, BlueprintError

__all__ = ["Blueprint", "Edge", "EndOutcome", "HandlerSource", "Parameter", "State"]

F = TypeVar("F", bound=Callable[..., Any])

_ENDPOINT = re.compile(r"(/[A-Za-z0-9_.~-]+)+", re.ASCII)


class Blueprint:
    """A named graph of states.

    Args:
        name: 1 to 128 letters, digits, `_`, `.` and `-`.
        api_version: The part of the public address before the endpoint, such as `v1`.
        api_endpoint: The public address where jobs of it are posted, such as `/jobs/resize`;
            None = it has no address of its own.
        data_stores: Anything that handlers ask for by the parameter `data_stores`.

    Raises:
        BlueprintError: one of them is malformed.

    A handler is registered under the name of its function, or under the name given::

        bp = Blueprint("resize")

        @bp.handler(is_start=True)
        async def start(actions, initial_data):
            actions.dispatch_task("resize", initial_data, {"success": "done"})

        @bp.handler(is_end=True)
        def done(state_history):
            return state_history

    Whether the graph is right is found by `check`, once it is complete.
    """

    def __init__(
        self,
        name: str,
        *,
        api_version: str | None = None,
        api_endpoint: str | None = None,
        data_stores: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.api_version = api_version
        self.api_endpoint = api_endpoint
        self.data_stores: Mapping[str, Any] = MappingProxyType(dict(data_stores or {}))
        self._registered: dict[str, State] = {}
        self._sources: dict[str, HandlerSource | None] = {}
        self._faults: list[str] = []
        self._analysed: tuple[Mapping[str, State], Mapping[str, Analysis | None]] | None = None
        self._raise(list(_malformed(name, api_version, api_endpoint)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, {len(self._registered)} states>"

    def read_source(self, function: Callable[..., Any]) -> HandlerSource | None:
        """The text in which *function* is written; asked for once, when it is registered.

        Here: None, there is no text, and every handler has to declare `to=[...]`.  The class
        that authors use reads the file.
        """
        del function
        return None

    @overload
    def handler(self, name: F, /) -> F: ...

    @overload
    def handler(
        self,
        name: str | None = None,
        *,
        is_start: bool = False,
        is_end: bool = False,
        outcome: EndOutcome | None = None,
        to: Iterable[str] = (),
    ) -> Callable[[F], F]: ...

    def handler(
        self,
        name: F | str | None = None,
        *,
        is_start: bool = False,
        is_end: bool = False,
        outcome: EndOutcome | None = None,
        to: Iterable[str] = (),
    ) -> F | Callable[[F], F]:
        """Register a function as the handler of a state: `@bp.handler` or `@bp.handler(...)`.

        Args:
            name: Of the state; None = the name of the function.
            is_start: Jobs begin here; true of exactly one state.
            is_end: Jobs end here; the handler takes no action, what it returns is the result.
            outcome: How the job ends here: `finished`, `failed` or `cancelled`; None =
                `finished`, but `failed` or `cancelled` in a state of just that name.
            to: States that the handler may lead to; needed only where its source does not show
                them, as when the target is in a variable.

        Raises:
            BlueprintError: the function cannot be registered at all.  Faults of the graph are
                collected for `check`.
        """
        marks = _Marks(is_start=is_start, is_end=is_end, outcome=outcome, to=to)
        return self._decorator(name, marks)

    @overload
    def aggregator(self, name: F, /) -> F: ...

    @overload
    def aggregator(
        self,
        name: str | None = None,
        *,
        is_end: bool = False,
        outcome: EndOutcome | None = None,
        to: Iterable[str] = (),
    ) -> Callable[[F], F]: ...

    def aggregator(
        self,
        name: F | str | None = None,
        *,
        is_end: bool = False,
        outcome: EndOutcome | None = None,
        to: Iterable[str] = (),
    ) -> F | Callable[[F], F]:
        """Register the handler of a state that `dispatch_parallel` continues in.

        It gets `aggregation_results`.  Arguments and errors are those of `handler`.
        """
        marks = _Marks(is_aggregator=True, is_end=is_end, outcome=outcome, to=to)
        return self._decorator(name, marks)

    @property
    def states(self) -> Mapping[str, State]:
        """All states by name, in the order of registration, with their edges."""
        return self._analysis()[0]

    @property
    def start(self) -> str:
        """The name of the state where jobs begin.

        Raises:
            BlueprintError: there is none, or more than one.
        """
        starts = [state.name for state in self._registered.values() if state.is_start]
        if len(starts) != 1:
            self.check()
        return starts[0]

    def check(self) -> None:
        """Make sure that a job can walk through the graph.

        Raises:
            BlueprintError: with all problems, each naming the state, the line and the remedy.
        """
        states, analyses = self._analysis()
        self._raise([*self._faults, *graph_problems(states, analyses)])

    def allows(self, state: str, action: Action | None) -> None:
        """Make sure that what the handler of *state* chose can be carried out.

        Raises:
            ActionError: it chose none, or one in an end state, or one that leads to a state
                which does not exist.
        """
        if self._registered[state].is_end:
            if action is not None:
                raise ActionError(
                    state, "it is an end state, yet its handler chose an action; remove one"
                )
            return
        if action is None:
            raise ActionError(
                state,
                "its handler chose no action; call actions.go_to(...), dispatch_task(...) or"
                " dispatch_parallel(...) on every path, or mark it is_end=True",
            )
        for how, target in _targets(action):
            if target not in self._registered:
                hint = did_you_mean(target, self._registered)
                raise ActionError(state, f"{how} leads to {target!r}, not a state; {hint}")

    def _decorator(self, name: F | str | None, marks: "_Marks") -> F | Callable[[F], F]:
        if callable(name):
            self._register(name, None, marks)
            return name

        def register(function: F) -> F:
            self._register(function, name, marks)
            return function

        return register

    def _register(self, function: Callable[..., Any], name: str | None, marks: "_Marks") -> None:
        if not callable(function):
            self._raise([f"{function!r} is not a function; decorate the handler itself"])
        own_name = getattr(function, "__name__", "<lambda>")
        if name is None and own_name == "<lambda>":
            self._raise([f'{function!r} has no name; write @bp.handler("name")'])
        label = self._label(own_name if name is None else name, "the name of a state")
        state = State(
            name=label,
            is_start=marks.is_start,
            is_end=marks.is_end,
            is_aggregator=marks.is_aggregator,
            outcome=end_outcome(label, marks.outcome) if marks.is_end else None,
            declared_to=self._declared(marks.to),
            **describe(function),
        )
        self._faults += [f"{state.where}: {fault}" for fault in handler_faults(function)]
        self._faults += _outcome_faults(state, marks.outcome)
        if first := self._registered.get(label):
            twice = f"it is registered twice, first at {first.file}:{first.line}; rename one"
            self._faults.append(f"{state.where}: {twice}")
            return
        self._registered[label] = state
        self._sources[label] = self.read_source(function)
        self._analysed = None

    def _declared(self, to: Iterable[str]) -> tuple[str, ...]:
        if isinstance(to, str):
            self._raise([f"to={to!r} is a list of states; write to=[{to!r}]"])
        return tuple(self._label(target, "every state of to=[...]") for target in to)

    def _label(self, value: object, what: str) -> str:
        try:
            return arguments.label(value, what)
        except BadArgument as fault:
            raise BlueprintError(self.name, (str(fault),)) from None

    def _analysis(self) -> tuple[Mapping[str, State], Mapping[str, Analysis | None]]:
        """The states with their edges; read from the text when first asked for.

        Not earlier: a handler may name constants that stand further down in its module.
        """
        if self._analysed is None:
            trees: dict[str, ast.Module | None] = {}
            analyses = {
                name: _analyse(self._registered[name], source, trees)
                for name, source in self._sources.items()
            }
            states = {
                name: _with_edges(state, analyses[name]) for name, state in self._registered.items()
            }
            self._analysed = MappingProxyType(states), analyses
        return self._analysed

    def _raise(self, problems: list[str]) -> None:
        if problems:
            raise BlueprintError(self.name, tuple(problems))


@attrs.frozen(kw_only=True)
class _Marks:
    """What the author wrote between the parentheses of a decorator, beside the name."""

    is_start: bool = False
    is_end: bool = False
    is_aggregator: bool = False
    outcome: EndOutcome | None
    to: Iterable[str]


def _malformed(name: object, version: object, endpoint: object) -> Iterable[str]:
    allowed = "letters, digits, '_', '.' or '-'"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield f"its name is 1 to 128 {allowed}, not {name!r}"
    if version is not None and not (isinstance(version, str) and NAME.fullmatch(version)):
        yield f"api_version is 1 to 128 {allowed}, such as 'v1', not {version!r}"
    if endpoint is not None and not (isinstance(endpoint, str) and _ENDPOINT.fullmatch(endpoint)):
        yield f"api_endpoint is a path that starts with '/', such as '/jobs/x', not {endpoint!r}"


def _outcome_faults(state: State, outcome: object) -> Iterable[str]:
    if outcome is None:
        return
    if not state.is_end:
        yield f"{state.where}: it has outcome={outcome!r} but is no end; add is_end=True"
    if outcome not in OUTCOMES:
        listed = ", ".join(map(repr, OUTCOMES))
        yield f"{state.where}: outcome={outcome!r} is not one of {listed}"


def _analyse(
    state: State, source: HandlerSource | None, trees: dict[str, ast.Module | None]
) -> Analysis | None:
    """What the text tells; None when there is none, or it has been changed since."""
    if source is None:
        return None
    if source.text not in trees:
        try:
            trees[source.text] = ast.parse(source.text)
        except (SyntaxError, ValueError):
            trees[source.text] = None
    tree = trees[source.text]
    return None if tree is None else analyse(source, tree, outer_names(state.function))


def _with_edges(state: State, analysis: Analysis | None) -> State:
    seen = tuple(analysis.edges) if analysis else ()
    targets = {edge.target for edge in seen}
    only_declared = tuple(
        Edge(target=target, kind="declared")
        for target in dict.fromkeys(state.declared_to)
        if target not in targets
    )
    line = analysis.line if analysis else state.line
    return attrs.evolve(state, edges=seen + only_declared, line=line)


def _targets(action: Action) -> list[tuple[str, str]]:
    """Every state that *action* may lead to, each with how a message calls it."""
    match action:
        case GoTo(state=target):
            return [("go_to", target)]
        case DispatchTask(spec=spec):
            return _route_targets(spec.transitions)
        case DispatchParallel(aggregate_into=target, transitions=routes):
            return [("aggregate_into", target), *_route_targets(routes)]
    assert_never(action)


def _route_targets(routes: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"transitions[{status!r}]", target) for status, target in routes.items()]
