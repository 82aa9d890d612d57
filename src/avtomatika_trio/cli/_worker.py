"""`avtomatika worker run`: a worker, until it is told to stop."""

import importlib
import os
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import attrs
import trio

from avtomatika_trio._config import (
    Secret,
    Target,
    WorkerSettings,
    check,
    is_loopback,
    load_orchestrator_settings,
    load_worker_settings,
)
from avtomatika_trio._config._file import CONFIG_VARIABLE
from avtomatika_trio._service_notice import service_notice
from avtomatika_trio.cli._connect import generated_tokens
from avtomatika_trio.cli._exits import CommandError, Exit
from avtomatika_trio.cli._imports import line_of, reach_working_folder
from avtomatika_trio.cli._logs import start_logging, tell
from avtomatika_trio.cli._places import settings_file
from avtomatika_trio.cli._signals import Ending, watch_signals
from avtomatika_trio.worker import Worker
from avtomatika_trio.worker._spool_folder import default_worker_id
from avtomatika_trio.worker._start import IMPORTED, telling_up

_REMEDY = "give MODULE:ATTR, such as my_worker:worker for `worker = Worker()` in my_worker.py"

_LOCKED_OUT = "so it will hardly be let in; set WORKER_TOKEN, or start it where `serve` runs"

#: Options that are settings, by their field.
_OVERRIDES = (
    "worker_id",
    "orchestrators",
    "mode",
    "max_concurrent_tasks",
    "spool_dir",
    "health_port",
    "log_level",
    "log_format",
)


def run(options: Namespace) -> int:
    """Work until SIGTERM (0) or Ctrl-C (130); a second one ends at once.

    Raises:
        CommandError: there is no such Worker.
        ConfigError: a setting is wrong.
        SpoolError: the folder of its results cannot be used.
    """
    if options.reload:
        from avtomatika_trio.cli import _reload

        return _reload.run(options)
    worker = import_worker(options.worker)
    settings = _settle(worker, options)
    start_logging(settings.log_level, settings.log_format)
    report = check(WorkerSettings, environ=os.environ, file=settings_file(options), overrides={})
    for warning in report.warnings:
        tell(f"warning: {warning}")
    if settings.skills_dir is not None:
        worker.load_skills(settings.skills_dir)
    return trio.run(_work, worker, partial(_announce, worker, settings))


def import_worker(spec: str) -> Worker:
    """The Worker that *spec*, `MODULE:ATTR`, names; modules of the working directory count.

    Raises:
        CommandError: it names none; the message says which are there.
    """
    name, _, attribute = spec.partition(":")
    if name.endswith(".py"):
        dotted = ".".join(Path(name).with_suffix("").parts)
        remedy = f"give the module, not the file: {dotted}:{attribute or 'worker'}"
        raise CommandError(Exit.USAGE, f"{spec!r} names no Worker; {remedy}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise CommandError(Exit.USAGE, f"{spec!r} names no Worker; {_REMEDY}")
    reach_working_folder()
    module = _import(name)
    there = [f"{name}:{key}" for key, value in vars(module).items() if isinstance(value, Worker)]
    remedy = f"there is {', '.join(there)}" if there else f"there is no Worker in it; {_REMEDY}"
    found = getattr(module, attribute, None)
    if isinstance(found, Worker):
        return found
    fault = f"{spec!r} names no Worker"
    if found is not None:
        fault = f"{spec!r} is no Worker but of type {type(found).__name__}"
    raise CommandError(Exit.USAGE, f"{fault}; {remedy}")


def _import(name: str) -> ModuleType:
    before = IMPORTED.set(True)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and f"{name}.".startswith(f"{exc.name}."):
            folder = Path.cwd()
            fault = f"there is no module {exc.name!r} in {folder} nor among what is installed"
            raise CommandError(Exit.USAGE, f"{fault}; {_REMEDY}") from None
        raise _broken(name, exc) from exc
    except (
        Exception,
        SystemExit,
    ) as exc:  # the border to foreign code: whatever it raises, name the module
        raise _broken(name, exc) from exc
    finally:
        IMPORTED.reset(before)


def _broken(name: str, exc: BaseException) -> CommandError:
    place = line_of(exc, name)
    return CommandError(
        Exit.FAILED, f"module {name!r}{place}: cannot be imported: {type(exc).__name__}: {exc}"
    )


def _settle(worker: Worker, options: Namespace) -> WorkerSettings:
    """Give *worker* what *options* say, and a generated token if it has none; its settings."""
    if options.config is not None:
        os.environ[CONFIG_VARIABLE] = options.config
    given = {name: getattr(options, name) for name in _OVERRIDES}
    read = load_worker_settings(environ={}, file=None, overrides=given).settings
    # What is typed last wins, also over what the author of the worker has written.  Only "off"
    # is given as it was typed: the None that it is read as would mean that nothing was given.
    typed = {name: value for name, value in given.items() if value is not None}
    settings = worker.configure(
        **{name: getattr(read, name) or value for name, value in typed.items()}
    )
    without = [it for it in settings.orchestrators if _could_use_generated(it, settings)]
    if without:
        here = load_orchestrator_settings(
            environ=os.environ, file=settings_file(options), overrides={}
        )
        tokens = generated_tokens(here.settings)
        if tokens is not None:
            own = Secret(tokens.worker_token)
            targets = tuple(
                attrs.evolve(it, token=own) if it in without else it
                for it in settings.orchestrators
            )
            return worker.configure(orchestrators=targets)
    return settings


def _could_use_generated(target: Target, settings: WorkerSettings) -> bool:
    """Whether nobody gave a token for *target*, which is on this machine: no other may see it."""
    host = urlsplit(target.url).hostname or ""
    return settings.token_of(target) is None and is_loopback(host)


def _announce(worker: Worker, settings: WorkerSettings) -> None:
    """The start-up summary."""
    lines = {
        "id": settings.worker_id or default_worker_id(settings.spool_dir),
        "skills": ", ".join(worker.skills) or "none",
        "slots": str(settings.max_concurrent_tasks),
        "orchestrators": ", ".join(target.url for target in settings.orchestrators),
        "mode": settings.mode if len(settings.orchestrators) > 1 else None,
        "token": _missing_tokens(settings),
        "spool": str(settings.spool_dir),
        "files": _place_of_files(settings),
    }
    tell(f"avtomatika {version('avtomatika-trio')} works", lines)


def _place_of_files(settings: WorkerSettings) -> str | None:
    access = settings.s3()
    if access is None and settings.files_dir is None:
        return None
    place = f"{settings.files_dir}" if access is None else access.place
    return f"in {place}; tasks have theirs in {settings.payload_dir}"


def _missing_tokens(settings: WorkerSettings) -> str | None:
    without = [it.url for it in settings.orchestrators if settings.token_of(it) is None]
    if not without:
        return None
    all_of_them = len(without) == len(settings.orchestrators)
    return f"none{'' if all_of_them else ' for ' + ', '.join(without)}, {_LOCKED_OUT}"


async def _work(worker: Worker, announce: Callable[[], None]) -> int:
    ending, notice = Ending(), service_notice(os.environ)

    def stop() -> None:
        notice.stopping()
        worker.stop()

    async with trio.open_nursery() as watching:
        await watching.start(partial(watch_signals, ending, stop))
        watching.start_soon(notice.keep_alive)
        await worker.serve(task_status=telling_up(notice, lambda: worker.skills, announce))
        watching.cancel_scope.cancel()
    return ending.exit
