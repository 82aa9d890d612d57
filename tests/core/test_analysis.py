"""Where handlers lead, found in their text."""

import ast
import textwrap
from collections.abc import Mapping
from enum import StrEnum
from types import SimpleNamespace

import pytest

from avtomatika_trio._core.analysis import Analysis, Edge, HandlerSource, analyse, outer_names


def read(text: str, outer: Mapping[str, object] | None = None, name: str = "state") -> Analysis:
    """The analysis of the function *name* in *text*."""
    text = textwrap.dedent(text)
    tree = ast.parse(text)
    lines = [
        min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    source = HandlerSource(file="jobs.py", text=text, first_line=lines[0], name=name)
    found = analyse(source, tree, outer or {})
    assert found is not None
    return found


def body(lines: str, outer: Mapping[str, object] | None = None) -> Analysis:
    """The analysis of a handler with these lines."""
    return read("def state(actions, x):\n" + textwrap.indent(textwrap.dedent(lines), "    "), outer)


def targets(found: Analysis) -> list[str]:
    return [edge.target for edge in found.edges]


@pytest.mark.parametrize(
    "call",
    [
        'actions.go_to("a")',
        'actions.go_to(state="a")',
        'actions.transition_to("a")',
        'if x:\n    actions.go_to("a")',
        'a = actions\na.go_to("a")',
        'a = b = actions\nc = b\nc.go_to("a")',
        'return actions.go_to("a")',
        'run = lambda: actions.go_to("a")\nrun()',
        'def inner():\n    actions.go_to("a")\ninner()',
        'target = "a"\nactions.go_to(target)',
        'target: str = "a"\nactions.go_to(target)',
        'actions.go_to(target := "a")',
        'if actions.chosen is None:\n    actions.go_to("a")',
    ],
)
def test_go_to_is_found_however_it_is_written(call: str) -> None:
    found = body(call)
    assert list(found.edges) == [Edge(target="a")]
    assert found.unseen == ()
    assert found.faults == ()
    assert [call.text for call in found.calls] in (["go_to"], ["transition_to"])


def test_an_async_handler_is_read_like_any_other() -> None:
    found = read('@mark\n@mark(1)\nasync def state(*, actions):\n    actions.go_to("a")\n')
    assert targets(found) == ["a"]
    assert found.line == 3


@pytest.mark.parametrize(
    "call",
    [
        'actions.dispatch_task("resize", {}, {"success": "a", "failure": "b"})',
        'actions.dispatch_task(task_type="resize", transitions={"success": "a", "failure": "b"})',
        'actions.dispatch_task("resize", x, transitions=dict(success="a", failure="b"))',
        'routes = {"success": "a", "failure": "b"}\nactions.dispatch_task("resize", x, routes)',
        'actions.dispatch_task("resize", x, {**{"success": "a"}, "failure": "b"})',
        'actions.dispatch_task("resize", x, {"success": "a"} | {"failure": "b"})',
        "actions.dispatch_task(SKILL, x, ROUTES)",
        "actions.dispatch_task(SKILL, x, None or ROUTES)",
        "actions.dispatch_task(SKILL, x, ROUTES if x else None)",
    ],
)
def test_a_task_leads_where_its_transitions_say(call: str) -> None:
    found = body(call, {"SKILL": "resize", "ROUTES": {"success": "a", "failure": "b"}})
    assert list(found.edges) == [
        Edge(target="a", status="success", skill="resize", kind="task"),
        Edge(target="b", status="failure", skill="resize", kind="task"),
    ]
    assert found.unseen == ()


@pytest.mark.parametrize(
    ("tasks", "skill"),
    [
        ('[{"type": "resize"}, {"task_type": "resize", "params": {}}]', "resize"),
        ('[{"type": "resize", "params": {"n": n}} for n in x]', "resize"),
        ('({"type": "resize"} for n in x)', "resize"),
        ("x", None),
        ("[]", None),
        ("[x, *x]", None),
        ('[{"params": {}}]', None),
        ('[{**x, "type": "resize"}]', "resize"),
    ],
)
def test_a_fan_out_leads_into_its_aggregator_and_to_its_failure(
    tasks: str, skill: str | None
) -> None:
    found = body(f'actions.dispatch_parallel({tasks}, "merge", transitions={{"failure": "sorry"}})')
    assert list(found.edges) == [
        Edge(target="merge", status="success", skill=skill, kind="parallel"),
        Edge(target="sorry", status="failure", skill=skill, kind="parallel"),
    ]


def test_a_fan_out_may_name_its_tasks_and_aggregator_by_keyword() -> None:
    found = body(
        """
        tasks = [{"type": "crop"}]
        actions.dispatch_parallel(aggregate_into="merge", tasks=tasks)
        """
    )
    assert list(found.edges) == [
        Edge(target="merge", status="success", skill="crop", kind="parallel")
    ]


class Names(StrEnum):
    A = "a"


class Plain:
    TARGET = "a"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('"a" if x else "b"', ["a", "b"]),
        ('"a" if x else ("b" if x > 1 else "c")', ["a", "b", "c"]),
        ("TARGET", ["a"]),
        ("MODULE.TARGET", []),
        ("Plain.TARGET", ["a"]),
        ("Names.A.name", []),
        ("MIXED[x]", ["a"]),
        ("Names.A", ["a"]),
        ("Names.A.value", ["a"]),
        ("ROUTES[x]", ["a", "b"]),
        ('{1: "a"}["x"]', []),
        ('{"k": "a"}[x]', ["a"]),
        ('"a" or "b"', ["a", "b"]),
    ],
)
def test_what_a_target_may_be_is_followed_as_far_as_the_text_tells(
    expression: str, expected: list[str]
) -> None:
    outer = {
        "TARGET": "a",
        "Names": Names,
        "ROUTES": {"one": "a", "two": "b"},
        "MODULE": SimpleNamespace(TARGET="a"),
        "Plain": Plain,
        "MIXED": {"one": "a", "two": 2},
    }
    found = body(f"actions.go_to({expression})", outer)
    assert targets(found) == expected
    assert bool(found.unseen) == (not expected or "MIXED" in expression)


