"""One connection to one server, and why it can't be had.

redis-py makes the socket and its TLS; what is said over it is up to this package.
"""

import socket
import ssl
from contextlib import suppress
from typing import Any

import attrs
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from avtomatika_trio.storage._redis_faults import Verdict, judge
from avtomatika_trio.storage._redis_url import Place, RedisAddress
from avtomatika_trio.storage._redis_wire import Command, Replies, pack

CONNECT_SECONDS = 1.0

#: A reply that takes longer is none.
PATIENCE_SECONDS = 2.0


@attrs.frozen
class Broken(Exception):
    """There is no connection (any more); another attempt may succeed."""

    reason: str


@attrs.frozen
class Denied(Exception):
    """The server does not let us; another attempt ends the same way."""

    reason: str


class Link:
    """An open connection.  All but `shut` is for one thread."""

    def __init__(self, connection: Connection, place: Place) -> None:
        self._connection = connection
        # Versions before 6.0 have no public way to it.
        sock: socket.socket | None = connection._sock  # noqa: SLF001
        assert sock is not None
        self.sock = sock
        self.replies = Replies(self.sock)
        self.place = place

    def ask(self, *commands: Command) -> list[Any]:
        """Send the commands and read their replies.

        Raises:
            OSError: the connection broke, or there was no answer in time.
        """
        self.sock.sendall(b"".join(map(pack, commands)))
        return [self.replies.next() for _ in commands]

    def pending(self) -> bool:
        """Whether some of the next reply has arrived in this process already."""
        if self.replies.waits():
            return True
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def shut(self) -> None:
        """Wake who waits for this connection, in whatever thread: it is broken now."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut()
        with suppress(OSError):
            self.sock.close()


def open_link(address: RedisAddress, place: Place, *, sentinel: bool = False) -> Link:
    """Connect to the server at *place*, log in and see that it answers.

    Args:
        address: How: TLS, user and password, database.
        place: Where.
        sentinel: It is a sentinel, which has no databases and perhaps no password.

    Raises:
        Broken: it does not answer, or can't serve at present.
        Denied: it answers, and does not let us.
    """
    link = Link(_connected(address, place), place)
    try:
        _greet(link, address, sentinel=sentinel)
        link.sock.settimeout(PATIENCE_SECONDS)
    except OSError as exc:
        link.close()
        raise Broken(cause(exc, CONNECT_SECONDS)) from exc
    except BaseException:
        link.close()
        raise
    return link


def cause(exc: BaseException, seconds: float) -> str:
    """Why a connection broke, in a few words."""
    match exc:
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return f"no answer within {seconds:g} s"
        case ConnectionResetError() | BrokenPipeError():
            return "the connection was reset"
        case socket.gaierror():
            return "its host name is not known"
        case ssl.SSLCertVerificationError():
            return f"its TLS certificate is not trusted ({exc.verify_message}); see ssl_ca_certs"
        case ssl.SSLError():
            return f"TLS failed ({exc.reason or exc})"
        case OSError(strerror=str(text)):
            return text.lower()
        case _:
            return str(exc) or type(exc).__name__


def _connected(address: RedisAddress, place: Place) -> Connection:
    options: dict[str, Any] = dict(address.tls_options)
    kind: type[Connection] = Connection
    if address.tls:
        kind = SSLConnection
        options["ssl_check_hostname"] = options.get("ssl_cert_reqs", "required") == "required"
    connection = kind(
        host=place[0],
        port=place[1],
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        redis_connect_func=_say_nothing,
        **options,
    )
    try:
        connection.connect()  # type: ignore[no-untyped-call]
    except (RedisError, OSError) as exc:
        reason = exc.__context__ if isinstance(exc, RedisError) and exc.__context__ else exc
        text = cause(reason, CONNECT_SECONDS)
        if isinstance(reason, FileNotFoundError | PermissionError):
            raise Denied(f"the files for TLS can't be used: {text}") from exc
        raise Broken(text) from exc
    return connection


def _say_nothing(_connection: object) -> None:
    """Instead of redis-py's greeting."""


def _greet(link: Link, address: RedisAddress, *, sentinel: bool) -> None:
    commands: list[Command] = []
    if address.password is not None:
        user = () if address.user is None else (address.user,)
        commands.append(("AUTH", *user, address.password))
    if address.db and not sentinel:
        commands.append(("SELECT", address.db))
    commands.append(("PING",))
    replies = link.ask(*commands)
    if sentinel and not isinstance(replies[-1], ResponseError):
        return  # also if it has no password and was told one
    for reply in replies:
        if isinstance(reply, ResponseError):
            verdict, text = judge(reply)
            if verdict is Verdict.AGAIN:
                raise Broken(text)
            raise Denied(text)
