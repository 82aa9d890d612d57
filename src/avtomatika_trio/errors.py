"""Every error this library raises on purpose.

    AvtomatikaError
    ├── ConfigError              settings are wrong; `problems` lists all of them
    ├── BlueprintError           a blueprint is wrong; found when it is registered
    ├── StateError               a state of a blueprint is wrong; found when a job is in it
    │   ├── ActionError          it chose no action, two, or one that cannot be carried out
    │   └── ArgumentMissing      it has a parameter that nothing can fill
    ├── InvalidMessage           a body or query is malformed; `problems` have paths
    ├── JobError
    │   ├── JobNotFound
    │   ├── IllegalTransition    this event cannot happen in this status
    │   ├── StaleRevision        someone else wrote first; read again and decide anew
    │   ├── JobFailed            it has not finished, and so has no result
    │   └── WaitTimedOut         it had not ended when a wait was over; also a `TimeoutError`
    ├── QuotaExceeded            a client has submitted as many jobs as it may
    ├── BlobError                a file of a job cannot be had or put; `uri` is which
    │   ├── BlobMissing          there is no such file, or no such bucket
    │   ├── BlobDenied           the server does not let us, whatever is tried again
    │   ├── BlobRefused          its URI or its name cannot be used
    │   ├── BlobMismatch         it is not what it was said to be: size, ETag, checksum
    │   ├── BlobChanged          somebody wrote to it while it was read
    │   ├── BlobUnavailable      the server could not be reached or failed, for too long
    │   └── DiskFault            the local disk is full, or fails
    ├── HandlerError
    │   ├── UnsafePath           a name leads out of the folder of the attempt
    │   ├── TransientError       raised by a task handler: try again
    │   ├── InvalidEvent         an event cannot be sent: its type, its payload or its schema
    │   ├── PermanentError       raised by a task handler: another try cannot end differently
    │   └── InvalidInput         raised by a task handler: the params are wrong
    ├── OrchestratorUnavailable  could not be reached, or is shutting down; retry
    ├── Refused                  an orchestrator answered, and said no
    │   ├── RateLimited          too many requests; `retry_after_seconds` says when again
    │   └── IdempotencyKeyReused the key belongs to another submission
    ├── SpoolError               the worker's spool cannot be used
    └── StorageUnavailable       the storage cannot be used now; retry

Catch `AvtomatikaError` to catch them all.  Each one carries what is needed to act
(ids, delays) as attributes, so that no caller ever parses a message.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import attrs


class AvtomatikaError(Exception):
    """The root of every deliberate error."""

    def __reduce__(self) -> Any:
        kind: type[Any] = type(self)
        if not attrs.has(kind):
            return super().__reduce__()
        # What exceptions do themselves would lose the names of arguments that need theirs.
        values = {it.name: getattr(self, it.name) for it in attrs.fields(kind)}
        return partial(kind, **values), ()


@attrs.frozen
class ConfigError(AvtomatikaError):
    """The settings are wrong; `problems` lists all of them, not just the first."""

    problems: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.problems)


@attrs.frozen
class BlueprintError(AvtomatikaError):
    """A blueprint is wrong; `problems` names the state and the line of each fault."""

    blueprint: str
    problems: tuple[str, ...]

    def __str__(self) -> str:
        listed = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"blueprint {self.blueprint!r} is not usable:\n{listed}"


@attrs.frozen
class StateError(AvtomatikaError):
    """A state of a blueprint is wrong; trying again cannot end differently, so the job fails."""

    state: str


@attrs.frozen
class ActionError(StateError):
    """The state's handler chose no action, two, or one that cannot be carried out."""

    message: str

    def __str__(self) -> str:
        return f"state {self.state!r}: {self.message}"


@attrs.frozen
class ArgumentMissing(StateError):
    """The state's handler has a parameter that nothing can fill, and that has no default."""

    parameter: str
    available: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"state {self.state!r}: nothing fills the parameter {self.parameter!r} of its handler; "
            f"give it a default, or use one of {', '.join(self.available)}"
        )


@attrs.frozen
class Problem:
    """One fault of a message: where it is and what is wrong there."""

    path: str
    """Where, as in `$.tasks[0].skill`; `$` is the whole body, `?limit` a query argument."""
    message: str


@attrs.frozen
class InvalidMessage(AvtomatikaError):
    """A body or query is malformed; every problem carries its path."""

    problems: tuple[Problem, ...]
    submitted: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """The jobs that the same call had submitted before, in order."""

    def __str__(self) -> str:
        listed = "; ".join(f"{problem.path}: {problem.message}" for problem in self.problems)
        return listed + _told(None, self.submitted)


class JobError(AvtomatikaError):
    """Something about one job."""


@attrs.frozen
class JobNotFound(JobError):
    """No such job, or not one that the asker may see."""

    job_id: str
    request_id: str | None = attrs.field(default=None, kw_only=True)
    """What the orchestrator's log calls the request; None = it was not asked."""

    def __str__(self) -> str:
        return f"there is no job {self.job_id!r}{_told(self.request_id)}"


@attrs.frozen
class IllegalTransition(JobError):
    """This event cannot happen in this status; nothing has changed."""

    subject: str
    status: str
    event: str

    def __str__(self) -> str:
        return f"{self.event} cannot happen to {self.subject}, which is {self.status}"


@attrs.frozen
class StaleRevision(JobError):
    """Someone else wrote first; read again and decide anew."""

    job_id: str
    expected: int
    found: int

    def __str__(self) -> str:
        return f"job {self.job_id!r} is at revision {self.found}, not {self.expected}"


