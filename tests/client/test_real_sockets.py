"""Over real sockets: the examples of the docs, and streams that are left."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from tests.client.test_follow import end, event, told
from tests.orchestrator.clients import TOKEN, make_context

from avtomatika_trio import Blueprint
from avtomatika_trio.client import AsyncClient, Client
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.orchestrator._server import ServerSettings, serve

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-client.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


@asynccontextmanager
async def serving(app: Any, *beside: Callable[[], Awaitable[None]]) -> AsyncIterator[str]:
    """The URL of a server of *app*."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        settings = ServerSettings(port=0, grace_seconds=0.5)
        [url] = await nursery.start(partial(serve, app, settings, shutdown=stop.wait))
        for loop in beside:
            nursery.start_soon(loop)
        yield url
        stop.set()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
async def test_the_examples_of_the_docs_run(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    films = Blueprint("films")

    @films.handler(is_start=True)
    async def start(actions: Any) -> None:
        actions.go_to("done")

    @films.handler(is_end=True)
    async def done(path: str) -> dict[str, str]:
        return {"path": path}

    context = attrs.evolve(make_context(), blueprints=Blueprints([films]))
    code = compile(EXAMPLES[number], str(PAGE), "exec")
    async with serving(create_app(context), partial(run_engine, context)) as url:
        monkeypatch.setenv("AVTOMATIKA_URL", url)
        monkeypatch.setenv("AVTOMATIKA_CLIENT_TOKEN", TOKEN)
        await trio.to_thread.run_sync(exec, code, {})
    said = capsys.readouterr().out
    assert ("finished {'path': '/films/" in said) == (number < 2)
    assert ("finished Film(path='/films/three.mp4', seconds=0)" in said) == (number == 3)
    assert len(said.splitlines()) >= (1, 4, 3, 1)[number]


async def test_the_example_of_the_page_on_watching_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = PAGE.with_name("watch-jobs.md").read_text("utf-8")
    [text] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(text, "watch-jobs.md", "exec"), names)
    context = make_context()
    async with (
        serving(create_app(context), partial(run_engine, context)) as url,
        AsyncClient(url, TOKEN) as client,
    ):
        job = await names["watch"](client, await client.submit("walk", {}))
    assert job.status == "finished"
    lines = capsys.readouterr().out.splitlines()
    assert "job_created" in lines[0]
    assert "job_finished" in lines[-1]


async def stream_on(scope: Any, receive: Any, send: Any) -> None:
    """Two events, and the end if it is asked after them; the job `silent` has no end."""
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"text/event-stream")]
    after = int(dict(scope["headers"])[b"last-event-id"])
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    body = end() if after else event(1) + event(2)
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if scope["path"].endswith("/silent/events"):
        while (await receive())["type"] != "http.disconnect":
            pass
    else:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_a_stream_is_left_or_read_to_its_end_in_trio() -> None:
    async with serving(stream_on) as url, AsyncClient(url, TOKEN) as client:
        async with client.follow("j") as items:
            assert told([await anext(items)]) == [1]
        async with client.follow("silent") as items:
            assert told([await anext(items)]) == [1]
        assert told([item async for item in client.follow("j")]) == [1, 2, "finished"]
        with trio.CancelScope() as scope:
            async for item in client.follow("silent"):
                if told([item]) == [2]:
                    scope.cancel()
        assert scope.cancelled_caught


async def test_a_stream_is_left_or_read_to_its_end_without_trio() -> None:
    def talk(url: str) -> None:
        with Client(url, TOKEN) as client:
            assert told([next(client.follow("silent"))]) == [1]
            assert told(client.follow("j")) == [1, 2, "finished"]

    async with serving(stream_on) as url:
        await trio.to_thread.run_sync(talk, url)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_files_of_tls_that_cannot_be_used_are_told(kind: Any, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.pem")
    for files, told_of in (
        ({"ca_file": missing}, "ca_file"),
        ({"cert_file": missing}, "cert_file"),
        ({"key_file": missing}, "give the certificate too"),
    ):
        with pytest.raises(ConfigError, match=told_of):
            kind("https://orchestrator:8080", TOKEN, **files)


async def test_many_waits_at_a_time_do_not_hold_up_a_question() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        asked = await stream.receive_some()
        if asked and b"wait=" not in asked:
            await stream.send_all(
                b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"blueprints": []}'
            )
        elif asked:
            held.release()
        await trio.sleep_forever()

    held = trio.Semaphore(0)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with AsyncClient(f"http://127.0.0.1:{port}", TOKEN) as client:
            for _ in range(110):  # more than httpx lets through if it is not told otherwise
                nursery.start_soon(partial(client.get, "j", wait_seconds=30))
            with trio.fail_after(20):
                for _ in range(110):
                    await held.acquire()
                assert await client.blueprints() == []
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_no_proxy_is_asked_for_this_machine_though_another_orchestrator_is_far(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"blueprints": []}')

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        urls = [f"http://{host}:{port}", "http://far:8080"]
        async with AsyncClient(urls, TOKEN, retry_seconds=0) as client:
            assert await client.blueprints() == []
        nursery.cancel_scope.cancel()
