"""How a blob comes from S3: in pieces, several at a time, each resumed where it was cut."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from avtomatika_trio.blobs._base import Advance, Blob
from avtomatika_trio.blobs._digest import Digest
from avtomatika_trio.blobs._disk import disk_faults, open_target
from avtomatika_trio.blobs._line import check_line
from avtomatika_trio.errors import BlobChanged, BlobMismatch

if TYPE_CHECKING:
    from avtomatika_trio.blobs._s3 import S3Blobs

#: A piece of a download; a file that is not longer takes one request.
PIECE_BYTES = 16 * 1024 * 1024

#: Pieces of one file at a time; more were not faster, and let fewer files at once.
_PIECES_AT_A_TIME = 4

_BLOCK_BYTES = 256 * 1024


@attrs.define(eq=False)
class _Piece:
    """A range of the blob; *start* moves on with what has been written."""

    start: int
    stop: int
    is_here: trio.Event = attrs.field(factory=trio.Event)


async def download(blobs: "S3Blobs", blob: Blob, path: Path, advance: Advance) -> str:
    """See `Blobs.download`."""
    async with open_target(blob.uri, path, blob.size) as descriptor:
        source = _Source(blobs, blob, descriptor)
        digest = Digest(blob.checksum)
        if blob.size <= PIECE_BYTES:
            piece = _Piece(0, blob.size)
            await source.bring(piece, digest)
            advance(blob.size)
        else:
            await _in_pieces(source, digest, advance)
        if (fault := digest.mismatch) is not None:
            raise BlobMismatch(blob.uri, fault)
        return digest.sha256


async def _in_pieces(source: "_Source", digest: Digest, advance: Advance) -> None:
    size = source.blob.size
    pieces = [
        _Piece(start, min(size, start + PIECE_BYTES)) for start in range(0, size, PIECE_BYTES)
    ]
    failures: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def bring(left: Iterator[_Piece]) -> None:
            try:
                for piece in left:
                    length = piece.stop - piece.start
                    await source.bring(piece)
                    advance(length)
                    piece.is_here.set()
            except Exception as exc:  # noqa: BLE001 - as it is, not in the nursery's group
                failures.append(exc)
                nursery.cancel_scope.cancel()

        left = iter(pieces)
        for _ in range(_PIECES_AT_A_TIME):
            nursery.start_soon(bring, left)
        try:
            for number, piece in enumerate(pieces):
                await piece.is_here.wait()
                await source.read_back(digest, number * PIECE_BYTES, piece.stop)
        except Exception as exc:  # noqa: BLE001 - as above
            failures.append(exc)
            nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]


@attrs.frozen
class _Source:
    """Ranges of a blob, written into an open file."""

    blobs: "S3Blobs"
    blob: Blob
    descriptor: int

    async def bring(self, piece: _Piece, digest: Digest | None = None) -> None:
        """Fetch what is missing of *piece*."""
        if piece.start == piece.stop:
            return
        uri = self.blob.uri
        read = partial(self._read, piece, digest)
        await self.blobs.patience.persist(
            uri, lambda: self.blobs.ask_once(uri, read), mark=lambda: piece.start
        )

    async def read_back(self, digest: Digest, start: int, stop: int) -> None:
        """Let *digest* see what was written there: it wants all in order."""

        def read() -> None:
            with disk_faults(self.blob.uri, "the downloaded file cannot be read"):
                digest.read(self.descriptor, start, stop)

        # Not a request: it does not take a thread of theirs.
        await trio.to_thread.run_sync(read)

    def _read(self, piece: _Piece, digest: Digest | None) -> None:
        blob = self.blob
        asked = piece.stop - piece.start
        is_whole = asked == blob.size
        span = {} if is_whole else {"Range": f"bytes={piece.start}-{piece.stop - 1}"}
        answer: Mapping[str, Any] = self.blobs.client.get_object(
            Bucket=blob.location.bucket,
            Key=blob.location.key,
            IfMatch=f'"{blob.etag}"',
            **span,
        )
        body = answer["Body"]
        try:
            if answer["ContentLength"] != asked:
                text = f"{answer['ContentLength']} bytes came where {asked} were asked for"
                raise BlobChanged(blob.uri, text)
            while piece.start < piece.stop:
                data = body.read(min(_BLOCK_BYTES, piece.stop - piece.start))
                check_line()
                if not data:
                    raise ConnectionResetError("the answer ended too early")
                self._write(data, piece.start)
                piece.start += len(data)
                if digest is not None:
                    digest.update(data)
            body.read()  # its end: the connection can be used again
        finally:
            body.close()

    def _write(self, data: bytes, at: int) -> None:
        with disk_faults(self.blob.uri, "it cannot be written to the disk"):
            left = memoryview(data)
            while left:
                written = os.pwrite(self.descriptor, left, at)
                left, at = left[written:], at + written
