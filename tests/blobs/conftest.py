"""A real S3 server for all tests of a session, and what they find in it: nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.blobs.s3_server import BUCKET, OTHER_BUCKET, S3Server, run_s3_server


@pytest.fixture(scope="session")
def running_s3() -> Iterator[S3Server]:
    """One server for all: it takes seconds to start.  One that is not installed is an error."""
    with run_s3_server() as server:
        yield server


@pytest.fixture
def s3_server(running_s3: S3Server) -> Iterator[S3Server]:
    """The server, with buckets that are empty afterwards."""
    yield running_s3
    client = running_s3.client()
    try:
        for bucket in (BUCKET, OTHER_BUCKET):
            _empty(client, bucket)
    finally:
        client.close()


def _empty(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": it["Key"]} for it in page.get("Contents", ())]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys, "Quiet": True})
    for it in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=bucket, Key=it["Key"], UploadId=it["UploadId"])
