"""The settings of a worker: each is declared once, as a field.

The class may also be built directly, with keyword arguments; ranges are a matter of loading.
"""

# `setting` makes an attrs field; ruff knows only `attrs.field` itself.
# ruff: noqa: RUF009

from pathlib import Path
from typing import Any

import attrs

from avtomatika_trio._config._kinds import (
    BUCKETS,
    FILE,
    FOLDER,
    HOST,
    PORT_OR_OFF,
    SECRET,
    SWITCH,
    TEXT,
    WORKER_ID,
    Kind,
    Secret,
    number,
    one_of,
    seconds,
    size,
    whole,
)
from avtomatika_trio._config._resource_kinds import (
    ARTIFACTS,
    DEVICES,
    EXTRA,
    EXTRA_PREFIX,
    PRICE,
    PRICES,
    SOFTWARE,
    amount,
)
from avtomatika_trio._config._setting import (
    DAY_SECONDS,
    log_format,
    log_level,
    setting,
    strict_event_validation,
)
from avtomatika_trio._config._settings_files import FileSettings
from avtomatika_trio._config._targets import (
    ONE_OR_MORE,
    ONE_TARGET,
    SEVERAL_TARGETS,
    TARGETS,
    Target,
)

_MIB, _TIB = 1024**2, 1024**4


