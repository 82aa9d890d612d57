"""The numbers that the operations go by."""

import attrs

from avtomatika_trio._core.retry import RetryPolicy


@attrs.frozen(kw_only=True)
class Rules:
    """How long leases last, and how patient an orchestrator is.

    Durations are in seconds.
    """

    lease_seconds: float = 30.0
    """Lease of our own workers, unless three of their heartbeat intervals are longer."""
    foreign_lease_seconds: float = 150.0
    """Workers without our extensions back off for up to 60 s after an error, and beat every
    15 s: this outlives both."""
    outage_seconds: float = 5.0
    """A storage that nobody served for this long had an outage: leases start afresh."""
    max_lost_attempts: int = 5
    """A task whose attempts were lost this often is quarantined: it kills its workers."""
    max_returns: int = 20
    """A task given back this often in a row is quarantined."""
    returns_before_backoff: int = 3
    """From this give-back in a row on, the task waits and other workers go first."""
    avoidance_seconds: float = 10.0
    """How long other workers go first."""
    blocked_loop_seconds: float = 600.0
    """A worker whose event loop stands still for this long is lost."""
    forget_seconds: float = 86_400.0
    """A worker process that is gone and holds nothing is forgotten so long after it was heard."""
    files_retention_seconds: float | None = None
    """So long after the end of a job its files are removed; None = they stay."""
    jobs_retention_seconds: float | None = None
    """So long after its end a job is forgotten; None = it stays."""
    strict_events: bool = True
    """Whether events of types that their skill has not declared are refused."""
    handler_retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    """For handlers of states that raise."""

    def lease_for(self, interval_seconds: float) -> float:
        """The lease of a worker of ours that beats every *interval_seconds*."""
        return max(self.lease_seconds, 3 * interval_seconds)
