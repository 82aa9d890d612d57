"""The client says what an orchestrator understands, and raises what its answers mean."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest
import trio
from tests.client.orchestrators import (
    KINDS,
    URL,
    Answer,
    Hands,
    InProcess,
    Open,
    event_json,
    job_json,
    open_client,
)
from tests.orchestrator.clients import TOKEN, make_context

from avtomatika_trio.client import AsyncClient, Client, Job
from avtomatika_trio.errors import (
    ConfigError,
    InvalidMessage,
    JobNotFound,
    OrchestratorUnavailable,
    Refused,
    WaitTimedOut,
)
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._engine import run_engine
from avtomatika_trio.orchestrator._server import ServerSettings, serve


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def transport() -> InProcess:
    return InProcess(make_context())


@pytest.fixture
def client(kind: str, transport: InProcess) -> Iterator[Any]:
    with open_client(kind, transport) as client:
        yield client


@pytest.fixture
def answering(kind: str) -> Callable[..., Any]:
    """Opens a client of whatever a function makes of its requests."""

    def open_(answer: Answer, hands: Hands | None = None, **options: Any) -> Any:
        return open_client(kind, httpx.MockTransport(answer), hands=hands, **options)

    return open_


# What it says.


def test_a_job_is_submitted_read_cancelled_and_explained(client: Any) -> None:
    job_id = client.submit("resize", {"width": 3}, max_transitions=9)
    assert client.get(job_id).status == "pending"
    assert client.cancel(job_id, "too late").error.message == "too late"
    assert client.wait(job_id).status == "cancelled"
    assert client.history(job_id)[0].event_type == "job_created"
    assert client.tasks(job_id) == []


def test_a_name_is_quoted_in_the_path(client: Any) -> None:
    with pytest.raises(JobNotFound) as caught:
        client.get("a b?x#y%")
    assert caught.value.job_id == "a b?x#y%"


def test_many_jobs_go_a_thousand_at_a_time_and_keep_their_order(
    kind: str, transport: InProcess
) -> None:
    with open_client(kind, transport) as client:
        ids = client.submit_many("resize", ({"n": n} for n in range(2001)))
        assert len(transport.bodies) == 3
        assert len(set(ids)) == 2001
        assert [job.id for job in client.list()] == ids[::-1]
        assert [job.id for job in client.list(most=3)] == ids[:-4:-1]
        assert client.submit_many("resize", []) == []


def test_large_jobs_go_in_smaller_submissions(kind: str, transport: InProcess) -> None:
    with open_client(kind, transport) as client:
        ids = client.submit_many("resize", [{"text": "x" * 300_000}] * 5)
        assert len(ids) == 5
    assert [len(body) > 600_000 for body in transport.bodies] == [True, True, False]


def test_jobs_are_listed_by_status_and_blueprint(client: Any) -> None:
    walked, resized = client.submit("walk"), client.submit("resize")
    client.cancel(walked)
    assert [job.id for job in client.list(statuses=["cancelled", "failed"])] == [walked]
    assert [job.id for job in client.list(blueprint="resize")] == [resized]


def test_an_operator_lists_the_jobs_of_a_client(client: Any) -> None:
    job_id = client.submit("walk")
    for name in (None, "client", "*"):
        assert [job.id for job in client.list(client=name)] == [job_id]
    assert list(client.list(client="acme")) == []


def test_labels_and_times_filter_a_list(answering: Open) -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return httpx.Response(200, json={"jobs": [job_json()], "next_cursor": None})

    since = datetime(2026, 1, 31, 12, tzinfo=UTC)
    with answering(answer) as client:
        found = list(client.list(labels={"shop": "north"}, created_after=since, most=5))
        with pytest.raises(InvalidMessage, match="without a zone"):
            list(client.list(created_before=since.replace(tzinfo=None)))
    assert [job.raw for job in found] == [job_json()]
    filters = {"label.shop": "north", "created_after": "2026-01-31T12:00:00+00:00", "limit": "5"}
    assert asked == [filters]


def test_a_long_history_is_read_page_by_page(answering: Open) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params["after"])
        events = [event_json(after + 1), event_json(after + 2)]
        link = {"link": '</more>; rel="next"'} if after < 4 else {}
        return httpx.Response(200, json=events, headers=link)

    with answering(answer) as client:
        assert [event.event_id for event in client.history("j")] == [1, 2, 3, 4, 5, 6]


def test_blueprints_graph_and_workers_are_read(client: Any) -> None:
    assert [blueprint.name for blueprint in client.blueprints()] == ["resize", "walk"]
    assert client.graph("walk").startswith('digraph "walk" {')
    assert client.workers() == []


# What it raises.


def test_what_is_not_json_is_not_sent(client: Any) -> None:
    with pytest.raises(InvalidMessage, match="not a JSON number"):
        client.submit("resize", {"x": float("nan")})
    assert list(client.list()) == []


@pytest.mark.parametrize("data", [[], [1], "text", 0, "", (), object()])
def test_what_is_no_object_is_not_sent(data: Any, client: Any) -> None:
    with pytest.raises(InvalidMessage, match="initial_data: must be a dict with texts as keys"):
        client.submit("resize", data)
    assert list(client.list()) == []


def test_what_is_far_too_long_is_told(client: Any) -> None:
    for ask in (
        lambda: client.submit("x" * 70_000),
        lambda: list(client.list(labels={"shop": "x" * 70_000})),
    ):
        with pytest.raises(InvalidMessage, match="give shorter names and values"):
            ask()


def test_what_is_no_unicode_is_told(client: Any) -> None:
    job_id = client.submit("resize")
    for ask in (
        lambda: client.submit("\udcff"),
        lambda: client.submit("resize", labels={"shop": "\udcff"}),
        lambda: client.submit_many("resize", [{}], labels={"shop": "\udcff"}),
        lambda: client.cancel(job_id, "\udcff"),
        lambda: client.graph("\udcff"),
        lambda: client.blueprint("\udcff"),
        lambda: list(client.list(blueprint="\udcff")),
        lambda: list(client.list(labels={"shop": "\udcff"})),
    ):
        with pytest.raises(InvalidMessage, match="is not valid Unicode; give text in UTF-8"):
            ask()


def test_one_status_may_be_given_alone(client: Any) -> None:
    client.cancel(client.submit("resize"))
    assert [job.status for job in client.list(statuses="cancelled")] == ["cancelled"]


def test_a_refusal_carries_status_and_detail(client: Any) -> None:
    with pytest.raises(Refused) as caught:
        client.submit("rezise")
    assert (caught.value.url, caught.value.status) == (URL, 404)
    assert caught.value.detail == "there is no blueprint 'rezise'; known here: resize, walk"
    job_id = client.submit("resize")
    client.cancel(job_id)
    with pytest.raises(Refused) as caught:
        client.cancel(job_id)
    assert caught.value.status == 409


@pytest.mark.parametrize("method", ["get", "wait", "history", "tasks", "cancel", "follow"])
def test_a_job_that_is_not_there_is_told_with_the_request_that_asked(
    method: str, client: Any
) -> None:
    with pytest.raises(JobNotFound) as caught:
        list(getattr(client, method)("nope"))
    assert caught.value.request_id
    assert str(caught.value) == f"there is no job 'nope' (request {caught.value.request_id})"


def test_a_wrong_token_is_a_refusal(kind: str, transport: InProcess) -> None:
    with (
        open_client(kind, transport, token="wrong") as client,
        pytest.raises(Refused) as caught,
    ):
        client.workers()
    assert caught.value.status == 401


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_orchestrator_that_is_away_is_unavailable(status: int, answering: Open) -> None:
    with (
        answering(lambda _: httpx.Response(status, text="<html>")) as client,
        pytest.raises(OrchestratorUnavailable) as caught,
    ):
        client.workers()
    assert caught.value.url == URL


def test_a_proxy_of_the_environment_is_told_without_its_password(
    answering: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "inside")
    for url, is_told in ((URL, True), ("http://inside:8080", False), ("http://[::1]:1", False)):
        with answering(answer, url=url) as client, pytest.raises(OrchestratorUnavailable) as caught:
            client.workers()
        assert ("the environment has a proxy for it" in str(caught.value)) is is_told
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_only_what_is_on_this_machine_is_asked_without_a_proxy(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:9")
    with Client([f"http://{host}:1", "http://far:1"], TOKEN) as client:
        chosen = client._http._transport_for_url
        direct = client._http._transport
        assert chosen(httpx.URL(f"http://{host}:1/api")) is direct
        assert chosen(httpx.URL("http://far:1/api")) is not direct


def test_what_is_no_orchestrator_is_told(answering: Open) -> None:
    with (
        answering(lambda _: httpx.Response(200, text="<html>")) as client,
        pytest.raises(Refused, match="is this the address of an orchestrator"),
    ):
        client.workers()


@pytest.mark.parametrize("status", [301, 404, 500])
def test_a_no_of_another_server_is_told_as_that(status: int, answering: Open) -> None:
    with (
        answering(lambda _: httpx.Response(status, text="<html>")) as client,
        pytest.raises(Refused, match="is this the address of an orchestrator"),
    ):
        client.workers()


def test_an_address_that_leads_elsewhere_is_not_followed_but_told(answering: Open) -> None:
    headers = {"location": "https://orchestrator/api/v1/workers"}
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(308, headers=headers)

    with (
        answering(answer) as client,
        pytest.raises(Refused, match="it leads to https://orchestrator; give that address"),
    ):
        client.workers()
    assert asked == [f"{URL}/api/v1/workers"]


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:8080", "ftp://x", "http://", "http:///x", "http://x:99999"),
        f"http://{'a' * 64}.com",
        *("http://x/api/v1", "http://x/behind/api/", "http://x/?a=b", "http://x#a"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        Client(url, TOKEN)
    with pytest.raises(ConfigError):
        AsyncClient(url, TOKEN)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks9://127.0.0.1:1"),
        ("SSL_CERT_FILE", "/nosuch"),
        ("SSL_CERT_FILE", "/etc/hostname"),
    ],
)
def test_an_environment_that_cannot_be_used_is_told(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigError, match="look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_"):
            kind("https://orchestrator:8080", TOKEN)


@pytest.mark.parametrize("token", ["", None, "token\n", "two words", "ключ"])
def test_a_token_that_no_header_carries_is_refused_at_once(token: Any) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ConfigError, match="token: it is empty, or holds a space"):
            kind(URL, token)


@pytest.mark.parametrize("job_id", ["", ".", "..", "a/b", "a\nb", "ключ", "j" * 129])
def test_what_cannot_be_the_id_of_a_job_is_not_asked_for(job_id: str, answering: Open) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError(request.url)

    with answering(answer) as client:
        for ask in (client.get, client.wait, client.history, client.tasks, client.cancel):
            with pytest.raises(JobNotFound):
                ask(job_id)
        with pytest.raises(JobNotFound):
            list(client.follow(job_id))


# Waiting.


def test_a_wait_asks_until_the_job_is_final(answering: Open) -> None:
    hands = Hands()
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params["wait"])
        hands.spend(30)
        status = "running" if len(asked) < 3 else "failed"
        return httpx.Response(200, json=job_json(status))

    with answering(answer, hands) as client:
        assert client.wait("j").status == "failed"
    assert asked == ["30", "30", "30"]


def test_a_wait_ends_with_its_time(answering: Open) -> None:
    hands = Hands()
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("wait"))
        hands.spend(float(request.url.params.get("wait", 0)))
        return httpx.Response(200, json=job_json())

    with (
        answering(answer, hands) as client,
        pytest.raises(TimeoutError, match="not final after 40 s: running") as caught,
    ):
        client.wait("j", timeout_seconds=40)
    assert isinstance(caught.value, WaitTimedOut)
    assert (caught.value.job_id, caught.value.status) == ("j", "running")
    assert asked == ["30", "10", None]


def test_a_wait_survives_an_outage_that_is_short(answering: Open) -> None:
    hands = Hands()

    def answer(request: httpx.Request) -> httpx.Response:
        if hands.now < 20:
            raise httpx.ConnectError("connection refused")
        return httpx.Response(200, json=job_json("finished"))

    with answering(answer, hands) as client:
        assert client.wait("j").status == "finished"
    assert hands.now == 20


def test_a_wait_gives_up_in_an_outage_that_is_long(answering: Open) -> None:
    hands = Hands()

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with (
        answering(answer, hands) as client,
        pytest.raises(OrchestratorUnavailable, match="connection refused"),
    ):
        client.wait("j", outage_seconds=5)
    assert hands.now == 5.5


def test_the_time_of_a_wait_also_passes_in_an_outage(answering: Open) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with answering(answer) as client, pytest.raises(TimeoutError, match="is away"):
        client.wait("j", timeout_seconds=2)


def test_a_wait_looks_again_for_a_host_that_vanished(answering: Open) -> None:
    hands = Hands()
    asked = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            hands.spend(60)  # the request was held, and nobody says that its host is gone
            raise httpx.ReadTimeout("timed out")
        return httpx.Response(200, json=job_json("finished"))

    with answering(answer, hands) as client:
        assert client.wait("j").status == "finished"


def test_a_wait_asks_nobody_once_its_time_is_over(answering: Open) -> None:
    hands = Hands()

    def answer(request: httpx.Request) -> httpx.Response:
        hands.spend(35)
        raise httpx.ReadTimeout("timed out")

    with answering(answer, hands) as client, pytest.raises(TimeoutError, match="is away"):
        client.wait("j", timeout_seconds=5)
    assert hands.now < 36


def test_a_wait_does_not_outlast_its_time_by_the_patience_of_its_client(answering: Open) -> None:
    patience: list[float] = []
    hands = Hands()

    def answer(request: httpx.Request) -> httpx.Response:
        patience.append(request.extensions["timeout"]["read"])
        hands.spend(patience[-1])
        raise httpx.ReadTimeout("timed out")

    with answering(answer, hands, timeout_seconds=20) as client:
        with pytest.raises(TimeoutError):
            client.wait("j", timeout_seconds=2)
        assert (patience, hands.now < 8) == ([2 + 5], True)
        with pytest.raises(OrchestratorUnavailable):
            client.wait("j", outage_seconds=0)
    assert patience[1:2] == [30 + 20]
    with answering(answer, hands, timeout_seconds=3) as client, pytest.raises(TimeoutError):
        client.wait("j", timeout_seconds=2)
    assert patience[-1] == 2 + 3
    with answering(answer, hands, timeout_seconds=60) as client, pytest.raises(TimeoutError):
        client.wait("j", timeout_seconds=40)
    assert patience[-1] == 40 + 5


@pytest.mark.parametrize("seconds", [0, 2, 30, 31, 59, 95])
def test_a_wait_outlasts_its_time_by_five_seconds_at_most(seconds: int, answering: Open) -> None:
    hands = Hands()

    def answer(request: httpx.Request) -> httpx.Response:
        hands.spend(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("timed out")

    with answering(answer, hands, timeout_seconds=30) as client, pytest.raises(TimeoutError):
        client.wait("j", timeout_seconds=seconds, outage_seconds=1000)
    assert seconds <= hands.now <= seconds + 5


async def _under_asyncio(ask: Callable[[AsyncClient], Any]) -> None:
    client = AsyncClient(URL, TOKEN)
    with pytest.raises(RuntimeError, match=r"AsyncClient is for Trio.* asyncio\.to_thread"):
        await ask(client)
    await client.aclose()


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.submit("walk"),
        lambda c: c.get("j"),
        lambda c: c.wait("j"),
        lambda c: anext(aiter(c.follow("j"))),
        lambda c: anext(aiter(c.list())),
    ],
)
def test_under_asyncio_the_client_for_trio_says_what_to_use(
    ask: Callable[[AsyncClient], Any],
) -> None:
    asyncio.run(_under_asyncio(ask))


# For real.


async def test_over_a_real_socket_a_job_runs_to_its_end() -> None:
    context = make_context()
    stop = trio.Event()

    def talk(url: str) -> Job:
        with Client(url, TOKEN) as client:
            return client.wait(client.submit("walk", {"pause": 0.05}), timeout_seconds=20)

    async with trio.open_nursery() as nursery:
        settings = ServerSettings(port=0, grace_seconds=0.5)
        serving = partial(serve, create_app(context), settings, shutdown=stop.wait)
        [url] = await nursery.start(serving)
        nursery.start_soon(run_engine, context)
        job = await trio.to_thread.run_sync(talk, url)
        stop.set()
        nursery.cancel_scope.cancel()
    assert (job.status, job.result) == ("finished", {"walked": True})


def test_it_loads_neither_a_web_framework_nor_a_storage() -> None:
    code = (
        "import sys, avtomatika_trio.client\n"
        "print([m for m in ('quart', 'hypercorn', 'sqlite3', 'avtomatika_trio.storage')"
        " if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert said.stdout.strip() == "[]"
