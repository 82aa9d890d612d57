"""A body over the limit is refused, readably, whatever app is behind."""

from collections.abc import AsyncIterator

import httpx
import pytest
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from tests.orchestrator.serving import PlainApp, ask, connect, create_app, open_server, read_to_end

both_apps = pytest.mark.parametrize("kind", ["plain", "quart"])


async def pieces(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 1000):
        yield b"x" * 1000


def assert_refused(response: httpx.Response, limit: int) -> None:
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["title"]
    assert problem["status"] == 413
    assert problem["code"] == "body_too_large"
    assert f"limit of {limit} bytes" in problem["detail"]
    assert problem["error"] == problem["detail"]


@both_apps
@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
async def test_a_body_over_the_limit_gets_a_413_that_can_be_read(
    kind: str, announced: bool
) -> None:
    async with (
        open_server(create_app(kind), max_message_bytes=100_000) as server,
        httpx.AsyncClient() as client,
    ):
        body = b"x" * 8_000_000 if announced else pieces(8_000_000)
        assert_refused(await client.post(server.url, content=body), 100_000)
        assert (await client.post(server.url, content=b"small")).json() == {"received": 5}


@both_apps
@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
async def test_a_body_of_exactly_the_limit_is_served(kind: str, announced: bool) -> None:
    async with (
        open_server(create_app(kind), max_message_bytes=100_000) as server,
        httpx.AsyncClient() as client,
    ):
        body = b"x" * 100_000 if announced else pieces(100_000)
        response = await client.post(server.url, content=body)
        assert (response.status_code, response.json()) == (200, {"received": 100_000})


async def test_an_announced_body_over_the_limit_never_reaches_the_app() -> None:
    called: list[str] = []

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        called.append(scope["type"])

    async with open_server(app, max_message_bytes=10, linger_seconds=0.05) as server:
        packet = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"
        assert (await ask(server.port, packet))[0] == 413
    assert called == ["lifespan"]


async def test_an_app_hears_of_a_refused_body_as_a_disconnect() -> None:
    app = PlainApp()
    async with open_server(app, max_message_bytes=10) as server, httpx.AsyncClient() as client:
        assert_refused(await client.post(server.url, content=pieces(2000)), 10)
    assert app.ended == ["http.disconnect"]


async def test_a_body_that_grows_too_large_under_a_begun_answer_cuts_the_connection() -> None:
    ended: list[str] = []

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (message := await receive())["type"] == "http.request":
            pass
        ended.append(message["type"])
        try:
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
        except OSError as exc:
            ended.append(str(exc))

    async with (
        open_server(app, max_message_bytes=10, linger_seconds=0.05) as server,
        await connect(server.port) as stream,
    ):
        await stream.send_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nxxxxxxxxxxx\r\n"
        )
        data = await read_to_end(stream)
        assert b"begun" in data
        assert b"more" not in data
        assert not data.endswith(b"0\r\n\r\n")  # visibly cut, not ended
    assert ended == ["http.disconnect", "the request was refused: its body is too large"]
