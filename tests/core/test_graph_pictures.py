"""A blueprint's graph as SVG and as text."""

from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from avtomatika_trio._core.graph_svg import ranks, to_svg
from avtomatika_trio._core.graph_text import to_text

_SVG = "{http://www.w3.org/2000/svg}"


def state(name: str, **changed: Any) -> dict[str, Any]:
    plain = {"start": False, "end": False, "outcome": None, "aggregator": False, "line": 1}
    return {"name": name, **plain, **changed}


def edge(source: str, target: str, **changed: Any) -> dict[str, Any]:
    plain = {"status": None, "skill": None, "kind": "go_to"}
    return {"from": source, "to": target, **plain, **changed}


GRAPH: dict[str, Any] = {
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


def test_hostile_names_are_escaped() -> None:
    graph = {
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
    graph = {
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
    empty: dict[str, Any] = {"name": "empty", "start": None, "states": [], "edges": []}
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
