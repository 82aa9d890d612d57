"""What an orchestrator measures of itself, for Prometheus.

Of commits `_counted_storage` tells it, of requests `_observed`.
Labels are names of blueprints, of skills that blueprints have dispatched, and words of ours:
never what somebody has sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import attrs
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from avtomatika_trio._core import lease
from avtomatika_trio._core.fencing import Answer
from avtomatika_trio._core.ledger import HistoryRow
from avtomatika_trio._core.task import Attempt, AttemptStatus
from avtomatika_trio.orchestrator._heard_workers import HeardWorkers
from avtomatika_trio.orchestrator._loop_lag import LoopLag
from avtomatika_trio.orchestrator._metric_families import (
    ByLabels,
    Family,
    counter,
    gauge,
    histogram,
)
from avtomatika_trio.orchestrator._metrics_requests import RequestCounts
from avtomatika_trio.orchestrator._metrics_storage import StorageGauges

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

#: Of steps and of waits, in seconds.
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_LONG = (0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)

#: In bytes.
_SIZES = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304)

#: What ends a job in the history, and as what.
ENDS = {f"job_{it}": it for it in ("finished", "failed", "cancelled", "quarantined")}

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


@attrs.frozen
class Happening:
    """One row of the history, with what it takes to count it."""

    row: HistoryRow
    blueprint: str = ""
    since: float = 0.0
    """When the job was submitted, or the task dispatched."""


@attrs.frozen
class EndedAttempt:
    """An attempt as it has ended, and the skill of its task."""

    attempt: Attempt
    skill: str


_SUBMITTED = counter("jobs_submitted_total", "Jobs that were accepted.", "blueprint")
_FINISHED = counter("jobs_finished_total", "Jobs that have ended.", "blueprint", "outcome")
_DISPATCHED = counter("tasks_dispatched_total", "Tasks that states have dispatched.", "task_type")
_ATTEMPTS = counter(
    "task_attempts_total",
    "Attempts that have ended; one that was given up as lost, and brings its result after all, ends"
    " twice.",
    *("task_type", "outcome"),
)
_EXPIRED = counter(
    "leases_expired_total",
    "Attempts lost since the worker was not heard of for the time of a lease; those that workers"
    " have returned or declared dead are not among them.",
)
_REJECTED = counter("results_rejected_total", "Results not applied.", "reason")
_REPEATED = counter(
    "results_duplicate_total",
    "Results sent again, and answered as the first time; counted neither as rejected nor anywhere"
    " else.",
)
_QUEUE_WAIT = histogram(
    "task_queue_wait_seconds", "From the dispatch of a task to its first lease.", _LONG
)
_TASK_DURATION = histogram(
    "task_duration_seconds",
    "From the lease of an attempt to its end, of attempts that have succeeded, failed or timed"
    " out.",
    _LONG,
    "task_type",
)
_JOB_DURATION = histogram("job_duration_seconds", "From the submission of a job to its end.", _LONG)
_STEP_COMMIT = histogram(
    "step_commit_seconds", "How long the storage took for a step of a job.", _SHORT
)
_STORE_OP = histogram(
    "store_op_seconds",
    "How long the storage took, by what it was asked for; what failed is not counted.",
    _SHORT,
    "op",
)
_PAYLOAD = histogram(
    "payload_bytes",
    "Bodies that workers have posted with results, and those that they were answered with tasks.",
    _SIZES,
    "direction",
)
_SLOTS = gauge(
    "worker_slots",
    "Tasks that workers run, or have room for, as their newest heartbeats here say (used, free),"
    " and that polls ask for which wait here (offered), 100 each at most.",
    "state",
)
_BUILD = gauge("build_info", "Always 1.", "version")

_FAMILIES = (
    *(_SUBMITTED, _FINISHED, _DISPATCHED, _ATTEMPTS, _EXPIRED, _REJECTED, _REPEATED),
    *(
        _QUEUE_WAIT,
        _TASK_DURATION,
        _JOB_DURATION,
        _STEP_COMMIT,
        _STORE_OP,
        _PAYLOAD,
        _SLOTS,
        _BUILD,
    ),
)


class _Registry(CollectorRegistry):
    """Without the gauges that the client makes of when each series began: nobody declared those,
    and they would double what is scraped."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [it for it in metric.samples if not it.name.endswith("_created")]
            yield metric


