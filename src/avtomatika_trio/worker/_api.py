"""HTTP to one orchestrator.  The only file of the worker that knows httpx.

Answers become `Reply`; everything else becomes `OrchestratorUnavailable` (retry) or `Refused`
(sending the same again will not help).  Two clients speak the same: one for the loop, one for
the thread that beats beside it.  Neither sees what the messages mean; that is `_requests`.
"""

import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import attrs
import httpx
import msgspec
import trio

from avtomatika_trio._config import Secret, is_loopback
from avtomatika_trio._wire.messages import (
    RXON_VERSION,
    TOKEN_HEADER,
    VERSION_HEADER,
    WORKER_ID_HEADER,
)
from avtomatika_trio._wire.signing import signed
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker._credential import Credential

T = TypeVar("T", bound=httpx.AsyncClient | httpx.Client)

#: How long an answer may take, unless the request is a poll.
ANSWER_SECONDS = 10.0

#: Shorter than the 75 s for which the server keeps idle connections, so that a connection is
#: hardly ever closed by the server while a request is on its way.
_KEEPALIVE_SECONDS = 30.0

#: Two posts of results, a poll, a return, progress and events at a time, and some room.
_LIMITS = httpx.Limits(
    max_connections=10, max_keepalive_connections=10, keepalive_expiry=_KEEPALIVE_SECONDS
)

#: More of an error's text does not help in a log line.
_MOST_DETAIL_CHARACTERS = 500

#: Without `Retry-After`, how long a server that says "too many requests" is left alone.
_RETRY_AFTER_SECONDS = 30.0
_MOST_RETRY_AFTER_SECONDS = 60.0

#: How the refusal of a message begins that is not signed and should be, in RXON's words.
_UNSIGNED = "Missing required "

_COME_AGAIN = frozenset({408, 425, 429})


@attrs.frozen(kw_only=True)
class Request:
    """What is asked of an orchestrator."""

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes | None = None
    worker_id: str | None = None
    """Who says it, if it is not the worker itself: the results of an earlier worker id."""
    tracing: Mapping[str, str] = attrs.field(factory=dict)
    """The headers of the trace that it is part of."""


@attrs.frozen(kw_only=True)
class Reply:
    """An answer of success."""

    status: int
    body: bytes


@attrs.frozen
class ConnectionDropped(OrchestratorUnavailable):
    """The connection broke before there was an answer.

    That happens to the best: a server closes an idle connection while the request is on its
    way.  One more try on a fresh connection is due at once, before anything counts as down.
    A request that can carry tasks needs a new poll number for it (rule H2).
    """


@attrs.frozen
class Silent(OrchestratorUnavailable):
    """There was no answer in time."""


@attrs.frozen
class ServerFault(OrchestratorUnavailable):
    """It answered 500: it lives, and chokes on just this request, perhaps."""


@attrs.frozen
class Overloaded(OrchestratorUnavailable):
    """It asks to be left alone for a while."""

    retry_after_seconds: float


class Http(Protocol):
    """What the loop needs of an orchestrator's address."""

    @property
    def url(self) -> str:
        """Its base URL."""
        ...

    async def send(self, request: Request, *, within_seconds: float = ANSWER_SECONDS) -> Reply:
        """Send *request* and read the answer.

        Raises:
            OrchestratorUnavailable: no answer *within_seconds*, or that it cannot now.
            Refused: it answered with another error.
        """
        ...


@attrs.frozen(kw_only=True)
class Address:
    """Where an orchestrator is, and who calls."""

    url: str
    worker_id: str
    token: Secret | None
    tls: ssl.SSLContext | None = None
    """Whom to trust; None = whom everybody does."""
    wall_clock: Callable[[], float] = time.time
    """Unix time, which signed messages tell."""
    credential: Credential = attrs.field(
        default=attrs.Factory(lambda self: Credential(self.token), takes_self=True)
    )
    """What is shown, in the course of time; at first *token*."""

    def headers(self) -> dict[str, str]:
        """Sent with every request."""
        return {WORKER_ID_HEADER: self.worker_id, VERSION_HEADER: RXON_VERSION}

    def options(self) -> dict[str, Any]:
        """For either of httpx's clients; a proxy of the environment is not for loopback."""
        host = urlsplit(self.url).hostname or ""
        return {
            "base_url": self.url,
            "headers": self.headers(),
            "limits": _LIMITS,
            "trust_env": not is_loopback(host),
            "verify": True if self.tls is None else self.tls,
        }


@contextlib.asynccontextmanager
async def open_http(
    address: Address, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Http]:
    """A client for the loop.

    Args:
        address: Whom to talk to.
        transport: Instead of the network, for tests.
    """
    # No timeouts of httpx's own: five seconds would end every poll.  They are cancel scopes,
    # which a test's clock can move.
    client = httpx.AsyncClient(timeout=None, transport=transport, **address.options())
    async with client:
        yield _LoopHttp(address, client)


