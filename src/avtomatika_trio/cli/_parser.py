"""The command line: commands, options, and their help.

Nothing heavy is imported here: `avtomatika --help` answers at once.  What a command does is
in the module of its name.
"""

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any

from avtomatika_trio.cli._output import note, print_line
from avtomatika_trio.cli._parser_jobs import add_job as _add_job
from avtomatika_trio.cli._parser_parts import (
    Commands as _Commands,
    Parser,
    add as _add,
    add_config as _add_config,
    add_connection as _add_connection,
    add_json as _add_json,
    add_logging as _add_logging,
    add_output as _add_output,
    add_verbs as _add_verbs,
    path as _path,
    seconds as _seconds,
    whole as _whole,
)

_EXITS = """\
exit codes:
  0 ok   1 failed   2 usage   3 not found   4 not authorised   5 conflict
  124 timed out   130 Ctrl-C

Each option of a setting outweighs its environment variable, that one the settings file.
`avtomatika COMMAND --help` tells more; `avtomatika check` shows every setting.
"""


class _Version(argparse.Action):
    """Prints the version; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print_line(f"avtomatika {version('avtomatika-trio')}")
        parser.exit()


def create_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; what it returns has `command` and, maybe, `verb`."""
    parser = Parser(
        prog="avtomatika",
        description="Blueprint jobs on a fleet of workers: no task is lost, doubled or stuck.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(parser=parser)
    parser.add_argument(
        "-V", "--version", action=_Version, nargs=0, help="print the version and exit"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_init(commands)
    _add_serve(commands)
    _add_worker(commands)
    _add_job(commands)
    _add_blueprint(commands)
    _add_token(commands)
    _add_storage(commands)
    _add_check(commands)
    _add_completion(commands)
    _add_demo(commands)
    return parser


def _add_init(commands: _Commands) -> None:
    init = _add(commands, "init", "write a project to begin with; replaces no file")
    init.add_argument(
        "folder",
        type=_path,
        metavar="FOLDER",
        nargs="?",
        default=".",
        help="where (default: here)",
    )
    init.add_argument("--name", help="the project's name (default: the folder's)")


def _add_serve(commands: _Commands) -> None:
    serve = _add(commands, "serve", "run an orchestrator until SIGTERM or Ctrl-C")
    serve.add_argument(
        "--storage", metavar="URL", help="memory:, sqlite:PATH or redis://HOST:PORT (STORAGE_URL)"
    )
    serve.add_argument("--host", help="the address to listen on (API_HOST)")
    serve.add_argument("--port", help="the port to listen on; 0 takes a free one (API_PORT)")
    serve.add_argument(
        "--blueprints",
        type=_path,
        metavar="SOURCE",
        help="a folder, file or module of blueprints (BLUEPRINTS_DIR)",
    )
    _add_config(serve)
    _add_logging(serve)
    _add_output(
        serve, "table", "json", text='json: print one line {"url": ...} to stdout once it serves'
    )


def _add_worker(commands: _Commands) -> None:
    verbs = _add_verbs(commands, "worker", "run workers, and look into them")
    run = _add(verbs, "run", "run a worker")
    run.add_argument(
        "worker", metavar="MODULE:ATTR", help="the Worker: its module and its name there"
    )
    run.add_argument(
        "--reload",
        action="store_true",
        help="start it again when a *.py file beside it changes; for development",
    )
    run.add_argument("--id", "--worker-id", dest="worker_id", help="its name (WORKER_ID)")
    run.add_argument(
        "--orchestrator-url",
        dest="orchestrators",
        action="append",
        metavar="URL",
        help="whom to work for; give it several times for several (ORCHESTRATORS_CONFIG)",
    )
    run.add_argument(
        "--mode",
        help="of several: FAILOVER, ROUND_ROBIN or WATERFALL (MULTI_ORCHESTRATOR_MODE)",
    )
    run.add_argument(
        "--slots",
        "--max-concurrent-tasks",
        dest="max_concurrent_tasks",
        metavar="N",
        help="how many tasks run at the same time (MAX_CONCURRENT_TASKS)",
    )
    run.add_argument(
        "--spool-dir", type=_path, metavar="DIR", help="undelivered results (WORKER_SPOOL_DIR)"
    )
    run.add_argument("--health-port", metavar="PORT", help="of the health check (WORKER_PORT)")
    _add_config(run)
    _add_logging(run)
    listing = _add(
        verbs, "list", "list the workers that an orchestrator knows; needs the role operator"
    )
    _add_connection(listing)
    _add_output(listing, "table", "json", "jsonl")
    _add_worker_status(verbs)
    _add_worker_spool(verbs)


def _add_worker_status(verbs: _Commands) -> None:
    status = _add(verbs, "status", "ask a running worker how it is; exit with 0 if it is well")
    status.add_argument(
        "--url",
        help="its health check (default: WORKER_HOST and WORKER_PORT; http://127.0.0.1:8083)",
    )
    status.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long it may take to answer (default: 5)",
    )
    _add_config(status)
    _add_output(status, "table", "json")


def _add_worker_spool(verbs: _Commands) -> None:
    spool = _add(
        verbs, "spool", "show the results that a worker keeps; changes nothing, also while it runs"
    )
    spool.add_argument(
        "--spool-dir", type=_path, metavar="DIR", help="the folder (WORKER_SPOOL_DIR)"
    )
    spool.add_argument("--task", metavar="ID", help="show the result of this task whole, as JSON")
    _add_config(spool)
    _add_output(spool, "table", "json", "jsonl")


def _add_token(commands: _Commands) -> None:
    verbs = _add_verbs(commands, "token", "say who may talk: tokens of workers and clients")
    create = _add(verbs, "create", "add a worker or client; prints its token, once")
    create.add_argument("name", metavar="NAME", help='a worker id, or "gpu-*"; or a client id')
    create.add_argument("--skills", metavar="A,B", help="what the worker may be given")
    create.add_argument("--expires", metavar="TIME", help="such as 2027-01-31T00:00:00Z")
    create.add_argument("--roles", metavar="A,B", help="viewer, submitter, operator, admin")
    create.add_argument("--plan", help="what handlers see as client.plan")
    create.add_argument(
        "--monthly-attempts", type=_whole, metavar="N", help="how many jobs it may submit a month"
    )
    create.add_argument("--description", metavar="TEXT", help="for people")
    listing = _add(verbs, "list", "show who may talk")
    rotate = _add(verbs, "rotate", "give a new token beside the old one; prints it, once")
    rotate.add_argument("name", metavar="NAME", help="as in the file")
    rotate.add_argument("--finish", action="store_true", help="drop the older of its two tokens")
    revoke = _add(verbs, "revoke", "remove a worker or client")
    revoke.add_argument("name", metavar="NAME", help="as in the file")
    for parser in (create, listing, rotate, revoke):
        parser.add_argument(
            "--client", action="store_true", help="a client of clients.toml, not a worker"
        )
        parser.add_argument(
            "--file",
            type=_path,
            metavar="FILE",
            help="the file (WORKERS_CONFIG_PATH, CLIENTS_CONFIG_PATH)",
        )
        _add_config(parser)
        _add_output(parser, "table", "json")
    _add(verbs, "hash", "read a token from stdin, and print its hash")
    reload = _add(verbs, "reload", "have an orchestrator read both files again")
    _add_connection(reload)
    _add_output(reload, "table", "json")


def _add_blueprint(commands: _Commands) -> None:
    verbs = _add_verbs(commands, "blueprint", "look at blueprints")
    listing = _add(verbs, "list", "list the blueprints of an orchestrator, or of a source")
    check = _add(verbs, "check", "check blueprints, without an orchestrator")
    graph = _add(verbs, "graph", "print a blueprint as a graph: DOT, SVG, text or JSON")
    check.add_argument(
        "source", type=_path, metavar="SOURCE", help="a folder, file or module of blueprints"
    )
    graph.add_argument("name", metavar="NAME", help="the blueprint's name")
    for parser in (listing, graph):
        parser.add_argument(
            "--blueprints",
            type=_path,
            metavar="SOURCE",
            help="a folder, file or module of blueprints, instead of an orchestrator",
        )
        _add_connection(parser)
    _add_output(listing, "table", "json", "jsonl")
    _add_output(check, "table", "json")
    graph.add_argument(
        "--format",
        "-o",
        "--output",
        dest="output",
        choices=("dot", "svg", "ascii", "json"),
        default="dot",
        help="the format (default: dot); svg needs no Graphviz",
    )
    _add_json(graph)


def _add_storage(commands: _Commands) -> None:
    verbs = _add_verbs(commands, "storage", "check, back up, restore and move a storage")
    check = _add(verbs, "check", "count what is in a storage, and tell what is wrong with it")
    backup = _add(verbs, "backup", "write everything that is in a storage into one file")
    restore = _add(verbs, "restore", "put what is in the file of a backup into an empty storage")
    migrate = _add(verbs, "migrate", "put everything that is in a storage into an empty one")
    backup.add_argument(
        "file", type=_path, metavar="FILE", help="the file; its folder must be there"
    )
    backup.add_argument("--force", action="store_true", help="let it replace a file")
    restore.add_argument(
        "file", type=_path, metavar="FILE", help="a file that `backup` has written"
    )
    migrate.add_argument("source", metavar="SOURCE", help="the storage to read; stays as it is")
    migrate.add_argument("target", metavar="TARGET", help="the empty storage, or one to be made")
    for parser in (check, backup, restore):
        parser.add_argument(
            "--storage", metavar="URL", help="sqlite:PATH or redis://HOST:PORT (STORAGE_URL)"
        )
        _add_config(parser)
    for parser in (check, backup):
        parser.add_argument(
            "--live",
            action="store_true",
            help=(
                "also while it is served, though what is read may not fit together;"
                " a SQLite file that is served stays locked"
            ),
        )
    _add_output(check, "table", "json")


def _add_check(commands: _Commands) -> None:
    check = _add(commands, "check", "show every setting, where it comes from, and what is wrong")
    _add_config(check)
    _add_output(check, "table", "json")


_COMPLETION = """\
for this shell alone:
  bash  source <(avtomatika completion bash)
  zsh   autoload -U compinit; compinit; eval "$(avtomatika completion zsh)"
  fish  avtomatika completion fish | source

for every one to come; bash needs the package bash-completion:
  bash  mkdir -p ~/.local/share/bash-completion/completions
        avtomatika completion bash > ~/.local/share/bash-completion/completions/avtomatika
  zsh   mkdir -p ~/.zfunc; avtomatika completion zsh > ~/.zfunc/_avtomatika
        and in ~/.zshrc: fpath=(~/.zfunc $fpath); autoload -U compinit; compinit
  fish  mkdir -p ~/.config/fish/completions
        avtomatika completion fish > ~/.config/fish/completions/avtomatika.fish
"""


def _add_completion(commands: _Commands) -> None:
    completion = _add(commands, "completion", "print what makes a shell complete `avtomatika`")
    completion.formatter_class = argparse.RawDescriptionHelpFormatter
    completion.epilog = _COMPLETION
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def _add_demo(commands: _Commands) -> None:
    demo = _add(commands, "demo", "run a real job on two workers: an audit of Python's library")
    demo.add_argument(
        "--kill", action="store_true", help="kill the orchestrator and a worker on the way"
    )
    demo.add_argument(
        "--folder", type=_path, metavar="DIR", help="where to keep the database and the report"
    )
    demo.add_argument(
        "--root",
        type=_path,
        metavar="DIR",
        help="Python source to audit instead of the standard library",
    )


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read *argv* (None: the process's).

    Raises:
        SystemExit: it is not understood (2), or help or version has been printed (0).
    """
    options, unknown = create_parser().parse_known_args(argv)
    parser: argparse.ArgumentParser = options.parser  # of the command, not of all
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{_hint(parser, unknown)}")
    for word in ("command", "verb"):
        # Where there are no verbs, there is no such attribute.
        if getattr(options, word, "") is None:
            note(parser.format_help())
            remedy = "give one of those above"
            parser.exit(2, f"{parser.prog}: error: a {word.upper()} is missing; {remedy}\n")
    return options


def _hint(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> str:
    """Which option of *parser* may have been meant; nothing, if none is near."""
    known = re.findall(r"--[a-z-]+", parser.format_help())
    for option in unknown:
        near = difflib.get_close_matches(option.partition("=")[0], known, n=1)
        if option.startswith("-") and near:
            return f"; did you mean {near[0]}?"
    first = unknown[0]  # the others may be values of what was not known
    if not first.startswith("-") and "--blueprints" in known:
        return f"; did you mean --blueprints {first}?"
    return ""
