"""The table of settings: each is declared once, as a field of one of two classes.

A field's metadata holds its `Setting`, which is all that loading, `avtomatika
check` and the reference page know about it.  Classes may also be built directly,
with keyword arguments; ranges are a matter of loading.
"""

# `_setting` makes an attrs field; ruff knows only `attrs.field` itself.
# ruff: noqa: RUF009

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import attrs

from avtomatika_trio._config._addresses import STORAGE, masked
from avtomatika_trio._config._kinds import (
    FOLDER,
    HOST,
    LOG_LEVEL,
    PORT,
    PORT_OR_OFF,
    SECRET,
    TEXT,
    WORKER_ID,
    Kind,
    Secret,
    one_of,
    seconds,
    size,
    whole,
)
from avtomatika_trio._config._targets import ONE_OR_MORE, ONE_TARGET, TARGETS, Target

T = TypeVar("T")
D = TypeVar("D")

_KIB = 1024
_MIB = 1024**2
_DAY_SECONDS = 86_400


@attrs.frozen(kw_only=True)
class Setting:
    """What is known of one setting besides its field's name and default."""

    names: tuple[str, ...]
    """Variables of the environment, the first one found wins; lower-case in TOML."""
    kind: Kind[Any]
    kinds: Mapping[str, Kind[Any]]
    """Kinds of those names that are written differently from the others."""
    flag: str | None
    """The argument of the command line, where it is not the field's name."""
    doc: str

    @property
    def secret(self) -> bool:
        """Whether the value may never be shown, and may come from a `_FILE`."""
        return self.kind is SECRET

    def kind_of(self, name: str) -> Kind[Any]:
        """The kind that the variable *name* is written in."""
        return self.kinds.get(name, self.kind)


def _setting(
    kind: Kind[T],
    *names: str,
    default: D,
    doc: str,
    flag: str | None = None,
    kinds: Mapping[str, Kind[Any]] | None = None,
    show: Callable[[Any], str] = repr,
) -> T | D:
    """A field with its `Setting`; *show* is how `repr` of the class writes the value."""
    setting = Setting(names=names, kind=kind, kinds=kinds or {}, flag=flag, doc=doc)
    return cast("T | D", attrs.field(default=default, repr=show, metadata={Setting: setting}))


def _log_level() -> str:
    return _setting(
        LOG_LEVEL,
        "LOG_LEVEL",
        default="INFO",
        doc="The least important messages that are logged.",
    )


def setting_of(field: "attrs.Attribute[Any]") -> Setting:
    """The `Setting` of a field of one of the classes below."""
    return cast(Setting, field.metadata[Setting])


@attrs.frozen(kw_only=True)
class OrchestratorSettings:
    """Settings of one orchestrator process; durations in seconds, sizes in bytes."""

    storage_url: str = _setting(
        STORAGE,
        "STORAGE_URL",
        default="sqlite:avtomatika.db",
        flag="--storage",
        show=lambda url: repr(masked(url)),
        doc="Where jobs are kept: `memory:` (lost at exit), a SQLite file, or Redis.",
    )
    host: str = _setting(
        HOST,
        "API_HOST",
        default="127.0.0.1",
        doc="The address to listen on; another than loopback needs configured tokens.",
    )
    port: int = _setting(
        PORT,
        "API_PORT",
        default=8080,
        doc="The port to listen on; 0 lets the system choose one.",
    )
    blueprints: str | None = _setting(
        TEXT,
        "BLUEPRINTS_DIR",
        default=None,
        doc="A folder of blueprint files, or the name of a module that holds blueprints.",
    )
    max_body_bytes: int = _setting(
        size(_KIB, 1024 * _MIB),
        "MAX_BODY_BYTES",
        default=_MIB,
        doc="The largest request body that is read; a larger one is answered with 413.",
    )
    max_params_bytes: int = _setting(
        size(_KIB, 1024 * _MIB),
        "MAX_PARAMS_BYTES",
        default=256 * _KIB,
        doc="The largest params of one task, as JSON.",
    )
    client_token: Secret | None = _setting(
        SECRET,
        "CLIENT_TOKEN",
        default=None,
        doc="What clients must present.",
    )
    worker_token: Secret | None = _setting(
        SECRET,
        "GLOBAL_WORKER_TOKEN",
        "WORKER_TOKEN",
        default=None,
        doc="What workers without a token of their own must present.",
    )
    lease_seconds: float = _setting(
        seconds(3, 3600),
        "LEASE_SECONDS",
        default=30.0,
        doc="How long an attempt stays a worker's without a heartbeat.",
    )
    poll_hold_seconds: float = _setting(
        seconds(1, 30),
        "WORKER_POLL_TIMEOUT_SECONDS",
        default=30.0,
        doc="How long a worker's poll is held open at most while there is no work.",
    )
    handler_timeout_seconds: float = _setting(
        seconds(0.1, _DAY_SECONDS),
        "HANDLER_TIMEOUT_SECONDS",
        default=60.0,
        doc="How long a state's handler may take to choose its action.",
    )
    max_transitions_per_job: int = _setting(
        whole(1, 1_000_000),
        "MAX_TRANSITIONS_PER_JOB",
        default=100,
        doc="How many steps a job may take before it fails; this ends endless loops.",
    )
    max_lost_attempts: int = _setting(
        whole(1, 1000),
        "MAX_LOST_ATTEMPTS",
        default=5,
        doc="At which vanished worker a task is quarantined instead of being tried again.",
    )
    blocked_loop_seconds: float = _setting(
        seconds(10, _DAY_SECONDS),
        "BLOCKED_LOOP_SECONDS",
        default=600.0,
        doc="How long a worker's event loop may be blocked before the worker counts as lost.",
    )
    grace_seconds: float = _setting(
        seconds(0, 3600),
        "SHUTDOWN_GRACE_SECONDS",
        default=10.0,
        doc="How long requests that are being answered may go on after a stop was asked for.",
    )
    log_level: str = _log_level()


