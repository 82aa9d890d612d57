"""What is the same for every request, whatever answers it: it has an id, and it is counted.

One layer of plain ASGI around everything else.  Whoever serves a request tells it which route
that is (`is_at`), and `_http` tells it what the request is refused with; nothing that was sent
becomes a label of a metric.
"""

import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import attrs

from avtomatika_trio._task_logs import log_fields

HEADER = "X-Request-ID"

#: The route of a request that is for none.
UNMATCHED = "unmatched"

#: The status of a request that was not answered, since its client had gone.
UNANSWERED = "none"

#: What a caller may call its request: safe in any log, header, URL or HTML.
_ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,128}")

_NAME = HEADER.lower().encode()


@attrs.define(eq=False)
class Seen:
    """A request, as far as it is known by now."""

    id: str
    method: str
    route: str = UNMATCHED
    """The template of the route that it has matched, as in `/api/v1/jobs/{job_id}`."""
    code: str | None = None
    """Of the problem that it is answered with."""


_HERE: ContextVar[Seen | None] = ContextVar("avtomatika_request", default=None)


def seen() -> Seen | None:
    """The request that is served here; None: nobody observes it."""
    return _HERE.get()


def is_at(route: str) -> None:
    """The request that is served here has matched *route*."""
    here = _HERE.get()
    if here is not None:
        here.route = route


def observed(
    app: Callable[[Any, Any, Any], Any],
    *,
    new_id: Callable[[], str],
    count: Callable[[Seen, str], None],
) -> Callable[[Any, Any, Any], Any]:
    """*app*, each of its answers with an `X-Request-ID`.

    It is the caller's, if that is 1 to 128 characters of a safe set, and comes once; else a
    fresh one.  Answers that are errors have it as `request_id`, lines of the log as a field.

    Args:
        app: Plain ASGI; what is no HTTP request passes unchanged.
        new_id: Draws an id.
        count: Called once for each request with the status that it is answered with, in
            figures, or `UNANSWERED`.
    """

    async def outermost(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        here = Seen(_id_of(scope["headers"]) or new_id(), scope["method"])
        header = (_NAME, here.id.encode())
        counted = False

        async def send_on(message: Any) -> None:
            nonlocal counted
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), header]}
                counted = True
                count(here, str(int(message["status"])))
            await send(message)

        before = _HERE.set(here)
        try:
            with log_fields(request_id=here.id):
                await app(scope, receive, send_on)
        finally:
            _HERE.reset(before)
            if not counted:
                count(here, UNANSWERED)

    return outermost


def _id_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """What the caller calls its request; None: nothing, or nothing that we would repeat."""
    found = [value for name, value in headers if name.lower() == _NAME]
    if len(found) != 1 or _ID.fullmatch(found[0]) is None:
        return None
    return found[0].decode()
