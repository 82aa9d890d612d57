"""Three processes on one Redis without their loops, so that scenes can be played step by step.

Each operation is the next process' turn, so that what one knows is always out of date.
"""

import itertools
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import trio
from tests.storage.redis_servers import Server, start_server

from avtomatika_trio._core.job import Job, JobStatus
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio.storage import JobQuery, MemoryStorage, NumberedRow
from avtomatika_trio.storage._redis_bridge import RedisBridge
from avtomatika_trio.storage._redis_clock import PartitionClock
from avtomatika_trio.storage._redis_commits import Commits, _Step
from avtomatika_trio.storage._redis_places import Places
from avtomatika_trio.storage._redis_reads import RedisReads
from avtomatika_trio.storage._redis_scripts import CLAIM, COMMIT, HOLD, OPEN
from avtomatika_trio.storage._redis_wire import Replies, ScriptCall, pack

T = TypeVar("T")

PROCESSES = 3


class DirectBridge:
    """A bridge without a thread: each call is answered before it returns."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection((server.host, server.port))
        self._replies = Replies(self._socket)
        for script in (OPEN, COMMIT, CLAIM, HOLD):
            self.ask(("SCRIPT", "LOAD", script.source))

    def ask(self, *commands: Any) -> list[Any]:
        """The replies to *commands*."""
        packed = [it.packed() if isinstance(it, ScriptCall) else pack(it) for it in commands]
        self._socket.sendall(b"".join(packed))
        return [self._replies.next() for _ in commands]

    def submit(self, commands: Sequence[Any], told: Callable[[Any], None], *, key: str) -> None:
        told(self.ask(*commands))

    async def call(self, *commands: Any, key: str) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return self.ask(*commands)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def direct_bridge() -> Iterator[DirectBridge]:
    """One, to a server of its own."""
    with start_server("valkey") as server:
        bridge = DirectBridge(server)
        try:
            yield bridge
        finally:
            bridge.close()


class RedisWithoutLoops(MemoryStorage):
    """Commits and reads of `RedisStorage`, by several processes in turn."""

    def __init__(self, now: Callable[[], float], direct: DirectBridge) -> None:
        super().__init__(now)
        places, bridge = Places(1), cast("RedisBridge", direct)
        keys = places.root
        direct.ask(("FLUSHALL",))
        [(_, cluster_id, *_)] = direct.ask(
            ScriptCall(OPEN, (keys.meta, keys.clock), (1, "c", 1, 0))
        )
        clock = PartitionClock(self.now)
        told: Callable[[Any], None] = lambda _: None  # noqa: E731
        processes = [
            Commits(bridge, keys, clock, cluster_id.decode(), told) for _ in range(PROCESSES)
        ]
        self._turns = itertools.cycle(processes)
        self._reads = RedisReads(bridge, places)

    def run(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        commits = next(self._turns)
        step = _Step(operation)
        commits._waiting.append(step)
        commits._start()
        assert step.settled is not None
        answer: T = step.settled.unwrap()
        return answer

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        await trio.lowlevel.checkpoint()
        return self.run(operation)

    async def job(self, job_id: str) -> Job | None:
        return await self._reads.job(job_id)

    async def jobs(self, query: JobQuery) -> Sequence[Job]:
        return await self._reads.jobs(query)

    async def job_counts(self) -> Mapping[JobStatus, int]:
        return await self._reads.job_counts()

    async def tasks(self, job_id: str, dispatch: int | None = None) -> Sequence[Task]:
        return await self._reads.tasks(job_id, dispatch)

    async def attempts(self, job_id: str) -> Sequence[Attempt]:
        return await self._reads.attempts(job_id)

    async def history(
        self, job_id: str, *, after: int = 0, limit: int = 1000
    ) -> Sequence[NumberedRow]:
        return await self._reads.history(job_id, after, limit)
