"""One ASGI app from the parts: workers' routes, clients' routes, and what errors look like.

Workers' requests and files go to plain callables, everything else to Quart (ADR 0004).
Nothing runs here besides requests: the loops are siblings of the server.
"""

import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from hypercorn.typing import ASGIFramework
from quart_trio import QuartTrio
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, NotFound

from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._answers import Answer
from avtomatika_trio.orchestrator._body_limit import limit_body
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._exchange import ClientGone
from avtomatika_trio.orchestrator._file_streams import create_file_streams
from avtomatika_trio.orchestrator._http import (
    AsgiApp,
    HttpProblem,
    Receive,
    Scope,
    Send,
    invalid,
    send_problem,
)
from avtomatika_trio.orchestrator._job_events import create_event_streams
from avtomatika_trio.orchestrator._observed import observed
from avtomatika_trio.orchestrator._problems import EXPECTED, as_problem
from avtomatika_trio.orchestrator._routes_jobs import add_job_routes
from avtomatika_trio.orchestrator._routes_public import add_public_routes
from avtomatika_trio.orchestrator._routes_workers import create_worker_routes
from avtomatika_trio.orchestrator._rxon import PREFIX

logger = logging.getLogger(__name__)

_INTERNAL = HttpProblem(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal_error",
    "this is a fault of the orchestrator; its log has the details",
)

_BAD_QUERY = invalid(
    InvalidMessage((Problem("?", "the query is not UTF-8; write other bytes as %XX"),))
)

_BAD_HOST = HttpProblem(HTTPStatus.BAD_REQUEST, "bad_host", "the Host header names no host")


def create_app(context: Context) -> AsgiApp:
    """The ASGI app of one orchestrator.

    Request bodies are limited to `Limits.max_body_bytes`, those that are files to
    `Limits.max_file_bytes`.  Every error is
    `application/problem+json`; one that nobody foresaw is logged with its traceback and
    answered 500 without details.  Every answer has an `X-Request-ID`.

    Args:
        context: Its storage is open, and outlives the app.
    """
    workers = create_worker_routes(context)
    people = create_quart(context)
    finders = (create_file_streams(context), create_event_streams(context))

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await people(cast("Any", scope), receive, send)
        elif not _is_utf8(scope["query_string"]):
            await send_problem(send, _BAD_QUERY)
        elif scope["path"].startswith(PREFIX):
            await _with_last_resort(workers, scope, receive, send)
        else:
            await _with_last_resort(cast("AsgiApp", people), scope, receive, send)

    limited = limit_body(cast("ASGIFramework", whole), context.limits.max_body_bytes)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope = {**scope, "path": _path(scope["path"])}
        is_clients = scope["type"] == "http" and not scope["path"].startswith(PREFIX)
        found = (find(scope) for find in finders if is_clients)
        stream = next((it for it in found if it is not None), None)
        if stream is not None:
            await _with_last_resort(stream, scope, receive, send)
        else:
            await limited(cast("Any", scope), receive, send)

    return observed(app, new_id=context.chance.request_id, count=context.metrics.requests.count)


def create_quart(context: Context) -> QuartTrio:
    """The Quart app of everything that is not for workers."""
    app = QuartTrio(__name__, static_folder=None)
    # Sends, receives and sizes are bounded by the server and by `limit_body`.
    app.config.update(
        MAX_CONTENT_LENGTH=None,
        BODY_TIMEOUT=None,
        RESPONSE_TIMEOUT=None,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    # An odd path is unknown; it is not redirected to a similar one.
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    for expected in EXPECTED:
        app.register_error_handler(expected, _answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_bug)
    add_public_routes(app, context)
    add_job_routes(app, context)
    return app


def _path(path: str) -> str:
    """The path of a request target, which may be a whole URL (RFC 9112, 3.2.2), or `*`."""
    if path.startswith("/"):
        return path
    _, _, rest = path.partition("://")
    return "/" + rest.partition("/")[2]


def _is_utf8(query: bytes) -> bool:
    """Whether Quart can read it: it would fail, not refuse."""
    try:
        query.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _answer(exc: Any) -> Answer:
    problem = as_problem(exc)
    headers = {"content-type": "application/problem+json", **problem.headers}
    return problem.as_body(), int(problem.status), headers


async def _answer_http(exc: HTTPException) -> Answer:
    """What Quart itself refuses."""
    status = HTTPStatus(exc.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    detail = exc.description or status.phrase
    if isinstance(exc, NotFound):
        return await _answer(HttpProblem(status, "no_such_route", "there is nothing here"))
    if isinstance(exc, MethodNotAllowed):
        allowed = ", ".join(sorted(exc.valid_methods or ()))
        detail = f"this method is not for this path; allowed: {allowed}"
        problem = HttpProblem(status, "method_not_allowed", detail, headers={"allow": allowed})
        return await _answer(problem)
    return await _answer(HttpProblem(status, status.name.lower(), detail))


async def _answer_bug(exc: Exception) -> Answer:
    logger.error("a request has failed; this is a bug", exc_info=exc)
    return await _answer(_INTERNAL)


async def _with_last_resort(app: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call *app*; what it raises before it answers is logged and answered 500."""
    begun = gone = hung_up = False

    async def receive_and_note() -> Any:
        nonlocal hung_up
        message = await receive()
        hung_up = hung_up or message["type"] == "http.disconnect"
        return message

    async def note_and_send(message: Any) -> None:
        nonlocal begun, gone
        begun = True
        try:
            await send(message)
        except ClientGone:
            gone = True
            raise

    try:
        await app(scope, receive_and_note, note_and_send)
    except* ClientGone:
        pass  # nobody is there to be told anything
    except* BadRequest:  # Quart looks at `Host` before it looks for a handler of errors
        with suppress(ClientGone):  # its body may have been refused meanwhile
            await send_problem(send, _BAD_HOST)
    except* Exception:  # the border to every request: one fails, and is answered
        nobody_is_there = hung_up and not begun  # Quart raises when it would answer
        if begun and not gone:
            raise
        if nobody_is_there:
            logger.debug("a request ended after its client had gone", exc_info=True)
        elif not gone:  # else Quart has made another error of it
            logger.exception("a request has failed; this is a bug")
            await send_problem(send, _INTERNAL)
