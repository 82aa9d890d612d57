"""Connections of botocore that tell the line of their thread about their sockets."""

import socket
from typing import Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from avtomatika_trio.blobs._line import current_line

#: How much of a body that is a file goes into one send; the default of 16 KiB costs 20 % more.
_BLOCK_BYTES = 256 * 1024


class _Watched:
    """A connection that tells the line of its thread about its socket."""

    sock: socket.socket | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["blocksize"] = _BLOCK_BYTES
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        if (line := current_line()) is not None:
            line.check()
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        if line is not None:
            line.watch(made.fileno())
        return made

    def request(self, *args: Any, **kwargs: Any) -> Any:
        line = current_line()
        if line is not None and self.sock is not None:
            line.watch(self.sock.fileno())
        return super().request(*args, **kwargs)  # type: ignore[misc]


class _HttpConnection(_Watched, AWSHTTPConnection): ...  # type: ignore[misc]


class _HttpsConnection(_Watched, AWSHTTPSConnection): ...  # type: ignore[misc]


class _HttpPool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HttpConnection


class _HttpsPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _HttpsConnection


POOLS = {"http": _HttpPool, "https": _HttpsPool}
"""In the place of botocore's own."""
