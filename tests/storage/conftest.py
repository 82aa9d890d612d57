"""A Valkey server that is emptied for each test which asks for its URL."""

from collections.abc import Iterator

import pytest
from tests.storage.redis_servers import Server, start_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_server("valkey") as server:
        yield server


@pytest.fixture
def url(server: Server) -> str:
    with server.client() as client:
        client.flushall()
    return server.url
