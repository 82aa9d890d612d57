"""Workers that wait for tasks of a skill that no job needs; for the benchmarks.

Each has a connection of its own with a parked poll, and they beat every ten seconds, as real
ones do.  `python -m benchmarks.idle_workers URL COUNT`, with the token in `WORKER_TOKEN`; it
prints a line once all of them wait and have beaten.
"""

import json
import os
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import trio

BEAT_SECONDS = 10.0
HOLD_SECONDS = 20.0

#: So many at a time while they start.
_AT_A_TIME = 50


class Exchange:
    """One connection; asks one thing after the other."""

    def __init__(self, url: str, worker_id: str) -> None:
        parts = urlsplit(url)
        self._place = (parts.hostname or "", parts.port or 80)
        self._head = (
            f"Host: {parts.netloc}\r\nX-Worker-ID: {worker_id}\r\n"
            f"X-Worker-Token: {os.environ['WORKER_TOKEN']}\r\n"
        )
        self._stream: trio.SocketStream | None = None

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> int:
        """The status of the answer."""
        if self._stream is None:
            self._stream = await trio.open_tcp_stream(*self._place)
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Type: application/json\r\n"
        await self._stream.send_all(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        got = b""
        while b"\r\n\r\n" not in got:
            got += await self._more()
        top, _, rest = got.partition(b"\r\n\r\n")
        lines = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:])
        lacking = int(lines.get(b"content-length", 0)) - len(rest)
        while lacking > 0:
            lacking -= len(await self._more())
        if lines.get(b"connection") == b"close":
            await self._stream.aclose()
            self._stream = None
        return int(top[9:12])

    async def _more(self) -> bytes:
        assert self._stream is not None
        piece = bytes(await self._stream.receive_some())
        if not piece:
            raise trio.BrokenResourceError("the orchestrator has closed the connection")
        return piece


async def one(url: str, number: int, start: trio.CapacityLimiter, waits: trio.Event) -> None:
    """The life of one worker."""
    name, instance = f"idle-{number}", f"idle-{number}-{time.time_ns():x}"
    poll = beat = 0
    path = f"/_worker/workers/{name}"

    async def polls() -> None:
        nonlocal poll
        exchange = Exchange(url, name)
        while True:
            poll += 1
            asked = f"timeout={HOLD_SECONDS:g}&available_skills=idle&max_tasks=1"
            status = await exchange.ask(
                "GET", f"{path}/tasks/next?{asked}&instance={instance}&poll={poll}"
            )
            if status not in {200, 204}:
                raise RuntimeError(f"a poll was answered with {status}")

    async with start:
        exchange = Exchange(url, name)
        said: dict[str, Any] = {
            "worker_id": name,
            "supported_skills": [{"name": "idle"}],
            "instance": instance,
            "heartbeat_seconds": BEAT_SECONDS,
        }
        status = await exchange.ask("POST", "/_worker/workers/register", said)
        if status != 200:
            raise RuntimeError(f"the registration was answered with {status}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(polls)
        waits.set()
        await trio.sleep(BEAT_SECONDS * (number % 1000) / 1000)  # not all at the same moment
        while True:
            beat += 1
            status = await exchange.ask(
                "PATCH",
                path,
                {
                    "worker_id": name,
                    "current_tasks": [],
                    "instance": instance,
                    "beat": beat,
                    "last_poll": poll,
                    "open_polls": [poll],
                },
            )
            if status != 200:
                raise RuntimeError(f"a heartbeat was answered with {status}")
            await trio.sleep(BEAT_SECONDS)


async def main(url: str, count: int) -> None:
    start = trio.CapacityLimiter(_AT_A_TIME)
    events = [trio.Event() for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for number, waits in enumerate(events):
            nursery.start_soon(one, url, number, start, waits)
        for waits in events:
            await waits.wait()
        # The first heartbeat of each is dearer than the others: it is looked for twins.
        await trio.sleep(BEAT_SECONDS + 2)
        print(json.dumps({"workers": count}), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