@attrs.frozen
class JobFailed(JobError):
    """A job has not finished as it should, and so has no result; `status` says how it is."""

    job_id: str
    status: str
    code: str
    """Of its error; empty if it has none."""
    message: str
    state: str | None = attrs.field(default=None, kw_only=True)
    """Of the blueprint, in which it has failed."""
    details: Any = attrs.field(default=None, kw_only=True)
    """Of its error, as they were given."""

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        return f"job {self.job_id!r} is {self.status}: {self.message}{code}"


@attrs.frozen
class WaitTimedOut(JobError, TimeoutError):
    """A job had not ended when the time of a wait was over; it goes on, and may be waited for."""

    job_id: str
    timeout_seconds: float
    status: str | None
    """What it was last; None = the orchestrator was away."""

    def __str__(self) -> str:
        how = "nothing; the orchestrator is away" if self.status is None else self.status
        return f"job {self.job_id} is not final after {self.timeout_seconds:g} s: {how}"


@attrs.frozen
class QuotaExceeded(AvtomatikaError):
    """A client has submitted as many jobs as it may in this month."""

    used: int
    allowed: int

    def __str__(self) -> str:
        return f"{self.used} of the {self.allowed} jobs of this month are used"


@attrs.frozen
class BlobError(AvtomatikaError):
    """Something about one file that is kept beside jobs."""

    uri: str
    reason: str

    def __str__(self) -> str:
        return f"{self.uri}: {self.reason}"


class BlobMissing(BlobError):
    """There is no such file, or no such bucket."""


class BlobDenied(BlobError):
    """The server does not let us; trying again cannot end differently."""


class BlobRefused(BlobError):
    """Its URI or its name cannot be used."""


class BlobMismatch(BlobError):
    """It is not what it was said to be: its size, its ETag or its checksum differ."""


class BlobChanged(BlobError):
    """Somebody wrote to it while it was read; read it again."""


class BlobUnavailable(BlobError):
    """The server could not be reached or failed, for longer than we are patient."""


class DiskFault(BlobError):
    """The local disk is full, or fails."""


class HandlerError(AvtomatikaError):
    """Raised by the author of a task handler to say how the attempt failed.

    Args:
        message: What went wrong, for the job's history.
        details: JSON that helps to understand it; what is no dict becomes `{"details": ...}`.
    """

    code = "TRANSIENT_ERROR"

    def __init__(self, message: str = "", details: Any = None) -> None:
        super().__init__(message)
        self.message = message
        if details is None:
            details = {}
        # Told as it is: an error about it would hide this one, and what it means.
        self.details = dict(details) if isinstance(details, Mapping) else {"details": details}


class TransientError(HandlerError):
    """Try again: the next attempt may well succeed."""

    code = "TRANSIENT_ERROR"


class PermanentError(HandlerError):
    """Do not try again: another attempt cannot end differently."""

    code = "PERMANENT_ERROR"


class InvalidInput(HandlerError):
    """The params are wrong; whoever dispatched the task must change them."""

    code = "INVALID_INPUT_ERROR"


class InvalidEvent(HandlerError):
    """An event cannot be sent: its type or its payload is malformed, or breaks its schema.

    Let out of the handler it fails the attempt for good, as any breach of what the skill declares.
    """

    code = "CONTRACT_VIOLATION_ERROR"


class UnsafePath(HandlerError):
    """A name leads out of the folder of the attempt, and nothing was read or written there."""

    code = "SECURITY_ERROR"


def _told(request_id: str | None, submitted: tuple[str, ...] = ()) -> str:
    parts = [] if request_id is None else [f"request {request_id}"]
    if submitted:
        count = len(submitted)
        jobs = "1 job was" if count == 1 else f"{count} jobs were"
        parts.append(f"{jobs} submitted before")
    return f" ({'; '.join(parts)})" if parts else ""


@attrs.frozen
class OrchestratorUnavailable(AvtomatikaError):
    """It could not be reached, or is shutting down; retry."""

    url: str
    reason: str
    request_id: str | None = attrs.field(default=None, kw_only=True)
    """What the orchestrator's log calls the request, if it arrived; None = it was not sent."""
    submitted: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """The jobs that the same call had submitted before, in order."""

    def __str__(self) -> str:
        told = _told(self.request_id, self.submitted)
        return f"{self.url} is not available: {self.reason}{told}"


@attrs.frozen
class Refused(AvtomatikaError):
    """An orchestrator answered, and said no; sending the same again will not help."""

    url: str
    status: int
    detail: str
    request_id: str | None = attrs.field(default=None, kw_only=True)
    """What the orchestrator's log calls the request; None = it does not say."""
    submitted: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    """The jobs that the same call had submitted before, in order."""

    def __str__(self) -> str:
        told = _told(self.request_id, self.submitted)
        return f"{self.url} refused ({self.status}): {self.detail}{told}"


@attrs.frozen
class RateLimited(Refused):
    """Too many requests, or a quota is used up; the same will do later."""

    retry_after_seconds: float | None = None
    """After how long the orchestrator wants to be asked again; None = it does not say."""


class IdempotencyKeyReused(Refused):
    """The idempotency key belongs to another submission; nothing was submitted."""


@attrs.frozen
class SpoolError(AvtomatikaError):
    """The worker's spool cannot be used; the message says what to do."""

    folder: str
    reason: str

    def __str__(self) -> str:
        return f"the spool at {self.folder} cannot be used: {self.reason}"


@attrs.frozen
class StorageUnavailable(AvtomatikaError):
    """The storage cannot be used now; retry, or read the reason."""

    reason: str

    def __str__(self) -> str:
        return self.reason
