"""What callers give is looked at before anything is sent, and named where it is wrong."""

import math
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

import pytest
from tests.client.orchestrators import KINDS, URL, InProcess, open_client
from tests.orchestrator.clients import TOKEN, make_context

from avtomatika_trio.client import AsyncClient, Client
from avtomatika_trio.errors import ConfigError, InvalidMessage


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda c: c.get(None), "job_id: must be text, not None"),
        (lambda c: c.get(UUID(int=0)), r"job_id: must be text, not UUID\(.*give str"),
        (lambda c: list(c.follow(5)), "job_id: must be text"),
        (lambda c: c.submit(None), "blueprint: must be text, not None"),
        (lambda c: c.submit(""), "blueprint: must not be empty"),
        (lambda c: c.submit("walk", idempotency_key=UUID(int=0)), "idempotency_key: .*give str"),
        (lambda c: c.submit_many("walk", [{}], idempotency_key=5), "idempotency_key: must be text"),
        (lambda c: c.submit("walk", traceparent=5), "traceparent: must be text"),
        (lambda c: c.submit("walk", labels=["a"]), "labels: must be a dict"),
        (lambda c: c.submit("walk", labels={"a": 1}), "labels: 'a' and its value must be texts"),
        (lambda c: c.submit("walk", max_transitions="9"), "max_transitions: must be a whole"),
        (lambda c: list(c.list(labels={"a": 1})), "labels: 'a' and its value must be texts"),
        (lambda c: list(c.list(most="1")), "most: must be a whole number, not '1'"),
        (lambda c: list(c.list(created_after="2026-01-31")), "created_after: must be a datetime"),
        (lambda c: list(c.list(created_before=date(2026, 1, 31))), "created_before: must be a"),
        (lambda c: c.get("j", wait_seconds=math.nan), "wait_seconds: must be a number of seconds"),
        (lambda c: c.get("j", wait_seconds=-1), "wait_seconds: must be a number .* >= 0, not -1"),
        (lambda c: c.get("j", after="x"), "after: must be a whole number"),
        (lambda c: c.history("j", after=None), "after: must be a whole number"),
        (lambda c: list(c.follow("j", after="1")), "after: must be a whole number"),
        (lambda c: list(c.follow("j", outage_seconds=None)), "outage_seconds: must be a number"),
        (lambda c: c.wait("j", timeout_seconds="1"), "timeout_seconds: must be a number"),
        (lambda c: c.wait("j", outage_seconds=None), "outage_seconds: must be a number"),
    ],
)
def test_an_argument_that_is_none_is_named_and_nothing_is_sent(
    call: Callable[[Any], object], fault: str, kind: str
) -> None:
    transport = InProcess(make_context())
    with (
        open_client(kind, transport) as client,
        pytest.raises(InvalidMessage, match=f"^{fault}"),
    ):
        call(client)
    assert transport.requests == []


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"url": None}, "url: None is not text, or a list of texts"),
        ({"token": b"bytes"}, "token: it is empty, or"),
        ({"timeout_seconds": None}, "timeout_seconds: must be a number of seconds > 0, not None"),
        ({"timeout_seconds": 0}, "timeout_seconds: must be a number of seconds > 0, not 0"),
        ({"timeout_seconds": "3"}, "timeout_seconds: must be a number of seconds > 0, not '3'"),
        ({"retry_seconds": None}, "retry_seconds: must be a number of seconds >= 0, not None"),
        ({"retry_seconds": -1}, "retry_seconds: must be a number of seconds >= 0, not -1"),
    ],
)
@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_what_a_client_cannot_be_made_of_is_named(
    make: Any, options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{fault}"):
        make(**{"url": URL, "token": TOKEN, **options})


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_a_client_shows_where_it_leads_and_never_its_token(make: Any) -> None:
    assert repr(make(URL, "secret-token")) == f"{make.__name__}('{URL}')"
