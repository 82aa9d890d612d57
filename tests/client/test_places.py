"""Several orchestrators of one storage: a client asks one of them, and the next if it is away."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.client.orchestrators import KINDS, Hands, InProcess, job_json, open_client
from tests.orchestrator.clients import TOKEN, make_context

from avtomatika_trio.client import AsyncClient, Client
from avtomatika_trio.errors import ConfigError, OrchestratorUnavailable, Refused

PLACES = ["http://a:1", "http://b:2", "http://c:3"]
AWAY = httpx.ConnectError("refused")
Heard = httpx.Response | Exception


class Sites:
    """Answers by host; who is not in *answers* cannot be reached."""

    def __init__(self, **answers: Heard) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.host)
        answer = self.answers.get(request.url.host, AWAY)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def found(status: str = "finished") -> httpx.Response:
    return httpx.Response(200, json=job_json(status))


@pytest.fixture(params=KINDS)
def visited(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Opens a client of all places."""

    def open_(sites: Sites, **options: Any) -> Any:
        told = {"url": PLACES, "hands": Hands(), **options}
        return open_client(request.param, httpx.MockTransport(sites), **told)

    return open_


@pytest.mark.parametrize("end", [AWAY, httpx.ReadError("reset"), httpx.Response(503)])
def test_the_next_one_is_asked_where_one_is_away(visited: Callable[..., Any], end: Heard) -> None:
    sites = Sites(a=end, c=found())
    with visited(sites) as client:
        assert client.get("j").status == "finished"
    assert sites.asked == ["a", "b", "c"]


def test_one_that_answered_is_kept() -> None:
    sites = Sites(b=found())
    hands = Hands()
    with open_client("sync", httpx.MockTransport(sites), hands=hands, url=PLACES) as client:
        assert client.url == "http://a:1"
        for _ in range(3):
            client.get("j")
        assert client.url == "http://b:2"
        sites.answers = {"a": found()}
        client.get("j")
    assert sites.asked == ["a", "b", "b", "b", "b", "c", "a"]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 429])
def test_what_one_refuses_no_other_is_asked_for(visited: Callable[..., Any], status: int) -> None:
    sites = Sites(a=httpx.Response(status, json={"code": "c", "detail": "d"}), b=found())
    with visited(sites, retry_seconds=0) as client, pytest.raises(Refused):
        client.get("j")
    assert sites.asked == ["a"]


def test_the_error_names_who_was_asked_last(visited: Callable[..., Any]) -> None:
    with (
        visited(Sites(), retry_seconds=1) as client,
        pytest.raises(OrchestratorUnavailable) as caught,
    ):
        client.get("j")
    assert caught.value.url in PLACES
    with (
        visited(Sites(), retry_seconds=0) as client,
        pytest.raises(OrchestratorUnavailable, match=r"^http://a:1 is not available"),
    ):
        client.get("j")


def test_a_wait_and_a_stream_go_on_at_another(visited: Callable[..., Any]) -> None:
    sites = Sites(a=httpx.ReadError("reset"), c=found())
    with visited(sites) as client:
        assert client.wait("j").status == "finished"
    assert sites.asked == ["a", "b", "c"]
    data = b"event: end\ndata: " + found().content + b"\n\n"
    stream = httpx.Response(200, content=data, headers={"content-type": "text/event-stream"})
    sites = Sites(b=stream)
    with visited(sites) as client:
        assert [it.status for it in client.follow("j")] == ["finished"]
    assert sites.asked == ["a", "b"]


def test_a_pause_that_one_asks_for_does_not_keep_from_the_next(
    visited: Callable[..., Any],
) -> None:
    busy = httpx.Response(503, headers={"retry-after": "3600"})
    data = b"event: end\ndata: " + found().content + b"\n\n"
    stream = httpx.Response(200, content=data, headers={"content-type": "text/event-stream"})
    hands = Hands()
    with visited(Sites(a=busy, c=found()), hands=hands) as client:
        assert client.get("j").status == "finished"
    with visited(Sites(a=busy, c=stream), hands=hands) as client:
        assert [it.status for it in client.follow("j")] == ["finished"]
    assert hands.now < 5


def test_a_pause_that_all_ask_for_is_heeded(visited: Callable[..., Any]) -> None:
    busy = httpx.Response(503, headers={"retry-after": "7"})
    hands, sites = Hands(), Sites(a=busy, b=busy, c=busy)
    with visited(sites, hands=hands, retry_seconds=10) as client:
        with pytest.raises(OrchestratorUnavailable):
            client.get("j")
        assert sites.asked == ["a", "b", "c", "a"]
        assert 7 < hands.now < 10
    sites = Sites(a=httpx.Response(429, headers={"retry-after": "7"}), b=found())
    with visited(sites, retry_seconds=5) as client, pytest.raises(Refused):
        client.get("j")
    assert sites.asked == ["a"]


class Crossed(httpx.BaseTransport):
    """The first place loses its answers, the second is sound; both have one storage."""

    def __init__(self) -> None:
        self.app = InProcess(make_context())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self.app.handle_request(request)
        if request.url.host == "a":
            raise httpx.ReadError("reset")
        return answer


def test_a_submission_with_a_key_is_one_job_at_whichever_place() -> None:
    with open_client("sync", Crossed(), hands=Hands(), url=PLACES) as client:
        job_id = client.submit("walk", idempotency_key="k")
        assert [it.id for it in client.list()] == [job_id]


@pytest.mark.parametrize(
    ("given", "urls"),
    [
        ("http://a:1, http://b:2/", "http://a:1,http://b:2"),
        (["http://a:1", "http://a:1/"], "http://a:1"),
        (("http://a:1", "https://b"), "http://a:1,https://b"),
    ],
)
@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_addresses_are_a_list_or_a_text_with_commas(make: Any, given: Any, urls: str) -> None:
    assert repr(make(given, TOKEN)) == f"{make.__name__}({urls!r})"


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ([], "url: it has no address"),
        (["http://a:1", None], "url: .* is not text"),
        ("http://a:1,", "'' is not a URL"),
        (["http://a:1", "b:2"], "'b:2' is not a URL"),
        ({"http://a:1"}, "url: .* is not text"),
    ],
)
def test_addresses_that_are_none_are_told(given: Any, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        Client(given, TOKEN)
