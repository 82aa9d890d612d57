"""Files too big for a job: kept beside it, on an S3 server or in a folder.

`_base` has the promises; `_folder` keeps them on this machine, `_s3` on an S3 server, with
`_upload` and `_download` for what is long.  `_line` makes threads end when they are cancelled,
`_connections` and `_client` know botocore, `_patience` tries again, `_digest` knows
checksums, `_disk` the local file.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from avtomatika_trio._config import S3Access
from avtomatika_trio.blobs._base import (
    Advance as Advance,
    Blob as Blob,
    Blobs as Blobs,
    Journal as Journal,
    Location as Location,
    Unfinished as Unfinished,
    parse_uri as parse_uri,
)
from avtomatika_trio.blobs._folder import open_folder as open_folder
from avtomatika_trio.blobs._patience import Patience as Patience

__all__ = [
    "Advance",
    "Blob",
    "Blobs",
    "Journal",
    "Location",
    "Patience",
    "Unfinished",
    "open_folder",
    "open_s3",
    "parse_uri",
]


@asynccontextmanager
async def open_s3(
    access: S3Access, *, max_concurrency: int, patience: Patience, journal: Journal | None = None
) -> AsyncIterator[Blobs]:
    """Blobs on an S3 server; nothing is asked of it before it is needed.

    Args:
        access: The server, the bucket and the keys.
        max_concurrency: How many requests are under way at a time, whatever they are for.
        patience: For what may pass.
        journal: Where uploads of several parts are noted.
    """
    from avtomatika_trio.blobs import _s3  # noqa: PLC0415 - boto3 takes half a second to import

    async with _s3.open_s3(
        access, max_concurrency=max_concurrency, patience=patience, journal=journal
    ) as blobs:
        yield blobs