def test_all_that_a_local_name_was_bound_to_counts() -> None:
    found = body('t = "a"\nif x:\n    t = "b"\nactions.go_to(t)')
    assert targets(found) == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("actions.go_to(x)", "go_to leads to `x`, which is known only at run time"),
        ('actions.go_to(f"{x}_done")', "known only at run time"),
        ("for t in x:\n    actions.go_to(t)", "go_to leads to `t`"),
        ('t = "a"\nt += "b"\nactions.go_to(t)', "go_to leads to `t`"),
        ('t = "a"\nt = x\nactions.go_to(t)', "go_to leads to `t`"),
        ('t = t or "a"\nactions.go_to(t)', "go_to leads to `t`"),
        ("actions.go_to(NUMBER)", "go_to leads to `NUMBER`"),
        ('actions.go_to("a" if x else x)', "known only at run time"),
        ("helper(actions)", "`actions` is handed to something else"),
        ("a = actions\nhelper(a)", "`a` is handed to something else"),
        ("go = actions.go_to\ngo('a')", "`actions` is handed to something else"),
        ("global t\nactions.go_to(t)", "go_to leads to `t`"),
        ("try:\n    x()\nexcept OSError as t:\n    actions.go_to(t)", "go_to leads to `t`"),
        ("return actions", "`actions` is handed to something else"),
        ("x.actions = actions", "`actions` is handed to something else"),
        ("a = actions\na = x\na.go_to('a')", "`actions` is handed to something else"),
        ("actions.go_to(*x)", "the arguments of go_to are spread"),
        ("actions.dispatch_task(**x)", "the arguments of dispatch_task are spread"),
        ('actions.dispatch_task("s", {}, x)', "dispatch_task's transitions leads to `x`"),
        (
            'r = {"success": "a"}\nr["failure"] = x\nactions.dispatch_task("s", {}, r)',
            "dispatch_task's transitions leads to `r`",
        ),
        (
            'r = {"success": "a"}\nr.update(x)\nactions.dispatch_task("s", {}, r)',
            "dispatch_task's transitions leads to `r`",
        ),
        ("actions.dispatch_parallel([], aggregate_into=x)", "dispatch_parallel leads to `x`"),
        ("match x:\n    case [t]:\n        actions.go_to(t)", "go_to leads to `t`"),
        ("from y import t\nactions.go_to(t)", "go_to leads to `t`"),
    ],
)
def test_what_the_text_does_not_tell_is_reported(lines: str, reason: str) -> None:
    found = body(lines, {"NUMBER": 1, "t": "a"})
    assert len(found.unseen) == 1
    assert reason in found.unseen[0].text


