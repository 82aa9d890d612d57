"""Who shows a certificate is known by it; what is no certificate of ours lets nobody in."""

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from cryptography.hazmat.primitives import serialization
from tests.orchestrator.authority import Authority, Signed, tell_names
from tests.orchestrator.serving import open_server

from avtomatika_trio._config import OrchestratorSettings, Secret
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.orchestrator import Orchestrator
from avtomatika_trio.orchestrator._build import server_settings
from avtomatika_trio.orchestrator._certificates import names_of
from avtomatika_trio.orchestrator._server import ServerSettings, _hypercorn_config
from avtomatika_trio.orchestrator._tls import check_tls


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def foreign(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "foreign")


async def names_seen(url: str, authority: Authority, shown: Signed | None = None) -> str:
    """What `tell_names` answers to a new connection."""
    context = ssl.create_default_context(cafile=authority.file)
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    async with httpx.AsyncClient(verify=context) as client:
        return (await client.get(url)).text


async def test_the_app_learns_who_shows_a_certificate(ours: Authority) -> None:
    async with open_server(tell_names, **ours.server(), ca_certs=ours.file) as server:
        assert await names_seen(server.url, ours) == "-"
        assert await names_seen(server.url, ours, ours.sign("w1", "w2")) == "w1,w2"
        assert await names_seen(server.url, ours, ours.sign(common_name="w3")) == "w3"
        # A certificate of ours that speaks for nobody is one nevertheless.
        assert await names_seen(server.url, ours, ours.sign("*.example.com")) == ""
        assert await names_seen(server.url, ours) == "-"


async def test_every_request_of_a_connection_has_the_certificate(ours: Authority) -> None:
    context = ssl.create_default_context(cafile=ours.file)
    shown = ours.sign("w1")
    context.load_cert_chain(shown.cert, shown.key)
    one = httpx.Limits(max_connections=1)
    async with (
        open_server(tell_names, **ours.server(), ca_certs=ours.file) as server,
        httpx.AsyncClient(verify=context, limits=one) as client,
    ):
        assert [(await client.get(server.url)).text for _ in range(3)] == ["w1"] * 3


async def test_a_resumed_session_is_still_its_certificates(ours: Authority) -> None:
    context = ssl.create_default_context(cafile=ours.file)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions are there at once
    shown = ours.sign("w1")
    context.load_cert_chain(shown.cert, shown.key)
    async with open_server(tell_names, **ours.server(), ca_certs=ours.file) as server:
        answers = await trio.to_thread.run_sync(ask_twice_in_one_session, server.port, context)
    assert answers == [(False, True), (True, True)]


def ask_twice_in_one_session(port: int, context: ssl.SSLContext) -> list[tuple[bool, bool]]:
    """For each of two connections: whether its session was resumed, and whether it was w1's."""
    session, answers = None, []
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as stream,
        ):
            stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            told = b""
            while piece := stream.recv(65536):
                told += piece
            answers.append((bool(stream.session_reused), told.endswith(b"\r\n\r\nw1")))
            session = stream.session
    return answers


async def test_a_server_without_an_authority_asks_for_nothing(ours: Authority) -> None:
    async with open_server(tell_names, **ours.server()) as server:
        assert await names_seen(server.url, ours, ours.sign("w1")) == "-"


async def test_a_plain_connection_has_no_certificate() -> None:
    async with open_server(tell_names) as server, httpx.AsyncClient() as client:
        assert (await client.get(server.url)).text == "-"


async def test_a_certificate_of_another_authority_harms_only_who_shows_it(
    ours: Authority, foreign: Authority
) -> None:
    async with open_server(tell_names, **ours.server(), ca_certs=ours.file) as server:
        with pytest.raises(httpx.TransportError):
            await names_seen(server.url, ours, foreign.sign("w1"))
        assert await names_seen(server.url, ours, ours.sign("w2")) == "w2"
        assert await names_seen(server.url, ours) == "-"


async def test_without_the_required_certificate_nobody_is_let_in(
    ours: Authority, foreign: Authority
) -> None:
    tls = {**ours.server(), "ca_certs": ours.file, "require_client_cert": True}
    async with open_server(tell_names, **tls) as server:
        for shown in (None, foreign.sign("w1")):
            with pytest.raises(httpx.TransportError):
                await names_seen(server.url, ours, shown)
        assert await names_seen(server.url, ours, ours.sign("w1")) == "w1"


def test_nothing_older_than_tls_1_2_is_spoken(ours: Authority) -> None:
    files: dict[str, Any] = ours.server()
    context = _hypercorn_config(ServerSettings(**files)).create_ssl_context()
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def named(*alternatives: tuple[str, str], common_name: str | None = None) -> dict[str, Any]:
    """A certificate as `getpeercert` tells it."""
    subject = [(("organizationName", "acme"),)]
    if common_name is not None:
        subject.append((("commonName", common_name),))
    told: dict[str, Any] = {"subject": tuple(subject)}
    return {**told, "subjectAltName": alternatives} if alternatives else told


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        (None, ()),
        ({}, ()),
        (named(), ()),
        (named(("DNS", "w1")), ("w1",)),
        (named(("DNS", "w1"), ("DNS", "w_2"), ("DNS", "w1")), ("w1", "w_2")),
        (named(common_name="w1"), ("w1",)),
        (named(("DNS", "w1"), common_name="w2"), ("w1",)),
        (named(("IP Address", "10.0.0.1"), ("URI", "spiffe://a/w3"), common_name="w2"), ("w2",)),
        (named(("DNS", "w1.example.com"), common_name="w2"), ()),
        (named(("DNS", "*"), ("DNS", "*.w1"), ("DNS", "w1")), ("w1",)),
        (named(common_name="w 1"), ()),
        (named(common_name=""), ()),
        (named(common_name="w1\n"), ()),
        (named(common_name="wörker"), ()),
        (named(common_name="w" * 128), ("w" * 128,)),
        (named(common_name="w" * 129), ()),
    ],
)
def test_the_names_of_a_certificate(
    certificate: Mapping[str, Any] | None, names: tuple[str, ...]
) -> None:
    assert names_of(certificate) == names


