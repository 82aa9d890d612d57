"""What the parsers of several commands have in common: options, and the types of their values."""

import argparse
import difflib
import math
import re
from typing import Any, NoReturn

from avtomatika_trio.cli._narrowing import label

Commands = Any
"""Where commands are added; argparse's own type of it is private."""


_CHOICE = re.compile(r"invalid choice: '?(?P<given>[^' ]*)'? \(choose from (?P<choices>.*)\)$")


class Parser(argparse.ArgumentParser):
    """As of argparse; a word that is not among the choices is told the nearest of them."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong on stderr, and end the process with 2."""
        if found := _CHOICE.search(message):
            near = " or ".join(self._near(found["given"], found["choices"]))
            message += f"; did you mean {near}?" if near else ""
        super().error(message)

    def _near(self, given: str, choices: str) -> list[str]:
        """The commands that have a verb *given*, else the one of *choices* that is like it."""
        verbs = [it.prog for inner in below(self).values() for it in below(inner).values()]
        whole = [f"`{prog}`" for prog in verbs if prog.endswith(f" {given}")]
        return whole or difflib.get_close_matches(given, re.findall(r"[\w-]+", choices), n=1)


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands or verbs of *parser*, by name; none if it has none."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            return dict(action.choices)
    return {}


def add(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """A command below *commands*; what it parses has its parser as `parser`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    parser.set_defaults(parser=parser)
    return parser


def add_verbs(commands: Commands, name: str, text: str) -> Commands:
    """A command that has verbs below it; returns where they are added."""
    # Not required by argparse, which could only say that one is missing and not which there are.
    return add(commands, name, text).add_subparsers(dest="verb", metavar="VERB")


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Which orchestrator, and with which token."""
    parser.add_argument(
        "--url", help="the orchestrator (AVTOMATIKA_URL; default: http://127.0.0.1:8080)"
    )
    parser.add_argument(
        "--token",
        "--client-token",
        help="the client token (CLIENT_TOKEN; default: from avtomatika.tokens)",
    )
    add_config(parser)


def add_config(parser: argparse.ArgumentParser) -> None:
    """Which settings file."""
    parser.add_argument(
        "--config",
        type=path,
        metavar="FILE",
        help="the settings file (default: avtomatika.toml)",
    )


def add_logging(parser: argparse.ArgumentParser) -> None:
    """How much is logged, and how."""
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING ... (LOG_LEVEL)")
    parser.add_argument(
        "--log-format", metavar="FORMAT", help="text, or json for an object a line (LOG_FORMAT)"
    )


def add_output(parser: argparse.ArgumentParser, *formats: str, text: str | None = None) -> None:
    """The format of what goes to stdout; the first of *formats* is the default."""
    parser.add_argument(
        "-o",
        "--output",
        choices=formats,
        default=formats[0],
        help=text or f"the format (default: {formats[0]})",
    )
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`, beside `-o`: what many other commands call it."""
    parser.add_argument(
        "--json",
        dest="output",
        action="store_const",
        const="json",
        default=argparse.SUPPRESS,
        help="the same as -o json",
    )


def add_labels(parser: argparse.ArgumentParser, text: str) -> None:
    """`--label`, as often as one likes; *text* is its help."""
    parser.add_argument(
        "--label", dest="labels", type=label, action="append", metavar="KEY=VALUE", help=text
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """How long to wait for the end of a job, in seconds."""
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=math.inf,
        metavar="SECONDS",
        help="how long to wait for its end; then exit with 124 (default: no limit)",
    )


def path(text: str) -> str:
    """A file or folder, as it was typed; by this type shells are told to complete files."""
    return text


def seconds(text: str) -> float:
    """A length of time: a finite number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; give one like 60")
    return value


def whole(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number above 0; give one like 20"
        )
    return int(text)
