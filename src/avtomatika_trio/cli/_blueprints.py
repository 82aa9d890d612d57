"""`avtomatika blueprint`: list, check and draw blueprints.

With a source nothing but the source is needed; without one an orchestrator is asked.
"""

from argparse import Namespace
from functools import partial
from typing import TYPE_CHECKING, Any

from avtomatika_trio._core.arguments import did_you_mean
from avtomatika_trio._core.graph import to_dot, to_json
from avtomatika_trio._core.graph_svg import to_svg
from avtomatika_trio._core.graph_text import to_text
from avtomatika_trio.cli._connect import ask_by_name, open_client
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._imports import load_checked
from avtomatika_trio.cli._output import (
    complain,
    note,
    print_json,
    print_line,
    print_records,
    table,
)

if TYPE_CHECKING:
    from avtomatika_trio._core.blueprint import Blueprint
    from avtomatika_trio.orchestrator._registry import Blueprints


def run(options: Namespace) -> int:
    """Do what the verb says.

    Raises:
        CommandError: a source is wrong, or there is no such blueprint.
        AvtomatikaError: as the client raises.
    """
    match options.verb:
        case "check":
            return _check(options)
        case "list":
            return _list(options)
        case _:
            return _graph(options)


def _check(options: Namespace) -> int:
    blueprints, problems = load_checked(options.source)
    if options.output == "json":
        listed = [_described(blueprint) for blueprint in blueprints]
        print_json({"blueprints": listed, "problems": problems})
    elif blueprints:
        rows = [(b.name, len(b.states), "ok") for b in blueprints]
        print_line(table(("BLUEPRINT", "STATES", "CHECK"), rows))
    for problem in problems:
        complain(problem)
    return Exit.FAILED if problems else Exit.OK


def _list(options: Namespace) -> int:
    if options.blueprints is not None:
        listed: list[Any] = [_described(b) for b in _from_source(options.blueprints)]
    else:
        with open_client(options) as client:
            listed = [blueprint.raw for blueprint in client.blueprints()]
        if not listed:
            note("none; start `avtomatika serve` with --blueprints")
    if options.output == "table":
        rows = [(each["name"], each["states"], each["endpoints"][0]) for each in listed]
        print_line(table(("BLUEPRINT", "STATES", "JOBS ARE POSTED TO"), rows))
    else:
        print_records(options.output, listed, {})
    return Exit.OK


def _graph(options: Namespace) -> int:
    if options.blueprints is not None:
        blueprint = _named(_from_source(options.blueprints), options.name)
        if options.output == "dot":
            print_line(to_dot(blueprint).removesuffix("\n"), as_utf8=True)
        else:
            _print_graph(options.output, to_json(blueprint))
        return Exit.OK
    with open_client(options) as client:
        if options.output == "dot":
            dot = ask_by_name(client, options.name, partial(client.graph, options.name))
            print_line(dot.removesuffix("\n"), as_utf8=True)
        else:
            ask = partial(client.blueprint, options.name)
            _print_graph(options.output, ask_by_name(client, options.name, ask))
    return Exit.OK


def _print_graph(output: str, graph: Any) -> None:
    match output:
        case "svg":
            print_line(to_svg(graph).removesuffix("\n"), as_utf8=True)
        case "ascii":
            print_line(to_text(graph).removesuffix("\n"))
        case _:
            print_json(graph)


def _from_source(source: str) -> "Blueprints":
    blueprints, problems = load_checked(source)
    if problems:
        raise CommandError(Exit.FAILED, "\n".join(problems))
    return blueprints


def _named(blueprints: "Blueprints", name: str) -> "Blueprint":
    blueprint = blueprints.get(name)
    if blueprint is None:
        hint = did_you_mean(name, [each.name for each in blueprints])
        raise CommandError(Exit.NOT_FOUND, f"there is no blueprint {name!r}; {hint}")
    return blueprint


def _described(blueprint: "Blueprint") -> dict[str, Any]:
    """As an orchestrator describes it."""
    from avtomatika_trio.orchestrator._registry import endpoints_of

    return {
        "name": blueprint.name,
        "endpoints": [f"/api/v1{path}" for path in endpoints_of(blueprint)],
        "states": len(blueprint.states),
    }
