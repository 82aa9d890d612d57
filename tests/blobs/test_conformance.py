"""A folder and an S3 server keep the same promises."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.blobs.s3_server import S3Server

from avtomatika_trio.blobs import Blobs, Patience, open_folder, open_s3
from avtomatika_trio.testing.conformance import BlobFailurePromises, BlobPromises


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Blobs]:
    async with open_folder(tmp_path / "kept") as opened:
        yield opened


@pytest.fixture
async def s3(s3_server: S3Server) -> AsyncIterator[Blobs]:
    access, patience = s3_server.access(), Patience(seconds=20)
    async with open_s3(access, max_concurrency=10, patience=patience) as opened:
        yield opened


class InFolder:
    @pytest.fixture
    def blobs(self, folder: Blobs) -> Blobs:
        return folder


class OnS3:
    @pytest.fixture
    def blobs(self, s3: Blobs) -> Blobs:
        return s3


class TestFolder(InFolder, BlobPromises):
    pass


class TestFolderFailures(InFolder, BlobFailurePromises):
    pass


class TestS3(OnS3, BlobPromises):
    pass


class TestS3Failures(OnS3, BlobFailurePromises):
    pass
