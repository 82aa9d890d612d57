"""A blueprint's graph as lines of plain text: each state once, and under it where it may lead."""

from collections.abc import Iterator

from avtomatika_trio._core.graph import Graph, GraphEdge, StateNode
from avtomatika_trio._core.graph_labels import edge_label
from avtomatika_trio._core.graph_layout import find_loops
from avtomatika_trio._core.graph_svg import ranks


def to_text(graph: Graph) -> str:
    """The graph for people who have no picture.

        resize
        * begin  (start)
            --success, convert--> done
        # done  (end: finished)

    States stand in the order of their distance from the start.  An edge that closes a loop says
    so.

    Args:
        graph: As `avtomatika_trio._core.graph.to_json` makes it.
    """
    return "\n".join([_plain(graph["name"]), *_lines(graph), ""])


def _lines(graph: Graph) -> Iterator[str]:
    rank_of, loops = ranks(graph), find_loops(graph)
    for state in sorted(graph["states"], key=lambda it: rank_of[it["name"]]):
        name = state["name"]
        yield f"{_mark(state)} {_plain(name)}{_kind(state)}"
        for edge in graph["edges"]:
            if edge["from"] != name:
                continue
            label = _plain(edge_label(edge).replace(" · ", ", "))
            arrow = f"--{label}-->" if label else "-->"
            back = (name, edge["to"]) in loops
            yield f"    {arrow} {_plain(edge['to'])}{_remark(edge, back=back)}"


def _mark(state: StateNode) -> str:
    if state["end"]:
        return "#"
    return "*" if state["start"] else "o"


def _kind(state: StateNode) -> str:
    kinds = []
    if state["start"]:
        kinds.append("start")
    if state["aggregator"]:
        kinds.append("aggregator")
    if state["end"]:
        kinds.append(f"end: {state['outcome']}")
    return f"  ({', '.join(kinds)})" if kinds else ""


def _remark(edge: GraphEdge, *, back: bool) -> str:
    remarks = [edge["kind"]] if edge["kind"] in {"parallel", "declared"} else []
    if edge["to"] == edge["from"]:
        remarks.append("loop: to itself")
    elif back:
        remarks.append("loop: back")
    return f"  ({', '.join(remarks)})" if remarks else ""


def _plain(text: str) -> str:
    """*text* without what could steer a terminal or break the line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
