"""Blobs on an S3 server: boto3 in threads."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote_plus

import trio

from avtomatika_trio._config import S3Access
from avtomatika_trio.blobs._base import Advance, Blob, Blobs, Journal, Location, Unfinished
from avtomatika_trio.blobs._client import UploadGone, create_client, translated
from avtomatika_trio.blobs._digest import checksum_in
from avtomatika_trio.blobs._download import download
from avtomatika_trio.blobs._line import call_in_thread
from avtomatika_trio.blobs._patience import Patience
from avtomatika_trio.blobs._upload import upload
from avtomatika_trio.errors import BlobError, BlobRefused

T = TypeVar("T")

#: What one request to delete may name, by S3's own limit.
_MOST_PER_DELETE = 1000


@asynccontextmanager
async def open_s3(
    access: S3Access,
    *,
    max_concurrency: int,
    patience: Patience,
    journal: Journal | None = None,
) -> AsyncIterator[Blobs]:
    """Blobs on the S3 server of *access*; nothing is asked of it before it is needed.

    Args:
        access: The server, the bucket and the keys.
        max_concurrency: How many requests are under way at a time, whatever they are for.
        patience: For what may pass.
        journal: Where uploads of several parts are noted.
    """
    make = partial(create_client, access, max_concurrency)
    client = await trio.to_thread.run_sync(make)
    try:
        yield S3Blobs(
            client, access.bucket, trio.CapacityLimiter(max_concurrency), patience, journal
        )
    finally:
        client.close()


class S3Blobs:
    """See `open_s3` and `Blobs`.

    Args:
        client: May be shared by threads; tries nothing again itself.
        bucket: For what is not told another one.
        threads: One for each request that is under way.
        patience: For what may pass.
        journal: Where uploads of several parts are noted.
    """

    def __init__(
        self,
        client: Any,
        bucket: str,
        threads: trio.CapacityLimiter,
        patience: Patience,
        journal: Journal | None = None,
    ) -> None:
        self.client = client
        self.bucket = bucket
        self.threads = threads
        self.patience = patience
        self.journal = journal

    async def ask(self, uri: str, work: Callable[[], T], *, grace: float = 0.0) -> T:
        """Run *work* in a thread, again and again while it fails in ways that may pass.

        Raises:
            BlobError: it failed for good, about *uri*.
        """
        return await self.patience.persist(uri, lambda: self.ask_once(uri, work, grace=grace))

    async def ask_once(self, uri: str, work: Callable[[], T], *, grace: float = 0.0) -> T:
        """As `ask`, a single time.

        Raises:
            Passing: it may be different the next time.
        """

        def call() -> T:
            with translated(uri):
                return work()

        return await call_in_thread(call, self.threads, grace=grace)

    async def head(self, at: Location) -> Blob:
        def look() -> Blob:
            found: Mapping[str, Any] = self.client.head_object(
                Bucket=at.bucket, Key=at.key, ChecksumMode="ENABLED"
            )
            return Blob(
                location=at,
                size=found["ContentLength"],
                etag=found["ETag"].strip('"'),
                modified_at=found["LastModified"].timestamp(),
                checksum=checksum_in(found),
            )

        return await self.ask(at.uri, look)

    async def list(self, under: Location, *, most: int = 100_000) -> Sequence[Blob]:
        found: list[Blob] = []
        more: dict[str, str] | None = {}
        while more is not None:
            page, more = await self.ask(under.uri, partial(self._page, under, more))
            found += page
            if len(found) > most:
                raise BlobRefused(under.uri, f"there are more than {most} files in it")
        # AWS has them in order; others, and its directory buckets, almost.
        return sorted(found, key=lambda it: it.location.key.encode())

    def _page(
        self, under: Location, more: Mapping[str, str]
    ) -> tuple[Sequence[Blob], dict[str, str] | None]:
        """Some of what is listed, and how to ask for the rest of it."""
        page: Mapping[str, Any] = self.client.list_objects_v2(
            Bucket=under.bucket, Prefix=under.key, **more
        )
        found = [_listed(under, it) for it in page.get("Contents", ())]
        if not page.get("IsTruncated"):
            return found, None
        return found, {"ContinuationToken": page["NextContinuationToken"]}

    async def download(self, blob: Blob, path: Path, advance: Advance) -> str:
        return await download(self, blob, path, advance)

    async def upload(self, descriptor: int, at: Location, advance: Advance) -> Blob:
        return await upload(self, descriptor, at, advance)

    async def delete(self, at: Location) -> int:
        if not at.is_folder:
            ask = partial(self.client.delete_object, Bucket=at.bucket, Key=at.key)
            await self.ask(at.uri, ask)
            return 1
        deleted = 0
        while True:
            ask_page = partial(
                self.client.list_objects_v2,
                Bucket=at.bucket,
                Prefix=at.key,
                MaxKeys=_MOST_PER_DELETE,
            )
            page: Mapping[str, Any] = await self.ask(at.uri, ask_page)
            keys = [it["Key"] for it in page.get("Contents", ())]
            if keys:
                await self._delete_all(at, keys)
            deleted += len(keys)
            if not page.get("IsTruncated"):
                return deleted

    async def _delete_all(self, at: Location, keys: Sequence[str]) -> None:
        ask = partial(
            self.client.delete_objects,
            Bucket=at.bucket,
            Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True},
        )
        answer: Mapping[str, Any] = await self.ask(at.uri, ask)
        for fault in answer.get("Errors", ()):
            said = f"{fault.get('Code')}: {fault.get('Message')}"
            raise BlobError(at.at(fault.get("Key", at.key)).uri, f"it cannot be deleted ({said})")

    async def presigned(self, at: Location, *, method: str, seconds: int) -> str | None:
        await trio.lowlevel.checkpoint()
        operation = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object"}[method]
        url: str = self.client.generate_presigned_url(
            operation,
            Params={"Bucket": at.bucket, "Key": at.key},
            ExpiresIn=seconds,
            HttpMethod=method,
        )
        return url

    def local(self, at: Location) -> Path | None:
        del at
        return None

    async def unfinished(self, under: Location) -> Sequence[Unfinished]:
        found: list[Unfinished] = []
        more: dict[str, str] | None = {}
        while more is not None:
            page, more = await self.ask(under.uri, partial(self._uploads, under, more))
            found += page
        return found

    def _uploads(
        self, under: Location, more: Mapping[str, str]
    ) -> tuple[Sequence[Unfinished], dict[str, str] | None]:
        # A key may have characters that XML has not.
        page: Mapping[str, Any] = self.client.list_multipart_uploads(
            Bucket=under.bucket, Prefix=under.key, EncodingType="url", **more
        )
        plain = unquote_plus if page.get("EncodingType") == "url" else str
        found = [
            Unfinished(
                location=under.at(plain(it["Key"])),
                upload_id=it["UploadId"],
                begun_at=it["Initiated"].timestamp(),
            )
            for it in page.get("Uploads", ())
        ]
        if not page.get("IsTruncated"):
            return found, None
        return found, {
            "KeyMarker": plain(page.get("NextKeyMarker", "")),
            "UploadIdMarker": page.get("NextUploadIdMarker", ""),
        }

    async def abort(self, upload: Unfinished) -> None:
        at = upload.location

        def ask() -> None:
            try:
                with translated(at.uri):
                    self.client.abort_multipart_upload(
                        Bucket=at.bucket, Key=at.key, UploadId=upload.upload_id
                    )
            except UploadGone:
                pass  # it is not there any more: all that was wanted
            if self.journal is not None:
                self.journal.ended(upload)

        await self.ask(at.uri, ask)


def _listed(under: Location, it: Mapping[str, Any]) -> Blob:
    """Without a checksum: its ETag is the MD5 unless it is encrypted, which is not told here."""
    return Blob(
        location=under.at(it["Key"]),
        size=it["Size"],
        etag=it["ETag"].strip('"'),
        modified_at=it["LastModified"].timestamp(),
    )
