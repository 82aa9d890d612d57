"""Where bodies begin and end in one direction of an HTTP/1.1 connection."""

import re
import sys
from collections.abc import Iterator

_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:\s*chunked", re.IGNORECASE)


class Bodies:
    """Follows one direction of a connection.

    A message without a length has no body.  A chunked one is taken to go on for ever, chunk
    sizes and all: what is wanted here is the beginning.

    >>> bodies = Bodies()
    >>> list(bodies.split(b"POST / HTTP/1.1\\r\\nContent-Length: 5\\r\\n\\r\\nhel"))
    [(None, b'POST / HTTP/1.1\\r\\nContent-Length: 5\\r\\n\\r\\n'), (0, b'hel')]
    >>> list(bodies.split(b"loGET "))
    [(3, b'lo'), (None, b'GET ')]
    """

    def __init__(self) -> None:
        self._head = b""
        self._before = 0
        self._left = 0

    def split(self, data: bytes) -> Iterator[tuple[int | None, bytes]]:
        """Cut *data* into pieces of heads (None) and of bodies.

        Of the latter it is told how many bytes of the same body came before.
        """
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                before = self._before
                self._before += len(piece)
                self._left -= len(piece)
                yield before, piece
            else:
                piece, data = self._cut_head(data)
                yield None, piece

    def _cut_head(self, data: bytes) -> tuple[bytes, bytes]:
        seen = len(self._head)
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return data, b""
        head, self._head = self._head[: end + 2], b""
        length = _LENGTH.search(head)
        self._before = 0
        self._left = int(length[1]) if length else 0
        if _CHUNKED.search(head):
            self._left = sys.maxsize
        return data[: end + 4 - seen], data[end + 4 - seen :]
