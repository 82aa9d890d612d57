"""What a client's request carries - token, query, body - read strictly.

Whatever is wrong becomes an `HttpProblem` or an `InvalidMessage` that names the place.
"""

import math
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import TypeVar

from quart import request
from werkzeug.datastructures import Headers

from avtomatika_trio._core.access import Role, includes
from avtomatika_trio._core.arguments import NAME, unknown_names
from avtomatika_trio._core.job import Job
from avtomatika_trio._wire.codec import decode
from avtomatika_trio._wire.messages import CLIENT_TOKEN_HEADER
from avtomatika_trio.errors import InvalidMessage, JobNotFound, Problem
from avtomatika_trio.orchestrator._access import Client
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import HttpProblem

T = TypeVar("T")

#: Where a token is looked for, in this order, before `Authorization: Bearer`.
_TOKEN_HEADERS = (CLIENT_TOKEN_HEADER, "X-Avtomatika-Token")

#: One answer tells at most so many faults of a query.
_MOST_PROBLEMS = 20

#: Every number of up to 18 digits fits the signed 64 bits of any storage.
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


async def admit(context: Context, headers: Headers, address: str, needed: Role) -> Client:
    """The client that sent a request with *headers*.

    Args:
        context: Which knows the clients.
        headers: With its token.
        address: Where it came from.
        needed: The role that the route is for.

    Raises:
        HttpProblem: 401 without the right token, 403 without the role, 429 for too many.
    """
    try:
        client = _identify(context, headers)
    except HttpProblem:
        await context.slow_down(address)
        raise
    context.rates.take("client", client.id)
    if not includes(client.roles, needed):
        has = ", ".join(client.roles) or "none"
        detail = f"this needs the role {needed}; {client.id!r} has: {has} (clients.toml)"
        raise HttpProblem(HTTPStatus.FORBIDDEN, "role_missing", detail)
    return client


def _identify(context: Context, headers: Headers) -> Client:
    token = _token(headers)
    if token is None:
        detail = (
            f"this needs a token: send it as {CLIENT_TOKEN_HEADER}, or as Authorization: Bearer"
        )
        raise HttpProblem(HTTPStatus.UNAUTHORIZED, "token_missing", detail)
    client = context.access.client(token)
    if client is None:
        detail = "this is not a token of a client (CLIENT_TOKEN, or one of clients.toml)"
        raise HttpProblem(HTTPStatus.UNAUTHORIZED, "token_unknown", detail)
    return client


def shows_token(headers: Headers) -> bool:
    """Whether a request with *headers* has a token of a client, right or wrong; not empty."""
    return bool(_token(headers))


def _token(headers: Headers) -> str | None:
    for name in _TOKEN_HEADERS:
        if name in headers:
            return headers[name]
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


async def owned_job(context: Context, client: Client, job_id: str) -> Job:
    """The job, if it is *client*'s, or if that may see everybody's.

    Raises:
        JobNotFound: it is missing or somebody else's, which must not be told apart.
    """
    job = await context.storage.job(job_id) if NAME.fullmatch(job_id) else None
    if job is None or (job.client != client.id and not sees_all(client)):
        raise JobNotFound(job_id[:128])
    return job


def sees_all(client: Client) -> bool:
    """Whether *client* may see the jobs of all others."""
    return includes(client.roles, Role.OPERATOR)


def still_runs(job: Job) -> Job:
    """*job*, if it has not ended.

    Raises:
        HttpProblem: 409, it has.
    """
    if job.status.is_final:
        raise is_final(job)
    return job


def is_final(job: Job) -> HttpProblem:
    """409: nothing can be done to *job* any more."""
    detail = f"job {job.id!r} is {job.status} already"
    return HttpProblem(HTTPStatus.CONFLICT, "job_is_final", detail)


def only_known(names: Sequence[str]) -> None:
    """See that the query has no arguments but *names*, and each of them once.

    Raises:
        InvalidMessage: it has; a misspelt one would be as good as absent.
    """
    problems: list[Problem] = []
    for name, values in request.args.lists():
        if name not in names:
            text = "this route takes no arguments; leave it out"
            if names:
                text = unknown_names("this route", [name[:80]], names)
            problems.append(Problem(f"?{name[:80]}", text))
        elif len(values) > 1:
            problems.append(Problem(f"?{name}", "is given more than once; give it once"))
    if problems:
        raise InvalidMessage(tuple(problems[:_MOST_PROBLEMS]))


def whole_number(name: str, default: int, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """The query argument *name*, at least *least*; above *most* it is cut.

    Raises:
        InvalidMessage: it is something else.
    """
    text = request.args.get(name)
    return default if text is None else as_whole_number(f"?{name}", text, least=least, most=most)


def as_whole_number(place: str, text: str, *, least: int = 0, most: int = 2**63 - 1) -> int:
    """*text*, which was found at *place*, as a number, at least *least*; above *most* it is cut.

    Raises:
        InvalidMessage: it is something else.
    """
    if _WHOLE_NUMBER.fullmatch(text) is None or int(text) < least:
        fault = f"must be a whole number >= {least}, not {text[:40]!r}"
        raise InvalidMessage((Problem(place, fault),))
    return min(int(text), most)


def seconds(name: str, *, most: float) -> float:
    """The query argument *name*, a duration; 0 if it is absent, cut above *most*.

    Raises:
        InvalidMessage: it is something else.
    """
    text = request.args.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise _wrong(name, f"must be a number of seconds >= 0, not {text[:40]!r}")
    return min(value, most)


def _wrong(name: str, message: str) -> InvalidMessage:
    return InvalidMessage((Problem(f"?{name}", message),))


async def read_body() -> bytes:
    """The body, as text that JSON may be in.

    Raises:
        HttpProblem: 415, it is packed.
        InvalidMessage: it is not UTF-8.
    """
    packed = request.headers.get("Content-Encoding", "identity").strip().lower()
    if packed not in {"identity", ""}:
        detail = f"the body is packed (Content-Encoding: {packed[:40]}); send it as it is"
        headers = {"accept-encoding": "identity"}
        status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        raise HttpProblem(status, "body_packed", detail, headers=headers)
    body = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        problem = Problem("$", f"this is not UTF-8: byte {exc.start} is {body[exc.start]:#04x}")
        raise InvalidMessage((problem,)) from None
    return body.strip()


def read_as(body: bytes, cls: type[T]) -> T:
    """*body* as a *cls*, without members that it does not have; nothing at all counts as `{}`.

    Raises:
        InvalidMessage: with the path of every problem.
    """
    return decode(body or b"{}", cls, closed=True)
