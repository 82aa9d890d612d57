"""Settings of the system that this version cannot honour yet: told, not passed over.

What is there for safety stops the start, since whoever sets it relies on it; the rest is
warned of.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from avtomatika_trio._config._settings import OrchestratorSettings, WorkerSettings

_TLS = ("TLS_ENABLED", "TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH")

#: Variable -> what it stands for, by program.
_REFUSED: Mapping[type[Any], Mapping[str, str]] = {
    OrchestratorSettings: {
        "WORKERS_CONFIG_PATH": "tokens for single workers are",
        "CLIENTS_CONFIG_PATH": "tokens for single clients are",
        "WORKER_AUTH_MODE": "another way to authenticate than by token is",
        "TLS_REQUIRE_CLIENT_CERT": "TLS is",
        **dict.fromkeys(_TLS, "TLS is"),
    },
    WorkerSettings: dict.fromkeys(_TLS, "TLS with files of your own is"),
}

_S3 = ("S3_ENDPOINT_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET", "S3_DEFAULT_BUCKET")


def refusals(kind: type[Any], environ: Mapping[str, str]) -> Iterator[str]:
    """Why a program with settings of *kind* must not start in *environ*."""
    for name, what in _REFUSED[kind].items():
        if name in environ:
            yield f"{name}: {what} not supported by this version yet; unset it"


def warnings(kind: type[Any], environ: Mapping[str, str]) -> Iterator[str]:
    """What is set in *environ* to no effect."""
    if kind is WorkerSettings and any(name in environ for name in _S3):
        yield (
            "S3_*: files are not transferred by this version yet; handlers are given s3:// URIs"
            " as they are"
        )
