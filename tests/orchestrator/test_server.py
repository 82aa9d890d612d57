"""The server starts, serves, loses patience and stops as it promises.

Real sockets and the real clock: this is the module that meets the kernel.  Every limit that a
test waits for is a few hundredths of a second.
"""

import contextlib
import gc
import logging
import select
import socket
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from tests.orchestrator.serving import (
    GET,
    POLL,
    WEBSOCKET,
    PlainApp,
    answer,
    ask,
    connect,
    create_app,
    open_server,
    read_answer,
    read_to_end,
)
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, CloseConnection, Request

from avtomatika_trio.orchestrator._connection import Connection, Patience
from avtomatika_trio.orchestrator._server import ServerSettings, serve

SOON_SECONDS = 2.0
"""Far longer than anything here takes on a busy machine, far shorter than the default limits."""

KERNELS_BACKLOG = int(Path("/proc/sys/net/core/somaxconn").read_text())

both_apps = pytest.mark.parametrize("kind", ["plain", "quart"])


# --- start ---------------------------------------------------------------------------------


@both_apps
async def test_the_announced_url_answers(kind: str) -> None:
    async with open_server(create_app(kind)) as server, httpx.AsyncClient() as client:
        assert server.url == f"http://127.0.0.1:{server.port}"
        response = await client.post(server.url, content=b"12345")
        assert (response.status_code, response.json()) == (200, {"received": 5})
        assert "server" not in response.headers


async def test_a_taken_port_is_a_clear_error_and_leaks_no_socket() -> None:
    async with open_server(PlainApp()) as server:
        settings = ServerSettings(port=server.port)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.port}: Address"):
            await serve(PlainApp(), settings, shutdown=trio.sleep_forever)
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="choose another host or port"):
                await nursery.start(
                    partial(serve, PlainApp(), settings, shutdown=trio.sleep_forever)
                )
        gc.collect()  # a leaked socket would warn here, and a warning is an error
        assert (await ask(server.port))[0] == 200


