"""A blueprint's graph as SVG and as text."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast
from xml.etree import ElementTree as ET

import pytest

from avtomatika_trio._core.graph import Graph, GraphEdge, StateNode
from avtomatika_trio._core.graph_labels import label_lines
from avtomatika_trio._core.graph_layout import find_loops, lay_out
from avtomatika_trio._core.graph_svg import ranks, to_svg
from avtomatika_trio._core.graph_text import to_text

_SVG = "{http://www.w3.org/2000/svg}"


def state(name: str, **changed: Any) -> StateNode:
    plain = {"start": False, "end": False, "outcome": None, "aggregator": False, "line": 1}
    return cast("StateNode", {"name": name, **plain, **changed})


def edge(source: str, target: str, **changed: Any) -> GraphEdge:
    plain = {"status": None, "skill": None, "kind": "go_to"}
    return cast("GraphEdge", {"from": source, "to": target, **plain, **changed})


GRAPH: Graph = {
    "name": "resize",
    "start": "begin",
    "states": [
        state("begin", start=True),
        state("convert"),
        state("join", aggregator=True),
        state("done", end=True, outcome="finished"),
        state("broken", end=True, outcome="failed"),
    ],
    "edges": [
        edge("begin", "convert", status="success", skill="fetch", kind="task"),
        edge("begin", "broken", status="failure", skill="fetch", kind="task"),
        edge("begin", "begin", status="again", skill="fetch", kind="task"),
        edge("convert", "join", kind="parallel"),
        edge("join", "convert"),
        edge("join", "done", kind="declared"),
    ],
}

HOSTILE = '"/><script>alert(1)</script>&amp;<![CDATA[\x00\x1b[2J'


def parsed(svg: str) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """The states, the edges and the texts in *svg*."""
    root = ET.fromstring(svg)
    groups = list(root.iter(f"{_SVG}g"))
    states = [it.attrib["data-state"] for it in groups if it.get("class") == "state"]
    edges = [
        (it.attrib["data-from"], it.attrib["data-to"]) for it in groups if it.get("class") == "edge"
    ]
    return states, edges, [it.text or "" for it in root.iter(f"{_SVG}text")]


def test_ranks_are_steps_from_the_start() -> None:
    assert ranks(GRAPH) == {"begin": 0, "convert": 1, "broken": 1, "join": 2, "done": 3}


def test_every_state_and_edge_is_in_the_picture() -> None:
    states, edges, texts = parsed(to_svg(GRAPH))
    assert states == [it["name"] for it in GRAPH["states"]]
    assert sorted(edges) == sorted((it["from"], it["to"]) for it in GRAPH["edges"])
    assert {*states, "success · fetch", "failure · fetch", "again · fetch"} == set(texts)


def test_start_and_ends_are_marked() -> None:
    root = ET.fromstring(to_svg(GRAPH))
    assert len([it for it in root.iter(f"{_SVG}circle") if it.get("class") == "start"]) == 1
    borders = {
        it.attrib["data-state"]: len(it.findall(f"{_SVG}rect"))
        for it in root.iter(f"{_SVG}g")
        if it.get("class") == "state"
    }
    assert borders == {"begin": 1, "convert": 1, "join": 1, "done": 2, "broken": 2}


def test_edges_between_the_same_states_are_one_line_with_all_labels() -> None:
    twice = [
        edge("a", "b", status="good", skill="x", kind="task"),
        edge("a", "b", status="fair", skill="x", kind="task"),
    ]
    states = [state("a", start=True), state("b", end=True, outcome="finished")]
    _, edges, texts = parsed(to_svg({"name": "n", "start": "a", "states": states, "edges": twice}))
    assert edges == [("a", "b")]
    assert {"good · x", "fair · x"} < set(texts)


def test_many_labels_of_a_skill_share_lines_and_none_is_lost() -> None:
    many = [edge("a", "b", status=f"kind_{n}", skill="sort", kind="task") for n in range(15)]
    many += [edge("a", "b", status=status, skill="y", kind="task") for status in ("good", "bad")]
    many.append(edge("a", "b", status="x" * 50, kind="task"))
    lines = label_lines(many)
    assert lines == [
        "kind_0, kind_1, kind_2, kind_3,",
        "kind_4, kind_5, kind_6, kind_7,",
        "kind_8, kind_9, kind_10, kind_11,",
        "kind_12, kind_13, kind_14 · sort",
        "good, bad · y",
        "x" * 50,
    ]
    assert label_lines(many[:6]) == [f"kind_{n} · sort" for n in range(6)]
    states = [state("a", start=True), state("b", end=True, outcome="finished")]
    _, _, texts = parsed(to_svg({"name": "n", "start": "a", "states": states, "edges": many}))
    assert set(lines) < set(texts)


def test_hostile_names_are_escaped() -> None:
    graph: Graph = {
        "name": HOSTILE,
        "start": HOSTILE,
        "states": [state(HOSTILE, start=True), state("b", end=True, outcome="finished")],
        "edges": [edge(HOSTILE, "b", status=HOSTILE, skill="x", kind="task")],
    }
    svg = to_svg(graph)
    assert "<script" not in svg
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd")
    states, edges, texts = parsed(svg)
    assert states == [shown, "b"]
    assert edges == [(shown, "b")]
    assert f"{shown} · x" in texts
    text = to_text(graph)
    assert "\x1b" not in text
    assert "\\x1b[2J" in text


@pytest.mark.parametrize("count", [1, 2, 30])
def test_boxes_do_not_lie_on_each_other(count: int) -> None:
    names = [f"state_{n}" for n in range(count)]
    graph: Graph = {
        "name": "many",
        "start": names[0],
        "states": [state(name, start=name == names[0]) for name in names],
        "edges": [edge(names[n // 3], names[n]) for n in range(1, count)],
    }
    root = ET.fromstring(to_svg(graph))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = []
    for group in root.iter(f"{_SVG}g"):
        if group.get("class") == "state":
            rect = group.find(f"{_SVG}rect")
            assert rect is not None
            x, y, w, h = (float(rect.attrib[it]) for it in ("x", "y", "width", "height"))
            boxes.append((x, y, x + w, y + h))
            assert x >= 0
            assert y >= 0
            assert x + w <= width
            assert y + h <= height
    assert len(boxes) == count
    for one, other in pairwise(sorted(boxes)):
        assert one[2] < other[0] or one[3] < other[1] or other[3] < one[1]


def test_a_picture_of_nothing_is_a_picture() -> None:
    empty: Graph = {"name": "empty", "start": None, "states": [], "edges": []}
    assert parsed(to_svg(empty)) == ([], [], [])
    assert to_text(empty) == "empty\n"


def test_the_text_lists_states_with_arrows_and_marks_loops() -> None:
    assert to_text(GRAPH).splitlines() == [
        "resize",
        "* begin  (start)",
        "    --success, fetch--> convert",
        "    --failure, fetch--> broken",
        "    --again, fetch--> begin  (loop: to itself)",
        "o convert",
        "    --> join  (parallel)",
        "# broken  (end: failed)",
        "o join  (aggregator)",
        "    --> convert  (loop: back)",
        "    --> done  (declared)",
        "# done  (end: finished)",
    ]


# How it is laid out.


def fans(count: int) -> Graph:
    """Many ways out of the start, which come together; each may fail, be repeated or go back."""
    middle = [f"do_{n}" for n in range(count)]
    ways = [edge("start", it, status="success", skill=it, kind="task") for it in middle]
    ways.append(edge("start", "failed", status="failure", skill="any", kind="task"))
    for it in middle:
        targets = {"success": "join", "failure": "failed", "again": "start", "retry": it}
        ways += [
            edge(it, target, status=status, skill="x", kind="task")
            for status, target in targets.items()
        ]
    ends = [
        state("failed", end=True, outcome="failed"),
        state("done", end=True, outcome="finished"),
    ]
    ways.append(edge("join", "done"))
    states = [state("start", start=True), *map(state, middle), state("join"), *ends]
    return {"name": "fans", "start": "start", "states": states, "edges": ways}


def chain(count: int) -> Graph:
    """A long way with short cuts, ways back, and a failure that may come from everywhere."""
    names = [f"state_{n}" for n in range(count)]
    ways = [edge(*it) for it in pairwise([*names, "done"])]
    for n in range(0, count - 3, 4):
        ways.append(edge(names[n], names[n + 3], status="success", skill="x", kind="task"))
        ways.append(edge(names[n], "failed", status="failure", skill="x", kind="task"))
        ways.append(edge(names[n + 2], names[max(0, n - 5)], status="back"))
    ends = [
        state("failed", end=True, outcome="failed"),
        state("done", end=True, outcome="finished"),
    ]
    states = [state(name, start=name == names[0]) for name in names]
    return {"name": "chain", "start": names[0], "states": [*states, *ends], "edges": ways}


GRAPHS = [lambda: GRAPH, lambda: fans(3), lambda: fans(18), lambda: chain(40)]


@pytest.mark.parametrize("made", GRAPHS)
def test_every_edge_that_closes_no_loop_leads_to_a_later_column(
    made: Callable[[], Graph],
) -> None:
    graph = made()
    layout = lay_out(graph, {it["name"]: 17.0 for it in graph["states"]}, 17.0)
    for it in graph["edges"]:
        way = it["from"], it["to"]
        forward = layout.layer_of[way[0]] < layout.layer_of[way[1]]
        assert forward is (way not in layout.loops), way
    ends = {it["name"] for it in graph["states"] if it["end"]}
    assert not [target for _, target in find_loops(graph) if target in ends]


@pytest.mark.parametrize("made", GRAPHS)
def test_a_line_passes_between_states_and_not_through_them(
    made: Callable[[], Graph],
) -> None:
    graph = made()
    layout = lay_out(graph, {it["name"]: 17.0 for it in graph["states"]}, 17.0)
    for nodes in layout.layers:
        for upper, lower in pairwise(nodes):
            states = isinstance(upper, str) + isinstance(lower, str)
            assert layout.y[lower] - layout.y[upper] >= 10 + 17 * states - 0.001


@pytest.mark.parametrize("made", GRAPHS)
def test_labels_are_in_the_picture_and_do_not_lie_on_each_other(
    made: Callable[[], Graph],
) -> None:
    root = ET.fromstring(to_svg(made()))
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    plates = [
        tuple(float(rect.attrib[it]) for it in ("x", "y", "width", "height"))
        for group in root.iter(f"{_SVG}g")
        if group.get("class") == "edge"
        for rect in group.iter(f"{_SVG}rect")
    ]
    assert plates
    for x, y, w, h in plates:
        assert left <= x <= x + w <= left + width
        assert top <= y <= y + h <= top + height
    for at, (x, y, w, h) in enumerate(plates):
        for x2, y2, w2, h2 in plates[at + 1 :]:
            apart = x + w <= x2 or x2 + w2 <= x or y + h <= y2 + 0.2 or y2 + h2 <= y + 0.2
            assert apart, (x, y, x2, y2)


def test_the_picture_needs_nothing_that_some_programs_do_not_draw() -> None:
    svg = to_svg(fans(3))
    assert not re.search("paint-order|<style|<script|href|foreignObject", svg)


def test_an_end_is_no_way_back() -> None:
    graph: Graph = {
        "name": "n",
        "start": "a",
        "states": [state("a", start=True), state("b"), state("z", end=True, outcome="failed")],
        "edges": [edge("a", "z"), edge("a", "b"), edge("b", "z"), edge("b", "a")],
    }
    lines = to_text(graph).splitlines()
    assert lines.count("    --> z") == 2
    assert lines.count("    --> a  (loop: back)") == 1
