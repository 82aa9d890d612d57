"""A scrape is answered in bounded time, whatever has become of the storage."""

from collections.abc import Callable

import pytest
import trio
from tests.orchestrator.clients import make_context, open_client
from tests.orchestrator.test_metrics_storage import IDLE, of_storage, scrape
from tests.storage.redis_servers import Server, start_server

from avtomatika_trio.orchestrator._metrics_storage import KEPT_SECONDS, PATIENCE_SECONDS
from avtomatika_trio.storage import open_storage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    ("begin", "end"),
    [(Server.pause, Server.go_on), (Server.kill, Server.start)],
    ids=["stopped", "killed"],
)
async def test_a_redis_that_does_not_answer_delays_no_scrape(
    begin: Callable[[Server], object], end: Callable[[Server], object]
) -> None:
    with start_server("valkey", "--appendonly", "yes") as server:
        async with open_storage(server.url, partitions=4) as storage:
            context = make_context(storage)
            async with open_client(context) as client:
                found = await scrape(client)
                assert of_storage(found) == IDLE
                begin(server)
                await trio.sleep(KEPT_SECONDS)
                for _ in range(2):
                    asked_at = trio.current_time()
                    found = await scrape(client)
                    assert trio.current_time() - asked_at < PATIENCE_SECONDS + 1
                    assert found["storage_up",] == 0
                    assert of_storage(found) == {}
                    await trio.sleep(KEPT_SECONDS)
                end(server)
                with trio.fail_after(40):
                    while not found["storage_up",]:
                        await trio.sleep(KEPT_SECONDS)
                        found = await scrape(client)
                assert of_storage(found) == IDLE
