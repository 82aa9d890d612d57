"""Who a worker with a client certificate is, in each of the modes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
import trio
from tests.orchestrator.clients import EPOCH, WORKER_TOKEN, blueprints, memory
from tests.security.credentials import let_in
from trio.testing import MockClock

from avtomatika_trio._wire.signing import sign_message
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context, Security

W1: dict[str, Any] = {"subject": ((("commonName", "w1"),),)}
TWO: dict[str, Any] = {"subjectAltName": (("DNS", "w1"), ("DNS", "w2"), ("IP Address", "::1"))}
NOBODY: dict[str, Any] = {"subject": ((("commonName", "*.example.com"),),)}


def make_context(mode: str = "mixed", **fields: Any) -> Context:
    return Context(
        storage=memory(),
        blueprints=blueprints(),
        client_token="c",
        worker_token=WORKER_TOKEN,
        security=Security(auth_mode=mode, **fields),
    )


@asynccontextmanager
async def connected(
    context: Context, certificate: Mapping[str, Any] | None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client that has shown *certificate* in its handshake."""
    app = create_app(context)

    async def with_certificate(scope: Any, receive: Any, send: Any) -> None:
        state = {} if certificate is None else {"client_certificate": certificate}
        await app({**scope, "state": state}, receive, send)

    transport = httpx.ASGITransport(app=cast("Any", with_certificate))
    async with httpx.AsyncClient(transport=transport, base_url="http://o") as client:
        yield client


async def register(
    client: httpx.AsyncClient, worker_id: str = "w1", token: str | None = None, **more: Any
) -> httpx.Response:
    headers = {"X-Worker-ID": worker_id}
    if token is not None:
        headers["X-Worker-Token"] = token
    body = {"worker_id": worker_id, "supported_skills": [], **more}
    return await client.post("/_worker/workers/register", json=body, headers=headers)


@pytest.mark.parametrize(
    ("mode", "certificate", "token", "status"),
    [
        ("mixed", W1, None, 200),
        ("mixed", W1, "whatever", 200),
        ("mixed", None, WORKER_TOKEN, 200),
        ("mixed", NOBODY, WORKER_TOKEN, 200),
        ("mixed", NOBODY, None, 403),
        ("mixed", None, None, 403),
        ("mtls-only", W1, None, 200),
        ("mtls-only", None, WORKER_TOKEN, 403),
        ("mtls-only", NOBODY, WORKER_TOKEN, 403),
        ("token-only", W1, None, 403),
        ("token-only", W1, WORKER_TOKEN, 200),
    ],
)
async def test_what_lets_a_worker_in(
    autojump_clock: MockClock,
    mode: str,
    certificate: Mapping[str, Any] | None,
    token: str | None,
    status: int,
) -> None:
    async with connected(make_context(mode), certificate) as client:
        assert (await register(client, token=token)).status_code == status


async def test_a_certificate_speaks_for_its_names_and_no_other(autojump_clock: MockClock) -> None:
    async with connected(make_context(), W1) as client:
        refused = await register(client, "w2", token=WORKER_TOKEN)
        assert refused.status_code == 403
        assert "Certificate name 'w1' does not match worker_id 'w2'" in refused.json()["error"]
    async with connected(make_context(), TWO) as client:
        for worker_id, status in (("w1", 200), ("w2", 200), ("w3", 403)):
            assert (await register(client, worker_id)).status_code == status


async def test_a_section_that_has_expired_refuses_the_certificate_too(
    autojump_clock: MockClock,
) -> None:
    context = make_context()
    await let_in(context.storage, {"w1": []}, expires_at=EPOCH + 100)
    await context.access.open()
    async with connected(context, W1) as client:
        assert (await register(client)).status_code == 200
        await trio.sleep(101)
        assert (await register(client)).status_code == 403


async def test_with_a_certificate_messages_are_signed_with_a_short_lived_token(
    autojump_clock: MockClock,
) -> None:
    context = make_context("mtls-only", signing="required")
    async with connected(context, W1) as client:
        bare = await register(client)
        assert bare.status_code == 403
        issued = await client.post("/_worker/auth/token", headers={"X-Worker-ID": "w1"})
        access = issued.json()["access_token"]
        body = {"worker_id": "w1", "supported_skills": [], "timestamp": int(context.storage.now())}
        signature = sign_message(body, access.encode())
        said: dict[str, Any] = {"timestamp": body["timestamp"]}
        said["security"] = {"signature": signature}
        assert (await register(client, token=access, **said)).status_code == 200
        forged: dict[str, Any] = {
            "timestamp": body["timestamp"],
            "security": {"signature": "0" * 64},
        }
        assert (await register(client, token=access, **forged)).status_code == 403
        # a token that is not this worker's is no key, whatever is signed with it
        signature = sign_message(body, b"any")
        said = {"timestamp": body["timestamp"], "security": {"signature": signature}}
        assert (await register(client, token="any", **said)).status_code == 403


async def test_a_worker_of_the_original_signs_with_the_token_that_is_in_the_file(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It shows a short-lived token and goes on signing with its own one."""
    context = make_context(signing="required")
    await let_in(context.storage, {"w1": ["the-static-token"]})
    await context.access.open()
    async with connected(context, None) as client:
        headers = {"X-Worker-ID": "w1", "X-Worker-Token": "the-static-token"}
        issued = (await client.post("/_worker/auth/token", headers=headers)).json()
        body = {"worker_id": "w1", "supported_skills": [], "timestamp": int(context.storage.now())}
        said: dict[str, Any] = {
            "timestamp": body["timestamp"],
            "security": {"signature": sign_message(body, b"the-static-token")},
        }
        refused = await register(client, token=issued["access_token"], **said)
        assert refused.status_code == 403  # its hash alone is no key
        assert "needs `token` in clear in workers.toml" in caplog.text
        context.files.clear = {"w1": ("the-static-token",)}
        assert (await register(client, token=issued["access_token"], **said)).status_code == 200
