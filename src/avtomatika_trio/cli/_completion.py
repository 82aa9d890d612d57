"""`avtomatika completion`: the script with which a shell completes the command line."""

from argparse import Namespace

from avtomatika_trio.cli._exits import Exit
from avtomatika_trio.cli._output import print_line
from avtomatika_trio.cli._parser import create_parser


def run(options: Namespace) -> int:
    """Print the script for the shell that *options* name."""
    import shtab

    print_line(shtab.complete(create_parser(), shell=options.shell).removesuffix("\n"))
    return Exit.OK
