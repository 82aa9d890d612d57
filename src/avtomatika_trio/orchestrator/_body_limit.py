"""No request body over a limit reaches an app, whatever the app or its framework would allow.

Quart checks its own limit only after a body is in memory (or, depending on its version, refuses
slow readers and lets fast ones through), so the limit is enforced before any framework.
"""

from http import HTTPStatus

from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGIReceiveEvent,
    ASGISendCallable,
    ASGISendEvent,
    HTTPScope,
    Scope,
)

from avtomatika_trio.orchestrator._exchange import ClientGone
from avtomatika_trio.orchestrator._http import HttpProblem


def limit_body(app: ASGIFramework, max_bytes: int) -> ASGIFramework:
    """*app*, guarded against request bodies of more than *max_bytes*.

    A body whose length is announced and too large is refused before *app* is called.  One that
    turns out to be too large (chunked) is refused when it does: *app*
    receives `http.disconnect` and what it still sends raises `ClientGone`; if its answer has
    begun, the connection is cut instead.  Refused is 413, as `application/problem+json`; the
    connection closes after it, and the server discards what is under way long enough for the
    client to read the answer.

    WebSockets have a limit of their own and pass unchanged.
    """

    async def limited(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        guard = _Guard(receive, send, max_bytes)
        if _announced_bytes(scope) > max_bytes:
            await guard.refuse()
        else:
            await app(scope, guard.receive, guard.send)

    return limited


def _announced_bytes(scope: HTTPScope) -> int:
    """`Content-Length`, or 0: a client that lies or is silent is caught by counting."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return 0


class _Guard:
    """The `receive` and `send` of one request, counting."""

    def __init__(
        self,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        max_bytes: int,
    ) -> None:
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._received_bytes = 0
        self._answering = False
        self._refused = False

    async def receive(self) -> ASGIReceiveEvent:
        if self._refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._received_bytes += len(message["body"])
            if self._received_bytes > self._max_bytes:
                await self.refuse()
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: ASGISendEvent) -> None:
        if self._refused:
            raise ClientGone("the request was refused: its body is too large")
        self._answering = True
        await self._send(message)

    async def refuse(self) -> None:
        """Answer 413, unless the app's answer has begun; from now on the app has no say."""
        self._refused = True
        if self._answering:
            return
        text = (
            f"the request body is larger than the limit of {self._max_bytes} bytes;"
            " send less at a time, or put large data into files"
        )
        problem = HttpProblem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", text)
        body = problem.as_body()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self._send({"type": "http.response.start", "status": 413, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
