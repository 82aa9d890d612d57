"""The HTTP server: listens, serves, drains.

hypercorn speaks HTTP/1 and WebSocket; this module takes the place of its trio worker, which one
packet can end and one client that reads nothing can keep from ending.  What is promised about a
single connection stands in `_connection`, about a single request in `_exchange`.

The order of shutdown is the order of nesting: accepting ends first, then the connections, then
the app's lifespan.
"""

import contextlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ssl import CERT_OPTIONAL, CERT_REQUIRED, VERIFY_X509_STRICT
from typing import Any

import attrs
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import repr_socket_addr

from avtomatika_trio.orchestrator._connection import Connection, Patience, Stream
from avtomatika_trio.orchestrator._exchange import ClientGone, logger

__all__ = ["ClientGone", "ServerSettings", "serve", "serve_streams"]

BACKLOG = 4096
"""Connections that may wait to be accepted: a whole fleet reconnects at once when an orchestrator
comes back.  4096 is Linux's own upper limit (`net.core.somaxconn`); hypercorn's 100 made workers
wait for many seconds."""

LIFESPAN_SECONDS = 60.0
"""For the app to start, and again to stop; hypercorn's default."""

Listener = trio.SocketListener | trio.SSLListener[trio.SocketStream]


@attrs.frozen(kw_only=True)
class ServerSettings:
    """Where to listen and how patient to be; durations in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    """A name or address; every address that a name stands for is listened on."""
    port: int = attrs.field(default=8080, validator=[attrs.validators.in_(range(65536))])
    """0 takes any free port; `serve` tells which."""
    max_message_bytes: int = attrs.field(default=1024 * 1024, validator=attrs.validators.gt(0))
    """The largest WebSocket message."""
    grace_seconds: float = attrs.field(default=10.0, validator=attrs.validators.ge(0))
    """How long requests that are running may go on after a shutdown was asked for."""
    keep_alive_seconds: float = attrs.field(default=75.0, validator=attrs.validators.gt(0))
    """How long a connection may be idle.  Longer than the 30 s after which our clients give an idle
    connection up, so that a request seldom meets a connection that is just being closed."""
    head_timeout_seconds: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
    """How long the rest of a request's head may take after its first byte."""
    body_timeout_seconds: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    """How long a client may pause within a request's body."""
    send_timeout_seconds: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
    """How long a client may take for 64 KiB of an answer before it is given up."""
    handshake_timeout_seconds: float = attrs.field(default=10.0, validator=attrs.validators.gt(0))
    """How long a TLS handshake may take."""
    linger_seconds: float = attrs.field(default=5.0, validator=attrs.validators.ge(0))
    """How long a client that was answered early may go on sending before the connection closes;
    nginx waits as long between two reads of its lingering close."""
    certfile: str | None = None
    """The server's certificate chain (PEM); with *keyfile* it makes the server speak TLS only."""
    keyfile: str | None = None
    """The key of *certfile*."""
    ca_certs: str | None = None
    """Authorities (PEM): clients are asked for a certificate, and one that none of these has
    signed is refused.  `None` asks for none."""
    require_client_cert: bool = False
    """Whether a client without a certificate is refused too."""

    def __attrs_post_init__(self) -> None:
        if (self.certfile is None) != (self.keyfile is None):
            raise ValueError("certfile and keyfile go together: give both, or neither")
        if self.ca_certs is not None and self.certfile is None:
            raise ValueError("ca_certs needs TLS: give certfile and keyfile too")
        if self.require_client_cert and self.ca_certs is None:
            raise ValueError("require_client_cert needs ca_certs: give the authorities too")


