"""Checksums of content that is read in order, while it travels in any order."""

import base64
import hashlib
import os
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

#: hashlib lets other threads run while it works on so much at a time.
_BLOCK_BYTES = 1024 * 1024

_S3_NAMES = {"ChecksumSHA256": "sha256", "ChecksumSHA1": "sha1", "ChecksumCRC32": "crc32"}


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


class Digest:
    """The sha256 of a file, and another checksum beside it where only that is known.

    Args:
        expected: The checksum that the content should have, see `Blob.checksum`.
    """

    def __init__(self, expected: tuple[str, str] | None = None) -> None:
        self._sha256: _Hash = hashlib.sha256()
        self.expect(expected)

    def expect(self, expected: tuple[str, str] | None) -> None:
        """Know what the content should have, if that is told before any of it comes."""
        self._expected = expected
        self._other: _Hash | None = None
        if expected is not None and expected[0] != "sha256":
            self._other = _create(expected[0])

    def update(self, data: bytes) -> None:
        """The next bytes."""
        self._sha256.update(data)
        if self._other is not None:
            self._other.update(data)

    def read(self, descriptor: int, start: int, stop: int) -> None:
        """The next bytes, which are those of a file from *start* to *stop*; in a thread."""
        while start < stop:
            data = os.pread(descriptor, min(_BLOCK_BYTES, stop - start), start)
            if not data:
                raise OSError(0, "the file has become shorter while it was read")
            self.update(data)
            start += len(data)

    @property
    def sha256(self) -> str:
        """Of all that was given, in hexadecimal."""
        return self._sha256.hexdigest()

    @property
    def mismatch(self) -> str | None:
        """What is wrong with the content, if it is not as expected."""
        if self._expected is None:
            return None
        name, value = self._expected
        found = (self._other or self._sha256).hexdigest()
        return None if found == value else f"its {name} is {found}, not {value}"


def _create(name: str) -> _Hash:
    if name == "crc32":
        return _Crc32()
    return hashlib.new(name, usedforsecurity=False)


def crc32_of(descriptor: int, start: int, stop: int) -> str:
    """The CRC-32 of a piece of a file, as S3 writes it in `ChecksumCRC32`."""
    value = 0
    while start < stop:
        data = os.pread(descriptor, min(_BLOCK_BYTES, stop - start), start)
        if not data:
            break  # it has become shorter: the request will say so
        value = zlib.crc32(data, value)
        start += len(data)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def checksum_in(answer: Mapping[str, Any]) -> tuple[str, str] | None:
    """The best checksum of the whole content that the answer to a HEAD tells, if any.

    Ours are in the metadata.  Those of S3 count unless they are made of the checksums of
    parts (`...-3`).  An ETag is the MD5 where it looks so, unless the server encrypts
    (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
    """
    own = answer.get("Metadata", {}).get("sha256", "")
    if len(own) == 64:
        return "sha256", own.lower()
    for name, algorithm in _S3_NAMES.items():
        value = answer.get(name)
        if value and "-" not in value:
            return algorithm, base64.b64decode(value).hex()
    etag = str(answer.get("ETag", "")).strip('"').lower()
    encrypted = "kms" in answer.get("ServerSideEncryption", "") or answer.get(
        "SSECustomerAlgorithm"
    )
    if len(etag) == 32 and not encrypted and all(it in "0123456789abcdef" for it in etag):
        return "md5", etag
    return None
