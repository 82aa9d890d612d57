"""What goes to a Redis server and comes back, as bytes: RESP2, packed and read by hand.

redis-py's own packing and parsing take several times as long, and this is where a bridge
spends its time.
"""

import hashlib
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import attrs
from redis.exceptions import ResponseError

Argument = bytes | str | int | float
Command = tuple[Argument, ...]

_RECEIVE_BYTES = 64 * 1024

#: What precedes an argument of such a size and ends what was before it, made once.
_HEADS_MADE = 1024
_HEADS = tuple(b"\r\n$%d\r\n" % size for size in range(_HEADS_MADE))

_TEXT, _ERROR, _NUMBER, _BULK, _ARRAY = b"+-:$*"


@attrs.frozen
class Script:
    """A script in Lua; a server that does not know it yet is given it."""

    name: str
    source: str
    sha: str = attrs.field(init=False, repr=False)

    @sha.default
    def _digest(self) -> str:
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@attrs.frozen
class ScriptCall:
    """A script to run, on these keys."""

    script: Script
    keys: tuple[str, ...]
    args: Sequence[Argument] = ()

    def packed(self) -> bytes:
        """The call as it goes over the wire."""
        count = 3 + len(self.keys) + len(self.args)
        head = _script_head(self.script.sha, self.keys)
        return b"".join(_add(self.args, [b"*%d" % count, head]))


class Closed(OSError):
    """The other end has closed the connection."""


def pack(command: Command) -> bytes:
    """*command* as it goes over the wire.

    Raises:
        TypeError: an argument is none that Redis can take.
    """
    return b"".join(_add(command, [b"*%d" % len(command)]))


def _add(arguments: Sequence[Argument], pieces: list[bytes]) -> list[bytes]:
    """Add the arguments to *pieces*, and the end of the command."""
    for argument in arguments:
        kind = type(argument)
        if kind is str:
            value = argument.encode()  # type: ignore[union-attr]
        elif kind is bytes:
            value = argument
        else:
            value = _encoded(argument)
        size = len(value)
        pieces += (_HEADS[size] if size < _HEADS_MADE else b"\r\n$%d\r\n" % size, value)
    pieces.append(b"\r\n")
    return pieces


@lru_cache(maxsize=4096)
def _script_head(sha: str, keys: tuple[str, ...]) -> bytes:
    """Scripts are called with the same keys over and over."""
    return b"".join(_add(("EVALSHA", sha, len(keys), *keys), [])[:-1])


def _encoded(argument: Argument) -> bytes:
    if isinstance(argument, str):
        return argument.encode()
    if isinstance(argument, bytes):
        return argument
    if isinstance(argument, bool) or not isinstance(argument, int | float):
        raise TypeError(f"a command takes bytes, str, int and float, not {argument!r}")
    return repr(argument).encode()


class Replies:
    """The replies that come from a socket, one after the other.

    Text is bytes; an error reply is a `ResponseError` that is returned, with its whole line.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = b""
        self._at = 0

    def waits(self) -> bool:
        """Whether some of the next reply has been received already."""
        return self._at < len(self._buffer)

    def next(self) -> Any:
        """The next reply; waits for it.

        Raises:
            OSError: the connection broke, or its timeout has passed.
        """
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\r\n", at)
        while end < 0:
            self._receive(len(buffer) - at + 1)
            buffer, at = self._buffer, self._at
            end = buffer.find(b"\r\n", at)
        self._at = end + 2
        kind, rest = buffer[at], buffer[at + 1 : end]
        if kind == _BULK:
            size = int(rest)
            return None if size < 0 else self._bulk(size)
        if kind == _TEXT:
            return rest
        if kind == _NUMBER:
            return int(rest)
        if kind == _ARRAY:
            size = int(rest)
            return None if size < 0 else [self.next() for _ in range(size)]
        if kind == _ERROR:
            return ResponseError(rest.decode(errors="replace"))
        raise Closed(f"it does not speak the protocol of Redis: {buffer[at : at + 40]!r}")

    def _bulk(self, size: int) -> bytes:
        if len(self._buffer) - self._at < size + 2:
            self._receive(size + 2)
        begin = self._at
        end = begin + size
        self._at = end + 2
        return self._buffer[begin:end]

    def _receive(self, least: int) -> None:
        """Have at least so many bytes in the buffer that are not used yet."""
        pieces = [self._buffer[self._at :]]
        have = len(pieces[0])
        try:
            while have < least:
                piece = self._sock.recv(max(_RECEIVE_BYTES, min(least - have, 16 * _RECEIVE_BYTES)))
                if not piece:
                    raise Closed("it closed the connection")
                pieces.append(piece)
                have += len(piece)
        finally:
            self._buffer, self._at = b"".join(pieces), 0
