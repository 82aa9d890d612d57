"""Every backend keeps the same promises."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from avtomatika_trio.storage import MemoryStorage, Storage, open_storage
from avtomatika_trio.testing.conformance import (
    AccessPromises,
    ArchivePromises,
    ClaimPromises,
    CommitPromises,
    DurabilityPromises,
    IndexPromises,
    NewsPromises,
    QueuePromises,
    ReadPromises,
    SetClock,
    ValuePromises,
)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock
) -> AsyncIterator[Storage]:
    url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'a.db'}"
    async with open_storage(url, now=clock) as opened:
        yield opened


class TestCommits(CommitPromises):
    pass


class TestValues(ValuePromises):
    pass


class TestQueues(QueuePromises):
    pass


class TestIndexes(IndexPromises):
    pass


class TestAccess(AccessPromises):
    pass


class TestReads(ReadPromises):
    pass


class TestNews(NewsPromises):
    pass


class TestClaims(ClaimPromises):
    pass


class TestArchives(ArchivePromises):
    @pytest.fixture
    async def another(
        self, storage: Storage, tmp_path: Path, clock: SetClock
    ) -> AsyncIterator[Storage]:
        is_memory = isinstance(storage, MemoryStorage)
        url = "memory:" if is_memory else f"sqlite:{tmp_path / 'another.db'}"
        async with open_storage(url, now=clock) as opened:
            yield opened


class TestDurability(DurabilityPromises):
    @pytest.fixture
    async def sessions(self) -> AsyncIterator[AsyncExitStack]:
        async with AsyncExitStack() as stack:
            yield stack

    @pytest.fixture
    async def storage(self, sessions: AsyncExitStack, tmp_path: Path, clock: SetClock) -> Storage:
        return await sessions.enter_async_context(_sqlite(tmp_path, clock))

    @pytest.fixture
    def reopen(
        self, sessions: AsyncExitStack, tmp_path: Path, clock: SetClock
    ) -> Callable[[], Awaitable[Storage]]:
        async def close_and_open() -> Storage:
            await sessions.aclose()
            return await sessions.enter_async_context(_sqlite(tmp_path, clock))

        return close_and_open


def _sqlite(folder: Path, clock: SetClock) -> AbstractAsyncContextManager[Storage]:
    return open_storage(f"sqlite:{folder / 'a.db'}", now=clock)
