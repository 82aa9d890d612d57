"""A client shows its certificate, and believes only whom its authority has signed."""

from pathlib import Path

from tests.orchestrator.authority import Authority, tell_names
from tests.orchestrator.serving import open_server

from avtomatika_trio.client import AsyncClient


async def test_the_certificate_of_a_client_is_shown(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    shown = ours.sign("c1")
    async with (
        open_server(tell_names, **ours.server(), ca_certs=ours.file) as server,
        AsyncClient(
            server.url, "t", ca_file=ours.file, cert_file=shown.cert, key_file=shown.key
        ) as client,
    ):
        assert await client.graph("any") == "c1"
