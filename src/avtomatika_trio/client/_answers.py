"""What answers mean: JSON and records, or an error."""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NoReturn, TypeVar

from avtomatika_trio.client._plans import Fault, Reply
from avtomatika_trio.client._records import Malformed
from avtomatika_trio.client._retry import AWAY, retry_after
from avtomatika_trio.errors import (
    AvtomatikaError,
    IdempotencyKeyReused,
    JobNotFound,
    OrchestratorUnavailable,
    RateLimited,
    Refused,
)

T = TypeVar("T")

#: A header of requests and answers.
REQUEST_ID = "x-request-id"

_ANOTHER = "is this the address of an orchestrator?"


def body_of(url: str, reply: Reply) -> Any:
    """The JSON of an answer.

    Raises:
        Refused: it is none.
    """
    try:
        return json.loads(reply.body)
    except ValueError:
        refuse(url, reply.status, "the answer is not JSON")


def read_as(url: str, read: Callable[[Any], T], said: Any, status: int = HTTPStatus.OK) -> T:
    """*said* as the record that *read* makes of it.

    Raises:
        Refused: it is not one.
    """
    try:
        return read(said)
    except (Malformed, TypeError, ValueError, AttributeError, KeyError) as exc:
        fault = str(exc) if isinstance(exc, Malformed) else f"the answer cannot be read ({exc!r})"
        refuse(url, status, fault)


def refuse(url: str, status: int, fault: str) -> NoReturn:
    """Say that who answers is no orchestrator."""
    raise Refused(url, status, f"{fault}; {_ANOTHER}") from None


def problem(reply: Reply) -> tuple[str, str]:
    """The code and the detail of an answer that is an error, whoever sent it."""
    try:
        body = json.loads(reply.body)
    except ValueError:
        body = None
    try:
        phrase = HTTPStatus(reply.status).phrase
    except ValueError:
        phrase = f"status {reply.status}"
    if not isinstance(body, dict):
        return "", phrase
    return str(body.get("code", "")), str(body.get("detail", phrase))


def error_of(
    url: str, heard: Reply | Fault, job_id: str | None = None, asked_as: str | None = None
) -> AvtomatikaError:
    """What is raised for *heard*, which is not a success.

    Args:
        url: Who was asked.
        heard: What came of it.
        job_id: What it was about, if that was one job.
        asked_as: What the request was called, where no answer says it; None = it was not sent.
    """
    if isinstance(heard, Fault):
        return OrchestratorUnavailable(url, heard.reason, request_id=asked_as)
    code, detail = problem(heard)
    request_id = heard.headers.get(REQUEST_ID)
    if heard.status in AWAY:
        return OrchestratorUnavailable(url, detail, request_id=request_id)
    if code == "job_not_found" and job_id is not None:
        return JobNotFound(job_id, request_id=request_id)
    if heard.status == HTTPStatus.TOO_MANY_REQUESTS:
        pause = retry_after(heard.headers)
        return RateLimited(url, heard.status, detail, pause, request_id=request_id)
    if code == "idempotency_key_reused":
        return IdempotencyKeyReused(url, heard.status, detail, request_id=request_id)
    if not code:
        detail = f"{detail}; {_elsewhere(heard) or _ANOTHER}"
    return Refused(url, heard.status, detail, request_id=request_id)


def _elsewhere(reply: Reply) -> str | None:
    """What to do where somebody in front of the orchestrator names another address."""
    to = reply.headers.get("location", "").partition("/api/v1/")[0]
    is_moved = HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST
    if not is_moved or not to.startswith(("http://", "https://")):
        return None
    return f"it leads to {to[:200]}; give that address if you trust it"