def problems_of(settings: OrchestratorSettings) -> list[str]:
    """What `check_tls` complains of."""
    try:
        check_tls(settings)
    except ConfigError as exc:
        return list(exc.problems)
    return []


def with_files(authority: Authority) -> OrchestratorSettings:
    """Settings of TLS that are right."""
    files = authority.server()
    return OrchestratorSettings(
        tls_enabled=True,
        tls_cert=Path(files["certfile"]),
        tls_key=Path(files["keyfile"]),
        tls_ca=Path(authority.file),
    )


def test_settings_that_fit_have_their_effect(ours: Authority) -> None:
    settings = with_files(ours)
    required = attrs.evolve(settings, tls_require_client_cert=True)
    for each in (settings, required):
        assert problems_of(each) == []
        server = server_settings(each)
        assert (server.certfile, server.keyfile, server.ca_certs, server.require_client_cert) == (
            str(each.tls_cert),
            str(each.tls_key),
            str(each.tls_ca),
            each is required,
        )
    assert problems_of(OrchestratorSettings()) == []
    assert server_settings(OrchestratorSettings()).certfile is None


def test_all_that_is_missing_is_named() -> None:
    asked = OrchestratorSettings(tls_enabled=True, tls_require_client_cert=True)
    assert problems_of(asked) == [
        "TLS_ENABLED is set without TLS_CERT_PATH; give the certificate of this server",
        "TLS_ENABLED is set without TLS_KEY_PATH; give the key of the certificate",
        (
            "TLS_REQUIRE_CLIENT_CERT is set without TLS_CA_PATH;"
            " give the authority that signs the certificates of clients"
        ),
    ]


def test_what_would_have_no_effect_is_refused(ours: Authority) -> None:
    unused = attrs.evolve(with_files(ours), tls_enabled=False, tls_require_client_cert=True)
    assert problems_of(unused) == [
        f"{name} is set, but TLS_ENABLED is not; set TLS_ENABLED, or unset {name}"
        for name in ("TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH", "TLS_REQUIRE_CLIENT_CERT")
    ]


def test_files_that_cannot_be_used_are_named(ours: Authority, tmp_path: Path) -> None:
    good = with_files(ours)
    cert, key = f"TLS_CERT_PATH: {good.tls_cert}", f"TLS_KEY_PATH: {good.tls_key}"
    other = ours.sign("other")
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    locked = tmp_path / "locked.key"
    assert good.tls_key is not None
    locked.write_bytes(
        serialization.load_pem_private_key(good.tls_key.read_bytes(), None).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    no_certificate = "holds no certificate in PEM form; give one that does"

    def complaint(**changes: Any) -> str:
        (problem,) = problems_of(attrs.evolve(good, **changes))
        return problem

    assert complaint(tls_cert=good.tls_key) == f"TLS_CERT_PATH: {good.tls_key} {no_certificate}"
    assert complaint(tls_ca=good.tls_key) == f"TLS_CA_PATH: {good.tls_key} {no_certificate}"
    assert complaint(tls_key=good.tls_cert) == (
        f"TLS_KEY_PATH: {good.tls_cert} holds no private key in PEM form;"
        " give the one of the certificate"
    )
    assert complaint(tls_key=Path(other.key)) == (
        f"TLS_KEY_PATH: {other.key} is not the key of {cert}; give the two that belong together"
    )
    assert complaint(tls_cert=rubbish).startswith(
        f"TLS_CERT_PATH: {rubbish} and {key} cannot be used ("
    )
    assert complaint(tls_ca=rubbish).startswith(
        f"TLS_CA_PATH: {rubbish} holds a certificate that cannot be read ("
    )
    assert complaint(tls_key=locked) == (
        f"TLS_KEY_PATH: {locked} has a password;"
        " write it without one (openssl pkey -in OLD -out NEW)"
    )
    assert complaint(tls_cert=tmp_path / "gone") == (
        f"TLS_CERT_PATH: {tmp_path / 'gone'} cannot be read (No such file or directory);"
        " give a file that can"
    )


def test_a_hosted_orchestrator_leaves_tls_to_its_server(ours: Authority) -> None:
    settings = attrs.evolve(
        with_files(ours), client_token=Secret("client"), worker_token=Secret("worker")
    )
    with pytest.raises(ConfigError) as caught:
        Orchestrator([], settings)
    assert caught.value.problems == (
        (
            "TLS is the business of the server there;"
            " unset TLS_ENABLED, TLS_CERT_PATH, TLS_KEY_PATH, TLS_CA_PATH"
        ),
    )


def test_workers_can_be_known_by_certificates_only_where_these_are_asked_for() -> None:
    (problem,) = problems_of(OrchestratorSettings(worker_auth_mode="mtls-only"))
    assert problem.startswith("WORKER_AUTH_MODE=mtls-only lets no worker in without TLS_ENABLED")
