"""The settings of an orchestrator: each is declared once, as a field.

The class may also be built directly, with keyword arguments; ranges are a matter of loading.
"""

# `setting` makes an attrs field; ruff knows only `attrs.field` itself.
# ruff: noqa: RUF009

from pathlib import Path
from zoneinfo import ZoneInfo

import attrs

from avtomatika_trio._config._addresses import STORAGE
from avtomatika_trio._config._kinds import (
    FILE,
    FOLDER,
    HOST,
    PORT,
    SECRET,
    SWITCH,
    TEXT,
    TIME_ZONE,
    Secret,
    one_of,
    seconds,
    seconds_or_none,
    size,
    whole,
)
from avtomatika_trio._config._masking import masked
from avtomatika_trio._config._redis_urls import redis_url
from avtomatika_trio._config._setting import (
    DAY_SECONDS,
    log_format,
    log_level,
    setting,
    strict_event_validation,
)
from avtomatika_trio._config._settings_files import FileSettings

_KIB = 1024
_MIB = 1024**2


_GIB = 1024**3


def _usual_storage(settings: "OrchestratorSettings") -> str:
    """The storage of an orchestrator whose settings name none by its URL."""
    if settings.redis_host is None:
        return "sqlite:avtomatika.db"
    return redis_url(settings.redis_host, settings.redis_port, settings.redis_db)


