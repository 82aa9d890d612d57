"""The command `avtomatika`.

Commands import what they need when they run, so that `avtomatika --help` answers at once.
"""

from argparse import Namespace
from collections.abc import Callable, Sequence

from avtomatika_trio.cli._exits import Exit, deliberate, explained
from avtomatika_trio.cli._output import discard_output, open_missing_streams
from avtomatika_trio.cli._parser import parse
from avtomatika_trio.errors import AvtomatikaError

__all__ = ["Exit", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The command and its options; None = those of the process.

    Returns:
        The exit code, see `Exit`.  Every error of ours has been told on stderr, with its
        remedy.

    Raises:
        Exception: a bug of ours or a crash; Python prints the traceback and exits with 1.
    """
    open_missing_streams()
    try:
        options = parse(argv)
        return _command(options)(options)
    except SystemExit as stop:
        return int(stop.code or 0)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return Exit.BROKEN_PIPE
    except AvtomatikaError as error:
        return _told(error)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:
            return Exit.INTERRUPTED
        only = deliberate(group)
        if only is None:
            raise
        return _told(only)


def _command(options: Namespace) -> Callable[[Namespace], int]:
    """The function that does what *options* ask for."""
    match options.command:
        case "init":
            from avtomatika_trio.cli._init import run
        case "serve":
            from avtomatika_trio.cli._serve import run
        case "worker":
            return _worker_command(options)
        case "job":
            from avtomatika_trio.cli._jobs import run
        case "blueprint":
            from avtomatika_trio.cli._blueprints import run
        case "token":
            from avtomatika_trio.cli._token import run
        case "storage":
            from avtomatika_trio.cli._storage import run
        case "completion":
            from avtomatika_trio.cli._completion import run
        case "check":
            from avtomatika_trio.cli._check import run
        case _:
            from avtomatika_trio.cli._demo import run
    return run


def _worker_command(options: Namespace) -> Callable[[Namespace], int]:
    match options.verb:
        case "list":
            from avtomatika_trio.cli._worker_list import run
        case "spool":
            from avtomatika_trio.cli._worker_spool import run
        case "status":
            from avtomatika_trio.cli._worker_status import run
        case _:
            from avtomatika_trio.cli._worker import run
    return run


def _told(error: AvtomatikaError) -> int:
    from avtomatika_trio.cli._logs import fault

    end = explained(error)
    fault(end.message)
    return end.exit
