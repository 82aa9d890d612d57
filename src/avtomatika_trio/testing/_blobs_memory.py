"""A place for blobs in memory, without threads: virtual time does not see those."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import attrs
import trio

from avtomatika_trio.blobs import Advance, Blob, Location, Unfinished
from avtomatika_trio.errors import BlobChanged, BlobError, BlobMissing, BlobRefused


@attrs.define(eq=False)
class MemoryBlobs:
    """See `Blobs`; behaves as an S3 server does.

    Args:
        now: The time that blobs are changed at, as Unix seconds.
        bucket: For what is not told another one.
    """

    now: Callable[[], float]
    bucket: str = "memory"
    contents: dict[Location, tuple[Blob, bytes]] = attrs.field(factory=dict, init=False)
    uploads: list[Unfinished] = attrs.field(factory=list, init=False)
    """Begun by `begin_upload`, and not aborted yet."""
    deleted: list[Location] = attrs.field(factory=list, init=False)
    """What `delete` was asked for, in order."""
    _fault: BlobError | None = attrs.field(default=None, init=False)
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1), init=False)

    def put(self, key: str, data: bytes) -> Blob:
        """Put *data* at *key* of the bucket."""
        at = Location(self.bucket, key)
        checksum = ("sha256", hashlib.sha256(data).hexdigest())
        blob = Blob(
            location=at,
            size=len(data),
            etag=f"{next(self._numbers):x}",
            modified_at=self.now(),
            checksum=checksum,
        )
        self.contents[at] = (blob, data)
        return blob

    def keys(self) -> list[str]:
        """Of everything in the bucket."""
        return sorted(at.key for at in self.contents if at.bucket == self.bucket)

    def begin_upload(self, key: str) -> Unfinished:
        """Somebody begins an upload of several parts, and goes no further."""
        at = Location(self.bucket, key)
        upload = Unfinished(location=at, upload_id=f"u{next(self._numbers)}", begun_at=self.now())
        self.uploads.append(upload)
        return upload

    @contextmanager
    def broken(self, fault: BlobError) -> Iterator[None]:
        """Within the block everything fails with *fault*."""
        self._fault = fault
        try:
            yield
        finally:
            self._fault = None

    async def head(self, at: Location) -> Blob:
        await self._check()
        return self._found(at)[0]

    async def list(self, under: Location, *, most: int = 100_000) -> Sequence[Blob]:
        await self._check()
        found = self._under(under)
        if len(found) > most:
            raise BlobRefused(under.uri, f"there are more than {most} files in it")
        return [self.contents[at][0] for at in found]

    async def download(self, blob: Blob, path: Path, advance: Advance) -> str:
        await self._check()
        found, data = self._found(blob.location)
        if found.etag != blob.etag:
            raise BlobChanged(blob.uri, "it was changed while it was read")
        with path.open("xb") as file:
            file.write(data)
        advance(blob.size)
        assert found.sha256 is not None
        return found.sha256

    async def upload(self, descriptor: int, at: Location, advance: Advance) -> Blob:
        await self._check()
        size = os.fstat(descriptor).st_size
        blob = self.put(at.key, os.pread(descriptor, size, 0))
        advance(blob.size)
        return blob

    async def delete(self, at: Location) -> int:
        await self._check()
        self.deleted.append(at)
        found = self._under(at) if at.is_folder else [at]
        for one in found:
            self.contents.pop(one, None)
        return len(found)

    async def presigned(self, at: Location, *, method: str, seconds: int) -> str | None:
        await self._check()
        return f"https://blobs.example/{at.bucket}/{quote(at.key)}?{method}&seconds={seconds}"

    def local(self, at: Location) -> Path | None:
        del at
        return None

    async def unfinished(self, under: Location) -> Sequence[Unfinished]:
        await self._check()
        return [it for it in self.uploads if _is_under(it.location, under)]

    async def abort(self, upload: Unfinished) -> None:
        await self._check()
        self.uploads = [it for it in self.uploads if it.upload_id != upload.upload_id]

    async def _check(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._fault is not None:
            raise self._fault

    def _found(self, at: Location) -> tuple[Blob, bytes]:
        try:
            return self.contents[at]
        except KeyError:
            raise BlobMissing(at.uri, "there is no such file") from None

    def _under(self, under: Location) -> Sequence[Location]:
        found = [at for at in self.contents if _is_under(at, under)]
        return sorted(found, key=lambda at: at.key.encode())


def _is_under(at: Location, under: Location) -> bool:
    return at.bucket == under.bucket and at.key.startswith(under.key)
