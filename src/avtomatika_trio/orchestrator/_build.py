"""From settings to the parts of an orchestrator: the one place where a setting gets its effect."""

import time
from pathlib import Path

from avtomatika_trio._config import OrchestratorSettings
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.orchestrator._context import Context, Limits, Security
from avtomatika_trio.orchestrator._credential_files import CredentialFiles
from avtomatika_trio.orchestrator._limits import create_limits
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.orchestrator._server import ServerSettings
from avtomatika_trio.storage._base import Storage


def create_context(
    settings: OrchestratorSettings,
    storage: Storage,
    blueprints: Blueprints,
    *,
    client_token: str | None,
    worker_token: str | None,
) -> Context:
    """The parts of one orchestrator that goes by *settings*.

    Args:
        settings: Where to listen and what to store in are not used here; see `server_settings`.
        storage: Open; outlives the context.
        blueprints: Those that jobs may be submitted for.
        client_token: What clients show that have no token of their own, configured or
            generated; that in *settings* has been considered.
        worker_token: Likewise for workers.
    """
    key = settings.secret_key
    return Context(
        storage=storage,
        blueprints=blueprints,
        client_token=client_token,
        worker_token=worker_token,
        files=CredentialFiles(
            workers=settings.workers_config, clients=settings.clients_config, looks_around=True
        ),
        security=Security(
            auth_mode=settings.worker_auth_mode,
            signing=settings.worker_signing,
            secret_key=None if key is None else key.reveal().encode(),
            access_token_seconds=settings.access_token_seconds,
            time_zone=settings.time_zone,
        ),
        rates=create_limits(settings, time.monotonic),
        rules=Rules(
            lease_seconds=settings.lease_seconds,
            max_lost_attempts=settings.max_lost_attempts,
            blocked_loop_seconds=settings.blocked_loop_seconds,
        ),
        limits=Limits(
            poll_hold_seconds=settings.poll_hold_seconds,
            handler_timeout_seconds=settings.handler_timeout_seconds,
            max_params_bytes=settings.max_params_bytes,
            max_transitions=settings.max_transitions_per_job,
            max_body_bytes=settings.max_body_bytes,
        ),
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
