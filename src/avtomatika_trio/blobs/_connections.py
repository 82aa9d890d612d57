"""Connections of botocore that tell the line of their thread about their sockets."""

import errno
import os
import select
import socket
from collections.abc import Sequence
from typing import Any, cast

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError

from avtomatika_trio.blobs._line import Line, check_line, current_line

#: How much of a body that is a file goes into one send; the default of 16 KiB costs 20 % more.
_BLOCK_BYTES = 256 * 1024

#: A link on which nothing moves for so long is given up, and the request is sent again.
SILENT_SECONDS = 20.0


class _Watched:
    """A connection that tells the line of its thread about its socket."""

    sock: socket.socket | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["blocksize"] = _BLOCK_BYTES
        super().__init__(*args, **kwargs)

    _dns_host: str
    port: int
    timeout: float
    socket_options: Sequence[tuple[int, int, int | bytes]] | None

    def _new_conn(self) -> socket.socket:
        """As urllib3's, which tells nobody of a socket that connects, and so can't be woken."""
        line = current_line()
        reason: OSError | str = "it has no address"
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except OSError as exc:
            raise self._failed(f"{self._dns_host} was not found: {exc}") from exc
        for family, kind, protocol, _, address in addresses:
            made: socket.socket | None = None
            try:
                made = socket.socket(family, kind, protocol)
                self._connect(made, address, line)
            except OSError as exc:  # also that there is no IPv6 here
                if made is not None:
                    made.close()
                reason = exc
            else:
                return made
        raise self._failed(f"{self._dns_host} port {self.port}: {reason}")

    def _failed(self, reason: str) -> NewConnectionError:
        return NewConnectionError(cast(HTTPConnection, self), reason)

    def _connect(self, made: socket.socket, address: Any, line: Line | None) -> None:
        for level, option, value in self.socket_options or ():
            made.setsockopt(level, option, value)
        made.settimeout(0)
        _check(made.connect_ex(address), errno.EINPROGRESS)
        if line is not None:
            line.watch(made.fileno())  # not before: only what connects already can be shut down
        connecting = select.poll()
        connecting.register(made, select.POLLOUT)
        if not connecting.poll(self.timeout * 1000):
            raise TimeoutError(f"no answer within {self.timeout:g} s")
        check_line()
        _check(made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        # What urllib3 has set is the time to connect, and it would be that of each send, too.
        made.settimeout(SILENT_SECONDS)

    def request(self, *args: Any, **kwargs: Any) -> Any:
        line = current_line()
        if line is not None and self.sock is not None:
            line.watch(self.sock.fileno())
        return super().request(*args, **kwargs)  # type: ignore[misc]


def _check(number: int, *fine: int) -> None:
    """Raise OSError if that is the *number* of an error, and none that is *fine*."""
    if number not in (0, *fine):
        raise OSError(number, os.strerror(number))


class _HttpConnection(_Watched, AWSHTTPConnection): ...  # type: ignore[misc]


class _HttpsConnection(_Watched, AWSHTTPSConnection): ...  # type: ignore[misc]


class _HttpPool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HttpConnection


class _HttpsPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HttpsConnection


POOLS = {"http": _HttpPool, "https": _HttpsPool}
"""In the place of botocore's own."""
