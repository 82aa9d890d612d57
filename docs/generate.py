"""The reference that is made from the code: `python docs/generate.py` writes it.

Settings have a page of the same kind: `python -m avtomatika_trio._config`.
"""

import argparse
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from avtomatika_trio import errors
from avtomatika_trio._core import failover, job, task
from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._parser import create_parser
from avtomatika_trio.orchestrator._metrics import Metrics
from avtomatika_trio.orchestrator._openapi import create_document

_FOLDER = Path(__file__).parent / "reference"
_FAILOVER = Path(__file__).parent / "explanation" / "failover.md"
_METRICS = _FOLDER / "metrics.md"
_GENERATED = "<!-- Generated from the code: python docs/generate.py -->"

Transitions = Mapping[Any, Mapping[type[Any], Any]]


def pages() -> dict[Path, str]:
    """Everything that is generated, by its file."""
    return {
        _FOLDER / "cli.md": cli_page(),
        _FOLDER / "errors.md": errors_page(),
        _FOLDER / "states.md": states_page(),
        _FAILOVER: failover_page(),
        _METRICS: metrics_page(),
        _FOLDER / "openapi.json": openapi(),
    }


def cli_page() -> str:
    """Every command, with its arguments and options."""
    parts = [
        f"# Commands\n\n{_GENERATED}\n",
        "`avtomatika COMMAND --help` tells the same.",
        "Data go to stdout, everything else to stderr.",
        "An option that is a setting outweighs its variable, which is in parentheses.",
        "See [settings](settings.md).\n",
        "## Exit codes\n",
        *_table(("Code", "Meaning"), _members(Exit)),
    ]
    for words, parser in _commands(["avtomatika"], create_parser()):
        parts += [f"\n## {' '.join(words)}\n", f"{parser.description}\n"]
        parts += _table(("Argument", "Meaning"), map(_argument, _arguments(parser)))
        if parser.epilog is not None:
            parts.append(f"\n```text\n{parser.epilog.rstrip()}\n```")
    return _page(parts)


def _commands(
    words: list[str], parser: argparse.ArgumentParser
) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """The commands that can be run: those without commands below them."""
    below = [it for it in _actions(parser) if isinstance(it, argparse._SubParsersAction)]  # noqa: SLF001
    if not below:
        yield words, parser
    for action in below:
        for name, inner in action.choices.items():
            yield from _commands([*words, name], inner)


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [it for it in _actions(parser) if it.dest != "help"]


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001 - argparse has no other way to ask


def _argument(action: argparse.Action) -> tuple[str, str]:
    value = ""
    if action.nargs != 0:
        choices = "|".join(map(str, action.choices)) if action.choices else None
        value = str(action.metavar or choices or action.dest.upper())
    names = [f"{name} {value}".strip() for name in action.option_strings] or [value]
    return ", ".join(f"`{name}`" for name in names), action.help or ""


def errors_page() -> str:
    """Every deliberate error."""
    intro, tree, rest = re.split(
        r"\n\n(?=    \w)|(?<=\w)\n\n", inspect.getdoc(errors) or "", maxsplit=2
    )
    parts = [
        f"# Errors\n\n{_GENERATED}\n",
        f"{intro} They are in `avtomatika_trio.errors`.\n",
        "```text",
        inspect.cleandoc(tree),
        "```\n",
        f"{_one_line(rest)}\n",
        "What a client or a worker is answered over HTTP is on the page [HTTP](http.md);",
        "what a command exits with on the page [commands](cli.md).\n",
    ]
    rows = [_error(cls) for cls in vars(errors).values() if _is_error(cls)]
    return _page([*parts, *_table(("Error", "Attributes", "Meaning"), rows)])


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, errors.AvtomatikaError)


def _error(cls: type[errors.AvtomatikaError]) -> tuple[str, str, str]:
    names = [field.name for field in attrs.fields(cls)] if attrs.has(cls) else []
    if issubclass(cls, errors.HandlerError):
        names = [f"code = {cls.code}", "message", "details"]
    meaning = _one_line((inspect.getdoc(cls) or "").partition("\n\n")[0])
    return f"`{cls.__name__}`", ", ".join(f"`{name}`" for name in names), meaning


def states_page() -> str:
    """The lives of jobs, tasks and attempts, from the tables that the code goes by."""
    parts = [
        f"# Statuses\n\n{_GENERATED}\n",
        "Where a job, a task or an attempt is in its life.",
        "The tables of what leads where are those that the code goes by.",
        "What is not in them is refused, and changes nothing.",
        "A job's *state* is something else: the node of its blueprint.",
        "Nothing leads into `waiting_for_human` and `waiting_for_sub_job` in this version.\n",
    ]
    lives: list[tuple[str, type[StrEnum], Transitions]] = [
        ("Jobs", job.JobStatus, job.TRANSITIONS),
        ("Tasks", task.TaskStatus, task.TRANSITIONS),
    ]
    for title, statuses, transitions in lives:
        parts += [f"## {title}\n", *_table(("Status", "Meaning"), _members(statuses)), ""]
        parts += [*_table(("Status", "Events", "Becomes"), _rows(transitions)), ""]
        parts += [*_table(("Event", "Meaning"), _events(transitions)), ""]
        parts += ["As a graph, for any viewer of DOT:\n", "```dot", *_dot(transitions), "```\n"]
    parts += ["## Attempts\n", "Once it is not leased any more, an attempt has ended."]
    parts.append(
        "One that was lost or unclaimed is leased again if its worker turns out to hold it.\n"
    )
    return _page([*parts, *_table(("Status", "Meaning"), _members(task.AttemptStatus))])


