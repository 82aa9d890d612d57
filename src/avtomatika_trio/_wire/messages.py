"""What is said over HTTP: one class for each message that is read.

Names, paths and headers are RXON's, the protocol that workers of the original system
speak.  Members marked *extension* are ours: they are optional, and a worker uses them only
where the answer to its registration announced them.  Unknown members of worker messages
are ignored, as RXON asks; clients' unknown members are refused, since they are mistakes.
"""

from typing import Annotated, Any

import attrs
from msgspec import Meta

#: Sent as `X-RXON-Version` by both sides; a difference is only noted.
RXON_VERSION = "1.0b17"

TOKEN_HEADER = "X-Worker-Token"  # noqa: S105 - the name of a header
WORKER_ID_HEADER = "X-Worker-ID"
VERSION_HEADER = "X-RXON-Version"
CLIENT_TOKEN_HEADER = "X-Client-Token"  # noqa: S105 - the name of a header
IDEMPOTENCY_SECONDS_HEADER = "Idempotency-Key-Seconds"

#: What an orchestrator of ours announces at registration.
#:
#: * `batch`: `max_tasks` on polls and on results, lists of results
#: * `instances`: heartbeats reconcile by instance, poll numbers and `current_tasks`
#: * `return`: `POST /_worker/tasks/return`
#: * `room`: `room=a~b:2,c:1` on polls and on results: of these skills no more than that
#: * `sweep`: `timeout=0` asks without waiting
#: * `events`: lists of events with numbers, and `events` on results
#: * `any_data`: `data` of a result may be any JSON value
EXTENSIONS = ("any_data", "batch", "events", "instances", "return", "room", "sweep")

#: The most results in one post, and tasks in one answer.
MOST_PER_REQUEST = 1000

#: The most events in one post; each is held against a schema.
MOST_EVENTS_PER_REQUEST = 100


#: Names of workers and skills; RXON has no dot, blueprints of ours may.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
#: Ids that others made up: of instances, tasks, jobs.
Id = Annotated[str, Meta(min_length=1, max_length=200)]
#: Likewise, where foreign workers may write an empty one for none.
_PerhapsId = Annotated[str, Meta(max_length=200)]
#: Numbers of polls and heartbeats: what JSON can carry exactly everywhere (2**53).
Number = Annotated[int, Meta(ge=0, le=9_007_199_254_740_992)]
#: Likewise, of what is counted from 1.
Ordinal = Annotated[int, Meta(ge=1, le=9_007_199_254_740_992)]


@attrs.frozen(kw_only=True)
class SkillInfo:
    """One skill as a worker announces it."""

    name: Name
    type: str | None = None
    description: str | None = None
    version: str | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    events_schema: dict[str, Any] | None = None
    output_statuses: list[str] | None = None


@attrs.frozen(kw_only=True)
class Registration:
    """`POST /_worker/workers/register`."""

    worker_id: Name
    worker_type: str = "generic"
    supported_skills: list[SkillInfo] = attrs.field(factory=list)
    resources: dict[str, Any] = attrs.field(factory=dict)
    installed_software: dict[str, Any] = attrs.field(factory=dict)
    installed_artifacts: list[Any] = attrs.field(factory=list)
    capabilities: dict[str, Any] = attrs.field(factory=dict)
    metadata: dict[str, Any] = attrs.field(factory=dict)
    instance: Id | None = None
    """Extension: a random id of this run of the process; without it the worker is foreign."""
    heartbeat_seconds: Annotated[float, Meta(ge=0.1, le=3600)] | None = None
    """Extension: how often it means to beat."""
    slots: Annotated[int, Meta(ge=1)] | None = None
    """Extension: how many tasks it runs at the same time; for people."""


