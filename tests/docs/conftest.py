"""For tests that play what the docs show."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage; everything that was started on it ends with the test."""
    stage = Stage(folder=tmp_path)
    yield stage
    stage.close()
