"""Every scene is played on both ledgers."""

from collections.abc import Iterator

import pytest
from tests.delivery.scene import Scene


@pytest.fixture(params=["memory", "sqlite"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene in which nothing may be wrong at the end."""
    scene = Scene(sqlite=request.param == "sqlite")
    yield scene
    assert scene.violations() == []
