"""Where the states of a graph are drawn: in layers, so that edges run from left to right.

Edges that close a loop are left out of the layering; every other one leads to a later layer.
One that is longer than a layer passes those between in lanes, which take room in them as
states do.  All such edges to the same state share their lanes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import attrs

from avtomatika_trio._core.graph import Graph

T = TypeVar("T")

Node = str | tuple[str, int]
"""A state, or the lane in a layer of edges to a state."""

_ROUNDS = 8
_GAP = 28.0
_LANE = 5.0


@attrs.frozen(kw_only=True)
class Layout:
    """The layers from left to right, their nodes from top to bottom, and how high each stands."""

    layers: tuple[tuple[Node, ...], ...]
    layer_of: Mapping[str, int]
    loops: frozenset[tuple[str, str]]
    """The edges, as source and target, that close a loop."""
    y: Mapping[Node, float]
    """Pixels; grows downwards, from where does not matter."""

    def way(self, source: str, target: str) -> list[Node]:
        """The nodes that the edge, which closes no loop, leads along, both ends included."""
        return _way(self.layer_of, source, target)


def lay_out(graph: Graph, above: Mapping[str, float], below: float) -> Layout:
    """Put the states of *graph* into layers.

    Args:
        graph: Edges from or to what is no state of it are left out.
        above: How many pixels each state needs above its middle.
        below: How many each needs below it.
    """
    after = _after(graph)
    loops = find_loops(graph)
    layer_of = _layers(after, loops)
    forward = [(one, other) for one in after for other in after[one] if (one, other) not in loops]
    steps = [step for edge in forward for step in pairwise(_way(layer_of, *edge))]
    into: dict[Node, list[Node]] = {}
    out_of: dict[Node, list[Node]] = {}
    for one, other in dict.fromkeys(steps):
        into.setdefault(other, []).append(one)
        out_of.setdefault(one, []).append(other)
    columns: list[list[Node]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for node in dict.fromkeys([*after, *(node for step in steps for node in step)]):
        columns[layer_of[node] if isinstance(node, str) else node[1]].append(node)
    for turn in range(_ROUNDS):
        _order(columns if turn % 2 == 0 else columns[::-1], into if turn % 2 == 0 else out_of)

    def room(upper: Node, lower: Node) -> float:
        beneath = below if isinstance(upper, str) else _LANE
        return beneath + _GAP + (above[lower] if isinstance(lower, str) else _LANE)

    y: dict[Node, float] = {}
    for column in columns:
        y |= zip(column, spread([0.0] * len(column), column, room), strict=True)
    for turn in range(_ROUNDS):
        beside = into if turn % 2 == 0 else out_of
        for column in columns if turn % 2 == 0 else columns[::-1]:
            wanted = [_mean([y[it] for it in beside.get(node, ())], y[node]) for node in column]
            y |= zip(column, spread(wanted, column, room), strict=True)
    return Layout(layers=tuple(map(tuple, columns)), layer_of=layer_of, loops=loops, y=y)


def find_loops(graph: Graph) -> frozenset[tuple[str, str]]:
    """The edges, as source and target, that lead back to where the way from the start came from.

    Without them no way through the graph is endless.
    """
    after = _after(graph)
    first = [name for name in after if name == graph["start"]]
    found: set[tuple[str, str]] = set()
    seen: set[str] = set()
    for root in [*first, *after]:
        if root in seen:
            continue
        seen.add(root)
        way: dict[str, Iterator[str]] = {root: iter(after[root])}
        while way:
            here = next(reversed(way))
            target = next(way[here], None)
            if target is None:
                del way[here]
            elif target in way:
                found.add((here, target))
            elif target not in seen:
                seen.add(target)
                way[target] = iter(after[target])
    return frozenset(found)


def spread(
    wanted: Sequence[float], things: Sequence[T], room: Callable[[T, T], float]
) -> list[float]:
    """Places near those that are *wanted*, in the order of *things*, and not too near each other.

    Args:
        wanted: As many as there are things.
        things: From top to bottom.
        room: The least distance of a thing and the one below it, as a function of both.
    """
    gaps = [room(one, other) for one, other in pairwise(things)]
    down, up = list(wanted), list(wanted)
    for at, gap in enumerate(gaps):
        down[at + 1] = max(down[at + 1], down[at] + gap)
    for at in reversed(range(len(gaps))):
        up[at] = min(up[at], up[at + 1] - gaps[at])
    # Both keep the distances, so what is half way between them does too.
    return [(one + other) / 2 for one, other in zip(down, up, strict=True)]


def _after(graph: Graph) -> dict[str, list[str]]:
    """Where each state leads to, in order."""
    found: dict[str, list[str]] = {state["name"]: [] for state in graph["states"]}
    for edge in graph["edges"]:
        if edge["from"] in found and edge["to"] in found and edge["to"] not in found[edge["from"]]:
            found[edge["from"]].append(edge["to"])
    return found


def _layers(
    after: Mapping[str, Sequence[str]], loops: frozenset[tuple[str, str]]
) -> dict[str, int]:
    """The layer of each state: one beyond the last of those that lead to it."""
    missing = dict.fromkeys(after, 0)
    for name, targets in after.items():
        for target in targets:
            missing[target] += (name, target) not in loops
    ready = [name for name, count in missing.items() if count == 0]
    found = dict.fromkeys(after, 0)
    for name in ready:  # which grows meanwhile
        for target in after[name]:
            if (name, target) not in loops:
                found[target] = max(found[target], found[name] + 1)
                missing[target] -= 1
                if missing[target] == 0:
                    ready.append(target)
    return found


def _way(layer_of: Mapping[str, int], source: str, target: str) -> list[Node]:
    lanes = range(layer_of[source] + 1, layer_of[target])
    return [source, *((target, layer) for layer in lanes), target]


def _order(columns: Sequence[list[Node]], beside: Mapping[Node, Sequence[Node]]) -> None:
    """Sort each of *columns* by what is *beside* its nodes, so that fewer edges cross."""
    place: dict[Node, int] = {}
    for column in columns:
        own = {node: at for at, node in enumerate(column)}
        column.sort(key=lambda it: _mean([place[at] for at in beside.get(it, ())], own[it]))
        place |= {node: at for at, node in enumerate(column)}


def _mean(values: Iterable[float], default: float) -> float:
    known = list(values)
    return sum(known) / len(known) if known else default
