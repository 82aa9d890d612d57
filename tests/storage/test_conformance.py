"""Every backend keeps the same promises."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.storage.redis_servers import Server, start_cluster, start_server

from avtomatika_trio.storage import MemoryStorage, Storage, open_storage
from avtomatika_trio.testing.conformance import (
    AccessPromises,
    ArchivePromises,
    BacklogPromises,
    CommitPromises,
    DurabilityPromises,
    FilterPromises,
    ForgettingPromises,
    IndexPromises,
    NewsPromises,
    PartitionPromises,
    QueuePromises,
    ReadPromises,
    SetClock,
    ValuePromises,
)

#: What is in Redis is the same for a server of either make, and for three in a cluster.  Redis
#: itself is no package of Python: only `e2e` needs it.
REDISES = ["valkey", "valkey-cluster", pytest.param("redis", marks=pytest.mark.e2e)]


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(scope="module")
def valkey() -> Iterator[Callable[[], str]]:
    with start_server("valkey") as server:
        yield partial(emptied, server.url, [server])


@pytest.fixture(scope="module")
def redis() -> Iterator[Callable[[], str]]:
    with start_server("redis") as server:
        yield partial(emptied, server.url, [server])


@pytest.fixture(scope="module")
def valkey_cluster() -> Iterator[Callable[[], str]]:
    with start_cluster("valkey") as cluster:
        yield partial(emptied, cluster.url, cluster.nodes)


@pytest.fixture(scope="module")
def another_valkey() -> Iterator[Callable[[], str]]:
    with start_server("valkey") as server:
        yield partial(emptied, server.url, [server])


@pytest.fixture(scope="module")
def another_redis() -> Iterator[Callable[[], str]]:
    with start_server("redis") as server:
        yield partial(emptied, server.url, [server])


@pytest.fixture(scope="module")
def another_valkey_cluster() -> Iterator[Callable[[], str]]:
    with start_cluster("valkey") as cluster:
        yield partial(emptied, cluster.url, cluster.nodes)


def emptied(url: str, servers: Sequence[Server]) -> str:
    for server in servers:
        with server.client() as client:
            client.flushall()
    return url


def url_of(
    kind: str, request: pytest.FixtureRequest, folder: Path, *, another: bool = False
) -> str:
    """Of an empty storage."""
    prefix = "another_" if another else ""
    match kind:
        case "memory":
            return "memory:"
        case "sqlite":
            return f"sqlite:{folder / f'{prefix}a.db'}"
        case _:
            url: str = request.getfixturevalue(prefix + kind.replace("-", "_"))()
            return url


@pytest.fixture(params=["memory", "sqlite", *REDISES])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
) -> AsyncIterator[Storage]:
    async with open_storage(
        url_of(request.param, request, tmp_path), now=clock, partitions=1
    ) as opened:
        yield opened


class TestCommits(CommitPromises):
    pass


class TestFilters(FilterPromises):
    pass


class TestValues(ValuePromises):
    pass


class TestQueues(QueuePromises):
    pass


class TestIndexes(IndexPromises):
    pass


class TestForgetting(ForgettingPromises):
    pass


class TestAccess(AccessPromises):
    pass


class TestReads(ReadPromises):
    pass


class TestNews(NewsPromises):
    pass


class TestBacklogs(BacklogPromises):
    pass


class TestPartitions(PartitionPromises):
    @pytest.fixture(params=["memory", *REDISES])
    async def storage(
        self, request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
    ) -> AsyncIterator[Storage]:
        if request.param == "memory":
            memory = MemoryStorage(clock, partitions=4)
            memory.ahead = {"p01": 100.0, "p02": -5000.0}
            yield memory
            return
        url = url_of(request.param, request, tmp_path)
        async with open_storage(url, now=clock, partitions=4) as opened:
            yield opened


class TestArchives(ArchivePromises):
    @pytest.fixture(
        params=[
            "memory memory",
            "memory sqlite",
            "sqlite sqlite",
            "sqlite valkey",
            "valkey memory",
            "valkey sqlite",
            "valkey valkey",
            "valkey-cluster valkey-cluster",
            pytest.param("redis redis", marks=pytest.mark.e2e),
            pytest.param("redis sqlite", marks=pytest.mark.e2e),
            pytest.param("sqlite redis", marks=pytest.mark.e2e),
        ]
    )
    def kinds(self, request: pytest.FixtureRequest) -> Sequence[str]:
        kinds: str = request.param
        return kinds.split()

    @pytest.fixture
    async def storage(
        self, kinds: Sequence[str], request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
    ) -> AsyncIterator[Storage]:
        async with open_storage(
            url_of(kinds[0], request, tmp_path), now=clock, partitions=1
        ) as opened:
            yield opened

    @pytest.fixture
    async def another(
        self, kinds: Sequence[str], request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
    ) -> AsyncIterator[Storage]:
        url = url_of(kinds[1], request, tmp_path, another=True)
        async with open_storage(url, now=clock, partitions=1) as opened:
            yield opened


class TestDurability(DurabilityPromises):
    @pytest.fixture(params=["sqlite", *REDISES])
    def url(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        return url_of(request.param, request, tmp_path)

    @pytest.fixture
    async def sessions(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as stack:
            yield stack

    @pytest.fixture
    async def storage(self, sessions: AsyncExitStack, url: str, clock: SetClock) -> Storage:
        return await sessions.enter_async_context(open_storage(url, now=clock, partitions=1))

    @pytest.fixture
    def reopen(
        self, sessions: AsyncExitStack, url: str, clock: SetClock
    ) -> Callable[[], Awaitable[Storage]]:
        async def close_and_open() -> Storage:
            await sessions.aclose()
            return await sessions.enter_async_context(open_storage(url, now=clock, partitions=1))

        return close_and_open
