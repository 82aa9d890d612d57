"""The few pieces of HTTP that the workers' routes need, as plain ASGI.

Workers ask often, and a parked poll must see its client go away: these routes are pure
ASGI callables in front of Quart (rule H4, ADR 0004).
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import attrs

from avtomatika_trio._wire.codec import encode
from avtomatika_trio._wire.messages import RXON_VERSION
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._answer_shapes import ProblemBody
from avtomatika_trio.orchestrator._observed import seen

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class Disconnected(Exception):
    """The client went away before its request was complete."""


@attrs.frozen
class HttpProblem(Exception):
    """An answer that is an error: `application/problem+json`.

    On the workers' routes it also has `error`, a text: the original's workers read that.
    """

    status: HTTPStatus
    code: str
    detail: str
    problems: tuple[Problem, ...] = ()
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def as_body(self) -> bytes:
        """The body of the answer to the request that is served here, which is told of it."""
        said: ProblemBody = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "code": self.code,
            "detail": self.detail,
            "error": self.detail,
            "errors": [{"path": p.path, "message": p.message} for p in self.problems],
        }
        request = seen()
        if request is not None:
            request.code = self.code
            said["request_id"] = request.id
        return encode(said)


def invalid(exc: InvalidMessage) -> HttpProblem:
    """A malformed body or query, with the path of each fault."""
    return HttpProblem(HTTPStatus.BAD_REQUEST, "invalid_message", str(exc), exc.problems)


@attrs.frozen(kw_only=True)
class Request:
    """One request, its body read."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case; of a repeated one the first."""
    body: bytes
    address: str = ""
    """Where it came from."""
    certificate: Mapping[str, Any] | None = None
    """What the client showed in the TLS handshake, as `SSLSocket.getpeercert` tells it."""

    def number(self, name: str, default: float, *, most: float) -> float:
        """A query argument that is a number from 0 to *most* (larger ones are cut).

        Raises:
            InvalidMessage: it is something else.
        """
        text = self.query.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise InvalidMessage((Problem(f"?{name}", f"must be a number >= 0, not {text!r}"),))
        return min(value, most)


async def read_request(scope: Scope, receive: Receive) -> Request:
    """Read the whole request; its size is bounded in front of us.

    Raises:
        Disconnected: the client went away in the middle of it.
    """
    chunks: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers=headers,
        body=b"".join(chunks),
        address=address_of(scope),
        certificate=(scope.get("state") or {}).get("client_certificate"),
    )


def allow_only(method: str, *methods: str) -> None:
    """Refuse a request whose *method* is none of *methods*.

    Raises:
        HttpProblem: 405.
    """
    if method not in methods:
        allowed = ", ".join(methods)
        detail = f"this method is not for this path; allowed: {allowed}"
        headers = {"allow": allowed}
        status = HTTPStatus.METHOD_NOT_ALLOWED
        raise HttpProblem(status, "method_not_allowed", detail, headers=headers)


def address_of(scope: Scope) -> str:
    """The host that a request came from."""
    client = scope.get("client")
    return str(client[0]) if client else ""


async def send_json(send: Send, body: Any) -> int:
    """Answer 200 with *body* as JSON; returns how many bytes that are."""
    encoded = encode(body)
    await _send(send, encoded, 200, {"content-type": "application/json"})
    return len(encoded)


async def send_nothing(send: Send) -> None:
    """Answer 204."""
    await _send(send, b"", 204, {})


async def send_problem(send: Send, problem: HttpProblem) -> None:
    """Answer with an error."""
    headers = {"content-type": "application/problem+json", **problem.headers}
    await _send(send, problem.as_body(), problem.status, headers)


async def _send(send: Send, body: bytes, status: int, more: Mapping[str, str]) -> None:
    headers = [(b"x-rxon-version", RXON_VERSION.encode())]
    headers += [(name.encode(), value.encode()) for name, value in more.items()]
    if status != HTTPStatus.NO_CONTENT:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
