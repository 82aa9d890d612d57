"""TLS to Redis: certificates that are trusted, that are not, and that clients have."""

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trustme
from tests.storage.redis_servers import HOST, Server, start_server

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._redis_bridge import open_bridge
from avtomatika_trio.storage._redis_news import open_news
from avtomatika_trio.storage._redis_url import parse


@attrs.frozen
class Guarded:
    """A server with TLS only, that asks for a certificate, and the files for it."""

    server: Server
    port: int
    folder: Path

    def url(self, **options: str) -> str:
        query = "&".join(f"{name}={self.folder / file}" for name, file in options.items())
        return f"rediss://{HOST}:{self.port}?{query}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    cert = authority.issue_cert(HOST)
    cert.private_key_pem.write_to_path(folder / "key.pem")
    for number, blob in enumerate(cert.cert_chain_pems):
        blob.write_to_path(folder / "cert.pem", append=number > 0)
    with start_server("redis") as plain:
        port = plain.port
    options = (
        *("--tls-port", str(port), "--tls-ca-cert-file", str(folder / "ca.pem")),
        *("--tls-cert-file", str(folder / "cert.pem")),
        *("--tls-key-file", str(folder / "key.pem")),
    )
    with start_server("redis", *options) as server:
        yield Guarded(server, port, folder)


async def test_calls_and_news_over_tls(guarded: Guarded) -> None:
    files = {"ssl_ca_certs": "ca.pem", "ssl_certfile": "cert.pem", "ssl_keyfile": "key.pem"}
    address = parse(guarded.url(**files))
    got: list[bytes] = []
    ready, heard = trio.Event(), trio.Event()

    def on_message(message: bytes) -> None:
        got.append(message)
        if len(got) == 1000:
            heard.set()

    async with open_bridge(address) as bridge, open_news(address, "c", on_message, ready.set):
        await ready.wait()
        big = bytes(300_000)
        assert await bridge.call(("SET", "k", big), ("GET", "k"), key="k") == [b"OK", big]
        await bridge.call(*[("PUBLISH", "c", n) for n in range(1000)], key="k")
        with trio.fail_after(2):
            await heard.wait()
    assert got == [b"%d" % n for n in range(1000)]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"ssl_ca_certs": "other.pem"}, r"TLS certificate is not trusted \(.*ssl_ca_certs"),
        ({"ssl_ca_certs": "none.pem"}, "files for TLS can't be used: no such file"),
        ({"ssl_ca_certs": "ca.pem"}, "TLS failed|was reset|closed the connection"),
    ],
)
async def test_what_is_wrong_with_tls_is_told(
    guarded: Guarded, files: dict[str, str], text: str
) -> None:
    async with open_bridge(parse(guarded.url(**files))) as bridge:
        with pytest.raises(StorageUnavailable, match=text):
            await bridge.call(("PING",), key="k")


async def test_a_server_without_tls_is_told(guarded: Guarded) -> None:
    async with open_bridge(parse(f"rediss://{HOST}:{guarded.server.port}")) as bridge:
        with pytest.raises(StorageUnavailable, match=r"TLS failed|closed|reset|no answer"):
            await bridge.call(("PING",), key="k")
