"""How a blob comes from S3: in pieces, several at a time, each resumed where it was cut."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from avtomatika_trio.blobs._base import Advance, Blob
from avtomatika_trio.blobs._digest import Digest, checksum_in
from avtomatika_trio.blobs._disk import disk_faults, open_target
from avtomatika_trio.blobs._line import check_line
from avtomatika_trio.blobs._together import in_turns, together
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
        digest = Digest(blob.checksum)
        source = _Source(blobs, blob, descriptor, digest)
        if blob.size <= PIECE_BYTES:
            await source.bring(_Piece(0, blob.size), in_order=True)
            advance(blob.size)
        else:
            await _in_pieces(source, advance)
        if (fault := digest.mismatch) is not None:
            raise BlobMismatch(blob.uri, fault)
        return digest.sha256


async def _in_pieces(source: "_Source", advance: Advance) -> None:
    size = source.blob.size
    pieces = [
        _Piece(start, min(size, start + PIECE_BYTES)) for start in range(0, size, PIECE_BYTES)
    ]

    async def bring(piece: _Piece) -> None:
        length = piece.stop - piece.start
        await source.bring(piece)
        advance(length)
        piece.is_here.set()

    async def read_back() -> None:
        for number, piece in enumerate(pieces):
            await piece.is_here.wait()
            await source.read_back(number * PIECE_BYTES, piece.stop)

    await together(*in_turns(pieces, bring, at_a_time=_PIECES_AT_A_TIME), read_back)


@attrs.frozen
class _Source:
    """Ranges of a blob, written into an open file."""

    blobs: "S3Blobs"
    blob: Blob
    descriptor: int
    digest: Digest
    """Wants everything in order."""

    async def bring(self, piece: _Piece, *, in_order: bool = False) -> None:
        """Fetch what is missing of *piece*; show it to the digest, if it comes *in_order*."""
        if piece.start == piece.stop:
            return
        uri = self.blob.uri
        read = partial(self._read, piece, in_order)
        await self.blobs.patience.persist(
            uri, lambda: self.blobs.ask_once(uri, read), mark=lambda: piece.start
        )

    async def read_back(self, start: int, stop: int) -> None:
        """Show the digest what was written there."""

        def read() -> None:
            with disk_faults(self.blob.uri, "the downloaded file cannot be read"):
                self.digest.read(self.descriptor, start, stop)

        # Not a request: it does not take a thread of theirs.
        await trio.to_thread.run_sync(read)

    def _read(self, piece: _Piece, in_order: bool) -> None:  # noqa: FBT001 - bound by partial
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
            if piece.start == 0 and blob.checksum is None:
                # It was listed, and listings don't say whether an ETag is an MD5.
                self.digest.expect(checksum_in(answer))
            while piece.start < piece.stop:
                data = body.read(min(_BLOCK_BYTES, piece.stop - piece.start))
                check_line()
                if not data:
                    raise ConnectionResetError("the answer ended too early")
                self._write(data, piece.start)
                piece.start += len(data)
                if in_order:
                    self.digest.update(data)
            body.read()  # its end: the connection can be used again
        finally:
            body.close()

    def _write(self, data: bytes, at: int) -> None:
        with disk_faults(self.blob.uri, "it cannot be written to the disk"):
            left = memoryview(data)
            while left:
                written = os.pwrite(self.descriptor, left, at)
                left, at = left[written:], at + written