async def test_an_app_that_cannot_start_ends_the_server_and_frees_the_port() -> None:
    async def failing(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no storage"})

    with pytest.RaisesGroup(
        pytest.RaisesExc(Exception, match="no storage"), flatten_subgroups=True
    ):
        await serve(failing, ServerSettings(port=0), shutdown=trio.sleep_forever)
    gc.collect()


async def test_an_app_without_a_lifespan_is_served_all_the_same() -> None:
    async def bare(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            await answer(send, b"here")

    async with open_server(bare) as server:
        assert await ask(server.port) == (200, b"here")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"certfile": "a.pem"}, "certfile and keyfile go together"),
        ({"ca_certs": "a.pem"}, "ca_certs needs TLS"),
        ({"port": 70_000}, "port"),
        ({"keep_alive_seconds": 0}, "keep_alive_seconds"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerSettings(**wrong)


async def test_a_whole_fleet_can_connect_before_one_is_accepted() -> None:
    crowd = min(1000, KERNELS_BACKLOG)
    async with open_server(PlainApp()) as server:
        # No await in this block: the server cannot accept, the kernel has to keep them all.
        poll = select.poll()
        with contextlib.ExitStack() as stack:
            for _ in range(crowd):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", server.port))
                poll.register(client, select.POLLOUT)
            connected = [events for _, events in poll.poll(0) if events == select.POLLOUT]
            assert len(connected) == crowd


# --- faults stay where they are -------------------------------------------------------------


async def test_a_crash_of_the_app_is_a_500_and_one_logged_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = PlainApp()
    async with open_server(app) as server, await connect(server.port) as other:
        await other.send_all(POLL)
        await app.parked.wait()
        status, _ = await ask(server.port, b"GET /crash HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status == 500
        assert (await ask(server.port))[0] == 200
        assert app.ended == []  # the poll of the other connection has not noticed
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == "the app failed at /crash"
    assert "a fault of the app" in caplog.text


async def test_a_crash_below_the_app_is_logged_and_contained(
    caplog: pytest.LogCaptureFixture,
) -> None:
    no_stream: Any = "this has no socket"
    no_app: Any = None
    connection = Connection(
        no_stream,
        app=no_app,
        config=Config(),
        context=WorkerContext(None),
        state={},
        patience=Patience(
            keep_alive_seconds=1,
            head_seconds=1,
            body_seconds=1,
            send_seconds=1,
            handshake_seconds=1,
            linger_seconds=1,
        ),
    )
    await connection.run()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "AttributeError" in caplog.text


# --- patience -------------------------------------------------------------------------------


@both_apps
async def test_an_idle_connection_is_closed_after_its_keep_alive(kind: str) -> None:
    async with (
        open_server(create_app(kind), keep_alive_seconds=0.1) as server,
        await connect(server.port) as used,
        await connect(server.port) as unused,
    ):
        await used.send_all(GET)
        assert (await read_answer(used))[0] == 200
        with trio.fail_after(SOON_SECONDS):
            assert await read_to_end(used) == b""
            assert await read_to_end(unused) == b""


@both_apps
async def test_a_keep_alive_is_counted_from_the_last_answer(kind: str) -> None:
    async with (
        open_server(create_app(kind), keep_alive_seconds=0.3) as server,
        await connect(server.port) as stream,
    ):
        for _ in range(3):
            await stream.send_all(GET)
            assert (await read_answer(stream))[0] == 200
            await trio.sleep(0.12)


@both_apps
async def test_an_early_answer_reaches_a_client_that_is_still_sending(kind: str) -> None:
    async with (
        open_server(create_app(kind), max_message_bytes=10**9, linger_seconds=0.1) as server,
        await connect(server.port) as stream,
    ):
        head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 99000000\r\n\r\n"
        await stream.send_all(head)
        with trio.fail_after(SOON_SECONDS):
            # Far more than is queued for an app that does not read.
            await stream.send_all(b"x" * 8_000_000)
            assert await read_answer(stream) == (401, b"early")
            assert await read_to_end(stream) == b""  # the linger is over


async def test_half_a_head_is_given_up_however_it_drips() -> None:
    async def drip(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(GET[:5])
            while True:
                await trio.sleep(0.02)
                await stream.send_all(b"x")

    async with (
        open_server(PlainApp(), head_timeout_seconds=0.1) as server,
        await connect(server.port) as stream,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(drip, stream)
        with trio.fail_after(SOON_SECONDS):
            await read_to_end(stream)
        nursery.cancel_scope.cancel()


async def test_a_body_that_stops_arriving_is_told_to_the_app_as_a_disconnect() -> None:
    app = PlainApp()
    async with open_server(app, body_timeout_seconds=0.05) as server:
        async with await connect(server.port) as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
            with trio.fail_after(SOON_SECONDS):
                await read_to_end(stream)
        assert app.ended == ["http.disconnect"]


async def test_a_client_that_does_not_read_is_given_up() -> None:
    app = PlainApp()
    async with open_server(app, send_timeout_seconds=0.05) as server:
        async with await connect(server.port) as stream:
            await stream.send_all(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            with trio.fail_after(SOON_SECONDS):
                await app.gone.wait()
        assert app.ended == ["ClientGone"]


async def test_an_app_that_is_cancelled_while_it_sends_leaves_no_half_answer() -> None:
    body = b"x" * 8_000_000  # more than the kernel takes from us at once

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            with trio.move_on_after(0.02):
                await answer(send, body)

    async with open_server(app) as server, await connect(server.port) as stream:
        await stream.send_all(GET)
        await trio.sleep(0.1)  # it is cancelled before we read
        with trio.fail_after(SOON_SECONDS):
            assert await read_answer(stream) == (200, body)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_an_endless_stream_ends_with_its_client_and_lets_others_run(method: bytes) -> None:
    app = PlainApp()
    async with open_server(app) as server:
        async with await connect(server.port) as stream:
            await stream.send_all(method + b" /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            await stream.receive_some(100)
            with trio.fail_after(SOON_SECONDS):
                assert (await ask(server.port))[0] == 200
        with trio.fail_after(SOON_SECONDS):
            await app.gone.wait()
        assert app.ended == ["ClientGone"]


async def test_a_parked_poll_hears_at_once_that_its_client_went_away() -> None:
    app = PlainApp()
    async with open_server(app) as server:
        async with await connect(server.port) as stream:
            await stream.send_all(POLL)
            await app.parked.wait()
        with trio.fail_after(SOON_SECONDS):
            await app.gone.wait()
        assert app.ended == ["http.disconnect"]


async def test_a_connection_serves_more_requests_than_hypercorns_thousand() -> None:
    async with open_server(PlainApp()) as server, await connect(server.port) as stream:
        for _ in range(1100):
            await stream.send_all(GET)
            assert (await read_answer(stream))[0] == 200


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with open_server(PlainApp()) as server, await connect(server.port) as stream:
        await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        data = b""
        while b"received" not in data:
            data += await stream.receive_some(4096)
        assert data.index(b"at last") < data.index(b'{"received": 0}')


async def test_too_large_a_websocket_message_closes_the_websocket() -> None:
    app = PlainApp()
    async with (
        open_server(app, max_message_bytes=1000) as server,
        await connect(server.port) as raw,
    ):
        client = WSConnection(ConnectionType.CLIENT)
        await raw.send_all(client.send(Request(host="a", target="/ws")))
        await app.parked.wait()
        client.receive_data(await raw.receive_some(4096))
        assert [type(each).__name__ for each in client.events()] == ["AcceptConnection"]
        await raw.send_all(client.send(BytesMessage(data=b"x" * 1000)))
        client.receive_data(await raw.receive_some(4096))
        (echo,) = client.events()
        assert isinstance(echo, BytesMessage)
        assert len(echo.data) == 1000
        await raw.send_all(client.send(BytesMessage(data=b"x" * 1001)))
        with trio.fail_after(SOON_SECONDS):
            client.receive_data(await read_to_end(raw))
        (close,) = client.events()
        assert isinstance(close, CloseConnection)
        assert close.code == 1009


# --- stop -----------------------------------------------------------------------------------

HALF_BODY = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"


@pytest.mark.parametrize("kind", ["plain", "quart"])
@pytest.mark.parametrize("packet", [b"", GET, GET[:9]], ids=["new", "answered", "half a head"])
async def test_an_idle_connection_does_not_delay_a_stop(kind: str, packet: bytes) -> None:
    with trio.fail_after(SOON_SECONDS):
        async with open_server(create_app(kind), grace_seconds=30) as server:
            stream = await connect(server.port)
            await stream.send_all(packet)
            await trio.sleep(0.05)  # it has been answered, as far as it can be
            server.stop()
            await read_to_end(stream)
    await stream.aclose()


@pytest.mark.parametrize(
    ("kind", "packet"),
    [
        ("plain", POLL),
        ("plain", b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("plain", WEBSOCKET),
        ("plain", HALF_BODY),
        ("quart", HALF_BODY),
    ],
    ids=["a poll", "a client that does not read", "a websocket", "half a body", "half, quart"],
)
async def test_nothing_delays_a_stop_beyond_its_grace(kind: str, packet: bytes) -> None:
    async with open_server(create_app(kind), grace_seconds=0.1) as server:
        stream = await connect(server.port)
        await stream.send_all(packet)
        await trio.sleep(0.1)
        began = trio.current_time()
    assert 0.1 <= trio.current_time() - began < 1.0
    await stream.aclose()


async def test_a_running_request_may_finish_while_the_server_drains() -> None:
    app = PlainApp()
    with trio.fail_after(SOON_SECONDS):
        async with open_server(app, grace_seconds=30) as server:
            stream = await connect(server.port)
            await stream.send_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            await app.parked.wait()
            server.stop()
            assert await read_answer(stream) == (200, b"at last")
            assert await read_to_end(stream) == b""
    await stream.aclose()
    with pytest.raises(OSError, match="all attempts to connect"):
        await connect(server.port)
