"""From settings to the parts of an orchestrator: the one place where a setting gets its effect."""

from avtomatika_trio._config import OrchestratorSettings
from avtomatika_trio._core.rules import Rules
from avtomatika_trio.orchestrator._context import Context, Limits
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.orchestrator._server import ServerSettings
from avtomatika_trio.orchestrator._tokens import Tokens
from avtomatika_trio.storage._base import Storage


def create_context(
    settings: OrchestratorSettings, storage: Storage, blueprints: Blueprints, tokens: Tokens
) -> Context:
    """The parts of one orchestrator that goes by *settings*.

    Args:
        settings: Where to listen and what to store in are not used here; see `server_settings`.
        storage: Open; outlives the context.
        blueprints: Those that jobs may be submitted for.
        tokens: Configured or generated; those in *settings* have been considered in them.
    """
    return Context(
        storage=storage,
        blueprints=blueprints,
        client_token=tokens.client_token,
        worker_token=tokens.worker_token,
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
    """Where the orchestrator listens and how patient its server is."""
    return ServerSettings(
        host=settings.host,
        port=settings.port,
        max_message_bytes=settings.max_body_bytes,
        grace_seconds=settings.grace_seconds,
    )
