"""Settings of the system that this version cannot honour yet: told, not passed over."""

from collections.abc import Iterator, Mapping
from typing import Any

from avtomatika_trio._config._settings_worker import WorkerSettings

_S3 = ("S3_ENDPOINT_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET", "S3_DEFAULT_BUCKET")


def warnings(kind: type[Any], environ: Mapping[str, str]) -> Iterator[str]:
    """What is set in *environ* to no effect."""
    if kind is WorkerSettings and any(name in environ for name in _S3):
        yield (
            "S3_*: files are not transferred by this version yet; handlers are given s3:// URIs"
            " as they are"
        )
