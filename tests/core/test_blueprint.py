"""Blueprints: how states are registered, and what is found before a job is."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, assert_type

import pytest

from avtomatika_trio._core.actions import Action, DispatchParallel, DispatchTask, GoTo, TaskSpec
from avtomatika_trio._core.blueprint import Blueprint as TextlessBlueprint, Edge, Parameter
from avtomatika_trio._sources import Blueprint, StateMachineBlueprint, read_source
from avtomatika_trio.errors import ActionError, BlueprintError

AFTER = "done"


def helper(actions: Any) -> None:
    actions.go_to("done")


def problems(blueprint: TextlessBlueprint) -> list[str]:
    """What `check` finds, without the file in front of the line."""
    with pytest.raises(BlueprintError) as caught:
        blueprint.check()
    assert caught.value.blueprint == blueprint.name
    return [problem.replace(f"({__file__}:", "(jobs.py:") for problem in caught.value.problems]


def problem(blueprint: TextlessBlueprint) -> str:
    """The only problem, without any place in a file."""
    (only,) = problems(blueprint)
    head, _, tail = only.partition(" (jobs.py:")
    return head + tail.partition(")")[2] if tail else head


def with_end(blueprint: TextlessBlueprint) -> TextlessBlueprint:
    @blueprint.handler(is_end=True)
    def done() -> None: ...

    return blueprint


def with_start(*marks: Any, **flags: Any) -> Callable[[Callable[..., Any]], Blueprint]:
    """A blueprint of the decorated start and an end `done`."""

    def build(function: Callable[..., Any]) -> Blueprint:
        blueprint = Blueprint("bp")
        blueprint.handler("start", is_start=True, **flags)(function)
        with_end(blueprint)
        return blueprint

    return build


def whole() -> Blueprint:
    """A blueprint with one of everything."""
    blueprint = Blueprint("images", api_version="v1", api_endpoint="/jobs/images")

    @blueprint.handler(is_start=True)
    async def start(actions: Any, urls: list[str], quality: int = 80) -> None:
        tasks = [{"type": "fetch", "params": {"url": url}} for url in urls]
        actions.dispatch_parallel(tasks, "merge", transitions={"failure": "failed"})

    @blueprint.aggregator
    def merge(actions: Any, aggregation_results: Any) -> None:
        actions.dispatch_task("zip", {}, {"success": AFTER, "failure": "failed"})

    @blueprint.handler("done", is_end=True)
    def finish() -> None: ...

    @blueprint.handler(is_end=True)
    def failed() -> None: ...

    return blueprint


def test_a_whole_blueprint_passes_the_check() -> None:
    blueprint = whole()
    blueprint.check()
    assert blueprint.start == "start"
    assert list(blueprint.states) == ["start", "merge", "done", "failed"]
    assert repr(blueprint) == "<Blueprint 'images', 4 states>"


def test_a_state_knows_what_its_author_said_and_where() -> None:
    state = whole().states["start"]
    assert (state.is_start, state.is_end, state.is_async, state.is_aggregator) == (
        True, False, True, False,
    )  # fmt: skip
    assert state.parameters == (
        Parameter("actions", required=True),
        Parameter("urls", required=True),
        Parameter("quality", required=False),
    )
    assert state.file == __file__
    assert state.line == state.function.__code__.co_firstlineno + 1
    assert state.edges == (
        Edge(target="merge", status="success", skill="fetch", kind="parallel"),
        Edge(target="failed", status="failure", skill="fetch", kind="parallel"),
    )


def test_an_aggregator_is_marked() -> None:
    state = whole().states["merge"]
    assert state.is_aggregator
    assert [edge.target for edge in state.edges] == ["done", "failed"]


def test_an_end_finishes_the_job_unless_its_name_or_its_author_says_otherwise() -> None:
    blueprint = Blueprint("bp")
    for name in ("done", "failed", "cancelled"):
        blueprint.handler(name, is_end=True)(lambda: None)
    blueprint.handler("rejected", is_end=True, outcome="failed")(lambda: None)
    blueprint.handler("go", to=["done"])(lambda: None)
    assert {name: state.outcome for name, state in blueprint.states.items()} == {
        "done": "finished",
        "failed": "failed",
        "cancelled": "cancelled",
        "rejected": "failed",
        "go": None,
    }


def test_a_decorated_function_stays_itself() -> None:
    blueprint = Blueprint("bp")

    def start(actions: object) -> int:
        return 1

    assert_type(blueprint.handler(start)(None), int)
    assert_type(blueprint.handler("other", is_end=True)(start)(None), int)
    assert_type(blueprint.aggregator("third", to=["x"])(start)(None), int)
    assert blueprint.states["start"].function is start


def test_the_old_names_do_the_same() -> None:
    blueprint = StateMachineBlueprint("old")

    @blueprint.handler_for("start", is_start=True)
    async def begin(actions: Any) -> None:
        actions.transition_to("sum")

    @blueprint.aggregator_for("sum", is_end=True)
    async def total() -> None: ...

    blueprint.check()
    assert blueprint.states["sum"].is_aggregator


def test_a_handler_behind_a_wrapping_decorator_is_read() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @with_start()
    @logged
    def blueprint(actions: Any) -> None:
        actions.go_to("done")

    blueprint.check()
    assert blueprint.states["start"].parameters == (Parameter("actions", required=True),)


def test_a_constant_further_down_in_the_enclosing_function_is_seen() -> None:
    blueprint = Blueprint("bp")

    @blueprint.handler(is_start=True)
    def start(actions: Any) -> None:
        actions.go_to(later)

    later = "done"
    with_end(blueprint).check()
    assert blueprint.states["start"].edges == (Edge(target="done"),)


@pytest.mark.parametrize("name", ["", "two words", "a/b", "x" * 129, "ä", "a\n", None, 7])
def test_a_malformed_name_is_refused(name: Any) -> None:
    with pytest.raises(BlueprintError, match="its name is 1 to 128 letters"):
        Blueprint(name)


@pytest.mark.parametrize("endpoint", ["jobs/x", "", "/", "/a b", "/a?b", 7, "/jobs/\n"])
def test_a_malformed_endpoint_is_refused(endpoint: Any) -> None:
    with pytest.raises(BlueprintError, match="api_endpoint is a path that starts with '/'"):
        Blueprint("bp", api_endpoint=endpoint)


def test_a_malformed_version_is_refused_with_all_else() -> None:
    with pytest.raises(BlueprintError) as caught:
        Blueprint("", api_version="v/1", api_endpoint="x")
    assert len(caught.value.problems) == 3


def test_no_start_is_a_problem() -> None:
    blueprint = with_end(Blueprint("bp"))
    assert "no state is the start: mark the first one" in problems(blueprint)[0]
    with pytest.raises(BlueprintError):
        _ = blueprint.start


def test_two_starts_are_a_problem_that_names_both() -> None:
    blueprint = Blueprint("bp")
    blueprint.handler("a", is_start=True, to=["done"])(lambda: None)
    blueprint.handler("b", is_start=True, to=["done"])(lambda: None)
    (said,) = problems(with_end(blueprint))
    assert said.startswith("2 states are marked is_start=True: 'a' (jobs.py:")
    assert ", 'b' (jobs.py:" in said
    with pytest.raises(BlueprintError):
        _ = blueprint.start


def test_no_end_is_a_problem() -> None:
    blueprint = Blueprint("bp")
    blueprint.handler("a", is_start=True, to=["a"])(lambda: None)
    assert (
        problem(blueprint) == "no state is an end: mark the last one with @bp.handler(is_end=True)"
    )


def test_a_target_that_does_not_exist_is_a_problem_with_its_line() -> None:
    @with_start()
    def blueprint(actions: Any, x: Any = None) -> None:
        actions.go_to("dome" if x else "done")

    line = blueprint.states["start"].line
    assert line is not None
    (said,) = problems(blueprint)
    assert said == (
        f"state 'start' (jobs.py:{line}): line {line + 1} leads to 'dome', which is not a state;"
        " did you mean 'done'?"
    )


def test_a_declared_target_that_does_not_exist_is_a_problem() -> None:
    blueprint = with_start(to=["done", "nowhere"])(helper)
    assert problem(blueprint) == (
        "state 'start': to=[...] names 'nowhere', which is not a state;"
        " there are 'start', 'done'"
    )  # fmt: skip


def test_a_state_that_nothing_leads_to_is_a_problem() -> None:
    @with_start()
    def blueprint(actions: Any) -> None:
        actions.go_to("done")

    blueprint.handler("island", to=["peninsula"])(lambda: None)
    blueprint.handler("peninsula", to=["island"])(lambda: None)
    found = problems(blueprint)
    assert [said.split(" ")[1] for said in found] == ["'island'", "'peninsula'"]
    assert "nothing leads to it from the start 'start'; lead to it, or remove it" in found[0]


def test_an_end_that_takes_an_action_is_a_problem() -> None:
    blueprint = Blueprint("bp")

    @blueprint.handler(is_start=True, is_end=True)
    def only(actions: Any) -> None:
        actions.go_to("only")

    line = only.__code__.co_firstlineno + 2
    assert problem(blueprint) == (
        f"state 'only': it is an end state, yet line {line} calls go_to;"
        " an end state takes no action: remove the call, or is_end=True"
    )


def test_an_end_that_declares_targets_is_a_problem() -> None:
    blueprint = Blueprint("bp")
    blueprint.handler("only", is_start=True, is_end=True, to=["only"])(lambda: None)
    assert "it is an end state, yet declares to=[...]" in problem(blueprint)


def test_a_handler_that_calls_no_action_is_a_problem() -> None:
    @with_start()
    def forgetful(actions: Any) -> None:
        print(actions.chosen)

    assert "state 'start': its handler calls no action; call actions.go_to" in problems(forgetful)[
        0
    ].replace(f" (jobs.py:{forgetful.states['start'].line})", "")


def test_a_handler_that_does_not_take_actions_is_a_problem() -> None:
    @with_start()
    def blueprint(context: Any) -> None: ...

    assert "its handler has no parameter `actions`, so it cannot choose" in problems(blueprint)[0]


def test_a_target_in_a_variable_has_to_be_declared() -> None:
    def start(actions: Any, target: str) -> None:
        actions.go_to(target)

    line = start.__code__.co_firstlineno + 1
    assert problem(with_start()(start)) == (
        f"state 'start': line {line}: go_to leads to `target`, which is known only at run time;"
        ' declare every state it may lead to: to=["..."]'
    )
    declared = with_start(to=["done"])(start)
    declared.check()
    assert declared.states["start"].edges == (Edge(target="done", kind="declared"),)


def test_actions_handed_to_a_helper_have_to_be_declared() -> None:
    def start(actions: Any) -> None:
        helper(actions)

    assert "`actions` is handed to something else; declare every state" in problem(
        with_start()(start)
    )
    with_start(to=["done"])(start).check()


def test_a_handler_without_source_has_to_be_declared() -> None:
    names: dict[str, Any] = {}
    exec('def start(actions): actions.go_to("done")', names)
    for function in (names["start"], functools.partial(helper)):
        assert (
            "the source of its handler cannot be read; declare every state it may lead to"
            in (problems(with_start()(function))[0])
        )
        with_start(to=["done"])(function).check()


def test_a_file_that_was_changed_since_is_not_guessed_at(tmp_path: Any) -> None:
    file = tmp_path / "jobs.py"
    file.write_text('def start(actions):\n    actions.go_to("done")\n')
    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    with_start()(names["start"]).check()
    file.write_text("this is no Python any more, and longer")
    assert "cannot be read" in problems(with_start()(names["start"]))[0]


def test_without_any_text_every_state_is_declared() -> None:
    blueprint = TextlessBlueprint("bp")
    blueprint.handler("start", is_start=True, to=["done"])(helper)
    with_end(blueprint).check()
    assert blueprint.read_source(helper) is None


def test_seen_and_declared_targets_are_united() -> None:
    @with_start(to=["done", "start"])
    def blueprint(actions: Any, x: Any) -> None:
        actions.go_to("done")
        actions.go_to(x)

    assert blueprint.states["start"].edges == (
        Edge(target="done"),
        Edge(target="start", kind="declared"),
    )


def test_a_state_registered_twice_is_a_problem_and_the_first_stays() -> None:
    blueprint = Blueprint("bp")
    blueprint.handler("only", is_start=True, is_end=True)(helper_free)
    blueprint.handler("only", is_end=True)(lambda: None)
    first = helper_free.__code__.co_firstlineno
    assert f"it is registered twice, first at {__file__}:{first}" in problem(blueprint)
    assert blueprint.states["only"].function is helper_free


def helper_free() -> None: ...


def test_an_outcome_that_is_not_at_an_end_is_a_problem() -> None:
    blueprint = with_start(to=["done"], outcome="failed")(helper)
    assert "it has outcome='failed' but is no end; add is_end=True" in problem(blueprint)


def test_an_unknown_outcome_is_a_problem() -> None:
    blueprint = Blueprint("bp")
    wrong: Any = "fine"
    blueprint.handler("only", is_start=True, is_end=True, outcome=wrong)(lambda: None)
    assert "outcome='fine' is not one of 'finished', 'failed', 'cancelled'" in problem(blueprint)


def test_a_handler_that_yields_is_a_problem() -> None:
    def start(actions: Any) -> Iterable[None]:
        yield actions.go_to("done")

    assert "its handler contains `yield`" in problem(with_start()(start))


def test_a_positional_only_parameter_is_a_problem() -> None:
    def start(actions: Any, /) -> None:
        actions.go_to("done")

    assert "its parameter 'actions' is positional-only" in problem(with_start()(start))


def test_a_misspelt_action_is_a_problem() -> None:
    @with_start(to=["done"])
    def blueprint(actions: Any) -> None:
        actions.goto("done")

    assert "there is no action 'goto': did you mean 'go_to'?" in problems(blueprint)[0]


def test_all_problems_are_told_at_once() -> None:
    blueprint = Blueprint("bp")

    @blueprint.handler
    def start(actions: Any) -> None:
        actions.go_to("one")
        actions.dispatch_task("s", {}, {"success": "two"})

    assert len(problems(blueprint)) == 4


def test_what_cannot_be_registered_is_refused_on_the_spot() -> None:
    blueprint = Blueprint("bp")
    anything: Any = blueprint
    with pytest.raises(BlueprintError, match="is a list of states; write to="):
        anything.handler("a", to="done")(helper)
    with pytest.raises(BlueprintError, match="the name of a state is a string, not 7"):
        anything.handler(7)(helper)
    with pytest.raises(BlueprintError, match="the name of a state has 1 to 128 printable"):
        blueprint.handler("a\nb")(helper)
    with pytest.raises(BlueprintError, match="has no name; write @bp"):
        blueprint.handler(lambda: None)
    with pytest.raises(BlueprintError, match="is not a function"):
        anything.handler("a")(7)
    assert dict(blueprint.states) == {}


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (GoTo(state="doen"), "go_to leads to 'doen', not a state; did you mean 'done'?"),
        (
            DispatchTask(
                spec=TaskSpec(skill="s", params={}, transitions={"success": "done", "late": "x"})
            ),
            "transitions['late'] leads to 'x', not a state;",
        ),
        (DispatchParallel(specs=(), aggregate_into="merg"), "aggregate_into leads to 'merg'"),
        (
            DispatchParallel(specs=(), aggregate_into="merge", transitions={"failure": "x"}),
            "transitions['failure'] leads to 'x'",
        ),
        (None, "its handler chose no action; call actions.go_to(...)"),
    ],
)
def test_an_action_that_leads_nowhere_is_refused_at_run_time(
    action: Action | None, said: str
) -> None:
    with pytest.raises(ActionError) as caught:
        whole().allows("start", action)
    assert caught.value.state == "start"
    assert caught.value.message.startswith(said)


def test_an_action_of_an_end_state_is_refused_at_run_time() -> None:
    whole().allows("done", None)
    with pytest.raises(ActionError, match="it is an end state, yet its handler chose an action"):
        whole().allows("done", GoTo(state="done"))


def test_actions_that_lead_to_states_are_allowed() -> None:
    blueprint = whole()
    blueprint.allows("start", GoTo(state="done"))
    blueprint.allows("start", DispatchParallel(specs=(), aggregate_into="done"))
    spec = TaskSpec(skill="s", params={}, transitions={"success": "done"})
    blueprint.allows("start", DispatchTask(spec=spec))


def test_an_object_that_can_be_called_is_a_handler() -> None:
    class Start:
        async def __call__(self, actions: Any) -> None: ...

    blueprint = with_start(to=["done"])(Start())
    blueprint.check()
    assert blueprint.states["start"].is_async
    assert blueprint.states["start"].line is None
    assert read_source(Start()) is None


def test_data_stores_are_kept_and_cannot_be_exchanged() -> None:
    stores: dict[str, Any] = {"cache": {}}
    blueprint = Blueprint("bp", data_stores=stores)
    stores.clear()
    assert blueprint.data_stores == {"cache": {}}
    assert Blueprint("bp").data_stores == {}
