"""What a client gets: records of what an orchestrator answers.

Each keeps the answer as it came in `raw`, also what a newer orchestrator says besides.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, TypeVar, cast, get_origin

import attrs

from avtomatika_trio._core.job import FINAL, JobStatus
from avtomatika_trio._models import Misfit
from avtomatika_trio._shapes import Unknown, shape_of
from avtomatika_trio.errors import InvalidMessage, JobFailed, Problem

Json = dict[str, Any]
T = TypeVar("T")

_raw: Any = attrs.field(repr=False, eq=False)


class Malformed(Exception):
    """An answer is not what it should be; the message says which member."""


@attrs.frozen(kw_only=True)
class JobFault:
    """Why a job has not finished."""

    code: str
    message: str
    state: str | None
    details: Any


@attrs.frozen(kw_only=True)
class Progress:
    """How far a running task of a job is."""

    task_id: str
    progress: float | None
    """From 0 to 1."""
    message: str | None
    at: datetime | None
    raw: Json = _raw

    @classmethod
    def read(cls, raw: Json) -> Self:
        """From an answer."""
        return cls(
            task_id=str(_of(raw, "task_id")),
            progress=raw.get("progress"),
            message=raw.get("message"),
            at=_moment(raw, "at"),
            raw=raw,
        )


@attrs.frozen(kw_only=True)
class Job:
    """A job, as it was when it was asked for."""

    id: str
    blueprint_name: str
    status: str
    """See the page of statuses; a newer orchestrator may have others."""
    state: str | None
    revision: int
    """Grows by one with each change."""
    transitions: int
    labels: Mapping[str, str]
    client: str | None
    error: JobFault | None
    progress: tuple[Progress, ...]
    """Of its running tasks; empty in lists."""
    result: Any
    """Only once it has ended; None in lists."""
    created_at: datetime
    updated_at: datetime
    raw: Json = _raw

    @property
    def is_final(self) -> bool:
        """Whether it has ended, however."""
        return self.status in FINAL

    @property
    def succeeded(self) -> bool:
        """Whether it has ended as it should."""
        return self.status == JobStatus.FINISHED

    def result_or_raise(self) -> Any:
        """Its result, if it has succeeded.

        Raises:
            JobFailed: it has ended otherwise, or not yet.
        """
        if self.succeeded:
            return self.result
        if (error := self.error) is not None:
            told = (error.code, error.message)
            raise JobFailed(self.id, self.status, *told, state=error.state, details=error.details)
        why = "it has ended without an error" if self.is_final else "it has not ended yet"
        raise JobFailed(self.id, self.status, "", why)

    def result_as(self, kind: type[T]) -> T:
        """Its result as a *kind*, if it has succeeded.

        Args:
            kind: A dataclass, an attrs class, a `msgspec.Struct`, a `TypedDict`, a pydantic
                model, or a type such as `list[int]`.

        Raises:
            JobFailed: it has ended otherwise, or not yet.
            InvalidMessage: the result does not fit; every problem has its path.
            TypeError: *kind* is no type that JSON can be made into.
        """
        raw = self.result_or_raise()
        try:
            shape = shape_of(kind)
        except Unknown as exc:
            raise TypeError(f"a result cannot be a {kind!r}: {exc}") from exc
        if shape is None:  # a dict or anything, of which no more is said
            plain = get_origin(kind) or kind
            if plain is not Any and isinstance(plain, type) and not isinstance(raw, plain):
                fault = f"Expected `{plain.__name__}`, got `{type(raw).__name__}`"
                raise InvalidMessage((Problem("$.result", fault),))
            return cast("T", raw)
        try:
            return cast("T", shape.build(raw))
        except Misfit as exc:
            told = tuple(attrs.evolve(it, path=f"$.result{it.path[1:]}") for it in exc.problems)
            raise InvalidMessage(told) from exc

    @classmethod
    def read(cls, raw: Json) -> Self:
        """From an answer."""
        said = raw.get("error")
        return cls(
            id=str(_of(raw, "id")),
            blueprint_name=str(_of(raw, "blueprint_name")),
            status=str(_of(raw, "status")),
            state=raw.get("state"),
            revision=int(_of(raw, "revision")),
            transitions=int(raw.get("transitions", 0)),
            labels=raw.get("labels") or {},
            client=raw.get("client"),
            error=None if said is None else _error(said),
            progress=tuple(map(Progress.read, raw.get("progress") or ())),
            result=raw.get("result"),
            created_at=_known_moment(raw, "created_at"),
            updated_at=_known_moment(raw, "updated_at"),
            raw=raw,
        )


@attrs.frozen(kw_only=True)
class HistoryEvent:
    """One line of a job's history."""

    event_id: int
    """Grows with each event of the job."""
    event_type: str
    timestamp: datetime
    revision: int | None
    state: str | None
    next_state: str | None
    task_id: str | None
    attempt: int | None
    worker_id: str | None
    details: Any
    raw: Json = _raw

    @classmethod
    def read(cls, raw: Json) -> Self:
        """From an answer."""
        return cls(
            event_id=int(_of(raw, "event_id")),
            event_type=str(_of(raw, "event_type")),
            timestamp=_known_moment(raw, "timestamp"),
            revision=raw.get("revision"),
            state=raw.get("state"),
            next_state=raw.get("next_state"),
            task_id=raw.get("task_id"),
            attempt=raw.get("attempt"),
            worker_id=raw.get("worker_id"),
            details=raw.get("details"),
            raw=raw,
        )


