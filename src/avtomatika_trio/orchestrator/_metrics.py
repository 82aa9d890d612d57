"""What an orchestrator measures of itself, for Prometheus.

Everything is counted once the commit that it happened in is known to be durable; from the rows
of the history and the records of attempts, so that nothing is told here that is not true there.
Labels are names of blueprints, of skills that blueprints have dispatched, and words of ours:
never what somebody has sent.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from operator import attrgetter
from typing import Any, TypeVar, cast

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from avtomatika_trio._core import lease, steps
from avtomatika_trio._core.fencing import Answer
from avtomatika_trio._core.ledger import HistoryRow, Ledger
from avtomatika_trio._core.task import Attempt, AttemptStatus, Task
from avtomatika_trio.orchestrator._job_log import JobLog
from avtomatika_trio.orchestrator._loop_lag import LoopLag
from avtomatika_trio.orchestrator._metric_families import Family, Kind
from avtomatika_trio.orchestrator._metrics_storage import StorageGauges
from avtomatika_trio.orchestrator._observed import Seen
from avtomatika_trio.storage._base import Storage

T = TypeVar("T")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

#: Of steps and of waits, in seconds.
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_LONG = (0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)

_ENDS = {f"job_{it}": it for it in ("finished", "failed", "cancelled", "quarantined")}

_DISPATCHES = frozenset({"task_dispatched", "branches_dispatched"})

_OUTCOMES = {
    AttemptStatus.SUCCEEDED: "succeeded",
    AttemptStatus.FAILED: "failed",
    AttemptStatus.TIMED_OUT: "timed_out",
    AttemptStatus.LOST: "lost",
    AttemptStatus.UNCLAIMED: "handed_back",
    AttemptStatus.RETURNED: "handed_back",
    AttemptStatus.CANCELLED: "cancelled",
}

#: Those that tell how long a task takes; the others tell of workers, or of what was not wanted.
_TIMED = frozenset({AttemptStatus.SUCCEEDED, AttemptStatus.FAILED, AttemptStatus.TIMED_OUT})

#: Whoever sends a request may write any word as its method.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_AUTH_FAILURES = {
    "token_missing": "client",
    "token_unknown": "client",
    "role_missing": "role",
    "unauthorized": "worker",
    "foreign_worker_id": "worker",
    "signature_refused": "signature",
    "too_many_wrong_tokens": "throttled",
}
"""What the code of an answer says of who sent the request."""


@attrs.frozen
class _Happening:
    """One row of the history, with what it takes to count it."""

    row: HistoryRow
    blueprint: str = ""
    since: float = 0.0
    """When the job was submitted, or the task dispatched."""


@attrs.frozen
class _EndedAttempt:
    """An attempt as it has ended, and the skill of its task."""

    attempt: Attempt
    skill: str


class Metrics:
    """The numbers of one orchestrator, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._families: list[Family] = []
        self.storage = StorageGauges()
        """What the storage tells when it is asked, as whoever shows metrics should see to."""
        self.loop = LoopLag()
        """How late the event loop is."""
        for collector in (self.storage, self.loop):
            self._registry.register(collector)
            self._families += collector.families
        self._submitted = self._counter("jobs_submitted", "Jobs that were accepted.", "blueprint")
        self._finished = self._counter(
            "jobs_finished", "Jobs that have ended.", "blueprint", "outcome"
        )
        self._dispatched = self._counter(
            "tasks_dispatched", "Tasks that states have dispatched.", "task_type"
        )
        self._attempts = self._counter(
            "task_attempts",
            "Attempts that have ended; one that was given up as lost, and brings its result after"
            " all, ends twice.",
            "task_type",
            "outcome",
        )
        self._expired = self._counter(
            "leases_expired",
            "Attempts lost since the worker was not heard of for the time of a lease; those that"
            " workers have returned or declared dead are not among them.",
        )
        self._rejected = self._counter("results_rejected", "Results not applied.", "reason")
        self._repeated = self._counter(
            "results_duplicate",
            "Results sent again, and answered as the first time; counted neither as rejected nor"
            " anywhere else.",
        )
        self._requests = self._counter(
            "http_requests",
            "Requests, by the template of their route.",
            "route",
            "method",
            "status",
        )
        self._requests_at: dict[tuple[str, str, str], Counter] = {}
        """By labels, found once: every request comes by here."""
        self._auth_failures = self._counter(
            "auth_failures", "Requests refused for who sent them.", "kind"
        )
        self._queue_wait = self._histogram(
            "task_queue_wait_seconds", "From the dispatch of a task to its first lease.", _LONG
        )
        self._task_duration = self._histogram(
            "task_duration_seconds",
            "From the lease of an attempt to its end, of attempts that have succeeded, failed or"
            " timed out.",
            _LONG,
            "task_type",
        )
        self._job_duration = self._histogram(
            "job_duration_seconds", "From the submission of a job to its end.", _LONG
        )
        self._step_commit = self._histogram(
            "step_commit_seconds", "How long the storage took for a step of a job.", _SHORT
        )
        self._store_op = self._histogram(
            "store_op_seconds",
            "How long the storage took, by what it was asked for; what failed is not counted.",
            _SHORT,
            "op",
        )
        self._slots = self._gauge(
            "worker_slots",
            "Tasks that workers have room for, as the polls say that wait here; a poll asks for 100"
            " at most.",
            "state",
        ).labels("offered")
        build = self._gauge("build_info", "Always 1.", "version")
        build.labels(metadata.version("avtomatika-trio")).set(1)

    @property
    def families(self) -> tuple[Family, ...]:
        """Every metric that there may be, by name."""
        return tuple(sorted(self._families, key=lambda it: it.name))

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        it = self._noted(f"{name}_total", "counter", meaning, labels)
        return Counter(it.full_name, it.help, labels, registry=self._registry)

    def _gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        it = self._noted(name, "gauge", meaning, labels)
        return Gauge(it.full_name, it.help, labels, registry=self._registry)

    def _histogram(
        self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        it = self._noted(name, "histogram", meaning, labels)
        return Histogram(it.full_name, it.help, labels, buckets=buckets, registry=self._registry)

    def _noted(self, name: str, kind: Kind, meaning: str, labels: tuple[str, ...]) -> Family:
        family = Family(name=name, kind=kind, meaning=meaning, labels=labels)
        self._families.append(family)
        return family

    def as_text(self) -> bytes:
        """All of it in Prometheus' text format, 0.0.4."""
        return generate_latest(self._registry)

    def answered(self, answer: Answer, *, is_repeated: bool) -> None:
        """Count what a result was answered with, perhaps not for the first time."""
        if is_repeated:
            self._repeated.inc()
        elif answer.get("status") == "ignored":
            self._rejected.labels(answer["reason"]).inc()

    def requested(self, request: Seen, status: str) -> None:
        """Count a request that was answered with *status*."""
        method = request.method if request.method in _METHODS else "other"
        labels = (request.route, method, status)
        counter = self._requests_at.get(labels)
        if counter is None:
            counter = self._requests_at[labels] = self._requests.labels(*labels)
        counter.inc()
        kind = _AUTH_FAILURES.get(request.code or "")
        if kind is not None:
            self._auth_failures.labels(kind).inc()

    def step_took(self, seconds: float) -> None:
        """Count a step of a job that was committed."""
        self._step_commit.observe(seconds)

    def store_op(self, name: str) -> Histogram:
        """Of how long the storage takes for what is called *name*."""
        return self._store_op.labels(name)

    @contextmanager
    def offered(self, slots: int) -> Iterator[None]:
        """While inside, a poll waits here that has room for so many tasks."""
        self._slots.inc(slots)
        try:
            yield
        finally:
            self._slots.dec(slots)

    def dispatched(self, skill: str) -> None:
        """Count a task that was dispatched."""
        self._dispatched.labels(skill).inc()

    def happened(self, it: _Happening) -> None:
        """Count what a row that is stored tells."""
        kind = it.row.type
        if kind == "job_created":
            self._submitted.labels(it.blueprint).inc()
        elif kind in _ENDS:
            self._finished.labels(it.blueprint, _ENDS[kind]).inc()
            self._job_duration.observe(max(0.0, it.row.at - it.since))
        elif kind == "attempt_leased" and it.row.attempt == 1:
            self._queue_wait.observe(max(0.0, it.row.at - it.since))
        elif kind == "attempt_lost" and it.row.details == {"reason": lease.EXPIRED}:
            self._expired.inc()

    def ended(self, it: _EndedAttempt) -> None:
        """Count an attempt that is stored as ended."""
        attempt = it.attempt
        self._attempts.labels(it.skill, _OUTCOMES[attempt.status]).inc()
        if attempt.status in _TIMED and attempt.ended_at is not None:
            took = max(0.0, attempt.ended_at - attempt.leased_at)
            self._task_duration.labels(it.skill).observe(took)


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
        self.happened: list[_Happening] = []
        self.ended: list[_EndedAttempt] = []
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
                self.ended.append(_EndedAttempt(attempt, task.skill))
        self._ledger.put_attempt(attempt)

    def record(self, row: HistoryRow) -> None:
        ledger = self._ledger
        ledger.record(row)
        self.log.note(row, ledger)
        kind = row.type
        if kind == "job_created" or kind in _ENDS:
            job = ledger.job(row.job_id)
            assert job is not None
            self.happened.append(_Happening(row, job.blueprint, job.created_at))
        elif kind == "attempt_leased" and row.task_id is not None:
            task = ledger.task(row.task_id)
            self.happened.append(_Happening(row, "", row.at if task is None else task.created_at))
        elif kind == "attempt_lost":
            self.happened.append(_Happening(row))
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