@attrs.frozen
class _LoopHttp:
    address: Address
    client: httpx.AsyncClient

    @property
    def url(self) -> str:
        return self.address.url

    async def send(self, request: Request, *, within_seconds: float = ANSWER_SECONDS) -> Reply:
        with _errors(self.url), trio.move_on_after(within_seconds):
            response = await self.client.send(_build(self.client, self.address, request))
            if _wants_signature(self.address, request, response):
                response = await self.client.send(_build(self.client, self.address, request))
            return _reply(self.address, response)
        raise Silent(self.url, f"no answer within {within_seconds:g} s")


@attrs.frozen
class ThreadHttp:
    """What the heartbeat thread sends with."""

    address: Address
    client: httpx.Client

    def send(self, request: Request) -> Reply:
        """As `Http.send`, for a thread."""
        with _errors(self.address.url):
            response = self.client.send(_build(self.client, self.address, request))
            if _wants_signature(self.address, request, response):
                response = self.client.send(_build(self.client, self.address, request))
            return _reply(self.address, response)


@contextlib.contextmanager
def open_thread_http(
    address: Address, transport: httpx.BaseTransport | None = None
) -> Iterator[ThreadHttp]:
    """A client for a thread; it shares nothing with the loop's."""
    options = address.options()
    with httpx.Client(timeout=ANSWER_SECONDS, transport=transport, **options) as client:
        yield ThreadHttp(address, client)


def _build(
    client: httpx.AsyncClient | httpx.Client,
    address: Address,
    request: Request,
) -> httpx.Request:
    token = address.credential.token
    headers = dict(request.tracing)
    if request.worker_id is not None:
        headers[WORKER_ID_HEADER] = request.worker_id
    body = request.body
    if token is not None:
        headers[TOKEN_HEADER] = token.reveal()
        if body is not None and address.credential.signs:
            body = signed(
                body,
                key=token.reveal().encode(),
                signer_id=request.worker_id or address.worker_id,
                timestamp=int(address.wall_clock()),
            )
    if body is not None:
        headers["Content-Type"] = "application/json"
    return client.build_request(
        request.method,
        request.path,
        params=request.query or None,
        content=body,
        headers=headers,
    )


@contextlib.contextmanager
def _errors(url: str) -> Iterator[None]:
    """httpx's errors end here."""
    try:
        yield
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.CloseError) as exc:
        raise ConnectionDropped(url, _told(exc)) from exc
    except httpx.TimeoutException as exc:
        raise Silent(url, _told(exc)) from exc
    except (httpx.HTTPError, httpx.StreamError) as exc:
        raise OrchestratorUnavailable(url, _told(exc)) from exc


def _told(exc: Exception) -> str:
    """What *exc* says, in the operating system's words where those are behind it."""
    behind: BaseException | None = exc
    while behind is not None:
        if isinstance(behind, OSError) and behind.strerror:
            return f"{type(exc).__name__}: {behind.strerror}"
        if isinstance(behind, BaseExceptionGroup):  # one for each address of a name
            behind = behind.exceptions[0]
        else:
            behind = behind.__cause__ or behind.__context__
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


def _wants_signature(address: Address, request: Request, response: httpx.Response) -> bool:
    """Whether *request* was refused for want of a signature; then all are signed from now on.

    A worker does not sign before it is asked to: what is signed tells the time, and a clock that
    is wrong should matter only where it must.
    """
    credential = address.credential
    if response.status_code != HTTPStatus.FORBIDDEN or credential.signs or request.body is None:
        return False
    credential.signs = credential.token is not None and _UNSIGNED in _detail(response)
    return credential.signs


def _reply(address: Address, response: httpx.Response) -> Reply:
    url, status = address.url, response.status_code
    if 200 <= status < 300:
        return Reply(status=status, body=response.content)
    detail = _detail(response)
    if status in _COME_AGAIN:
        raise Overloaded(url, f"{status}: {detail}", _retry_after(response))
    if 400 <= status < 500:
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            address.credential.refused(response.request.headers.get(TOKEN_HEADER))
        raise Refused(url, status, detail)
    kind = ServerFault if status == HTTPStatus.INTERNAL_SERVER_ERROR else OrchestratorUnavailable
    raise kind(url, f"it answered {status}: {detail}")


def _detail(response: httpx.Response) -> str:
    """The text of an error: the member `error` or `detail`, or else what there is."""
    try:
        body = msgspec.json.decode(response.content)
    except (msgspec.DecodeError, RecursionError):
        body = None
    text = body.get("error") or body.get("detail") if isinstance(body, dict) else None
    if not isinstance(text, str):
        text = response.content[:_MOST_DETAIL_CHARACTERS].decode(errors="replace")
    return text[:_MOST_DETAIL_CHARACTERS] or response.reason_phrase


def _retry_after(response: httpx.Response) -> float:
    try:
        asked = float(response.headers.get("Retry-After", ""))
    except ValueError:  # absent, or a date
        return _RETRY_AFTER_SECONDS
    return min(max(asked, 0.0), _MOST_RETRY_AFTER_SECONDS)
