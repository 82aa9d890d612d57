"""The health check of a worker in a cluster, without a socket: the virtual clock sees none."""

import json
import math
from collections.abc import Sequence
from typing import Any

import attrs
import trio
from trio.abc import Listener, Stream
from trio.testing import memory_stream_pair


class _Doorbell(Listener[Stream]):
    """Accepts what is rung with."""

    def __init__(self) -> None:
        self.is_closed = False
        self.ring, self._rung = trio.open_memory_channel[Stream](math.inf)

    async def accept(self) -> Stream:
        return await self._rung.receive()

    async def aclose(self) -> None:
        self.is_closed = True
        await self.ring.aclose()
        await self._rung.aclose()


@attrs.define
class HealthDoor:
    """Where a worker's health check is asked; `open` is its `Surroundings.open_health`."""

    _doorbell: _Doorbell | None = None

    async def open(self, _port: int, _host: str) -> Sequence[Listener[Stream]]:
        """Listen; of two processes, the later one is asked."""
        self._doorbell = _Doorbell()
        return [self._doorbell]

    async def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """`GET` *path*: the status and the body.

        Raises:
            ConnectionRefusedError: the worker has never listened, or does so no more.
        """
        if self._doorbell is None or self._doorbell.is_closed:
            raise ConnectionRefusedError(f"there is no health check to ask for {path}")
        ours, theirs = memory_stream_pair()
        await self._doorbell.ring.send(theirs)
        await ours.send_all(f"GET {path} HTTP/1.1\r\nHost: worker\r\n\r\n".encode())
        answer = b"".join([piece async for piece in ours])
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)
