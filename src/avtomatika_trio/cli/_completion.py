"""`avtomatika completion`: the script with which a shell completes the command line."""

import argparse
from argparse import Namespace
from collections.abc import Iterator

from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._output import print_line
from avtomatika_trio.cli._parser import create_parser
from avtomatika_trio.cli._parser_parts import below, path


def run(options: Namespace) -> int:
    """Print the script for the shell that *options* name."""
    import shtab

    parser = create_parser()
    for action in _arguments(parser):
        if action.type is path:
            setattr(action, "complete", shtab.FILE)  # noqa: B010 - not an attribute of argparse's
    print_line(shtab.complete(parser, shell=options.shell).removesuffix("\n"))
    return Exit.OK


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of *parser*, and of the commands below it."""
    yield from parser._actions  # noqa: SLF001 - argparse has no other way to ask
    for inner in below(parser).values():
        yield from _arguments(inner)
