"""The picture of a blueprint: labelled, quoted, and the same every time."""

import re
from typing import Any

from hypothesis import given, strategies as st

from avtomatika_trio._core.graph import to_dot, to_json
from avtomatika_trio._sources import Blueprint


def images() -> Blueprint:
    blueprint = Blueprint("images")

    @blueprint.handler(is_end=True)
    def failed() -> None: ...

    @blueprint.handler(is_start=True)
    def start(actions: Any, urls: list[str]) -> None:
        tasks = [{"type": "fetch"} for _ in urls]
        actions.dispatch_parallel(tasks, "merge", transitions={"failure": "failed"})

    @blueprint.aggregator(to=["start"])
    def merge(actions: Any, target: str) -> None:
        actions.dispatch_task("zip", {}, {"success": "done", "empty": target})

    @blueprint.handler(to=["done"])
    def lost(actions: Any) -> None:
        actions.go_to("done")

    @blueprint.handler(is_end=True)
    def done() -> None: ...

    return blueprint


def test_dot_marks_start_end_and_aggregator_and_labels_the_edges() -> None:
    assert to_dot(images()) == (
        'digraph "images" {\n'
        "  rankdir=LR;\n"
        '  node [shape=box, style=rounded, fontname="Helvetica"];\n'
        '  edge [fontname="Helvetica", fontsize=10];\n'
        '  "start" [label="start"];\n'
        '  "failed" [label="failed", peripheries=2, color="#c62828", fontcolor="#c62828"];\n'
        '  "merge" [label="merge", shape=invtrapezium, style=solid];\n'
        '  "lost" [label="lost"];\n'
        '  "done" [label="done", peripheries=2, color="#2e7d32", fontcolor="#2e7d32"];\n'
        '  "" [shape=point, width=0.15, xlabel="start"];\n'
        '  "" -> "start";\n'
        '  "start" -> "merge" [label="success · fetch", style=bold];\n'
        '  "start" -> "failed" [label="failure · fetch", style=bold];\n'
        '  "merge" -> "done" [label="success · zip"];\n'
        '  "merge" -> "start" [style=dashed];\n'
        '  "lost" -> "done";\n'
        "}\n"
    )


def test_json_says_the_same() -> None:
    graph = to_json(images())
    assert (graph["name"], graph["start"]) == ("images", "start")
    assert [state["name"] for state in graph["states"]] == [
        "start", "failed", "merge", "lost", "done",
    ]  # fmt: skip
    line = images().states["start"].line
    assert graph["states"][0] == {
        "name": "start",
        "start": True,
        "end": False,
        "outcome": None,
        "aggregator": False,
        "line": line,
    }
    assert graph["states"][1]["outcome"] == "failed"
    assert graph["edges"][0] == {
        "from": "start",
        "to": "merge",
        "status": "success",
        "skill": "fetch",
        "kind": "parallel",
    }


def test_a_blueprint_without_a_start_can_be_drawn_too() -> None:
    blueprint = Blueprint("empty")
    assert to_json(blueprint) == {"name": "empty", "start": None, "states": [], "edges": []}
    assert "->" not in to_dot(blueprint)


#: A string of the DOT language: ends at the first quote that no backslash stands before.
DOT_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')

NAMES = st.text(min_size=1, max_size=128).filter(str.isprintable)


def unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


@given(st.lists(NAMES, min_size=1, unique=True, max_size=4))
def test_any_name_is_quoted_so_that_it_can_be_read_back(names: list[str]) -> None:
    blueprint = Blueprint("bp")
    for name in names:
        blueprint.handler(name, to=names)(lambda: None)
    lines = to_dot(blueprint).splitlines()
    assert len(lines) == 5 + len(names) + len(names) ** 2
    nodes = lines[4 : 4 + len(names)]
    assert [unquoted(DOT_STRING.findall(line)[0]) for line in nodes] == names
    shown = [unquoted(DOT_STRING.findall(line)[1]) for line in nodes]
    assert shown == [name.replace("&", "&amp;") for name in names]
    edges = lines[4 + len(names) : -1]
    assert [tuple(map(unquoted, DOT_STRING.findall(line))) for line in edges] == [
        (one, other) for one in names for other in names
    ]
