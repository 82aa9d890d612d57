"""How late timers have fired, by the history of jobs.

The history has no row for the firing of a retry, but for what comes next: then the time from
the timer to that (a lease, the end of a handler) is taken, which is longer.  It does no I/O.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from avtomatika_trio._core.ledger import HistoryRow

#: What is promised besides the lease: timers are looked at five times a second.
GRACE_SECONDS = 1.0

#: A step may go by a time that is behind the storage's by so much.
_SLACK_SECONDS = 2.0

_DISPATCHED = {"task_dispatched", "branches_dispatched"}
#: Anything else means that the retry was not needed any more.
_FOLLOWS_A_RETRY = {*_DISPATCHED, "attempt_leased", "state_finished", "state_failed"}
_TIMEOUTS = {"DISPATCH_TIMEOUT", "RESULT_TIMEOUT"}


@attrs.frozen
class Firing:
    """A timer that has fired."""

    kind: str
    job_id: str
    due_at: float
    at: float

    @property
    def late_seconds(self) -> float:
        return self.at - self.due_at


@attrs.frozen
class Outage:
    """When the storage was away, as Unix seconds."""

    begun_at: float
    ended_at: float


def firings(data: Mapping[str, Any], rows: Sequence[HistoryRow]) -> Iterator[Firing]:
    """The timers of one job that have fired.

    Args:
        data: Its `initial_data`, with the limits.
        rows: Its history.
    """
    waits: dict[str, float] = {}
    leased: dict[tuple[str | None, int | None], float] = {}
    dispatched_at = 0.0
    for row in rows:
        details = row.details or {}
        who = row.job_id if row.task_id is None or row.type in _DISPATCHED else row.task_id
        due_at = waits.pop(who, None)
        if due_at is not None and row.type in _FOLLOWS_A_RETRY:
            kind = "handler_retry" if who == row.job_id else "retry"
            yield Firing(kind, row.job_id, due_at, row.at)
        if row.type == "attempt_leased":
            leased[row.task_id, row.attempt] = row.at
        elif row.type in _DISPATCHED:
            dispatched_at = row.at
        elif row.type == "attempt_timed_out":
            until = leased[row.task_id, row.attempt] + data["limit"]
            yield Firing("attempt_timeout", row.job_id, until, row.at)
        elif _code(row) in _TIMEOUTS:
            yield Firing(_code(row).lower(), row.job_id, dispatched_at + data["limit"], row.at)
        if "retry_at" in details:
            waits[who] = details["retry_at"]


def _code(row: HistoryRow) -> str:
    """Of the error with which a task has ended."""
    error = (row.details or {}).get("error") if row.type == "task_finished" else None
    return str((error or {}).get("code"))


def allowed_seconds(firing: Firing, outages: Sequence[Outage], lease_seconds: float) -> float:
    """How late *firing* may be: a lease, and for an outage that it met this and another one."""
    allowed = lease_seconds + GRACE_SECONDS
    for outage in outages:
        over_at = outage.ended_at + lease_seconds
        if outage.begun_at < firing.at and over_at > firing.due_at:
            allowed += over_at - outage.begun_at
    return allowed


def lateness_faults(
    fired: Sequence[Firing], outages: Sequence[Outage], lease_seconds: float
) -> Iterator[str]:
    """Those that have fired too late, or too early."""
    for firing in fired:
        late, allowed = firing.late_seconds, allowed_seconds(firing, outages, lease_seconds)
        if late > allowed:
            yield (
                f"job {firing.job_id}: its {firing.kind} has fired {late:.2f} s late,"
                f" where {allowed:.2f} s are allowed"
            )
        elif late < -_SLACK_SECONDS:
            yield f"job {firing.job_id}: its {firing.kind} has fired {-late:.2f} s too early"
