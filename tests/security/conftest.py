"""Security in virtual time, as in `tests/cluster`."""

from collections.abc import AsyncIterator

import pytest
from tests.cluster.scene import Workshop, at_peace
from trio.testing import MockClock

from avtomatika_trio.testing import Cluster


@pytest.fixture
async def cluster(autojump_clock: MockClock) -> AsyncIterator[Cluster]:
    """A cluster of one orchestrator, in which nothing may be wrong at the end."""
    async with at_peace() as cluster:
        yield cluster


@pytest.fixture
def shop() -> Workshop:
    return Workshop()
