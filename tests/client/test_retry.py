"""When requests are sent again: the policy, and both clients that keep to it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
from tests.client.orchestrators import KINDS, URL, Hands, InProcess, job_json, open_client
from tests.orchestrator.clients import TOKEN, make_context

from avtomatika_trio.client import AsyncClient
from avtomatika_trio.client._plans import Fault, Reply
from avtomatika_trio.client._retry import Repeat, back_off, may_repeat, next_pause, retry_after
from avtomatika_trio.errors import (
    IdempotencyKeyReused,
    InvalidMessage,
    OrchestratorUnavailable,
    RateLimited,
    Refused,
)

Heard = httpx.Response | Exception
OK = httpx.Response(202, json={"job_id": "j"})


class Script:
    """Answers one after the other, the last one for ever."""

    def __init__(self, *answers: Heard) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@pytest.fixture(params=KINDS)
def played(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Opens a client of a script."""

    def open_(script: Script, hands: Hands, **options: Any) -> Any:
        return open_client(request.param, httpx.MockTransport(script), hands=hands, **options)

    return open_


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": code}, headers=headers)


# The policy.


def test_pauses_double_up_to_a_limit_and_half_of_each_is_chance() -> None:
    assert [back_off(tries, 1.0) for tries in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert back_off(1, 0.0) == 0.1
    assert back_off(10_000, 0.0) == 2.5


def test_there_is_no_pause_that_takes_longer_than_is_left() -> None:
    assert next_pause(1, 1.0, asked_seconds=None, left_seconds=0.2) == 0.2
    assert next_pause(1, 1.0, asked_seconds=None, left_seconds=0.1) is None
    assert next_pause(1, 1.0, asked_seconds=7, left_seconds=8) == 7
    assert next_pause(1, 1.0, asked_seconds=9, left_seconds=8) is None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("3", 3.0),
        ("Sun, 29 Nov 2026 06:00:10 GMT", 10.0),
        ("Sun, 29 Nov 2026 05:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(said: str, seconds: float | None) -> None:
    headers = {"retry-after": said, "date": "Sun, 29 Nov 2026 06:00:00 GMT"}
    assert retry_after(headers) == seconds


def test_what_may_be_sent_again() -> None:
    arrived, unsent = (Fault(reason="r", sent=sent) for sent in (True, False))
    heard: list[Fault | Reply] = [
        unsent,
        arrived,
        *(Reply(status=status) for status in (429, 503, 502, 504, 500, 404)),
    ]

    def those(repeat: Repeat) -> list[bool]:
        return [may_repeat(repeat, each) for each in heard]

    assert those(Repeat.NEVER) == [False] * 8
    assert those(Repeat.ALWAYS) == [True] * 6 + [False] * 2
    assert those(Repeat.IF_NOT_DONE) == [True, False, True, True] + [False] * 4


# Both clients.


def test_a_question_is_asked_again_until_it_is_answered(played: Callable[..., Any]) -> None:
    hands = Hands()
    script = Script(
        httpx.ReadError("reset"),
        problem(429, "rate_limited", **{"retry-after": "7"}),
        httpx.Response(502),
        httpx.Response(200, json=job_json("finished")),
    )
    with played(script, hands) as client:
        assert client.get("j").succeeded
    assert hands.now == pytest.approx(0.2 + 7 + 0.8)


def test_an_answer_that_cannot_be_unpacked_is_asked_for_again(played: Callable[..., Any]) -> None:
    broken = httpx.DecodingError("Error -3 while decompressing data")
    with played(Script(broken, httpx.Response(200, json={"workers": []})), Hands()) as client:
        assert client.workers() == []


def test_it_gives_up_in_time(played: Callable[..., Any]) -> None:
    hands = Hands()
    script = Script(httpx.ReadError("reset"))
    with (
        played(script, hands, retry_seconds=4) as client,
        pytest.raises(OrchestratorUnavailable, match="reset"),
    ):
        client.workers()
    assert hands.now == pytest.approx(0.2 + 0.4 + 0.8 + 1.6)


def test_zero_is_never(played: Callable[..., Any]) -> None:
    hands = Hands()
    script = Script(httpx.ConnectError("refused"))
    with (
        played(script, hands, retry_seconds=0) as client,
        pytest.raises(OrchestratorUnavailable),
    ):
        client.submit("walk")
    assert (len(script.requests), hands.now) == (1, 0)


def test_a_quota_that_ends_next_month_is_told_at_once(played: Callable[..., Any]) -> None:
    hands = Hands()
    script = Script(problem(429, "quota_exceeded", **{"retry-after": "86400"}))
    with played(script, hands) as client, pytest.raises(RateLimited) as caught:
        client.submit("walk")
    assert (caught.value.retry_after_seconds, hands.now) == (86400, 0)


def test_a_refusal_is_not_asked_again(played: Callable[..., Any]) -> None:
    script = Script(problem(500, "internal_error"))
    with played(script, Hands()) as client, pytest.raises(Refused):
        client.workers()
    assert len(script.requests) == 1


def test_a_submission_that_may_have_arrived_is_not_sent_again(played: Callable[..., Any]) -> None:
    script = Script(httpx.ReadError("reset"), OK)
    with played(script, Hands()) as client, pytest.raises(OrchestratorUnavailable):
        client.submit("walk")
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("heard", "unsure"),
    [
        (httpx.ReadError("reset"), True),
        (httpx.ReadTimeout("timed out"), True),
        (httpx.Response(502), True),
        (httpx.Response(504), True),
        (httpx.Response(503), False),
        (httpx.ConnectError("refused"), False),
    ],
)
def test_a_submission_of_which_nobody_knows_is_told_as_that(
    heard: Heard, unsure: bool, played: Callable[..., Any]
) -> None:
    told = "may have been submitted all the same: look for the job"
    with played(Script(heard), Hands()) as client:
        for submit in (partial(client.submit, "walk"), partial(client.submit_many, "walk", [{}])):
            with pytest.raises(OrchestratorUnavailable) as caught:
                submit()
            assert (told in str(caught.value)) is unsure
        with pytest.raises(OrchestratorUnavailable) as caught:
            client.submit("walk", idempotency_key="k")
        assert told not in str(caught.value)
        with pytest.raises(OrchestratorUnavailable) as caught:
            client.workers()
        assert told not in str(caught.value)


def test_a_submission_that_was_put_off_is_sent_again_with_its_key(
    played: Callable[..., Any],
) -> None:
    script = Script(
        httpx.ConnectError("refused"),
        httpx.Response(503),
        problem(409, "idempotency_key_in_use", **{"retry-after": "1"}),
        OK,
    )
    with played(script, Hands(), new_key=iter("abc").__next__) as client:
        assert client.submit("walk") == "j"
    assert [it.headers["idempotency-key"] for it in script.requests] == ["a"] * 4
    assert len({it.content for it in script.requests}) == 1


def test_with_a_key_of_the_caller_a_lost_answer_is_asked_for_again(
    played: Callable[..., Any],
) -> None:
    script = Script(httpx.ReadError("reset"), httpx.Response(504), OK)
    with played(script, Hands()) as client:
        assert client.submit("walk", idempotency_key="order-7") == "j"
    assert [it.headers["idempotency-key"] for it in script.requests] == ["order-7"] * 3


@pytest.mark.parametrize("key", ["", "ключ", "a\nb", " a", "k" * 256])
def test_a_key_that_no_header_carries_is_told_and_nothing_is_sent(
    key: str, played: Callable[..., Any]
) -> None:
    script, hands = Script(OK), Hands()
    with played(script, hands) as client:
        with pytest.raises(InvalidMessage, match="idempotency_key: must be 1 to 255 printable"):
            client.submit("walk", idempotency_key=key)
        with pytest.raises(InvalidMessage, match="traceparent: must be"):
            client.submit_many("walk", [{}], traceparent=key)
    assert (script.requests, hands.now) == ([], 0)


def test_a_key_of_another_submission_is_an_error_of_its_own(played: Callable[..., Any]) -> None:
    script = Script(problem(422, "idempotency_key_reused"))
    with played(script, Hands()) as client, pytest.raises(IdempotencyKeyReused):
        client.submit("walk", idempotency_key="order-7")


@pytest.mark.parametrize("kind", KINDS)
def test_each_request_of_many_has_a_key_of_its_own_that_follows_from_the_callers(
    kind: str,
) -> None:
    transport = InProcess(make_context())
    with open_client(kind, transport) as client:
        data = [{"n": n} for n in range(1001)]
        client.submit_many("walk", data, idempotency_key="batch", traceparent="00-a-b-01")
    assert [it.headers["idempotency-key"] for it in transport.requests] == ["batch", "batch-2"]
    assert {it.headers["traceparent"] for it in transport.requests} == {"00-a-b-01"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_without_room_for_numbers_is_refused_before_anything_is_sent(kind: str) -> None:
    transport = InProcess(make_context())
    with open_client(kind, transport) as client:
        with pytest.raises(InvalidMessage, match="idempotency_key: must be 1 to 240 characters"):
            client.submit_many("walk", [{}] * 1001, idempotency_key="k" * 241)
        assert len(client.submit_many("walk", [{}] * 1001, idempotency_key="k" * 240)) == 1001
    assert len(transport.requests) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_keys_that_are_generated_are_never_the_same(kind: str) -> None:
    transport = InProcess(make_context())
    with open_client(kind, transport) as client:
        ids = {client.submit("walk") for _ in range(2)}
    assert len(ids) == len({it.headers["idempotency-key"] for it in transport.requests}) == 2


# A cancel whose answer was lost.

LOST: list[Heard] = [
    httpx.ReadError("the answer was lost"),
    httpx.Response(502),
    httpx.Response(504),
    problem(503, "storage_unavailable"),
]


class Losing:
    """An orchestrator whose first answer to a cancel is lost; *told* comes in its place.

    Args:
        reaches: Whether the cancel has its effect.
    """

    def __init__(self, told: Heard, *, reaches: bool = True) -> None:
        self.app = InProcess(make_context())
        self.told: Heard | None = told
        self.reaches = reaches

    def handle(self, request: httpx.Request) -> httpx.Response:
        told = self.told
        if told is None or not request.url.path.endswith("/cancel"):
            return self.app.handle_request(request)
        self.told = None
        if self.reaches:
            assert self.app.handle_request(request).status_code == 200
        if isinstance(told, Exception):
            raise told
        return told


def cancels(losing: Losing) -> int:
    return sum(it.url.path.endswith("/cancel") for it in losing.app.requests)


@pytest.mark.parametrize("told", LOST, ids=["read error", "502", "504", "503"])
def test_a_cancel_whose_answer_was_lost_is_told_as_it_was(told: Heard) -> None:
    losing = Losing(told)
    with open_client("sync", httpx.MockTransport(losing.handle), hands=Hands()) as client:
        job_id = client.submit("resize")
        job = client.cancel(job_id, "too late")
        assert (job.status, job.error.message) == ("cancelled", "too late")
        assert cancels(losing) == 2
        with pytest.raises(Refused, match="409"):
            client.cancel(job_id, "too late")  # a call of its own is told of the end


def test_a_cancel_that_never_arrived_cancels_at_the_second_try() -> None:
    losing = Losing(httpx.ReadError("lost on its way"), reaches=False)
    with open_client("sync", httpx.MockTransport(losing.handle), hands=Hands()) as client:
        job = client.cancel(client.submit("resize"))
    assert job.status == "cancelled"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("first", "error", "is_told"),
    [
        (httpx.ReadError("lost"), {"code": "CANCELLED", "message": "m", "state": None}, True),
        (httpx.ReadError("lost"), {"code": "ENDED_IN_STATE", "message": "m", "state": "s"}, False),
        (httpx.ReadError("lost"), None, False),
        (httpx.ConnectError("no"), {"code": "CANCELLED", "message": "m", "state": None}, False),
        (problem(429, "rate_limited"), {"code": "CANCELLED", "message": "m", "state": None}, False),
    ],
)
def test_only_a_cancelled_job_and_a_lost_answer_make_a_conflict_a_success(
    kind: str, first: Heard, error: Any, is_told: bool
) -> None:
    status = "finished" if error is None else "cancelled"
    job = httpx.Response(200, json=job_json(status, error=error))
    script = Script(first, problem(409, "job_is_final"), job)
    with open_client(kind, httpx.MockTransport(script), hands=Hands()) as client:
        if is_told:
            assert client.cancel("j").status == "cancelled"
        else:
            with pytest.raises(Refused) as caught:
                client.cancel("j")
            assert caught.value.status == 409
    is_looked_at = isinstance(first, httpx.ReadError)
    assert len(script.requests) == 2 + is_looked_at


KNOWS = httpx.Response(202, json={"job_id": "j"}, headers={"Idempotency-Key-Seconds": "86400"})


def test_once_an_orchestrator_says_that_it_knows_keys_a_lost_answer_is_asked_for_again() -> None:
    script, hands = Script(KNOWS, httpx.ReadError("reset"), httpx.Response(504), OK), Hands()
    keys = iter("abc").__next__
    transport = httpx.MockTransport(script)
    with open_client("sync", transport, hands=hands, new_key=keys) as client:
        assert client.submit("walk") == client.submit("walk") == "j"
    assert [it.headers["idempotency-key"] for it in script.requests] == ["a", "b", "b", "b"]


async def test_the_client_for_trio_learns_it_too() -> None:
    script, hands = Script(KNOWS, httpx.ReadError("reset"), OK), Hands()
    transport = httpx.MockTransport(script)
    async with AsyncClient(URL, TOKEN, transport=transport, sleep=hands.sleep) as client:
        assert await client.submit("walk") == await client.submit("walk") == "j"
    assert len(script.requests) == 3


def test_who_gives_up_after_a_lost_answer_says_that_it_may_have_arrived() -> None:
    script, hands = Script(KNOWS, httpx.ReadError("reset"), httpx.ConnectError("refused")), Hands()
    with open_client("sync", httpx.MockTransport(script), hands=hands) as client:
        client.submit("walk")
        with pytest.raises(OrchestratorUnavailable, match="refused; it may have been submitted"):
            client.submit("walk")
    assert len(script.requests) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_orchestrator_says_that_it_knows_keys(kind: str) -> None:
    transport = InProcess(make_context())
    with open_client(kind, transport) as client:
        client.submit("walk", idempotency_key="k")
        client.submit("walk", idempotency_key="k")
        client.submit_many("walk", [{}])
    assert [it.headers["idempotency-key-seconds"] for it in transport.answers] == ["86400"] * 3


def test_a_call_has_one_request_id_which_is_known_without_an_answer(
    played: Callable[..., Any],
) -> None:
    script = Script(httpx.ReadError("reset"), httpx.Response(502), httpx.ConnectError("refused"))
    with (
        played(script, Hands(), retry_seconds=2) as client,
        pytest.raises(OrchestratorUnavailable) as caught,
    ):
        client.workers()
    [sent] = {it.headers["x-request-id"] for it in script.requests}
    assert len(script.requests) > 3
    assert caught.value.request_id == sent
    script = Script(httpx.ReadTimeout("silent"))
    with played(script, Hands(), retry_seconds=0) as client:
        with pytest.raises(OrchestratorUnavailable) as again:
            client.workers()
        with pytest.raises(OrchestratorUnavailable) as followed:
            list(client.follow("j", outage_seconds=0))
    assert followed.value.request_id == script.requests[-1].headers["x-request-id"]
    assert len({sent, again.value.request_id, followed.value.request_id}) == 3


def test_what_was_not_sent_has_no_request_id_and_an_answer_has_its_own(
    played: Callable[..., Any],
) -> None:
    with (
        played(Script(httpx.ConnectError("refused")), Hands()) as client,
        pytest.raises(OrchestratorUnavailable) as unsent,
    ):
        client.workers()
    assert unsent.value.request_id is None
    answered = httpx.Response(502, headers={"x-request-id": "of-the-proxy"})
    with played(Script(answered), Hands()) as client, pytest.raises(OrchestratorUnavailable) as it:
        client.workers()
    assert it.value.request_id == "of-the-proxy"
