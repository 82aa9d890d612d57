"""A blueprint as a picture: DOT for Graphviz, or JSON.

The same blueprint gives the same text: the start first, then the order of registration.
"""

from typing import TypedDict

from avtomatika_trio._core.analysis import Edge
from avtomatika_trio._core.blueprint import Blueprint, State

#: No state has an empty name, so this node is nobody else's.
_ENTRY = '""'

#: Of the border and the name; that a state is an end is told by the border being double.
_END_COLOURS = {"finished": "#2e7d32", "failed": "#c62828", "cancelled": "#616161"}


def to_dot(blueprint: Blueprint) -> str:
    """The graph in the DOT language.

    An arrow out of a dot enters the start; ends have a double border in the colour of their
    outcome; aggregators are shaped like a funnel.  Edges are labelled with the status and the
    skill that lead along them; those that are only declared are dashed.
    """
    states = _ordered(blueprint)
    lines = [
        f"digraph {_quoted(blueprint.name)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="Helvetica"];',
        '  edge [fontname="Helvetica", fontsize=10];',
        *(f"  {_quoted(state.name)} [{_node_attributes(state)}];" for state in states),
    ]
    if any(state.is_start for state in states):
        lines.append(f'  {_ENTRY} [shape=point, width=0.15, xlabel="start"];')
    for state in states:
        if state.is_start:
            lines.append(f"  {_ENTRY} -> {_quoted(state.name)};")
        for edge in state.edges:
            arrow = f"{_quoted(state.name)} -> {_quoted(edge.target)}"
            lines.append(f"  {arrow}{_edge_attributes(edge)};")
    return "\n".join([*lines, "}", ""])


class StateNode(TypedDict):
    """A state of a blueprint."""

    name: str
    start: bool
    end: bool
    outcome: str | None
    """How a job ends there."""
    aggregator: bool
    line: int | None
    """Where its handler is in its file."""


GraphEdge = TypedDict(
    "GraphEdge",
    {"from": str, "to": str, "status": str | None, "skill": str | None, "kind": str},
)
"""A way from one state to another."""


class Graph(TypedDict):
    """The graph of a blueprint."""

    name: str
    start: str | None
    states: list[StateNode]
    edges: list[GraphEdge]


def to_json(blueprint: Blueprint) -> Graph:
    """The graph as a JSON object: `name`, `start`, `states` and `edges`."""
    states = _ordered(blueprint)
    return {
        "name": blueprint.name,
        "start": next((state.name for state in states if state.is_start), None),
        "states": [
            {
                "name": state.name,
                "start": state.is_start,
                "end": state.is_end,
                "outcome": state.outcome,
                "aggregator": state.is_aggregator,
                "line": state.line,
            }
            for state in states
        ],
        "edges": [
            {
                "from": state.name,
                "to": edge.target,
                "status": edge.status,
                "skill": edge.skill,
                "kind": edge.kind,
            }
            for state in states
            for edge in state.edges
        ],
    }


def _ordered(blueprint: Blueprint) -> list[State]:
    return sorted(blueprint.states.values(), key=lambda state: not state.is_start)


def _node_attributes(state: State) -> str:
    attributes = [f"label={_label(state.name)}"]
    if state.is_aggregator:
        attributes.append("shape=invtrapezium, style=solid")
    if state.outcome is not None:
        colour = _END_COLOURS[state.outcome]
        attributes.append(f'peripheries=2, color="{colour}", fontcolor="{colour}"')
    return ", ".join(attributes)


def _edge_attributes(edge: Edge) -> str:
    attributes = []
    if text := " · ".join(part for part in (edge.status, edge.skill) if part):
        attributes.append(f"label={_label(text)}")
    if edge.kind == "declared":
        attributes.append("style=dashed")
    elif edge.kind == "parallel":
        attributes.append("style=bold")
    return f" [{', '.join(attributes)}]" if attributes else ""


def _quoted(text: str) -> str:
    """A DOT string: only the quote is special there, and a backslash before it."""
    doubled = text.replace("\\", "\\\\")
    return '"' + doubled.replace('"', '\\"') + '"'


def _label(text: str) -> str:
    """A DOT string that is shown: entities are read and escapes such as `\\n` are drawn."""
    shown = text.replace("&", "&amp;").replace("\\", "\\\\")
    return '"' + shown.replace('"', '\\"').replace("\n", "\\n") + '"'
