"""A storage whose commits are counted and told in the log, and what it does timed.

Everything is counted once the commit that it happened in is known to be durable; from the rows
of the history and the records of attempts, so that nothing is told here that is not true there.
"""

import time
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar, cast

from prometheus_client import Histogram

from avtomatika_trio._core import steps
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import HistoryRow, Ledger
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task
from avtomatika_trio.orchestrator._job_log import JobLog
from avtomatika_trio.orchestrator._metrics import ENDS, EndedAttempt, Happening, Metrics
from avtomatika_trio.storage._base import Storage

T = TypeVar("T")

_DISPATCHES = frozenset({"task_dispatched", "branches_dispatched"})


def _passing_on(cls: type[T]) -> type[T]:
    """Give *cls* what it has not of a ledger's, from its `_ledger`; spares calls in Python."""
    for name in vars(Ledger):
        if not name.startswith("_") and name not in vars(cls):
            setattr(cls, name, property(attrgetter(f"_ledger.{name}")))
    return cls


@_passing_on
class _Watched:
    """A ledger that remembers what is written to it; new for each run of an operation."""

    __slots__ = ("_ledger", "dispatches", "ended", "fresh", "happened", "log")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.happened: list[Happening] = []
        self.ended: list[EndedAttempt] = []
        self.dispatches = False
        """Whether tasks were dispatched."""
        self.fresh: dict[str, str] = {}
        """Skills of tasks that no attempt was made at yet, by task."""
        self.log = JobLog()

    def put_task(self, task: Task) -> None:
        self._ledger.put_task(task)
        if task.attempt == 0 and task.created_at == self._ledger.now:
            self.fresh[task.id] = task.skill

    def put_attempt(self, attempt: Attempt) -> None:
        # An operation that ends an attempt has read it, and its task: to look costs nothing.
        if attempt.status is not AttemptStatus.LEASED:
            before = self._ledger.attempt(attempt.wire_id)
            task = self._ledger.task(attempt.task_id)
            if task is not None and (before is None or before.status is not attempt.status):
                self.ended.append(EndedAttempt(attempt, task.skill))
        self._ledger.put_attempt(attempt)

    def record(self, row: HistoryRow) -> None:
        ledger = self._ledger
        ledger.record(row)
        # Who writes a row has what it is about at hand: to look costs little.
        about: Job | Task | None = (
            ledger.job(row.job_id) if row.task_id is None else ledger.task(row.task_id)
        )
        self.log.note(row, about)
        kind = row.type
        if kind == "job_created" or kind in ENDS:
            assert isinstance(about, Job)
            self.happened.append(Happening(row, about.blueprint, about.created_at))
        elif kind == "attempt_leased" and row.task_id is not None:
            self.happened.append(Happening(row, "", row.at if about is None else about.created_at))
        elif kind == "attempt_lost":
            self.happened.append(Happening(row))
        elif kind in _DISPATCHES:
            self.dispatches = True


#: Reads that are timed: those that do not wait for news.
_READS = (
    "job",
    "jobs",
    "job_counts",
    "tasks",
    "attempts",
    "history",
    "progress",
    "instance",
    "instances",
    "lease_counts",
    "backlog",
    "audit",
)


class _Counted:
    """A storage whose commits are counted, and what it does timed."""

    def __init__(self, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._metrics = metrics
        self._commit = metrics.store_op("commit")
        for name in _READS:
            setattr(self, name, partial(self._timed, name, metrics.store_op(name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def _timed(self, read: str, took: Histogram, *arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        found = await getattr(self._storage, read)(*arguments, **named)
        took.observe(time.perf_counter() - began)
        return found

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        began = time.perf_counter()

        def watched(ledger: Ledger) -> tuple[T, _Watched]:
            seen = _Watched(ledger)
            return operation(cast("Ledger", seen)), seen

        answer, seen = await self._storage.commit(watched, partition)
        took = time.perf_counter() - began
        self._commit.observe(took)
        if getattr(operation, "func", None) is steps.advance:
            self._metrics.step_took(took)
        seen.log.tell()
        for it in seen.happened:
            self._metrics.happened(it)
        for ended in seen.ended:
            self._metrics.ended(ended)
        if seen.dispatches:
            for skill in seen.fresh.values():
                self._metrics.dispatched(skill)
        return answer


def counted(storage: Storage, metrics: Metrics) -> Storage:
    """*storage*, what is committed through it counted in *metrics*, and told in the log.

    A commit whose caller was cancelled is carried through, and not counted.
    """
    return cast("Storage", _Counted(storage, metrics))
