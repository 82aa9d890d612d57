"""What an orchestrator measures of itself, for Prometheus.

Everything is counted once the commit that it happened in is known to be durable; from the rows
of the history, so that nothing is told here that is not true there.  Labels are names of
blueprints, of skills that blueprints have dispatched, and words of ours: never what somebody
has sent.
"""

import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeVar, cast

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from avtomatika_trio._core import steps
from avtomatika_trio._core.ledger import HistoryRow, Ledger
from avtomatika_trio._core.results import Answer
from avtomatika_trio._core.task import Task
from avtomatika_trio.orchestrator._observed import Seen
from avtomatika_trio.storage._base import Storage

T = TypeVar("T")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_PREFIX = "avtomatika"

#: Of steps and of waits, in seconds.
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_LONG = (0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)

_ENDS = {f"job_{it}": it for it in ("finished", "failed", "cancelled", "quarantined")}

_ATTEMPTS = {
    "attempt_failed": "failed",
    "attempt_timed_out": "timed_out",
    "attempt_lost": "lost",
    "attempt_unclaimed": "handed_back",
    "attempt_returned": "handed_back",
}
"""What a row says of an attempt; one that brings the outcome is told of by its task's row."""

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


@attrs.frozen(kw_only=True)
class _Happening:
    """One row of the history, with what it takes to count it."""

    row: HistoryRow
    blueprint: str = ""
    skill: str = ""
    since: float = 0.0
    """When the job was submitted, or the task dispatched."""


class Metrics:
    """The numbers of one orchestrator, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._submitted = self._counter("jobs_submitted", "Jobs accepted here.", "blueprint")
        self._finished = self._counter(
            "jobs_finished", "Jobs that ended in a commit of this process.", "blueprint", "outcome"
        )
        self._dispatched = self._counter(
            "tasks_dispatched", "Tasks that states have dispatched.", "task_type"
        )
        self._attempts = self._counter(
            "task_attempts", "Attempts that have ended.", "task_type", "outcome"
        )
        self._rejected = self._counter("results_rejected", "Results not applied.", "reason")
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
        self._job_duration = self._histogram(
            "job_duration_seconds", "From the submission of a job to its end.", _LONG
        )
        self._step_commit = self._histogram(
            "step_commit_seconds", "How long the storage took for a step of a job.", _SHORT
        )
        build = Gauge(f"{_PREFIX}_build_info", "Always 1.", ("version",), registry=self._registry)
        build.labels(metadata.version("avtomatika-trio")).set(1)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}_total", meaning, labels, registry=self._registry)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", meaning, buckets=buckets, registry=self._registry)

    def as_text(self) -> bytes:
        """All of it in Prometheus' text format, 0.0.4."""
        return generate_latest(self._registry)

    def answered(self, answer: Answer) -> None:
        """Count what a result was answered with."""
        if answer.get("status") == "ignored":
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
        elif kind in _ATTEMPTS:
            self._attempts.labels(it.skill, _ATTEMPTS[kind]).inc()
        elif kind == "task_finished" and it.row.attempt is not None:
            said = (it.row.details or {}).get("status")
            outcome = "failed" if said == "failure" else "succeeded"
            self._attempts.labels(it.skill, outcome).inc()


class _Watched:
    """A ledger that remembers what is recorded in it; new for each run of an operation."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.happened: list[_Happening] = []
        self.fresh: dict[str, str] = {}
        """Skills of tasks that no attempt was made at yet, by task."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def put_task(self, task: Task) -> None:
        self._ledger.put_task(task)
        if task.attempt == 0 and task.created_at == self._ledger.now:
            self.fresh[task.id] = task.skill

    def record(self, row: HistoryRow) -> None:
        # What the row is about was read or written by the operation: to look costs nothing.
        self._ledger.record(row)
        if row.type == "job_created" or row.type in _ENDS:
            job = self._ledger.job(row.job_id)
            assert job is not None
            found = _Happening(row=row, blueprint=job.blueprint, since=job.created_at)
        elif row.task_id is not None:
            task = self._ledger.task(row.task_id)
            skill, since = ("", row.at) if task is None else (task.skill, task.created_at)
            found = _Happening(row=row, skill=skill, since=since)
        else:
            found = _Happening(row=row)
        self.happened.append(found)


class _Counted:
    """A storage whose commits are counted."""

    def __init__(self, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._metrics = metrics

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def commit(self, operation: Callable[[Ledger], T], partition: str | None = None) -> T:
        began = time.perf_counter()

        def watched(ledger: Ledger) -> tuple[T, _Watched]:
            seen = _Watched(ledger)
            return operation(cast("Ledger", seen)), seen

        answer, seen = await self._storage.commit(watched, partition)
        if getattr(operation, "func", None) is steps.advance:
            self._metrics.step_took(time.perf_counter() - began)
        for it in seen.happened:
            self._metrics.happened(it)
        if any(it.row.type in _DISPATCHES for it in seen.happened):
            for skill in seen.fresh.values():
                self._metrics.dispatched(skill)
        return answer


_DISPATCHES = frozenset({"task_dispatched", "branches_dispatched"})


def counted(storage: Storage, metrics: Metrics) -> Storage:
    """*storage*, what is committed through it counted in *metrics*.

    A commit whose caller was cancelled is carried through, and not counted.
    """
    return cast("Storage", _Counted(storage, metrics))