@attrs.frozen(kw_only=True)
class Heartbeat:
    """`PATCH /_worker/workers/{id}`; an empty body only renews."""

    status: str = "idle"
    """`idle`, `busy`, `full`, `offline`."""
    current_tasks: list[str] | None = None
    supported_skills: list[SkillInfo] | None = None
    hot_skills: Annotated[list[Name], Meta(max_length=1000)] | None = None
    """Those whose models are loaded; None = says nothing of them, empty = none is."""
    usage: Any = None
    """How busy the machine is: `cpu_load_percent`, `ram_used_gb`; None = as it was."""
    instance: Id | None = None
    beat: Number = 0
    """Extension: number of this heartbeat of the instance, from 1."""
    last_poll: Number = 0
    """Extension: the newest request that could carry tasks, answered or not."""
    open_polls: Annotated[list[Number], Meta(max_length=1000)] = attrs.field(factory=list)
    """Extension: those that are still waited for; each lease may be looked up in them."""
    replaces: list[Id] = attrs.field(factory=list)
    """Extension: earlier instances found in the spool, which are dead."""
    loop_blocked_seconds: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Extension: for how long the event loop has not turned."""
    leaving: bool = False
    """Extension: this is the last heartbeat."""


@attrs.frozen(kw_only=True)
class ResultError:
    """Why a task failed."""

    code: str
    message: str = ""
    details: dict[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class CarriedEvent:
    """An event that comes with the result of its attempt (extension); as in `WorkerEvent`."""

    event_id: Id
    event_type: str
    payload: dict[str, Any]
    number: Ordinal


@attrs.frozen(kw_only=True)
class Result:
    """`POST /_worker/tasks/result`: one, or a list of them (extension)."""

    job_id: Id
    task_id: Id
    worker_id: str | None = None
    status: Annotated[str, Meta(min_length=1, max_length=128)] = "success"
    data: Any = None
    error: ResultError | str | None = None
    """A plain text counts as `TRANSIENT_ERROR`."""
    data_metadata: Any = None
    """What is known of files in the data, by their places; what is malformed is not kept."""
    trace_context: Any = None
    """Extension: `traceparent` and `tracestate` of the attempt; what is malformed is ignored."""
    events: Annotated[list[CarriedEvent], Meta(max_length=1000)] = attrs.field(factory=list)
    """Extension: the newest events of the attempt, in order, if they were not posted before."""
    events_lost: Number = 0
    """Extension: how many more there were."""


@attrs.frozen(kw_only=True)
class Return:
    """`POST /_worker/tasks/return` (extension): attempts that will not be done here."""

    task_ids: list[str]
    unstarted: list[str] = attrs.field(factory=list)
    """Those of them whose handler had not begun."""


@attrs.frozen(kw_only=True)
class WorkerEvent:
    """`POST /_worker/events`: one, or a list of them (extension)."""

    event_id: Id
    worker_id: str
    origin_worker_id: str
    event_type: str
    payload: dict[str, Any]
    target_job_id: _PerhapsId | None = None
    target_task_id: _PerhapsId | None = None
    origin_task_id: _PerhapsId | None = None
    trace_context: Any = None
    """`traceparent` and `tracestate` of the attempt."""
    number: Ordinal | None = None
    """Extension: its place among the events of the attempt; progress has none."""


@attrs.frozen(kw_only=True)
class EventAnswer:
    """What became of an event, as a worker reads it."""

    status: str = "event_accepted"
    """`event_accepted`, `ignored` or `error`."""
    reason: str | None = None
    code: str | None = None
    message: str | None = None


@attrs.frozen(kw_only=True)
class EventsAnswer:
    """The answer to a list of events: theirs in order."""

    results: list[EventAnswer]


#: The name of a label, and what a job may have under it.
LABEL_NAME = r"^[A-Za-z0-9_.-]{1,64}$"
LabelName = Annotated[str, Meta(pattern=LABEL_NAME)]
LabelValue = Annotated[str, Meta(max_length=256)]
Labels = Annotated[dict[LabelName, LabelValue], Meta(max_length=20)]


@attrs.frozen(kw_only=True)
class Submission:
    """One job as a client asks for it: `POST /api/v1{endpoint}`, or a list of them."""

    initial_data: dict[str, Any] = attrs.field(factory=dict)
    labels: Labels = attrs.field(factory=dict)
    max_transitions: Annotated[int, Meta(extra_json_schema={"minimum": 1})] | None = None
    """After how many states it fails; at most `MAX_TRANSITIONS_PER_JOB`, which is the default."""


#: The most jobs in one submission.
MOST_JOBS_PER_SUBMISSION = 1000


@attrs.frozen(kw_only=True)
class Registered:
    """The answer to a registration, as a worker reads it; foreign servers say less."""

    status: str = "registered"
    version: str | None = None
    extensions: list[str] = attrs.field(factory=list)
    cluster_id: str | None = None
    """Orchestrators with the same one share a storage."""
    lease_seconds: float | None = None
    heartbeat_seconds: float | None = None
    """How often to beat."""
    signing: str | None = None
    """Whether messages must be signed: `required`, `optional` or `off`."""
    warning: str | None = None


@attrs.frozen(kw_only=True)
class Beaten:
    """The answer to a heartbeat, as a worker reads it."""

    status: str = "ok"
    cancel_task_ids: list[str] = attrs.field(factory=list)
    replaced: list[str] = attrs.field(factory=list)
    """Extension: these need not be announced in `replaces` again."""


@attrs.frozen(kw_only=True)
class TaskPayload:
    """A task as a worker gets it."""

    job_id: str
    task_id: str
    """The attempt's id on the wire."""
    type: str
    params: Any = attrs.field(factory=dict)
    params_metadata: dict[str, Any] = attrs.field(factory=dict)
    """What is known of files in the params: `uri`, `size`, `etag`, `sha256`, by their places."""
    priority: float = 0.0
    tracing_context: dict[str, str] = attrs.field(factory=dict)
    attempt: int = 1
    """Extension."""
    idempotency_key: str | None = None
    """Extension: the task's stable id."""
    lease_seconds: float | None = None
    """Extension."""


@attrs.frozen(kw_only=True)
class Tasks:
    """The answer to a poll with `max_tasks`."""

    tasks: list[TaskPayload] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class ResultAnswer:
    """What became of a result."""

    status: str = "accepted"
    """`accepted` or `ignored`."""
    reason: str | None = None
    transition: str | None = None
    message: str | None = None


@attrs.frozen(kw_only=True)
class ResultsAnswer:
    """The answer to a list of results: theirs in order, and the next tasks if asked for."""

    results: list[ResultAnswer]
    tasks: list[TaskPayload] = attrs.field(factory=list)
