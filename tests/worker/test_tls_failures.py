"""TLS that does not come about is an orchestrator that is down, for the loop and for threads."""

from functools import partial

import pytest
import trio
from tests.orchestrator.serving import PlainApp, open_server
from tests.orchestrator.test_server_tls import PEM

from avtomatika_trio.errors import OrchestratorUnavailable
from avtomatika_trio.worker._api import (
    Address,
    ConnectionDropped,
    Request,
    open_http,
    open_thread_http,
)

HELLO = Request(method="GET", path="/")


def ask_in_thread(address: Address) -> None:
    with open_thread_http(address) as http:
        http.send(HELLO)


@pytest.mark.parametrize("speaks_tls", [True, False], ids=["unknown certificate", "no TLS"])
async def test_a_handshake_that_fails_counts_at_once(*, speaks_tls: bool) -> None:
    files = {"certfile": PEM, "keyfile": PEM} if speaks_tls else {}
    async with open_server(PlainApp(), **files) as server:
        address = Address(url=f"https://127.0.0.1:{server.port}", worker_id="w1", token=None)
        async with open_http(address) as http:
            with pytest.raises(OrchestratorUnavailable) as caught:
                await http.send(HELLO)
        # Not one that is tried once more at once: a certificate does not get better.
        assert not isinstance(caught.value, ConnectionDropped)
        assert caught.value.reason.startswith("ConnectError")
        with pytest.raises(OrchestratorUnavailable):
            await trio.to_thread.run_sync(partial(ask_in_thread, address))
