"""How a file goes to S3: in one request, or in parts, several at a time."""

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from avtomatika_trio.blobs._base import Advance, Blob, Location, Unfinished
from avtomatika_trio.blobs._client import UploadGone, translated
from avtomatika_trio.blobs._digest import Digest, crc32_of
from avtomatika_trio.blobs._disk import check_unchanged, disk_faults
from avtomatika_trio.blobs._line import call_in_thread, check_line
from avtomatika_trio.blobs._together import in_turns, together
from avtomatika_trio.errors import BlobError, BlobMissing, BlobUnavailable

if TYPE_CHECKING:
    from avtomatika_trio.blobs._s3 import S3Blobs

#: A part of an upload; a file that is not longer takes one request.
PART_BYTES = 8 * 1024 * 1024

#: S3's own limit.
_MOST_PARTS = 10_000

_PARTS_AT_A_TIME = 4

#: How long an upload that has failed may take to be taken back; later the journal does it.
_ABORT_SECONDS = 1.0

#: How long an upload may take to begin though it is cancelled: one whose id is never told
#: can't be taken back.
_BEGIN_SECONDS = 0.5


async def upload(blobs: "S3Blobs", descriptor: int, at: Location, advance: Advance) -> Blob:
    """See `Blobs.upload`."""
    source = _Source(at.uri, descriptor, os.fstat(descriptor))
    if source.size <= PART_BYTES:
        blob = await _put(blobs, source, at)
        advance(source.size)
        return blob
    return await _in_parts(blobs, source, at, advance)


@attrs.frozen
class _Source:
    """The file that is uploaded, and how it was in the beginning."""

    uri: str
    descriptor: int
    before: os.stat_result

    @property
    def size(self) -> int:
        return self.before.st_size

    def check(self) -> None:
        """Raise BlobChanged if it is not the same any more: what was sent is no file then."""
        check_unchanged(self.uri, self.before, self.descriptor)

    def digest(self, digest: Digest, start: int, stop: int) -> None:
        """Let *digest* see a piece of it."""
        with disk_faults(self.uri, "the file cannot be read"):
            try:
                digest.read(self.descriptor, start, stop)
            except OSError:
                self.check()  # one that has become shorter was changed
                raise

    def crc32(self, start: int, stop: int) -> str:
        """That of a piece of it, as S3 writes it."""
        with disk_faults(self.uri, "the file cannot be read"):
            return crc32_of(self.descriptor, start, stop)

    def slice(self, start: int, stop: int) -> "_Slice":
        """A piece of it; a request that is sent again must not send another content."""
        self.check()
        return _Slice(self.descriptor, start, stop)


async def _put(blobs: "S3Blobs", source: _Source, at: Location) -> Blob:
    size = source.size

    def put() -> Blob:
        digest = Digest()
        body = source.slice(0, size)
        source.digest(digest, 0, size)
        answer = blobs.client.put_object(
            Bucket=at.bucket,
            Key=at.key,
            Body=body,
            ContentLength=size,
            ChecksumCRC32=source.crc32(0, size),
            Metadata={"sha256": digest.sha256},
        )
        source.check()
        return _stored(at, size, answer["ETag"], digest.sha256)

    return await blobs.ask(at.uri, put)


async def _in_parts(blobs: "S3Blobs", source: _Source, at: Location, advance: Advance) -> Blob:
    begun: list[Unfinished] = []
    try:
        upload_ = await blobs.ask(at.uri, partial(_begin, blobs, at, begun), grace=_BEGIN_SECONDS)
        parts = _Parts(blobs, upload_, source)
        sha256 = await parts.send(advance)
        source.check()  # while nothing has taken the place of what was there
        etag = await parts.complete()
    except BaseException:
        for one in begun:
            await _take_back(blobs, one)
        raise
    return _stored(at, source.size, etag, sha256)


def _begin(blobs: "S3Blobs", at: Location, begun: list[Unfinished]) -> Unfinished:
    made = blobs.client.create_multipart_upload(
        Bucket=at.bucket, Key=at.key, ChecksumAlgorithm="CRC32"
    )
    upload_ = Unfinished(location=at, upload_id=made["UploadId"])
    begun.append(upload_)
    if blobs.journal is not None:
        with disk_faults(at.uri, "the upload cannot be noted"):
            blobs.journal.begun(upload_)
    return upload_


