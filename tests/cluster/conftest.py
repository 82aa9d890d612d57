"""One orchestrator in virtual time.  Tests ask for `autojump_clock`, too: only a test's own
arguments choose its clock.
"""

from collections.abc import AsyncIterator

import pytest
from tests.cluster import scene
from tests.cluster.scene import Workshop, at_peace
from trio.testing import MockClock

from avtomatika_trio.testing import Cluster

#: Whose tests are played on a storage with one partition and on one with four.
DIVIDED = {
    "test_attacks",
    "test_counts",
    "test_hand_out",
    "test_leases",
    "test_orchestrator_deaths",
    "test_results",
    "test_shared_storage",
    "test_storms",
    "test_storms_of_cuts",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in DIVIDED:
        metafunc.parametrize("partitions", [1, 4], indirect=True, ids=["whole", "divided"])


@pytest.fixture(autouse=True)
def partitions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many the storages of the test have."""
    count: int = getattr(request, "param", 1)
    monkeypatch.setattr(scene, "PARTITIONS", count)
    return count


@pytest.fixture
async def cluster(partitions: int, autojump_clock: MockClock) -> AsyncIterator[Cluster]:
    """A cluster of one orchestrator, in which nothing may be wrong at the end."""
    async with at_peace() as cluster:
        yield cluster


@pytest.fixture
def shop() -> Workshop:
    return Workshop()
