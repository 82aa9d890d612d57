"""`avtomatika serve`: one orchestrator, until it is told to stop."""

import gc
import logging
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import trio

from avtomatika_trio._config import (
    OrchestratorSettings,
    is_loopback,
    load_orchestrator_settings,
    masked,
)
from avtomatika_trio._service_notice import service_notice
from avtomatika_trio.cli._exits import CommandError, Exit, leaves
from avtomatika_trio.cli._imports import load_checked
from avtomatika_trio.cli._logs import start_logging, tell
from avtomatika_trio.cli._output import note, print_json
from avtomatika_trio.cli._places import (
    check_folder,
    settings_file,
    token_files,
    tokens_path,
)
from avtomatika_trio.cli._signals import Ending, watch_signals
from avtomatika_trio.errors import ConfigError, StorageUnavailable
from avtomatika_trio.orchestrator._build import create_context, open_blobs, server_settings
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._credential_files import CLIENTS_FILE, WORKERS_FILE
from avtomatika_trio.orchestrator._registry import Blueprints, endpoints_of
from avtomatika_trio.orchestrator._server import serve
from avtomatika_trio.orchestrator._service import run_orchestrator
from avtomatika_trio.orchestrator._tls import check_tls
from avtomatika_trio.orchestrator._tokens import make_tokens, read_tokens
from avtomatika_trio.storage import open_storage

logger = logging.getLogger(__name__)

#: When Python looks for cycles of garbage: new objects, and rounds until older ones are
#: looked at too.  A loaded orchestrator makes objects by the million and hardly a cycle; with
#: Python's defaults the looking takes a tenth of its time (benchmarks/README.md).
_GARBAGE_THRESHOLDS = (20_000, 50, 100)


def run(options: Namespace) -> int:
    """Serve until SIGTERM (0) or Ctrl-C (130); a second one ends at once.

    Raises:
        ConfigError: the settings are wrong.
        CommandError: the blueprints, the address or the folder are.
        StorageUnavailable: the storage cannot be opened, or another process has it.
    """
    loaded = load_orchestrator_settings(
        environ=os.environ, file=settings_file(options), overrides=_overrides(options)
    )
    settings = loaded.settings
    start_logging(settings.log_level, settings.log_format)
    for warning in loaded.warnings:
        tell(f"warning: {warning}")
    _refuse_open_doors(settings)
    check_tls(settings)
    check_folder(settings.storage_url)
    blueprints = _blueprints(settings)
    gc.freeze()  # what is loaded now stays
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    return trio.run(partial(_serve, settings, blueprints, as_json=options.output == "json"))


def _overrides(options: Namespace) -> Mapping[str, object]:
    return {
        "storage_url": options.storage,
        "host": options.host,
        "port": options.port,
        "blueprints": options.blueprints,
        "log_level": options.log_level,
        "log_format": options.log_format,
    }


def _refuse_open_doors(settings: OrchestratorSettings) -> None:
    """Generated tokens are for this machine alone.

    Raises:
        ConfigError: others can reach the address, and nothing says who may talk.
    """
    if is_loopback(settings.host):
        return
    given = {
        "CLIENT_TOKEN": (settings.client_token, settings.clients_config, CLIENTS_FILE),
        "WORKER_TOKEN": (settings.worker_token, settings.workers_config, WORKERS_FILE),
    }
    missing = [
        name
        for name, (token, named, usual) in given.items()
        if token is None and named is None and not usual.exists()
    ]
    if settings.worker_auth_mode == "mtls-only" and "WORKER_TOKEN" in missing:
        missing.remove("WORKER_TOKEN")
    if missing:
        names = " and ".join(missing)
        files = " and ".join(f"{name}_FILE" for name in missing)
        tables = " and ".join(str(given[name][2]) for name in missing)
        fault = f"{settings.host} can be reached from other machines, and has no token of its own"
        remedy = f"set {names} (or {files}), or name each in {tables}, or listen on 127.0.0.1"
        raise ConfigError((f"{fault}; {remedy}",))


def _blueprints(settings: OrchestratorSettings) -> Blueprints:
    if settings.blueprints is None:
        return Blueprints()
    blueprints, problems = load_checked(settings.blueprints)
    if problems:
        raise CommandError(Exit.FAILED, "\n".join(problems))
    return blueprints


async def _serve(settings: OrchestratorSettings, blueprints: Blueprints, *, as_json: bool) -> int:
    ending, asked, up = Ending(), trio.Event(), False
    notice = service_notice(os.environ)
    hangups, heard = trio.open_memory_channel[None](1)

    def hang_up() -> None:
        # One may be waiting already, and will read the files; or nobody will any more.
        with suppress(trio.WouldBlock, trio.ClosedResourceError):
            hangups.send_nowait(None)

    def stop() -> None:
        notice.stopping()
        asked.set()
        hangups.close()

    async with trio.open_nursery() as watching:
        await watching.start(partial(watch_signals, ending, stop, reload=hang_up))
        watching.start_soon(notice.keep_alive)
        opening = open_storage(settings.storage_url, partitions=settings.storage_partitions)
        async with opening as storage, open_blobs(settings) as blobs:
            client_token, worker_token, place = _tokens(settings)
            context = create_context(
                settings,
                storage,
                blueprints,
                blobs=blobs,
                client_token=client_token,
                worker_token=worker_token,
            )
            orchestrator = partial(
                run_orchestrator,
                context,
                partial(serve, settings=server_settings(settings)),
                stop=asked.wait,
            )
            try:
                async with trio.open_nursery() as serving:
                    urls: list[str] = await serving.start(orchestrator)
                    up = True
                    serving.start_soon(_reload_on, heard, context)
                    _announce(urls[0], settings, context, place)
                    notice.ready(f"serves {urls[0]}")
                    if as_json:
                        print_json({"url": urls[0], "pid": os.getpid()}, one_line=True)
            except* OSError as group:
                if up:
                    raise
                raise CommandError(Exit.FAILED, _reason(group)) from None
        watching.cancel_scope.cancel()
    return ending.exit


