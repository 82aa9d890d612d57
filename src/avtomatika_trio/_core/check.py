"""Is this graph of states one that a job can walk through?  All problems, not just the first.

Every message names the state, the line where it is known, and the remedy.
"""

from collections.abc import Iterator, Mapping, Sequence

from avtomatika_trio._core.analysis import Analysis
from avtomatika_trio._core.arguments import did_you_mean
from avtomatika_trio._core.state import State

_DECLARE = 'declare every state it may lead to: to=["..."]'


def graph_problems(
    states: Mapping[str, State], analyses: Mapping[str, Analysis | None]
) -> list[str]:
    """Everything that is wrong between the states, in their order.

    Args:
        states: By name, with their edges.
        analyses: What the source text of each tells; None where there is no text.
    """
    problems = list(_ends(states))
    for name, state in states.items():
        analysis = analyses[name]
        problems += [
            f"{state.where}: line {fault.line}: {fault.text}"
            for fault in (analysis.faults if analysis else ())
        ]
        problems += _end_state(state, analysis) if state.is_end else _inner_state(state, analysis)
        problems += _dangling(state, analysis, states)
    return problems + _unreachable(states, analyses)


def _ends(states: Mapping[str, State]) -> Iterator[str]:
    starts = [state for state in states.values() if state.is_start]
    if not starts:
        yield "no state is the start: mark the first one with @bp.handler(is_start=True)"
    elif len(starts) > 1:
        listed = ", ".join(state.where.removeprefix("state ") for state in starts)
        yield f"{len(starts)} states are marked is_start=True: {listed}; keep one of the marks"
    if not any(state.is_end for state in states.values()):
        yield "no state is an end: mark the last one with @bp.handler(is_end=True)"


def _end_state(state: State, analysis: Analysis | None) -> Iterator[str]:
    remedy = "an end state takes no action"
    for call in analysis.calls if analysis else ():
        yield (
            f"{state.where}: it is an end state, yet line {call.line} calls {call.text};"
            f" {remedy}: remove the call, or is_end=True"
        )
    if state.declared_to:
        yield f"{state.where}: it is an end state, yet declares to=[...]; {remedy}: remove one"


def _inner_state(state: State, analysis: Analysis | None) -> Iterator[str]:
    if state.declared_to:
        return
    if analysis is None:
        yield f"{state.where}: the source of its handler cannot be read; {_DECLARE}"
        return
    for note in analysis.unseen:
        yield f"{state.where}: line {note.line}: {note.text}; {_DECLARE}"
    if not analysis.calls and not analysis.unseen:
        missing = (
            "its handler calls no action"
            if analysis.takes_actions
            else "its handler has no parameter `actions`, so it cannot choose an action"
        )
        yield (
            f"{state.where}: {missing}; call actions.go_to(...), dispatch_task(...) or"
            " dispatch_parallel(...), or mark it is_end=True"
        )


def _dangling(
    state: State, analysis: Analysis | None, states: Mapping[str, State]
) -> Iterator[str]:
    for edge in state.edges:
        if edge.target in states:
            continue
        line = analysis.edges.get(edge) if analysis else None
        how = "to=[...] names" if edge.kind == "declared" else f"line {line} leads to"
        yield (
            f"{state.where}: {how} {edge.target!r}, which is not a state;"
            f" {did_you_mean(edge.target, states)}"
        )


def _unreachable(states: Mapping[str, State], analyses: Mapping[str, Analysis | None]) -> list[str]:
    """The states that nothing leads to; none while it is not known where some state leads."""
    starts = [name for name, state in states.items() if state.is_start]
    if not starts or any(_is_opaque(state, analyses[name]) for name, state in states.items()):
        return []
    reached = reachable(states, starts)
    return [
        f"{state.where}: nothing leads to it from the start {starts[0]!r}; lead to it, or remove it"
        for name, state in states.items()
        if name not in reached
    ]


def _is_opaque(state: State, analysis: Analysis | None) -> bool:
    if state.is_end or state.declared_to:
        return False
    return analysis is None or bool(analysis.unseen)


def reachable(states: Mapping[str, State], starts: Sequence[str]) -> set[str]:
    """The names of all states that the edges lead to from *starts*, these included."""
    reached: set[str] = set()
    ahead = list(starts)
    while ahead:
        name = ahead.pop()
        if name in states and name not in reached:
            reached.add(name)
            ahead.extend(edge.target for edge in states[name].edges)
    return reached
