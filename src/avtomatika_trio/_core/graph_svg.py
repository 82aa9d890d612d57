"""A blueprint's graph as SVG, drawn without Graphviz.

It begins with the JSON graph, so that the one of an orchestrator is drawn like one of a source.
States stand in columns.  Edges run from left to right; those that close a loop turn back below
everything, all that lead to the same state in one lane.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

import attrs

from avtomatika_trio._core.graph import Graph, GraphEdge, StateNode
from avtomatika_trio._core.graph_labels import label_lines
from avtomatika_trio._core.graph_layout import Layout, Node, lay_out, spread
from avtomatika_trio._core.text_width import width_of

_CHARACTER = 7.5
"""Pixels: how wide a character of 12 px is at most, about."""
_LABEL_CHARACTER = 5.8
_LABEL_LINE = 12.0
_HEIGHT = 34.0
_LEAST_GAP = 56.0
_MARGIN = 30.0
_START = 32.0
_LOOP = 20.0
_TURN = 16.0
_BEND = 44.0
"""How wide a curve is that leaves room for a label beside it."""
_LANES_APART = 16.0
_COLOURS = {"finished": "#2e7d32", "failed": "#c62828", "cancelled": "#616161"}
_INK = "#37474f"

_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8"'
    ' markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">'
    f'<path d="M0 0L10 5L0 10z" fill="{_INK}"/></marker></defs>'
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

    @property
    def top(self) -> float:
        return self.y - _HEIGHT / 2


@attrs.frozen(kw_only=True)
class _Edge:
    """All edges of one kind between two states."""

    source: str
    target: str
    kind: str
    labels: tuple[str, ...]

    @property
    def label_width(self) -> float:
        return max(map(width_of, self.labels), default=0) * _LABEL_CHARACTER

    @property
    def label_height(self) -> float:
        return len(self.labels) * _LABEL_LINE


@attrs.frozen(kw_only=True)
class _Row:
    """How high an edge leaves its state, and how high it runs where its label is."""

    start: float
    y: float
    early: bool
    """Whether it bends before the label."""


@attrs.frozen(kw_only=True)
class _Plan:
    """Everything that a line needs to know of its surroundings."""

    layout: Layout
    boxes: Mapping[str, _Box]
    columns: Sequence[tuple[float, float]]
    """Where each begins and ends."""
    lanes: Mapping[str, float]
    """How deep the lane is that leads back to a state."""
    rows: Mapping[_Edge, _Row]
    """Of the edges that lead to a later column."""

    def turn(self, target: str) -> float:
        """How far from the columns the lane to *target* goes down and up."""
        return _TURN + 4 * (list(self.lanes).index(target) % 6)


def ranks(graph: Graph) -> dict[str, int]:
    """How many steps each state is from the start; what it does not lead to is beyond all."""
    found: dict[str, int] = {}
    names = [state["name"] for state in graph["states"]]
    open_ = [name for name in names if name == graph["start"]]
    step = 0
    while open_:
        found.update(dict.fromkeys(open_, step))
        step += 1
        after = [e["to"] for name in open_ for e in graph["edges"] if e["from"] == name]
        open_ = [name for name in dict.fromkeys(after) if name not in found and name in names]
    return {name: found.get(name, step) for name in names}


def to_svg(graph: Graph) -> str:
    """The graph as an SVG document: each state a box, each edge a line with its label.

    A dot marks the start; ends have a double border in the colour of their outcome.
    """
    edges = _bundled(graph)
    plan = _planned(graph, edges)
    places = _label_places(edges, plan)
    turns = max(map(plan.turn, plan.lanes), default=0.0)  # the last column may turn back, too
    right = max((end for _, end in plan.columns), default=0.0) + turns
    right = max([right, *(at[0] + edge.label_width / 2 for edge, at in places.items())])
    bottoms = [at[1] + edge.label_height / 2 for edge, at in places.items()]
    bottoms += [*plan.lanes.values(), *(box.top + _HEIGHT for box in plan.boxes.values())]
    top = min([0.0, *(at[1] - edge.label_height / 2 - _MARGIN for edge, at in places.items())])
    width, height = right + _MARGIN, max(bottoms, default=0.0) + _MARGIN - top
    size = (
        f'viewBox="0 {top:.0f} {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="Helvetica, sans-serif">',
        f"<title>{_escaped(graph['name'])}</title>",
        _ARROW,
        f'<rect y="{top:.0f}" width="100%" height="100%" fill="#fff"/>',
    ]
    for edge in edges:
        parts += _line(edge, _path(edge, plan), places[edge])
    for state in graph["states"]:
        parts += _box(state, plan.boxes[state["name"]])
    return "\n".join([*parts, "</svg>", ""])


def _planned(graph: Graph, edges: Sequence[_Edge]) -> _Plan:
    above = {state["name"]: _HEIGHT / 2 for state in graph["states"]}
    for edge in edges:
        if edge.source == edge.target:
            above[edge.source] += _LOOP + edge.label_height
    layout = lay_out(graph, above, _HEIGHT / 2)
    top = min((layout.y[name] - above[name] for name in above), default=0.0)
    boxes: dict[str, _Box] = {}
    columns: list[tuple[float, float]] = []
    left = _MARGIN + _START
    for layer, nodes in enumerate(layout.layers):
        names = [node for node in nodes if isinstance(node, str)]
        width = max(_width(name) for name in names)
        for name in names:
            y = layout.y[name] - top + _MARGIN
            boxes[name] = _Box(x=left + width / 2, y=y, width=_width(name))
        columns.append((left, left + width))
        leaving = [it for it in edges if layout.layer_of[it.source] == layer]
        longest = max((it.label_width for it in leaving), default=0.0)
        left += width + max(_LEAST_GAP, longest + _BEND + 2 * _START)
    layout = attrs.evolve(layout, y={it: y - top + _MARGIN for it, y in layout.y.items()})
    return _Plan(
        layout=layout,
        boxes=boxes,
        columns=columns,
        lanes=_lanes(edges, layout),
        rows=_rows(edges, layout),
    )


def _lanes(edges: Sequence[_Edge], layout: Layout) -> dict[str, float]:
    """How deep the lane is that leads back to each state: shorter ones lie above longer ones."""
    last: dict[str, int] = {}
    for it in edges:
        if (it.source, it.target) in layout.loops and it.source != it.target:
            last[it.target] = max(last.get(it.target, 0), layout.layer_of[it.source])
    taken: list[list[tuple[int, int]]] = []
    depth: dict[str, int] = {}
    for name in sorted(last, key=lambda it: last[it] - layout.layer_of[it]):
        begin, end = layout.layer_of[name], last[name]
        free = (
            row
            for row, parts in enumerate(taken)
            if all(end < other[0] or other[1] < begin for other in parts)
        )
        depth[name] = next(free, len(taken))
        if depth[name] == len(taken):
            taken.append([])
        taken[depth[name]].append((begin, end))
    deep = max(layout.y.values(), default=0.0) + _HEIGHT / 2
    return {name: deep + _LANES_APART * (row + 1) for name, row in depth.items()}


def _rows(edges: Sequence[_Edge], layout: Layout) -> dict[_Edge, _Row]:
    """How high each edge runs that leads to a later column.

    Where many leave a state that is at the height of what they lead to, where many come
    together at that of where they are from: there they are apart.
    """
    forward = [it for it in edges if (it.source, it.target) not in layout.loops]
    following = {it: layout.way(it.source, it.target)[1] for it in forward}
    leaving: dict[str, list[_Edge]] = {}
    coming: dict[Node, int] = {}
    for edge, node in following.items():
        leaving.setdefault(edge.source, []).append(edge)
        coming[node] = coming.get(node, 0) + 1
    rows: dict[_Edge, _Row] = {}
    for source, group in leaving.items():
        group.sort(key=lambda it: layout.y[following[it]])
        step = min(_LABEL_LINE, 24 / max(1, len(group) - 1))
        for at, edge in enumerate(group):
            start = layout.y[source] + (at - (len(group) - 1) / 2) * step
            early = len(group) >= coming[following[edge]]
            y = layout.y[following[edge]] if early else start
            rows[edge] = _Row(start=start, y=y, early=early)
    return rows


def _width(name: str) -> float:
    return width_of(name) * _CHARACTER + 28


def _bundled(graph: Graph) -> list[_Edge]:
    """The edges; those of a kind between the same states are one."""
    names = {state["name"] for state in graph["states"]}
    bundles: dict[tuple[str, str, str], list[GraphEdge]] = {}
    for edge in graph["edges"]:
        if edge["from"] in names and edge["to"] in names:
            bundles.setdefault((edge["from"], edge["to"], edge["kind"]), []).append(edge)
    return [
        _Edge(source=source, target=target, kind=kind, labels=tuple(label_lines(bundle)))
        for (source, target, kind), bundle in bundles.items()
    ]


def _path(edge: _Edge, plan: _Plan) -> str:
    source, target = plan.boxes[edge.source], plan.boxes[edge.target]
    if edge.source == edge.target:
        one, other, top = source.x + 14, source.x - 14, source.top
        up = top - _LOOP * 1.3
        return f"M{one:.1f} {top:.1f}C{one:.1f} {up:.1f} {other:.1f} {up:.1f} {other:.1f} {top:.1f}"
    if (edge.source, edge.target) in plan.layout.loops:
        return _back(edge, plan)
    row = plan.rows[edge]
    run = _run(edge, plan)
    path = [f"M{source.right:.1f} {row.start:.1f}"]
    if row.early:
        path += [f"H{run[0] - _BEND:.1f}", _curve((run[0] - _BEND, row.start), (run[0], row.y))]
    path.append(f"H{run[1]:.1f}")
    here = run[1], row.y
    for node in plan.layout.way(edge.source, edge.target)[1:]:
        if isinstance(node, str):
            path.append(_curve(here, (target.left - 1, target.y)))
        else:
            begin, end = plan.columns[node[1]]
            path += [_curve(here, (begin, plan.layout.y[node])), f"H{end:.1f}"]
            here = end, plan.layout.y[node]
    return "".join(path)


def _run(edge: _Edge, plan: _Plan) -> tuple[float, float]:
    """From where to where the straight part of *edge* reaches, where its label is."""
    begin = plan.columns[plan.layout.layer_of[edge.source]][1]
    if edge not in plan.rows:  # it turns down, and its label is beside that
        begin += plan.turn(edge.target) + 4
        return begin, begin + edge.label_width
    node = plan.layout.way(edge.source, edge.target)[1]
    there = plan.boxes[node].left if isinstance(node, str) else plan.columns[node[1]][0]
    if plan.rows[edge].early:
        return begin + _TURN + _BEND, there - _TURN
    return begin, there - _BEND


def _curve(begin: tuple[float, float], end: tuple[float, float]) -> str:
    bend = (begin[0] + end[0]) / 2
    return f"C{bend:.1f} {begin[1]:.1f} {bend:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}"


def _back(edge: _Edge, plan: _Plan) -> str:
    """Out to the right, down beside the column, left below everything, and up again."""
    source, target = plan.boxes[edge.source], plan.boxes[edge.target]
    turn, lane = plan.turn(edge.target), plan.lanes[edge.target]
    right = plan.columns[plan.layout.layer_of[edge.source]][1] + turn
    left = plan.columns[plan.layout.layer_of[edge.target]][0] - turn
    out, back = source.y + 10, target.y + 10
    r = 5.0
    return (
        f"M{source.right:.1f} {out:.1f}H{right - r:.1f}q{r} 0 {r} {r}V{lane - r:.1f}"
        f"q0 {r} {-r} {r}H{left + r:.1f}q{-r} 0 {-r} {-r}V{back + r:.1f}"
        f"q0 {-r} {r} {-r}H{target.left - 1:.1f}"
    )


def _label_places(edges: Sequence[_Edge], plan: _Plan) -> dict[_Edge, tuple[float, float]]:
    """The middle of what each edge is labelled with: between columns none lies on another."""
    found: dict[_Edge, tuple[float, float]] = {}
    beside: dict[int, list[tuple[float, _Edge]]] = {}
    for edge in edges:
        box = plan.boxes[edge.source]
        if edge.source == edge.target:
            found[edge] = box.x, box.top - _LOOP - edge.label_height / 2
            continue
        y = box.y + 12 + edge.label_height / 2
        if edge in plan.rows:
            y = plan.rows[edge].y
        beside.setdefault(plan.layout.layer_of[edge.source], []).append((y, edge))
    for wanted in beside.values():
        wanted.sort(key=lambda it: it[0])
        ys = spread([y for y, _ in wanted], [edge for _, edge in wanted], _apart)
        found |= {
            edge: (sum(_run(edge, plan)) / 2, y) for (_, edge), y in zip(wanted, ys, strict=True)
        }
    return found


def _apart(upper: _Edge, lower: _Edge) -> float:
    between = 2 if upper.labels and lower.labels else 0
    return (upper.label_height + lower.label_height) / 2 + between


def _line(edge: _Edge, path: str, at: tuple[float, float]) -> Iterator[str]:
    style = {"declared": ' stroke-dasharray="5 4"', "parallel": ' stroke-width="2.5"'}
    ends = f"data-from={_attribute(edge.source)} data-to={_attribute(edge.target)}"
    yield f'<g class="edge" {ends}>'
    yield (
        f'<path d="{path}" fill="none" stroke="{_INK}"{style.get(edge.kind, "")}'
        ' marker-end="url(#arrow)"/>'
    )
    top = at[1] - edge.label_height / 2
    for row, label in enumerate(edge.labels):
        width, y = width_of(label) * _LABEL_CHARACTER, top + _LABEL_LINE * row
        # A plate behind it: an outline of the letters is not drawn by every program.
        yield (
            f'<rect x="{at[0] - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}"'
            f' height="{_LABEL_LINE:.0f}" fill="#fff" fill-opacity="0.85"/>'
        )
        yield (
            f'<text x="{at[0]:.1f}" y="{y + 9:.1f}" text-anchor="middle" font-size="10"'
            f' fill="{_INK}">{_escaped(label)}</text>'
        )
    yield "</g>"


def _box(state: StateNode, box: _Box) -> Iterator[str]:
    colour = _COLOURS.get(state["outcome"] or "", _INK)
    yield f'<g class="state" data-state={_attribute(state["name"])}>'
    if state["start"]:
        x = box.left - 26
        yield (
            f'<circle class="start" cx="{x:.1f}" cy="{box.y:.1f}" r="5" fill="{_INK}"/><path'
            f' d="M{x:.1f} {box.y:.1f}H{box.left - 1:.1f}" stroke="{_INK}"'
            ' marker-end="url(#arrow)"/>'
        )
    fill = "#f3f6f8" if state["aggregator"] else "#fff"
    for inset in (0, 3) if state["end"] else (0,):
        yield (
            f'<rect x="{box.left + inset:.1f}" y="{box.top + inset:.1f}"'
            f' width="{box.width - 2 * inset:.1f}" height="{_HEIGHT - 2 * inset:.1f}" rx="8"'
            f' fill="{fill}" stroke="{colour}"/>'
        )
    yield (
        f'<text x="{box.x:.1f}" y="{box.y + 4:.1f}" text-anchor="middle" font-size="12"'
        f' fill="{colour}">{_escaped(state["name"])}</text>'
    )
    yield "</g>"


def _escaped(text: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("\ufffd", text))
