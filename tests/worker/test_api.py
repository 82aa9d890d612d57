"""The border to httpx: what comes of each answer and each error."""

import httpx
import pytest
import trio
from trio.testing import MockClock

from avtomatika_trio._config import Secret
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker._api import (
    Address,
    ConnectionDropped,
    Overloaded,
    Reply,
    Request,
    ServerFault,
    Silent,
    open_http,
    open_thread_http,
)

ADDRESS = Address(url="http://o", worker_id="w1", token=Secret("t0ken"))
REQUEST = Request(method="POST", path="/x", query={"a": "1,2"}, body=b"{}")


async def sent_to(response: httpx.Response | Exception) -> Reply:
    async def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return response

    async with open_http(ADDRESS, httpx.MockTransport(handle)) as http:
        return await http.send(REQUEST)


async def test_a_request_carries_the_headers_and_the_query() -> None:
    seen: list[httpx.Request] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    async with open_http(ADDRESS, httpx.MockTransport(handle)) as http:
        assert await http.send(REQUEST) == Reply(status=204, body=b"")
    assert str(seen[0].url) == "http://o/x?a=1%2C2"
    assert seen[0].headers["X-Worker-Token"] == "t0ken"
    assert seen[0].headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("response", "raised", "told"),
    [
        (httpx.Response(500, json={"error": "boom"}), ServerFault, "boom"),
        (httpx.Response(503), OrchestratorUnavailable, "503"),
        (httpx.Response(302), OrchestratorUnavailable, "302"),
        (httpx.Response(429, headers={"Retry-After": "7"}), Overloaded, "429"),
        (httpx.Response(404, json={"error": "Worker not found"}), Refused, "Worker not found"),
        (httpx.Response(403, text="x" * 5000), Refused, "x" * 500),
        (httpx.Response(400, json={"detail": "no"}), Refused, "no"),
        (httpx.ConnectError("refused"), OrchestratorUnavailable, "ConnectError: refused"),
        (httpx.RemoteProtocolError("gone"), ConnectionDropped, "gone"),
        (httpx.ReadError(""), ConnectionDropped, "ReadError"),
        (httpx.ReadTimeout("slow"), Silent, "ReadTimeout: slow"),
        (httpx.DecodingError("bad gzip"), OrchestratorUnavailable, "bad gzip"),
    ],
)
async def test_errors_become_ours(
    response: httpx.Response | Exception, raised: type[Exception], told: str
) -> None:
    with pytest.raises(raised) as caught:
        await sent_to(response)
    assert type(caught.value) is raised
    assert told in str(caught.value)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("Wed, 21 Oct", 30.0), ("9999", 60.0)])
async def test_a_wish_to_be_left_alone_is_respected(header: str, seconds: float) -> None:
    with pytest.raises(Overloaded) as caught:
        await sent_to(httpx.Response(429, headers={"Retry-After": header}))
    assert caught.value.retry_after_seconds == seconds


async def test_silence_is_an_outage_after_ten_seconds(autojump_clock: MockClock) -> None:
    async def say_nothing(request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    async with open_http(ADDRESS, httpx.MockTransport(say_nothing)) as http:
        with pytest.raises(OrchestratorUnavailable, match="10 s"):
            await http.send(REQUEST)
    assert trio.current_time() == 10


def test_the_thread_speaks_the_same() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.headers["X-Worker-ID"] != "w1":
            return httpx.Response(403, json={"error": "who?"})
        return httpx.Response(200, content=b"ok")

    with open_thread_http(ADDRESS, httpx.MockTransport(handle)) as http:
        assert http.send(REQUEST) == Reply(status=200, body=b"ok")
        with pytest.raises(Refused, match="who"):
            http.send(Request(method="GET", path="/", worker_id="w2"))


def test_no_secret_is_shown() -> None:
    assert "t0ken" not in repr(ADDRESS)