async def _take_back(blobs: "S3Blobs", upload_: Unfinished) -> None:
    """End *upload_*, if that can be had at once; the journal remembers it otherwise."""
    with trio.move_on_after(_ABORT_SECONDS, shield=True):
        with suppress(BlobError):  # what it failed with before is what is told
            await blobs.abort(upload_)
            return
    if blobs.journal is not None:
        blobs.journal.left(upload_)


def _stored(at: Location, size: int, etag: str, sha256: str) -> Blob:
    return Blob(location=at, size=size, etag=etag.strip('"'), checksum=("sha256", sha256))


@attrs.define(eq=False)
class _Parts:
    """The parts of one upload."""

    blobs: "S3Blobs"
    upload: Unfinished
    source: _Source
    _sent: dict[int, dict[str, Any]] = attrs.field(factory=dict, init=False)

    @property
    def _uri(self) -> str:
        return self.upload.location.uri

    async def send(self, advance: Advance) -> str:
        """Send all parts; returns the sha256 of the file."""
        size = self.source.size
        length = max(PART_BYTES, -(-size // _MOST_PARTS))
        digest = Digest()

        async def send(numbered: tuple[int, int]) -> None:
            number, start = numbered
            stop = min(size, start + length)
            await self.blobs.ask(self._uri, partial(self._send, number, start, stop))
            advance(stop - start)

        starts = enumerate(range(0, size, length), start=1)
        # Hashing is no request: it does not take a thread of theirs.
        threads = trio.to_thread.current_default_thread_limiter()
        try:
            await together(
                *in_turns(starts, send, at_a_time=_PARTS_AT_A_TIME),
                partial(call_in_thread, partial(self._digest, digest), threads),
            )
        except UploadGone as exc:
            raise _aborted(self._uri) from exc
        return digest.sha256

    async def complete(self) -> str:
        """Make one blob of the parts; returns its ETag."""
        at = self.upload.location
        parts = [{"PartNumber": number, **self._sent[number]} for number in sorted(self._sent)]

        def complete() -> str:
            with translated(at.uri):
                answer = self.blobs.client.complete_multipart_upload(
                    Bucket=at.bucket,
                    Key=at.key,
                    UploadId=self.upload.upload_id,
                    MultipartUpload={"Parts": parts},
                )
            return str(answer["ETag"])

        try:
            etag = await self.blobs.ask(at.uri, complete)
        except UploadGone as exc:
            # Perhaps an answer was lost, and it is complete: the key is of this attempt alone.
            try:
                found = await self.blobs.head(at)
            except BlobMissing:
                raise _aborted(at.uri) from exc
            if found.size != self.source.size or not found.etag.endswith(f"-{len(parts)}"):
                raise _aborted(at.uri) from exc
            etag = found.etag
        if self.blobs.journal is not None:
            note = partial(self.blobs.journal.ended, self.upload)
            await trio.to_thread.run_sync(note)
        return etag

    def _send(self, number: int, start: int, stop: int) -> None:
        at = self.upload.location
        body = self.source.slice(start, stop)
        crc32 = self.source.crc32(start, stop)
        answer = self.blobs.client.upload_part(
            Bucket=at.bucket,
            Key=at.key,
            UploadId=self.upload.upload_id,
            PartNumber=number,
            Body=body,
            ContentLength=stop - start,
            ChecksumCRC32=crc32,
        )
        self._sent[number] = {"ETag": answer["ETag"], "ChecksumCRC32": crc32}

    def _digest(self, digest: Digest) -> None:
        size = self.source.size
        for start in range(0, size, PART_BYTES):
            check_line()
            self.source.digest(digest, start, min(size, start + PART_BYTES))


def _aborted(uri: str) -> BlobUnavailable:
    return BlobUnavailable(uri, "the upload was aborted by somebody else")


class _Slice:
    """A part of an open file, read as if it were a file; safe beside other parts of it."""

    def __init__(self, descriptor: int, start: int, stop: int) -> None:
        self._descriptor = descriptor
        self._start = start
        self._length = stop - start
        self._at = 0

    def __len__(self) -> int:
        return self._length

    def read(self, size: int | None = -1) -> bytes:
        left = self._length - self._at
        wanted = left if size is None or size < 0 else min(size, left)
        data = os.pread(self._descriptor, wanted, self._start + self._at) if wanted else b""
        if wanted and not data:
            # The server would wait for the rest.  Sent again, it is found to have changed.
            raise ConnectionAbortedError("the file has become shorter while it was read")
        self._at += len(data)
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = min(max(0, base + offset), self._length)
        return self._at
