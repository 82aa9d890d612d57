"""With a certificate the server speaks TLS, and is no more patient than without."""

import ssl
from pathlib import Path

import httpx
import pytest
import trio
from tests.orchestrator.serving import PlainApp, connect, create_app, open_server, read_to_end

from avtomatika_trio.orchestrator._server import ServerSettings, serve

PEM = str(Path(__file__).with_name("tls") / "localhost.pem")
"""A key and the certificate of 127.0.0.1, its own authority; valid for a hundred years."""

both_apps = pytest.mark.parametrize("kind", ["plain", "quart"])


@both_apps
async def test_the_announced_url_answers_over_tls(kind: str) -> None:
    async with (
        open_server(create_app(kind), certfile=PEM, keyfile=PEM) as server,
        httpx.AsyncClient(verify=ssl.create_default_context(cafile=PEM)) as client,
    ):
        assert server.url == f"https://127.0.0.1:{server.port}"
        response = await client.post(server.url, content=b"12345")
        assert (response.status_code, response.json()) == (200, {"received": 5})


async def test_a_client_without_the_asked_for_certificate_gets_no_answer() -> None:
    tls = {"certfile": PEM, "keyfile": PEM, "ca_certs": PEM, "require_client_cert": True}
    async with open_server(PlainApp(), **tls) as server:
        stranger = ssl.create_default_context(cafile=PEM)
        async with httpx.AsyncClient(verify=stranger) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(server.url)
        known = ssl.create_default_context(cafile=PEM)
        known.load_cert_chain(PEM)
        async with httpx.AsyncClient(verify=known) as client:
            assert (await client.get(server.url)).status_code == 200


@pytest.mark.parametrize("packet", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_handshake_that_does_not_come_is_given_up(packet: bytes) -> None:
    async with (
        open_server(
            PlainApp(), certfile=PEM, keyfile=PEM, handshake_timeout_seconds=0.05
        ) as server,
        await connect(server.port) as stream,
    ):
        await stream.send_all(packet)
        with trio.fail_after(2):
            await read_to_end(stream)


@both_apps
async def test_an_idle_tls_connection_does_not_delay_a_stop(kind: str) -> None:
    trusting = ssl.create_default_context(cafile=PEM)
    tls = {"certfile": PEM, "keyfile": PEM}
    with trio.fail_after(2):
        async with (
            httpx.AsyncClient(verify=trusting) as client,
            open_server(create_app(kind), grace_seconds=30, **tls) as server,
        ):
            await client.get(server.url)


async def test_a_certificate_that_is_not_there_is_an_error_at_the_start() -> None:
    settings = ServerSettings(port=0, certfile="/nowhere/a.pem", keyfile="/nowhere/a.key")
    with pytest.raises(FileNotFoundError):
        await serve(PlainApp(), settings, shutdown=trio.sleep_forever)
