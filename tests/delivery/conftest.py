"""Every scene is played on every ledger."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from tests.delivery.redis import DirectBridge, RedisWithoutLoops, direct_bridge
from tests.delivery.scene import Scene
from tests.delivery.sqlite import SqliteWithoutThreads

from avtomatika_trio.storage import MemoryStorage

Make = Callable[[Callable[[], float]], MemoryStorage]


@pytest.fixture(scope="session")
def redis() -> Iterator[DirectBridge]:
    with direct_bridge() as bridge:
        yield bridge


@pytest.fixture(params=["memory", "sqlite", "redis"], scope="session")
def make_storage(request: pytest.FixtureRequest) -> Make:
    """Makes an empty storage that goes by the clock it is given."""
    match request.param:
        case "memory":
            return MemoryStorage
        case "sqlite":
            return SqliteWithoutThreads
        case _:
            return partial(RedisWithoutLoops, direct=request.getfixturevalue("redis"))


@pytest.fixture
def scene(make_storage: Make) -> Iterator[Scene]:
    """A scene in which nothing may be wrong at the end."""
    scene = Scene(make_storage)
    yield scene
    assert scene.violations() == []
