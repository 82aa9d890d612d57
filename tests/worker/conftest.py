"""What several modules of these tests are given."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.worker.file_cases import Desk, open_desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A worker's place for files, in a folder."""
    async with open_desk(tmp_path) as opened:
        yield opened