def openapi() -> str:
    """What every orchestrator serves as `/openapi.json`."""
    return json.dumps(create_document(), indent=2) + "\n"


def failover_page() -> str:
    """The page on failover, with its tables and its diagram drawn anew."""
    moves = [
        (f"`{standing}`", ", ".join(f"`{name}`" for name in names), f"`{after}`")
        for standing, after, names in _moves()
    ]
    return _drawn_anew(
        _FAILOVER,
        [
            *_table(("Standing", "Meaning"), _described(failover.Standing)),
            "",
            *_table(("Event", "Meaning"), _described(failover.Event)),
            "",
            *_table(("Standing", "Events", "Becomes"), moves),
            "",
            "As a graph, for any viewer of DOT:",
            "",
            "```dot",
            *_standings_dot(),
            "```",
        ],
    )


def metrics_page() -> str:
    """The page on metrics, with its table drawn anew."""
    rows = [
        (
            f"`{it.name}`",
            it.kind,
            ", ".join(f"`{name}`" for name in it.labels),
            it.scope,
            it.meaning,
        )
        for it in Metrics().families
    ]
    return _drawn_anew(_METRICS, [*_table(("Metric", "Type", "Labels", "Of the", "Meaning"), rows)])


def _drawn_anew(page: Path, drawn: list[str]) -> str:
    """*page*, with *drawn* in the place of what stands between its two marks."""
    before, _, rest = page.read_text("utf-8").partition("<!-- Drawn")
    mark, _, rest = rest.partition("\n")
    _, end, after = rest.partition("<!-- End of what is drawn -->")
    return "\n".join([f"{before}<!-- Drawn{mark}", "", *drawn, "", f"{end}{after}"])


def _moves() -> Iterator[tuple[str, str, list[str]]]:
    """From which standing to which one, by which events."""
    for standing, events in failover.TRANSITIONS.items():
        for after in dict.fromkeys(events.values()):
            yield standing, after, [event for event, then in events.items() if then is after]


def _standings_dot() -> Iterator[str]:
    yield "digraph {"
    yield "  rankdir=LR; node [shape=box, style=rounded];"
    for standing, after, names in _moves():
        label = "\\n".join(names)
        yield f'  {standing} -> {after} [label="{label}"];'
    yield "}"


def _described(enum: type[StrEnum]) -> Iterator[tuple[str, str]]:
    """The members of an enum, with the text that stands under each."""
    member = re.compile(r'^    (\w+) = [^\n]*\n    """(.+?)"""$', re.MULTILINE | re.DOTALL)
    texts = member.findall(inspect.getsource(enum))
    meanings = {name: _one_line(text) for name, text in texts}
    for one in enum:
        yield f"`{one}`", meanings[one.name]


def _rows(transitions: Transitions) -> Iterator[tuple[str, str, str]]:
    for status, events in transitions.items():
        if not events:
            yield f"`{status}`", "", "final"
        for after, names in _grouped(events).items():
            yield f"`{status}`", ", ".join(names), f"`{after}`"


def _grouped(events: Mapping[type[Any], Any]) -> dict[Any, list[str]]:
    """The names of the events that lead to each status."""
    grouped: dict[Any, list[str]] = {}
    for event, after in events.items():
        grouped.setdefault(after, []).append(event.__name__)
    return grouped


def _events(transitions: Transitions) -> Iterator[tuple[str, str]]:
    events = dict.fromkeys(event for events in transitions.values() for event in events)
    for event in events:
        yield event.__name__, _one_line(inspect.getdoc(event) or "")


def _dot(transitions: Transitions) -> Iterator[str]:
    yield "digraph {"
    yield "  rankdir=LR; node [shape=box, style=rounded];"
    for status, events in transitions.items():
        for after, names in _grouped(events).items():
            label = "\\n".join(names)
            yield f'  {status} -> {after} [label="{label}"];'
    yield "}"


def _members(enum: type[Any]) -> Iterator[tuple[str, str]]:
    """The members of an enum, with the comment `#: ...` behind each."""
    comments = dict(re.findall(r"^    (\w+) = .*?#: (.+)$", inspect.getsource(enum), re.MULTILINE))
    for member in enum:
        text = comments.get(member.name, member.name.lower().replace("_", " "))
        yield f"`{member.value}`", _capitalised(text)


def _table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(_cell(text) for text in row)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _page(lines: list[str]) -> str:
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
        print(path)