@attrs.frozen(kw_only=True)
class AttemptInfo:
    """One try at a task."""

    number: int
    status: str
    worker_id: str | None
    leased_at: datetime | None
    ended_at: datetime | None
    raw: Json = _raw

    @classmethod
    def read(cls, raw: Json) -> Self:
        """From an answer."""
        return cls(
            number=int(_of(raw, "number")),
            status=str(_of(raw, "status")),
            worker_id=raw.get("worker_id"),
            leased_at=_moment(raw, "leased_at"),
            ended_at=_moment(raw, "ended_at"),
            raw=raw,
        )


@attrs.frozen(kw_only=True)
class TaskInfo:
    """A task of a job, with its attempts in order."""

    id: str
    state: str | None
    skill: str
    status: str
    branch: Any
    key: str | None
    priority: float
    failures: int
    lost: int
    result_status: str | None
    error: Any
    created_at: datetime | None
    attempts: tuple[AttemptInfo, ...]
    raw: Json = _raw

    @classmethod
    def read(cls, raw: Json) -> Self:
        """From an answer."""
        return cls(
            id=str(_of(raw, "id")),
            state=raw.get("state"),
            skill=str(_of(raw, "skill")),
            status=str(_of(raw, "status")),
            branch=raw.get("branch"),
            key=raw.get("key"),
            priority=raw.get("priority", 0),
            failures=raw.get("failures", 0),
            lost=raw.get("lost", 0),
            result_status=raw.get("result_status"),
            error=raw.get("error"),
            created_at=_moment(raw, "created_at"),
            attempts=tuple(map(AttemptInfo.read, raw.get("attempts") or ())),
            raw=raw,
        )


@attrs.frozen(kw_only=True)
class InstanceInfo:
    """One process of a worker."""

    instance: str
    status: str | None
    skills: tuple[str, ...]
    slots: int | None
    """How many tasks it runs at the same time; None = it has not said."""
    leases: int
    """How many attempts it has."""
    gone: bool
    usage: Any
    """How busy its machine is, as it has told that orchestrator: `cpu_load_percent`,
    `ram_used_gb`, ...; None = that is not known."""
    registered_at: datetime | None
    seen_at: datetime | None
    raw: Json = _raw

    @classmethod
    def read(cls, raw: Json) -> Self:
        """From an answer."""
        return cls(
            instance=str(_of(raw, "instance")),
            status=raw.get("status"),
            skills=tuple(raw.get("skills") or ()),
            slots=raw.get("slots"),
            leases=raw.get("leases", 0),
            gone=bool(raw.get("gone", False)),
            usage=raw.get("usage"),
            registered_at=_moment(raw, "registered_at"),
            seen_at=_moment(raw, "seen_at"),
            raw=raw,
        )


@attrs.frozen(kw_only=True)
class WorkerInfo:
    """A worker, with its processes, the latest seen first."""

    worker_id: str
    instances: tuple[InstanceInfo, ...]
    raw: Json = _raw

    @classmethod
    def read(cls, raw: Json) -> Self:
        """From an answer."""
        instances = tuple(map(InstanceInfo.read, raw.get("instances") or ()))
        return cls(worker_id=str(_of(raw, "worker_id")), instances=instances, raw=raw)


@attrs.frozen(kw_only=True)
class BlueprintInfo:
    """A blueprint that an orchestrator serves."""

    name: str
    endpoints: tuple[str, ...]
    """To which paths its jobs are posted."""
    states: int
    """How many it has."""
    raw: Json = _raw

    @classmethod
    def read(cls, raw: Json) -> Self:
        """From an answer."""
        endpoints = tuple(raw.get("endpoints") or ())
        return cls(
            name=str(_of(raw, "name")), endpoints=endpoints, states=raw.get("states", 0), raw=raw
        )


def _error(raw: Json) -> JobFault:
    return JobFault(
        code=str(_of(raw, "code")),
        message=str(raw.get("message", "")),
        state=raw.get("state"),
        details=raw.get("details"),
    )


def _of(raw: Any, member: str) -> Any:
    if not isinstance(raw, dict):
        raise Malformed("the answer has something else than an object where one should be")
    try:
        return raw[member]
    except KeyError:
        raise Malformed(f"the answer lacks the member {member!r}") from None


def _moment(raw: Json, member: str) -> datetime | None:
    return None if raw.get(member) is None else _known_moment(raw, member)


def _known_moment(raw: Json, member: str) -> datetime:
    said = _of(raw, member)
    try:
        found = datetime.fromisoformat(said)
    except (TypeError, ValueError):
        found = None
    if found is None or found.tzinfo is None:
        raise Malformed(f"the answer's member {member!r} is not a time with its zone")
    return found