@attrs.frozen(kw_only=True)
class OrchestratorSettings(FileSettings):
    """Settings of one orchestrator process; durations in seconds, sizes in bytes."""

    files_dir: Path = setting(
        FOLDER,
        "FILES_DIR",
        default=Path(".avtomatika/files"),
        show=lambda folder: repr(str(folder)),
        doc="Without S3: the folder that files of jobs are kept in.",
    )
    task_files_dir: Path = setting(
        FOLDER,
        "TASK_FILES_DIR",
        default=Path("/tmp/avtomatika-payloads"),  # noqa: S108 - ours in it are 0700
        show=lambda folder: repr(str(folder)),
        doc="Where files are while handlers of blueprints or uploads of clients work on them.",
    )
    max_file_bytes: int = setting(
        size(1, 5 * 1024 * _GIB),
        "MAX_FILE_BYTES",
        default=5 * _GIB,
        doc="The longest file that a client may send through the orchestrator.",
    )
    s3_auto_cleanup: bool = setting(
        SWITCH,
        "S3_AUTO_CLEANUP",
        default=True,
        doc="Whether the files of a job are removed some time after its end.",
    )
    files_retention_seconds: float = setting(
        seconds(0, 3650 * DAY_SECONDS),
        "FILES_RETENTION_SECONDS",
        default=7.0 * DAY_SECONDS,
        doc="How long after its end they stay.",
    )
    jobs_retention_seconds: float | None = setting(
        seconds_or_none(0, 3650 * DAY_SECONDS),
        "JOBS_RETENTION_SECONDS",
        default=30.0 * DAY_SECONDS,
        doc="How long after its end a job stays, with its history; not shorter than its files "
        "do. `none`: for good.",
    )

    redis_host: str | None = setting(
        HOST,
        "REDIS_HOST",
        default=None,
        doc="Without `STORAGE_URL`: the Redis server that jobs are kept in.",
    )
    redis_port: int = setting(
        whole(1, 65535),
        "REDIS_PORT",
        default=6379,
        doc="The port of that server.",
    )
    redis_db: int = setting(
        whole(0, 99_999),
        "REDIS_DB",
        default=0,
        doc="The database on that server.",
    )
    storage_partitions: int = setting(
        whole(1, 64),
        "STORAGE_PARTITIONS",
        default=64,
        doc="How many partitions a new storage in Redis gets, over which a Redis Cluster can "
        "spread it; one that is there keeps those that it has.",
    )
    storage_url: str = setting(
        STORAGE,
        "STORAGE_URL",
        default=attrs.Factory(_usual_storage, takes_self=True),
        flag="--storage",
        show=lambda url: repr(masked(url)),
        doc="Where jobs are kept: `memory:` (lost at exit), a SQLite file, or Redis. Outweighs "
        "`REDIS_HOST`, with a warning if it is another place.",
    )
    host: str = setting(
        HOST,
        "API_HOST",
        default="127.0.0.1",
        doc="The address to listen on; another than loopback needs configured tokens.",
    )
    port: int = setting(
        PORT,
        "API_PORT",
        default=8080,
        doc="The port to listen on; 0 lets the system choose one.",
    )
    blueprints: str | None = setting(
        TEXT,
        "BLUEPRINTS_DIR",
        default=None,
        doc="A folder of blueprint files, or the name of a module that holds blueprints.",
    )
    max_body_bytes: int = setting(
        size(_KIB, 1024 * _MIB),
        "MAX_BODY_BYTES",
        default=_MIB,
        doc="The largest request body that is read; a larger one is answered with 413.",
    )
    max_params_bytes: int = setting(
        size(_KIB, 1024 * _MIB),
        "MAX_PARAMS_BYTES",
        default=256 * _KIB,
        doc="The largest params of one task, as JSON.",
    )
    client_token: Secret | None = setting(
        SECRET,
        "CLIENT_TOKEN",
        default=None,
        doc="What clients must present.",
    )
    worker_token: Secret | None = setting(
        SECRET,
        "GLOBAL_WORKER_TOKEN",
        "WORKER_TOKEN",
        default=None,
        doc="What workers without a token of their own must present.",
    )
    workers_config: Path | None = setting(
        FILE,
        "WORKERS_CONFIG_PATH",
        default=None,
        doc="Tokens of single workers, see the guide on security; `workers.toml` in the working "
        "directory if it is there.",
    )
    clients_config: Path | None = setting(
        FILE,
        "CLIENTS_CONFIG_PATH",
        default=None,
        doc="Tokens, roles and quotas of single clients; `clients.toml` in the working directory "
        "if it is there.",
    )
    time_zone: ZoneInfo = setting(
        TIME_ZONE,
        "TZ",
        default=ZoneInfo("UTC"),
        show=str,
        doc="Where the calendar months of quotas begin.",
    )
    worker_auth_mode: str = setting(
        one_of("mixed", "mtls-only", "token-only"),
        "WORKER_AUTH_MODE",
        default="mixed",
        doc="Whether workers show a token, a client certificate, or either.",
    )
    worker_signing: str = setting(
        one_of("required", "optional", "off"),
        "WORKER_SIGNING",
        default="optional",
        doc="Whether messages of workers must be signed; `optional` checks the signatures that "
        "are there.",
    )
    secret_key: Secret | None = setting(
        SECRET,
        "ORCHESTRATOR_SECRET_KEY",
        default=None,
        doc="What tasks are signed with; workers that have the same key check it.",
    )
    access_token_seconds: float = setting(
        seconds(10, DAY_SECONDS),
        "ACCESS_TOKEN_SECONDS",
        default=3600.0,
        doc="How long a short-lived token is valid that a worker has asked for.",
    )
    tls_enabled: bool = setting(
        SWITCH,
        "TLS_ENABLED",
        default=False,
        doc="Whether to speak TLS, and nothing else.",
    )
    tls_cert: Path | None = setting(
        FILE,
        "TLS_CERT_PATH",
        default=None,
        doc="The certificate chain that is shown (PEM).",
    )
    tls_key: Path | None = setting(
        FILE,
        "TLS_KEY_PATH",
        default=None,
        doc="The key of that certificate (PEM).",
    )
    tls_ca: Path | None = setting(
        FILE,
        "TLS_CA_PATH",
        default=None,
        doc="Who may have signed the certificates of workers (PEM); without it none is asked for.",
    )
    tls_require_client_cert: bool = setting(
        SWITCH,
        "TLS_REQUIRE_CLIENT_CERT",
        default=False,
        doc="Whether nobody is let in without a certificate, clients and probes included.",
    )
    rate_limiting: bool = setting(
        SWITCH,
        "RATE_LIMITING_ENABLED",
        default=True,
        doc="Whether requests are counted at all.",
    )
    rate_limit_period_seconds: float = setting(
        seconds(1, 3600),
        "RATE_LIMIT_PERIOD",
        default=60.0,
        doc="In which time the requests of the limits below may be made.",
    )
    rate_limit: int = setting(
        whole(1, 1_000_000_000),
        "RATE_LIMIT_LIMIT",
        default=600,
        doc="Registrations, returns, token requests, and results of which none counted: of one "
        "worker, each.",
    )
    rate_limit_heartbeats: int = setting(
        whole(1, 1_000_000_000),
        "RATE_LIMIT_HEARTBEAT_LIMIT",
        default=1200,
        doc="Heartbeats of one worker.",
    )
    rate_limit_polls: int = setting(
        whole(1, 1_000_000_000),
        "RATE_LIMIT_POLL_LIMIT",
        default=6000,
        doc="Polls of one worker that brought nothing; others are not counted.",
    )
    rate_limit_events: int = setting(
        whole(1, 1_000_000_000),
        "RATE_LIMIT_EVENT_LIMIT",
        default=6000,
        doc="Progress and other events of one worker.",
    )
    rate_limit_clients: int = setting(
        whole(1, 1_000_000_000),
        "RATE_LIMIT_CLIENT_LIMIT",
        default=600_000,
        doc="Requests of one client.",
    )
    strict_event_validation: bool = strict_event_validation()
    lease_seconds: float = setting(
        seconds(3, 3600),
        "LEASE_SECONDS",
        default=30.0,
        doc="How long an attempt stays a worker's without a heartbeat.",
    )
    poll_hold_seconds: float = setting(
        seconds(1, 30),
        "WORKER_POLL_TIMEOUT_SECONDS",
        default=30.0,
        doc="How long a worker's poll is held open at most while there is no work.",
    )
    handler_timeout_seconds: float = setting(
        seconds(0.1, DAY_SECONDS),
        "HANDLER_TIMEOUT_SECONDS",
        default=60.0,
        doc="How long a state's handler may take to choose its action.",
    )
    max_transitions_per_job: int = setting(
        whole(1, 1_000_000),
        "MAX_TRANSITIONS_PER_JOB",
        default=100,
        doc="How many steps a job may take before it fails; this ends endless loops.",
    )
    max_lost_attempts: int = setting(
        whole(1, 1000),
        "MAX_LOST_ATTEMPTS",
        default=5,
        doc="At which vanished worker a task is quarantined instead of being tried again.",
    )
    blocked_loop_seconds: float = setting(
        seconds(10, DAY_SECONDS),
        "BLOCKED_LOOP_SECONDS",
        default=600.0,
        doc="How long a worker's event loop may be blocked before the worker counts as lost.",
    )
    grace_seconds: float = setting(
        seconds(0, 3600),
        "SHUTDOWN_GRACE_SECONDS",
        default=10.0,
        doc="How long requests that are being answered may go on after a stop was asked for.",
    )
    log_level: str = log_level()
    log_format: str = log_format()