@attrs.frozen(kw_only=True)
class WorkerSettings:
    """Settings of one worker process; durations in seconds."""

    worker_id: str | None = _setting(
        WORKER_ID,
        "WORKER_ID",
        default=None,
        doc="The worker's name, unique in the fleet; without one it is generated once "
        "and kept beside the spool.",
    )
    orchestrators: tuple[Target, ...] = _setting(
        ONE_OR_MORE,
        "ORCHESTRATORS_CONFIG",
        "ORCHESTRATOR_URL",
        kinds={"ORCHESTRATORS_CONFIG": TARGETS, "ORCHESTRATOR_URL": ONE_TARGET},
        default=(Target(url="http://127.0.0.1:8080"),),
        flag="--orchestrator-url",
        doc="The orchestrators to work for: addresses, or objects of `url` and, if wanted, "
        "`priority` (10; lower is preferred, the order of the list decides between equals), "
        "`weight` (1; its share in `ROUND_ROBIN`) and `token`.",
    )
    mode: str = _setting(
        one_of("FAILOVER", "ROUND_ROBIN", "WATERFALL"),
        "MULTI_ORCHESTRATOR_MODE",
        default="FAILOVER",
        doc="Which of several orchestrators is asked for work: the best one that is up, each in "
        "its turn, or each in the order of priority until one has work.",
    )
    failback_stable_seconds: float = _setting(
        seconds(0, 3600),
        "FAILBACK_STABLE_SECONDS",
        default=5.0,
        doc="How long an orchestrator that was down must answer before it is preferred again.",
    )
    token: Secret | None = _setting(
        SECRET,
        "WORKER_INDIVIDUAL_TOKEN",
        "AVTOMATIKA_WORKER_TOKEN",
        "WORKER_TOKEN",
        default=None,
        doc="What the worker presents, where an entry of `ORCHESTRATORS_CONFIG` has no `token` "
        "of its own.",
    )
    max_concurrent_tasks: int = _setting(
        whole(1, 10_000),
        "MAX_CONCURRENT_TASKS",
        default=10,
        doc="How many attempts run at the same time.",
    )
    poll_timeout_seconds: float = _setting(
        seconds(1, 600),
        "TASK_POLL_TIMEOUT",
        default=30.0,
        doc="How long the orchestrator is asked to hold a poll open; none holds it longer "
        "than 30 seconds.",
    )
    heartbeat_interval_seconds: float = _setting(
        seconds(0.1, 1200),
        "HEARTBEAT_INTERVAL",
        default=10.0,
        doc="How often leases are renewed.",
    )
    spool_dir: Path = _setting(
        FOLDER,
        "WORKER_SPOOL_DIR",
        default=Path(".avtomatika/spool"),
        show=lambda folder: repr(str(folder)),
        doc="The folder of results that no orchestrator has accepted yet.",
    )
    spool_max_entries: int = _setting(
        whole(1, 10_000_000),
        "WORKER_SPOOL_MAX_ENTRIES",
        default=10_000,
        doc="At how many undelivered results of one cluster the worker stops asking it for work.",
    )
    health_port: int | None = _setting(
        PORT_OR_OFF,
        "WORKER_PORT",
        default=8083,
        doc="The port of the worker's health check; 0 or `off` is none.",
    )
    health_host: str = _setting(
        HOST,
        "WORKER_HOST",
        default="127.0.0.1",
        doc="The address of the health check; give 0.0.0.0 where probes come from elsewhere.",
    )
    shutdown_timeout_seconds: float = _setting(
        seconds(0, _DAY_SECONDS),
        "WORKER_SHUTDOWN_TIMEOUT",
        default=30.0,
        doc="How long running attempts may go on after a stop was asked for; what is "
        "cut off is given back.",
    )
    log_level: str = _log_level()

    def token_of(self, target: Target) -> Secret | None:
        """What *target* is shown."""
        return self.token if target.token is None else target.token