async def serve(
    app: ASGIFramework,
    settings: ServerSettings,
    *,
    shutdown: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *app* until *shutdown* returns and its connections are drained.

    Draining closes idle connections at once, lets running requests finish, and cuts what is still
    there after `grace_seconds`: long polls, WebSockets, clients that do not read.  So an app whose
    polls hear of the shutdown themselves makes it quick.

    Args:
        app: Limits the bodies of its requests itself (`limit_body`).  It finds the certificate
            that a client has shown in `scope["state"]`, under `CLIENT_CERTIFICATE`.
        settings: See there.
        shutdown: Its return starts the drain.
        task_status: Started with the base URLs, as in `http://127.0.0.1:43121`, once *app* has
            started up and connections are accepted.

    Error handling:
        An error of the app or a connection is logged and ends that request or connection only.

    Raises:
        OSError: The address cannot be listened on; nothing was started then.
        ssl.SSLError: The certificates cannot be used (with `OSError` where a file is missing).
        ExceptionGroup: The app's start-up or stop failed or took more than `LIFESPAN_SECONDS`, or
            *shutdown* raised.
    """
    config = _hypercorn_config(settings)
    async with contextlib.AsyncExitStack() as listening:
        listeners = await _listen(settings, config)
        for listener in listeners:
            listening.push_async_callback(trio.aclose_forcefully, listener)
        urls = [_url(listener) for listener in listeners]
        logger.info("listening on %s", ", ".join(urls))
        serving = partial(task_status.started, urls)
        await _serve_app(app, settings, config, listeners, shutdown=shutdown, started=serving)


async def serve_streams(
    app: ASGIFramework,
    settings: ServerSettings,
    listener: trio.abc.Listener[trio.abc.HalfCloseableStream],
    *,
    shutdown: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As `serve`, on whatever streams *listener* accepts; for networks of tests.

    Raises:
        As `serve`, but for what comes from addresses and certificates.
    """
    config = _hypercorn_config(settings)
    started = task_status.started
    await _serve_app(app, settings, config, [listener], shutdown=shutdown, started=started)


async def _serve_app(
    app: ASGIFramework,
    settings: ServerSettings,
    config: Config,
    listeners: Sequence[trio.abc.Listener[Any]],
    *,
    shutdown: Callable[[], Awaitable[None]],
    started: Callable[[], None],
) -> None:
    state: dict[str, Any] = {}
    wrapped = ASGIWrapper(app)
    lifespan = Lifespan(wrapped, config, state)
    async with trio.open_nursery() as around:
        await around.start(lifespan.handle_lifespan)
        with contextlib.suppress(trio.ClosedResourceError):  # an app without a lifespan
            await lifespan.wait_for_startup()
        await _serve_connections(
            partial(
                Connection, app=wrapped, config=config, state=state, patience=_patience(settings)
            ),
            listeners,
            grace_seconds=settings.grace_seconds,
            shutdown=shutdown,
            started=started,
        )
        with contextlib.suppress(trio.ClosedResourceError):
            await lifespan.wait_for_shutdown()
        around.cancel_scope.cancel()


async def _serve_connections(
    make_connection: Callable[..., Connection],
    listeners: Sequence[trio.abc.Listener[Any]],
    *,
    grace_seconds: float,
    shutdown: Callable[[], Awaitable[None]],
    started: Callable[[], None],
) -> None:
    context = WorkerContext(None)
    present: set[Connection] = set()

    async def converse(stream: Stream) -> None:
        if context.terminated.is_set():
            return  # accepted in the very moment of the shutdown
        connection = make_connection(stream, context=context)
        present.add(connection)
        try:
            await connection.run()
        finally:
            present.discard(connection)

    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(
                    trio.serve_listeners, converse, list(listeners), handler_nursery=connections
                )
            )
            started()
            await shutdown()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        logger.info("draining %d connections", len(present))
        cutoff = trio.current_time() + grace_seconds
        connections.cancel_scope.deadline = cutoff
        for connection in tuple(present):
            connection.drain(cutoff)


async def _listen(settings: ServerSettings, config: Config) -> list[Listener]:
    context = config.create_ssl_context()
    if context is not None:
        # Python 3.13 would refuse certificates of workers that 3.11 takes, such as those with a
        # common name alone: who is let in must not depend on the Python.
        context.verify_flags &= ~VERIFY_X509_STRICT
    try:
        plain = await trio.open_tcp_listeners(settings.port, host=settings.host, backlog=BACKLOG)
    except OSError as exc:
        raise OSError(
            exc.errno,
            f"cannot listen on {settings.host}:{settings.port}: {exc.strerror or exc};"
            " is another process using it? choose another host or port",
        ) from exc
    if context is None:
        return list(plain)
    return [trio.SSLListener(each, context, https_compatible=True) for each in plain]


def _url(listener: Listener) -> str:
    scheme = "http"
    if isinstance(listener, trio.SSLListener):
        scheme = "https"
        listener = listener.transport_listener  # type: ignore[assignment] # always a SocketListener
    assert isinstance(listener, trio.SocketListener)
    socket = listener.socket
    return f"{scheme}://{repr_socket_addr(socket.family, socket.getsockname())}"


def _hypercorn_config(settings: ServerSettings) -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logger
    config.include_server_header = False
    config.keep_alive_max_requests = sys.maxsize  # its 1000 would close busy connections
    config.websocket_max_message_size = settings.max_message_bytes
    config.startup_timeout = LIFESPAN_SECONDS
    config.shutdown_timeout = LIFESPAN_SECONDS
    config.alpn_protocols = ["http/1.1"]
    config.certfile = settings.certfile
    config.keyfile = settings.keyfile
    config.ca_certs = settings.ca_certs
    if settings.ca_certs is not None:
        config.verify_mode = CERT_REQUIRED if settings.require_client_cert else CERT_OPTIONAL
    return config


def _patience(settings: ServerSettings) -> Patience:
    return Patience(
        keep_alive_seconds=settings.keep_alive_seconds,
        head_seconds=settings.head_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        send_seconds=settings.send_timeout_seconds,
        handshake_seconds=settings.handshake_timeout_seconds,
        linger_seconds=settings.linger_seconds,
    )