@attrs.frozen(kw_only=True)
class WorkerSettings(FileSettings):
    """Settings of one worker process; durations in seconds, sizes in bytes."""

    s3_allowed_buckets: tuple[str, ...] = setting(
        BUCKETS,
        "S3_ALLOWED_BUCKETS",
        default=(),
        doc="From which buckets params may name files, besides the worker's own.",
    )
    files_dir: Path | None = setting(
        FOLDER,
        "FILES_DIR",
        default=None,
        doc="Without S3: the folder that files are kept in; the one of the orchestrator, on the "
        "same machine.",
    )
    payload_dir: Path = setting(
        FOLDER,
        "TASK_FILES_DIR",
        "WORKER_PAYLOAD_DIR",
        default=Path("/tmp/payloads"),  # noqa: S108 - the default of the system; ours are 0700
        show=lambda folder: repr(str(folder)),
        doc="Where each attempt has a folder of its own; only files in it are uploaded.",
    )
    payload_max_bytes: int | None = setting(
        size(_MIB, 1024 * _TIB),
        "WORKER_PAYLOAD_MAX_BYTES",
        default=None,
        doc="How much the inputs of all running attempts may take there; what is more waits.",
    )
    blob_cache_dir: Path | None = setting(
        FOLDER,
        "WORKER_BLOB_CACHE_DIR",
        default=None,
        doc="Where downloaded files are kept for the next task that wants them.",
    )
    blob_cache_max_bytes: int = setting(
        size(_MIB, 1024 * _TIB),
        "WORKER_BLOB_CACHE_MAX_BYTES",
        default=10 * 1024 * _MIB,
        doc="How much that cache may take; what was not used for longest goes first.",
    )

    skills_dir: Path | None = setting(
        FOLDER,
        "WORKER_SKILLS_DIR",
        default=None,
        doc="A folder whose `*.py` files are loaded at the start, for the skills in them.",
    )
    worker_id: str | None = setting(
        WORKER_ID,
        "WORKER_ID",
        default=None,
        doc="The worker's name, unique in the fleet; without one it is generated once "
        "and kept beside the spool.",
    )
    orchestrators: tuple[Target, ...] = setting(
        ONE_OR_MORE,
        "ORCHESTRATORS_CONFIG",
        "ORCHESTRATOR_URLS",
        "ORCHESTRATOR_URL",
        kinds={
            "ORCHESTRATORS_CONFIG": TARGETS,
            "ORCHESTRATOR_URLS": SEVERAL_TARGETS,
            "ORCHESTRATOR_URL": ONE_TARGET,
        },
        default=(Target(url="http://127.0.0.1:8080"),),
        flag="--orchestrator-url",
        doc="The orchestrators to work for: addresses, or objects of `url` and, if wanted, "
        "`priority` (10; lower is preferred, the order of the list decides between equals), "
        "`weight` (1; its share in `ROUND_ROBIN`) and `token`.",
    )
    mode: str = setting(
        one_of("FAILOVER", "ROUND_ROBIN", "WATERFALL", PRIORITY="WATERFALL"),
        "MULTI_ORCHESTRATOR_MODE",
        default="FAILOVER",
        doc="Which of several orchestrators is asked for work: the best one that is up, each in "
        "its turn, or each in the order of priority until one has work.",
    )
    failback_stable_seconds: float = setting(
        seconds(0, 3600),
        "FAILBACK_STABLE_SECONDS",
        default=5.0,
        doc="How long an orchestrator that was down must answer before it is preferred again.",
    )
    token: Secret | None = setting(
        SECRET,
        "WORKER_INDIVIDUAL_TOKEN",
        "AVTOMATIKA_WORKER_TOKEN",
        "WORKER_TOKEN",
        default=None,
        doc="What the worker presents, where an entry of `ORCHESTRATORS_CONFIG` has no `token` "
        "of its own.",
    )
    secret_key: Secret | None = setting(
        SECRET,
        "ORCHESTRATOR_SECRET_KEY",
        "SECRET_KEY",
        default=None,
        doc="What tasks must be signed with; without it signatures are not looked at.",
    )
    require_task_signature: bool = setting(
        SWITCH,
        "REQUIRE_TASK_SIGNATURE",
        default=True,
        doc="Whether a task without a signature is refused by a worker that has the key.",
    )
    use_access_tokens: bool = setting(
        SWITCH,
        "WORKER_ACCESS_TOKENS",
        default=False,
        doc="Whether the worker shows short-lived tokens, which it gets for its token or its "
        "certificate, in the place of its token.",
    )
    tls_ca: Path | None = setting(
        FILE,
        "TLS_CA_PATH",
        default=None,
        doc="Who must have signed the certificates of orchestrators (PEM), in the place of the "
        "system's authorities.",
    )
    tls_cert: Path | None = setting(
        FILE,
        "TLS_CERT_PATH",
        default=None,
        doc="The certificate that the worker shows (PEM); its name is the worker id.",
    )
    tls_key: Path | None = setting(
        FILE,
        "TLS_KEY_PATH",
        default=None,
        doc="The key of that certificate (PEM).",
    )
    max_concurrent_tasks: int = setting(
        whole(1, 10_000),
        "MAX_CONCURRENT_TASKS",
        default=10,
        doc="How many attempts run at the same time.",
    )
    poll_timeout_seconds: float = setting(
        seconds(1, 600),
        "TASK_POLL_TIMEOUT",
        default=30.0,
        doc="How long the orchestrator is asked to hold a poll open; none holds it longer "
        "than 30 seconds.",
    )
    heartbeat_interval_seconds: float = setting(
        seconds(0.1, 1200),
        "HEARTBEAT_INTERVAL",
        default=10.0,
        doc="How often leases are renewed.",
    )
    worker_type: str | None = setting(
        TEXT,
        "WORKER_TYPE",
        default=None,
        doc="What sort of worker it is, for people; without it, what the program says, else "
        "`generic`.",
    )
    cpu_cores: int | None = setting(
        whole(1, 100_000),
        "CPU_CORES",
        default=None,
        doc="How many cores it may use; without it, those that the system lets it use.",
    )
    ram_gb: float | None = setting(
        amount(1e6, unit="GiB"),
        "RAM_GB",
        default=None,
        doc="How much memory it may use; without it, what the machine has.",
    )
    gpu_model: str | None = setting(
        TEXT, "GPU_MODEL", default=None, doc="The model of its GPU, if it has one."
    )
    gpu_id: int = setting(
        whole(0, 1000), "GPU_ID", default=0, doc="The number of that GPU on the machine."
    )
    gpu_vram_gb: float | None = setting(
        amount(1e6, unit="GiB"), "GPU_VRAM_GB", default=None, doc="How much memory that GPU has."
    )
    devices: tuple[dict[str, Any], ...] = setting(
        DEVICES, "WORKER_DEVICES", default=(), doc="Its devices, besides the GPU named above."
    )
    installed_software: dict[str, str] | None = setting(
        SOFTWARE,
        "INSTALLED_SOFTWARE",
        default=None,
        doc="What is installed, in which version; without it, the Python that runs.",
    )
    installed_artifacts: tuple[dict[str, Any], ...] = setting(
        ARTIFACTS,
        "INSTALLED_ARTIFACTS",
        "INSTALLED_MODELS",
        default=(),
        doc="Models and other artifacts that it has: `name`, `version`, `type`, `properties`.",
    )
    cost_per_skill: dict[str, float] | None = setting(
        PRICES, "COST_PER_SKILL", default=None, doc="What a task of each skill costs."
    )
    cost_per_second: float | None = setting(
        PRICE,
        "COST_PER_SECOND",
        default=None,
        doc="The price of skills that `COST_PER_SKILL` does not name.",
    )
    extra: dict[str, Any] | None = setting(
        EXTRA,
        "WORKER_EXTRA",
        prefix=EXTRA_PREFIX,
        default=None,
        doc="Whatever else it can be chosen by. Each `WORKER_EXTRA_NAME` is a member `name` of "
        "it, JSON if it begins with `{` or `[`; they outweigh this one.",
    )
    telemetry_deadband: float = setting(
        Kind(expects="a number of points from 0 to 100", read=lambda raw: number(raw, 0, 100)),
        "WORKER_TELEMETRY_DEADBAND",
        default=5.0,
        doc="By how much load or memory must change, in points of a hundred, before it is told.",
    )
    telemetry_force_seconds: float = setting(
        seconds(1, DAY_SECONDS),
        "WORKER_TELEMETRY_FORCE_INTERVAL",
        default=60.0,
        doc="After how long it is told though it has not changed.",
    )
    spool_dir: Path = setting(
        FOLDER,
        "WORKER_SPOOL_DIR",
        default=Path(".avtomatika/spool"),
        show=lambda folder: repr(str(folder)),
        doc="The folder of results that no orchestrator has accepted yet.",
    )
    spool_max_entries: int = setting(
        whole(1, 10_000_000),
        "WORKER_SPOOL_MAX_ENTRIES",
        default=10_000,
        doc="At how many undelivered results of one cluster the worker stops asking it for work.",
    )
    strict_event_validation: bool = strict_event_validation()
    health_port: int | None = setting(
        PORT_OR_OFF,
        "WORKER_PORT",
        default=8083,
        doc="The port of the worker's health check; 0 or `off` is none.",
    )
    health_host: str = setting(
        HOST,
        "WORKER_HOST",
        default="127.0.0.1",
        doc="The address of the health check; give 0.0.0.0 where probes come from elsewhere.",
    )
    shutdown_timeout_seconds: float = setting(
        seconds(0, DAY_SECONDS),
        "WORKER_SHUTDOWN_TIMEOUT",
        default=30.0,
        doc="How long running attempts may go on after a stop was asked for; what is "
        "cut off is given back.",
    )
    log_level: str = log_level()
    log_format: str = log_format()

    def token_of(self, target: Target) -> Secret | None:
        """What *target* is shown."""
        return self.token if target.token is None else target.token
