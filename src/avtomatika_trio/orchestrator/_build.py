"""From settings to the parts of an orchestrator: the one place where a setting gets its effect."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from avtomatika_trio._config import OrchestratorSettings
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.blobs import Blobs, Patience, open_folder, open_s3
from avtomatika_trio.orchestrator._context import Context, Limits, Security, SystemChance
from avtomatika_trio.orchestrator._counted_storage import counted
from avtomatika_trio.orchestrator._credential_files import CredentialFiles
from avtomatika_trio.orchestrator._limits import create_limits
from avtomatika_trio.orchestrator._metrics import Metrics
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.orchestrator._server import ServerSettings
from avtomatika_trio.storage._base import Storage

#: How long an S3 server may be away before a request or a handler is told so.
_BLOBS_SECONDS = 10.0


@asynccontextmanager
async def open_blobs(settings: OrchestratorSettings) -> AsyncIterator[Blobs]:
    """Where files of jobs are kept: on the S3 server of *settings*, else in their folder.

    Raises:
        ConfigError: what S3 needs is given in part.
    """
    access = settings.s3()
    if access is None:
        async with open_folder(settings.files_dir) as folder:
            yield folder
        return
    patience = Patience(seconds=_BLOBS_SECONDS, noise=SystemChance().noise)
    async with open_s3(
        access, max_concurrency=settings.s3_max_concurrency, patience=patience
    ) as server:
        yield server


def create_context(
    settings: OrchestratorSettings,
    storage: Storage,
    blueprints: Blueprints,
    *,
    blobs: Blobs | None,
    client_token: str | None,
    worker_token: str | None,
) -> Context:
    """The parts of one orchestrator that goes by *settings*.

    Args:
        settings: Where to listen and what to store in are not used here; see `server_settings`.
        storage: Open; outlives the context.
        blueprints: Those that jobs may be submitted for.
        blobs: As `open_blobs` has opened it, outliving the context; None keeps no files.
        client_token: What clients show that have no token of their own, configured or
            generated; that in *settings* has been considered.
        worker_token: Likewise for workers.
    """
    access = settings.s3()
    metrics = Metrics()
    return Context(
        storage=counted(storage, metrics),
        metrics=metrics,
        blueprints=blueprints,
        client_token=client_token,
        worker_token=worker_token,
        files=CredentialFiles(
            workers=settings.workers_config, clients=settings.clients_config, looks_around=True
        ),
        security=_security(settings),
        rates=create_limits(settings, time.monotonic),
        rules=_rules(settings),
        limits=_limits(settings),
        blobs=blobs,
        s3_config_hash=None if access is None else access.config_hash,
        task_files_dir=settings.task_files_dir,
    )


def _security(settings: OrchestratorSettings) -> Security:
    key = settings.secret_key
    return Security(
        auth_mode=settings.worker_auth_mode,
        signing=settings.worker_signing,
        secret_key=None if key is None else key.reveal().encode(),
        access_token_seconds=settings.access_token_seconds,
        time_zone=settings.time_zone,
    )


def _rules(settings: OrchestratorSettings) -> Rules:
    return Rules(
        lease_seconds=settings.lease_seconds,
        max_lost_attempts=settings.max_lost_attempts,
        blocked_loop_seconds=settings.blocked_loop_seconds,
        files_retention_seconds=(
            settings.files_retention_seconds if settings.s3_auto_cleanup else None
        ),
        jobs_retention_seconds=settings.jobs_retention_seconds,
        strict_events=settings.strict_event_validation,
    )


def _limits(settings: OrchestratorSettings) -> Limits:
    return Limits(
        poll_hold_seconds=settings.poll_hold_seconds,
        handler_timeout_seconds=settings.handler_timeout_seconds,
        max_params_bytes=settings.max_params_bytes,
        max_transitions=settings.max_transitions_per_job,
        max_body_bytes=settings.max_body_bytes,
        max_file_bytes=settings.max_file_bytes,
    )


def server_settings(settings: OrchestratorSettings) -> ServerSettings:
    """Where the orchestrator listens, how patient its server is, and whether it speaks TLS.

    Args:
        settings: As `check_tls` has found them right.
    """
    tls = settings.tls_enabled
    return ServerSettings(
        host=settings.host,
        port=settings.port,
        max_message_bytes=settings.max_body_bytes,
        grace_seconds=settings.grace_seconds,
        certfile=_path(settings.tls_cert) if tls else None,
        keyfile=_path(settings.tls_key) if tls else None,
        ca_certs=_path(settings.tls_ca) if tls else None,
        require_client_cert=tls and settings.tls_require_client_cert,
    )


def _path(file: Path | None) -> str | None:
    return None if file is None else str(file)