class Metrics:
    """The numbers of one orchestrator, in a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = _Registry()
        self.storage = StorageGauges()
        """What the storage tells when it is asked, as whoever shows metrics should see to."""
        self.loop = LoopLag()
        """How late the event loop is."""
        self.heard = HeardWorkers()
        """What heartbeats have told."""
        registry.register(self.storage)
        registry.register(self.loop)
        self.requests = RequestCounts(registry)
        self._submitted = ByLabels(_SUBMITTED.counter(registry))
        self._finished = ByLabels(_FINISHED.counter(registry))
        self._dispatched = ByLabels(_DISPATCHED.counter(registry))
        self._attempts = ByLabels(_ATTEMPTS.counter(registry))
        self._expired = _EXPIRED.counter(registry)
        self._rejected = ByLabels(_REJECTED.counter(registry))
        self._repeated = _REPEATED.counter(registry)
        self._queue_wait = _QUEUE_WAIT.histogram(registry)
        self._task_duration = ByLabels(_TASK_DURATION.histogram(registry))
        self._job_duration = _JOB_DURATION.histogram(registry)
        self._step_commit = _STEP_COMMIT.histogram(registry)
        self._store_op = _STORE_OP.histogram(registry)
        payload = _PAYLOAD.histogram(registry)
        self._received, self._sent = payload.labels("in"), payload.labels("out")
        slots = _SLOTS.gauge(registry)
        self._offered, self._used, self._free = map(slots.labels, ("offered", "used", "free"))
        _BUILD.gauge(registry).labels(metadata.version("avtomatika-trio")).set(1)

    @property
    def families(self) -> tuple[Family, ...]:
        """Every metric that there may be, by name."""
        of_others = (self.storage, self.loop, self.requests)
        all_ = (*_FAMILIES, *(it for other in of_others for it in other.families))
        return tuple(sorted(all_, key=lambda it: it.name))

    def as_text(self, now: float = 0.0) -> bytes:
        """All of it in Prometheus' text format, 0.0.4.

        Args:
            now: The time by the clock of `heard`; 0 = when all of that was true.
        """
        slots = self.heard.slots(now)
        self._used.set(slots.used)
        self._free.set(slots.free)
        return generate_latest(self._registry)

    def answered(self, answer: Answer, *, is_repeated: bool) -> None:
        """Count what a result was answered with, perhaps not for the first time."""
        if is_repeated:
            self._repeated.inc()
        elif answer.get("status") == "ignored":
            self._rejected.at(answer["reason"]).inc()

    def results_received(self, size: int) -> None:
        """Count a post with results, whose body has *size* bytes."""
        self._received.observe(size)

    def tasks_sent(self, size: int) -> None:
        """Count an answer with tasks, whose body has *size* bytes."""
        self._sent.observe(size)

    def step_took(self, seconds: float) -> None:
        """Count a step of a job that was committed."""
        self._step_commit.observe(seconds)

    def store_op(self, name: str) -> Histogram:
        """Of how long the storage takes for what is called *name*."""
        return self._store_op.labels(name)

    @contextmanager
    def offered(self, slots: int) -> Iterator[None]:
        """While inside, a poll waits here that has room for so many tasks."""
        self._offered.inc(slots)
        try:
            yield
        finally:
            self._offered.dec(slots)

    def dispatched(self, skill: str) -> None:
        """Count a task that was dispatched."""
        self._dispatched.at(skill).inc()

    def happened(self, it: Happening) -> None:
        """Count what a row that is stored tells."""
        kind = it.row.type
        if kind == "job_created":
            self._submitted.at(it.blueprint).inc()
        elif kind in ENDS:
            self._finished.at(it.blueprint, ENDS[kind]).inc()
            self._job_duration.observe(max(0.0, it.row.at - it.since))
        elif kind == "attempt_leased" and it.row.attempt == 1:
            self._queue_wait.observe(max(0.0, it.row.at - it.since))
        elif kind == "attempt_lost" and it.row.details == {"reason": lease.EXPIRED}:
            self._expired.inc()

    def ended(self, it: EndedAttempt) -> None:
        """Count an attempt that is stored as ended."""
        attempt = it.attempt
        self._attempts.at(it.skill, _OUTCOMES[attempt.status]).inc()
        if attempt.status in _TIMED and attempt.ended_at is not None:
            took = max(0.0, attempt.ended_at - attempt.leased_at)
            self._task_duration.at(it.skill).observe(took)
