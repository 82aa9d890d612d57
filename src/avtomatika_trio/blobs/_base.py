"""What every place for blobs promises.

A blob is a file kept beside a job, at a *location*: a bucket and a key in it, written
`s3://bucket/key`.  Whatever keeps them - an S3 server or a folder - is spoken to in the same
words, so that nothing else changes when one takes the other's place.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from avtomatika_trio._core.known_files import SCHEME
from avtomatika_trio.errors import BlobRefused

#: S3's own limit, in bytes of UTF-8.
_LONGEST_KEY = 1024

_LONGEST_BUCKET = 255


@attrs.frozen
class Location:
    """A bucket and a key; a key that is empty or ends in `/` is a folder of blobs."""

    bucket: str
    key: str

    @property
    def uri(self) -> str:
        """As it is written in params and results."""
        return f"{SCHEME}{self.bucket}/{self.key}"

    @property
    def is_folder(self) -> bool:
        """Whether it means everything whose key begins with this one."""
        return not self.key or self.key.endswith("/")

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rstrip("/").rpartition("/")[2]

    def at(self, key: str) -> "Location":
        """Another key of the same bucket."""
        return attrs.evolve(self, key=key)


def parse_uri(uri: str) -> Location:
    """The location that *uri* names.

    >>> parse_uri("s3://films/2026/a.mp4")
    Location(bucket='films', key='2026/a.mp4')

    Raises:
        BlobRefused: it is no `s3://bucket/key`.
    """
    bucket, _, key = uri.removeprefix(SCHEME).partition("/")
    if not uri.startswith(SCHEME) or not bucket:
        raise BlobRefused(uri, "it is not of the form s3://bucket/key")
    if len(bucket) > _LONGEST_BUCKET or not all(it.isalnum() or it in "._-" for it in bucket):
        raise BlobRefused(uri, "the name of its bucket is malformed")
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise BlobRefused(uri, "its key is no Unicode text") from None
    if length > _LONGEST_KEY:
        raise BlobRefused(uri, f"its key has {length} bytes; S3 allows {_LONGEST_KEY}")
    return Location(bucket, key)


@attrs.frozen(kw_only=True)
class Blob:
    """One blob as it stands in its place."""

    location: Location
    size: int
    etag: str
    """Changes whenever the content does; without quotes."""
    modified_at: float = 0.0
    checksum: tuple[str, str] | None = None
    """An algorithm of hashlib, or `crc32`, and the value in hexadecimal, as far as known."""

    @property
    def uri(self) -> str:
        return self.location.uri

    @property
    def sha256(self) -> str | None:
        """In hexadecimal, if that is the checksum known of it."""
        if self.checksum is None or self.checksum[0] != "sha256":
            return None
        return self.checksum[1]


@attrs.frozen(kw_only=True)
class Unfinished:
    """An upload of several parts that has begun and neither ended nor been aborted."""

    location: Location
    upload_id: str
    begun_at: float = 0.0


class Journal(Protocol):
    """Where uploads of several parts are noted, so that none is left in a bucket for good.

    The first two are called in threads.
    """

    def begun(self, upload: Unfinished) -> None:
        """Durable when it returns; no part has been sent yet."""
        ...

    def ended(self, upload: Unfinished) -> None:
        """It is complete, or aborted."""
        ...

    def left(self, upload: Unfinished) -> None:
        """It has failed and could not be aborted now; called in the loop."""
        ...


Advance = Callable[[int], None]
"""Called in the loop with so many more bytes that are done; negative if they must be repeated."""


class Blobs(Protocol):
    """A place for blobs.  Every method may raise `BlobError`, with the URI and the reason.

    Failures that may pass - a connection that breaks, an answer of 5xx - are tried again for
    some time before they are told.  All of them can be cancelled, and when a call has returned
    or raised nothing of it runs on and no part of a file is left behind.
    """

    bucket: str
    """Where things go that are not told another bucket."""

    async def head(self, at: Location) -> Blob:
        """What there is at *at*.

        Raises:
            BlobMissing: nothing.
        """
        ...

    async def list(self, under: Location, *, most: int = 100_000) -> Sequence[Blob]:
        """Every blob whose key begins with that of *under*, by key.

        Raises:
            BlobRefused: there are more than *most*.
        """
        ...

    async def download(self, blob: Blob, path: Path, advance: Advance) -> str:
        """Write the content of *blob*, verified, to *path*, which must not exist.

        Returns:
            Its sha256, in hexadecimal.

        Raises:
            BlobChanged: it is not the one that *blob* tells of any more.
            BlobMismatch: its content does not fit the checksum of *blob*.
            DiskFault: it cannot be written; *path* is not left behind.
        """
        ...

    async def upload(self, descriptor: int, at: Location, advance: Advance) -> Blob:
        """Put the file that *descriptor* has open at *at*; read from its beginning.

        Returns:
            What is there now, with its sha256.
        """
        ...

    async def delete(self, at: Location) -> int:
        """Delete the blob, or all in that folder; returns how many.  None is no error."""
        ...

    async def presigned(self, at: Location, *, method: str, seconds: int) -> str | None:
        """A URL by which anybody may `GET`, `HEAD` or `PUT` *at* for a time, if there are any."""
        ...

    def local(self, at: Location) -> Path | None:
        """Where on this machine the content of *at* can be read; None: it is elsewhere.

        A file there is replaced, never written to.
        """
        ...

    async def unfinished(self, under: Location) -> Sequence[Unfinished]:
        """Uploads that have begun below *under*."""
        ...

    async def abort(self, upload: Unfinished) -> None:
        """End it; one that is not there any more is no error."""
        ...