async def _reload_on(hangups: trio.MemoryReceiveChannel[None], context: Context) -> None:
    """Read at each SIGHUP who may talk; what is wrong with it is logged, and changes nothing."""
    async for _ in hangups:
        try:
            await context.access.reload("SIGHUP", f"process {os.getpid()}", context.rules)
        except (ConfigError, StorageUnavailable) as exc:
            logger.error("credentials stay as they were: %s", exc)  # noqa: TRY400 - no traceback


def _tokens(settings: OrchestratorSettings) -> tuple[str | None, str | None, Path | None]:
    """What clients and workers without tokens of their own show, and where generated ones are.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    client = None if settings.client_token is None else settings.client_token.reveal()
    worker = None if settings.worker_token is None else settings.worker_token.reveal()
    if (client is not None and worker is not None) or not is_loopback(settings.host):
        return client, worker, None
    path = tokens_path(settings.storage_url)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        reason = f"{path.parent}: cannot be made ({exc.strerror})"
        raise ConfigError((f"{reason}; set CLIENT_TOKEN and WORKER_TOKEN",)) from exc
    made = read_tokens(path)
    if made is None:
        made = make_tokens(path)
        if sys.stderr.isatty():  # a person reads it, and no log keeps it
            note(f"client token, told this once: {client or made.client_token}")
            note(f"worker token, told this once: {worker or made.worker_token}")
    return client or made.client_token, worker or made.worker_token, path


def _reason(group: BaseExceptionGroup[OSError]) -> str:
    first = next(leaves(group))
    return first.strerror or str(first) if isinstance(first, OSError) else str(first)


def _announce(
    url: str, settings: OrchestratorSettings, context: Context, tokens: Path | None
) -> None:
    """The start-up summary."""
    blueprints = context.blueprints
    lines: dict[str, object] = {
        "url": url,
        "storage": _storage(settings, context),
        "jobs": _jobs(settings),
        "files": _files(settings),
        "tokens": "as configured",
    }
    if tokens is not None:
        how = "commands given in this folder find them"
        if tokens not in token_files(OrchestratorSettings()):
            how = f"other commands find them with STORAGE_URL={settings.storage_url}"
        lines["tokens"] = f"in {tokens}; {how}"
    access = context.access.roster.access
    if access.generation:
        sections = (
            f"{len(access.workers or ())} for workers, {len(access.clients or ())} for clients"
        )
        lines["credentials"] = f"{sections}; generation {access.generation}"
    if settings.tls_enabled:
        lines["tls"] = _tls(settings)
    if not blueprints:
        lines["blueprints"] = (
            "none, so no job can be submitted; give --blueprints a folder, file or module"
        )
    for blueprint in blueprints:
        lines[f"blueprint {blueprint.name}"] = f"POST {url}/api/v1{endpoints_of(blueprint)[0]}"
    lines["next"] = f"avtomatika worker run MODULE:ATTR{_where(url, '--orchestrator-url')}"
    for blueprint in list(blueprints)[:1]:
        lines["then"] = (
            f"avtomatika job submit {blueprint.name} --data JSON --wait{_where(url, '--url')}"
        )
    tell(f"avtomatika {version('avtomatika-trio')} serves", lines)


def _storage(settings: OrchestratorSettings, context: Context) -> str:
    """Where jobs are kept; of one that others may use, too, by which it is known."""
    where = masked(settings.storage_url)
    if not where.startswith("redis"):
        return where
    return f"{where}; cluster id {context.storage.cluster_id}"


def _jobs(settings: OrchestratorSettings) -> str:
    """How long they are kept."""
    if settings.jobs_retention_seconds is None:
        return "kept for good"
    return f"forgotten {_length(settings.jobs_retention_seconds)} after their end"


def _files(settings: OrchestratorSettings) -> str:
    """Where files of jobs are kept, and for how long."""
    access = settings.s3()
    where = f"in {settings.files_dir}" if access is None else f"in {access.place}"
    if not settings.s3_auto_cleanup:
        return f"{where}; they stay"
    return (
        f"{where}; removed {_length(settings.files_retention_seconds)} after the end of their job"
    )


def _length(seconds: float) -> str:
    days = seconds / 86_400
    return f"{days:g} days" if days >= 1 else f"{seconds:g} s"


def _tls(settings: OrchestratorSettings) -> str:
    """Who must show what, and how others come to trust this server."""
    asked = "clients need no certificate"
    if settings.tls_require_client_cert:
        asked = "clients need a certificate, which `avtomatika job` does not show"
    elif settings.tls_ca is not None:
        asked = "workers may show a certificate"
    return f"{settings.tls_cert}; {asked}; others trust its authority by TLS_CA_PATH"


def _where(url: str, option: str) -> str:
    return "" if url == "http://127.0.0.1:8080" else f" {option} {url}"
