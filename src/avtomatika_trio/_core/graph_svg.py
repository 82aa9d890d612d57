"""A blueprint's graph as SVG and as text, drawn without Graphviz.

Both begin with the JSON graph, so that the one of an orchestrator is drawn like one of a source.
States stand in columns, by how many steps they are from the start; edges that go back or stay
are curves below.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import attrs

Graph = Mapping[str, Any]
"""As `avtomatika_trio._core.graph.to_json` makes it."""

_CHARACTER = 7.5
"""Pixels: how wide a character of 12 px is at most, about."""
_LABEL_CHARACTER = 6.0
_HEIGHT = 34.0
_ROW_GAP = 36.0
_LEAST_GAP = 70.0
_MARGIN = 40.0
_COLOURS = {"finished": "#2e7d32", "failed": "#c62828", "cancelled": "#616161"}
_INK = "#37474f"

_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7"'
    f' markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{_INK}"/></marker></defs>'
)

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@attrs.frozen(kw_only=True)
class _Box:
    """Where a state is drawn: its middle and its width."""

    x: float
    y: float
    width: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2


def ranks(graph: Graph) -> dict[str, int]:
    """How many steps each state is from the start; what it does not lead to is beyond all."""
    found: dict[str, int] = {}
    names = [state["name"] for state in graph["states"]]
    open_ = [name for name in names if name == graph["start"]]
    step = 0
    while open_:
        found.update(dict.fromkeys(open_, step))
        step += 1
        after = [edge["to"] for name in open_ for edge in _out_of(graph, name)]
        open_ = [name for name in dict.fromkeys(after) if name not in found and name in names]
    return {name: found.get(name, step) for name in names}


def to_svg(graph: Graph) -> str:
    """The graph as an SVG document: each state a box, each edge a line with its label.

    A dot marks the start; ends have a double border in the colour of their outcome.
    """
    boxes = _layout(graph)
    edges = _bundled(graph)
    back = [it for it in edges if boxes[it[1]].x <= boxes[it[0]].x]
    width = max((box.right for box in boxes.values()), default=0.0) + _MARGIN
    lowest = max((box.y for box in boxes.values()), default=0.0)
    height = lowest + _HEIGHT / 2 + _MARGIN + 26 * len(back)
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, sans-serif">',
        f"<title>{_escaped(graph['name'])}</title>",
        _ARROW,
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    turn = 0
    for source, target, kind, labels in edges:
        if (source, target, kind, labels) in back:
            turn += 1
            depth = lowest + _HEIGHT / 2 + 26 * turn
            path, middle = _below(boxes[source], boxes[target], depth)
        else:
            path, middle = _across(boxes[source], boxes[target])
        parts += _line((source, target, kind), path, labels, middle)
    for state in graph["states"]:
        parts += _box(state, boxes[state["name"]])
    return "\n".join([*parts, "</svg>", ""])


def _layout(graph: Graph) -> dict[str, _Box]:
    """A column for each rank, in it a row for each state; columns are centred."""
    columns: dict[int, list[str]] = {}
    rank_of = ranks(graph)
    for name, rank in rank_of.items():
        columns.setdefault(rank, []).append(name)
    most = max(map(len, columns.values()), default=0)
    boxes: dict[str, _Box] = {}
    left = _MARGIN + 30
    for rank in sorted(columns):
        names = _by_sources(graph, columns[rank], boxes)
        width = max(len(name) for name in names) * _CHARACTER + 28
        top = _MARGIN + _HEIGHT / 2 + (most - len(names)) * (_HEIGHT + _ROW_GAP) / 2
        for row, name in enumerate(names):
            y = top + row * (_HEIGHT + _ROW_GAP)
            own = len(name) * _CHARACTER + 28
            boxes[name] = _Box(x=left + width / 2, y=y, width=own)
        leaving = [it for it in _bundled(graph) if rank_of[it[0]] == rank]
        longest = max((len(label) for it in leaving for label in it[3]), default=0)
        left += width + max(_LEAST_GAP, longest * _LABEL_CHARACTER + 40)
    return boxes


def _by_sources(graph: Graph, names: Sequence[str], boxes: Mapping[str, _Box]) -> list[str]:
    """*names* in the order of what leads to them, so that fewer edges cross."""

    def height(name: str) -> float:
        above = [
            boxes[e["from"]].y for e in graph["edges"] if e["to"] == name and e["from"] in boxes
        ]
        return sum(above) / len(above) if above else 0.0

    return sorted(names, key=height)


def _bundled(graph: Graph) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """The edges as source, target, kind and labels; those between the same states are one."""
    names = {state["name"] for state in graph["states"]}
    labels: dict[tuple[str, str, str], list[str]] = {}
    for edge in graph["edges"]:
        if edge["from"] in names and edge["to"] in names:
            known = labels.setdefault((edge["from"], edge["to"], edge["kind"]), [])
            known += [label for label in [edge_label(edge)] if label and label not in known]
    return [(*ends, tuple(texts)) for ends, texts in labels.items()]


def edge_label(edge: Graph) -> str:
    """What leads along *edge*: status and skill, as far as it has them."""
    return " · ".join(part for part in (edge["status"], edge["skill"]) if part)


def _across(source: _Box, target: _Box) -> tuple[str, tuple[float, float]]:
    begin, end = (source.right, source.y), (target.left - 2, target.y)
    bend = (begin[0] + end[0]) / 2
    path = f"M{begin[0]:.1f} {begin[1]:.1f}C{bend:.1f} {begin[1]:.1f} {bend:.1f} {end[1]:.1f}"
    # Nearer to the target: there, edges out of one state are apart.
    middle = (begin[0] + end[0]) / 2, begin[1] + 0.5 * (end[1] - begin[1])
    return f"{path} {end[0]:.1f} {end[1]:.1f}", middle


def _below(source: _Box, target: _Box, depth: float) -> tuple[str, tuple[float, float]]:
    begin, end = source.x + 8, target.x - 8
    bottom = source.y + _HEIGHT / 2, target.y + _HEIGHT / 2 + 2
    path = (
        f"M{begin:.1f} {bottom[0]:.1f}C{begin:.1f} {depth + 14:.1f}"
        f" {end:.1f} {depth + 14:.1f} {end:.1f} {bottom[1]:.1f}"
    )
    return path, ((begin + end) / 2, (bottom[0] + bottom[1]) / 8 + 0.75 * (depth + 14))


def _line(
    ends: tuple[str, str, str], path: str, labels: Sequence[str], at: tuple[float, float]
) -> list[str]:
    source, target, kind = ends
    style = {"declared": ' stroke-dasharray="5 4"', "parallel": ' stroke-width="2.5"'}.get(kind, "")
    lines = [
        f'<g class="edge" data-from={_attribute(source)} data-to={_attribute(target)}>',
        f'<path d="{path}" fill="none" stroke="{_INK}"{style} marker-end="url(#arrow)"/>',
    ]
    for row, label in enumerate(labels):
        y = at[1] - 4 - 12 * (len(labels) - 1 - row)
        lines.append(
            f'<text x="{at[0]:.1f}" y="{y:.1f}" text-anchor="middle" font-size="10" stroke="#fff"'
            f' stroke-width="3" paint-order="stroke" fill="{_INK}">{_escaped(label)}</text>'
        )
    return [*lines, "</g>"]


def _box(state: Graph, box: _Box) -> list[str]:
    colour = _COLOURS.get(state["outcome"], _INK)
    top = box.y - _HEIGHT / 2
    lines = [f'<g class="state" data-state={_attribute(state["name"])}>']
    if state["start"]:
        x = box.left - 26
        lines.append(
            f'<circle class="start" cx="{x:.1f}" cy="{box.y:.1f}" r="5" fill="{_INK}"/><path'
            f' d="M{x:.1f} {box.y:.1f}H{box.left - 2:.1f}" stroke="{_INK}"'
            ' marker-end="url(#arrow)"/>'
        )
    fill = "#f3f6f8" if state["aggregator"] else "#fff"
    lines += [
        f'<rect x="{box.left + inset:.1f}" y="{top + inset:.1f}"'
        f' width="{box.width - 2 * inset:.1f}" height="{_HEIGHT - 2 * inset:.1f}" rx="8"'
        f' fill="{fill}" stroke="{colour}"/>'
        for inset in ((0, 3) if state["end"] else (0,))
    ]
    lines.append(
        f'<text x="{box.x:.1f}" y="{box.y + 4:.1f}" text-anchor="middle" font-size="12"'
        f' fill="{colour}">{_escaped(state["name"])}</text>'
    )
    return [*lines, "</g>"]


def _escaped(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text))


def _out_of(graph: Graph, name: str) -> list[Graph]:
    return [edge for edge in graph["edges"] if edge["from"] == name]