def test_what_the_text_tells_is_kept_beside_what_it_does_not() -> None:
    found = body(
        """
        actions.go_to("a" if x else x.name)
        actions.dispatch_task("crop" if x else x.skill, {}, {"success": "b", "other": x, **x})
        """
    )
    assert list(found.edges) == [
        Edge(target="a"),
        Edge(target="b", status="success", skill="crop", kind="task"),
        Edge(target="b", status="success", skill=None, kind="task"),
    ]
    assert [note.line for note in found.unseen] == [3, 4]


def test_a_long_expression_is_shortened() -> None:
    found = body(f"actions.go_to({'x + ' * 40}x)")
    assert len(found.unseen[0].text) < 120


def test_go_to_of_another_object_is_ignored() -> None:
    found = body('x.go_to("nowhere")\nx.actions.go_to("nowhere")')
    assert (found.edges, found.calls, found.unseen) == ({}, (), ())


def test_a_handler_without_actions_leads_nowhere() -> None:
    found = read('def state(robot):\n    actions = robot\n    actions.go_to("x")\n')
    assert not found.takes_actions
    assert found.edges == {}


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ('actions.goto("a")', "there is no action 'goto': did you mean 'go_to'?"),
        ("actions.go_to()", "go_to is called without a state"),
        ("actions.dispatch_parallel([])", "dispatch_parallel is called without a state"),
        ('actions.dispatch_task("re size")', "'re size' is not a skill's name"),
    ],
)
def test_what_cannot_be_right_is_a_fault_with_its_line(call: str, fault: str) -> None:
    found = body(f"\n{call}")
    assert found.faults[0].text.startswith(fault)
    assert found.faults[0].line == 3


def test_edges_stand_in_the_order_of_the_text_each_once() -> None:
    found = body(
        'if x:\n    actions.go_to("b")\nelif 1:\n    actions.go_to("a")\nactions.go_to("b")'
    )
    assert found.edges == {Edge(target="b"): 3, Edge(target="a"): 5}
    assert [call.line for call in found.calls] == [3, 5, 6]


def test_edges_can_be_sorted_whatever_they_lack() -> None:
    task = Edge(target="a", status="success", skill="resize", kind="task")
    assert sorted([Edge(target="b"), task, Edge(target="a")]) == [
        Edge(target="a"),
        task,
        Edge(target="b"),
    ]


def test_a_function_that_is_not_in_the_text_any_more_is_not_guessed() -> None:
    text = 'def other(actions):\n    actions.go_to("a")\n'
    source = HandlerSource(file="jobs.py", text=text, first_line=1, name="state")
    assert analyse(source, ast.parse(text), {}) is None


def test_two_lambdas_on_one_line_are_not_told_apart() -> None:
    text = 'a, b = lambda actions: actions.go_to("a"), lambda actions: actions.go_to("b")\n'
    source = HandlerSource(file="jobs.py", text=text, first_line=1, name="<lambda>")
    assert analyse(source, ast.parse(text), {}) is None


GLOBAL = "module"


def test_the_names_around_a_function_are_those_it_sees_now() -> None:
    def handler() -> tuple[str, str, str]:
        return near, GLOBAL, late

    near = "enclosing"
    assert outer_names(handler)["near"] == "enclosing"
    assert outer_names(handler)["GLOBAL"] == "module"
    assert outer_names(handler)["late"] is None
    late = "later"
    assert outer_names(handler)["late"] == "later"
