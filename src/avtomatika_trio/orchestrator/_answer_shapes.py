"""What clients are answered: the members of each JSON object, with their types.

mypy holds what `_answers` and the routes build against these, and `_openapi` makes the schemas
of `/openapi.json` of them, so that code and document cannot differ.  The text under a member is
its description there.
"""

from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from avtomatika_trio._core.access import Difference, Role
from avtomatika_trio._core.job import JobFault, JobStatus
from avtomatika_trio._core.ledger import InstanceKind
from avtomatika_trio._core.task import AttemptStatus, TaskFault, TaskStatus

Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""A time in RFC 3339, in UTC."""

# Errors.


class ProblemEntry(TypedDict):
    """One fault of a request."""

    path: str
    """Where, as in `$.labels.shop` for a body and `?limit` for the query."""
    message: str


class ProblemBody(TypedDict):
    """An answer that is an error (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    """Stable, for programs."""
    detail: str
    error: str
    """The same as `detail`."""
    errors: list[ProblemEntry]
    request_id: NotRequired[str]
    """As in `X-Request-ID`."""


# For everybody.


class Alive(TypedDict):
    """It is well."""

    status: str


class Version(TypedDict):
    """What is running."""

    version: str
    rxon_version: str
    """Of the protocol of workers."""


# Jobs.


class Accepted(TypedDict):
    """A job that was submitted."""

    job_id: str
    status: str


class AcceptedJobs(TypedDict):
    """Jobs that were submitted together, in the order in which they came."""

    jobs: list[Accepted]


class JobSummary(TypedDict):
    """A job as it stands in a list."""

    id: str
    job_id: str
    """The same as `id`."""
    blueprint_name: str
    labels: dict[str, str]
    status: JobStatus
    state: str
    """The state of the blueprint that it is in."""
    revision: int
    """Grows by one with each change of the job."""
    transitions: int
    """How many states it has entered since the start."""
    error: JobFault | None
    created_at: Moment
    updated_at: Moment
    client: str
    """Who submitted it."""


class ProgressShown(TypedDict):
    """What a running task last said of itself."""

    task_id: str
    progress: Annotated[float, Meta(ge=0, le=1)] | None
    """From 0 to 1."""
    message: str
    at: Moment


class JobDetails(JobSummary):
    """One job."""

    tracing_context: dict[str, str]
    """`traceparent` and `tracestate` that it was submitted with."""
    progress: list[ProgressShown]
    result: NotRequired[Any]
    """Only once the job has ended."""


class JobPage(TypedDict):
    """Jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None
    """Of the next page; null: there is none."""


class HistoryEvent(TypedDict):
    """One thing that happened to a job."""

    event_id: int
    event_type: str
    timestamp: Moment
    revision: int
    state: str | None
    next_state: str | None
    task_id: str | None
    attempt: int | None
    worker_id: str | None
    details: dict[str, Any] | None


class AttemptShown(TypedDict):
    """One try at a task."""

    number: int
    status: AttemptStatus
    worker_id: str
    leased_at: Moment
    ended_at: Moment | None


class TaskShown(TypedDict):
    """A task of a job, with its attempts in order."""

    id: str
    state: str
    """The state that dispatched it."""
    skill: str
    branch: int | None
    key: str | None
    status: TaskStatus
    priority: float
    failures: int
    lost: int
    result_status: str | None
    error: TaskFault | None
    created_at: Moment
    attempts: list[AttemptShown]


class TaskList(TypedDict):
    """The tasks of a job."""

    tasks: list[TaskShown]


class Cancelled(TypedDict):
    """A job that was cancelled."""

    status: str
    job: JobDetails


# Files.


class FileShown(TypedDict):
    """A file of a job."""

    name: str
    size: int
    etag: str
    modified_at: Moment
    uri: str


class FileList(TypedDict):
    """The files of a job, by name."""

    files: list[FileShown]


class UploadUrl(TypedDict):
    """Where to put a file."""

    url: str
    method: str
    expires_in: int
    """Seconds."""
    uri: str
    """What the file is called in params of tasks."""


class Uploaded(TypedDict):
    """A file that was put."""

    status: str
    s3_uri: str
    """The same as `uri`."""
    uri: str
    size: int
    etag: str
    sha256: str | None


# Blueprints and workers.


class BlueprintShown(TypedDict):
    """A blueprint that is served here."""

    name: str
    endpoints: list[str]
    states: int


class BlueprintList(TypedDict):
    """The blueprints that are served here."""

    blueprints: list[BlueprintShown]


class InstanceShown(TypedDict):
    """One run of a worker process."""

    instance: str
    kind: InstanceKind
    status: str
    worker_type: str
    skills: list[str]
    announced: list[dict[str, Any]]
    """What it said of its skills: descriptions, versions, schemas."""
    hot_skills: list[str]
    slots: Any
    resources: Any
    installed_software: Any
    installed_artifacts: Any
    capabilities: Any
    usage: Any
    """How busy its machine is, as it has told this orchestrator last; null = not known."""
    registered_at: Moment
    seen_at: Moment
    leases: int
    gone: bool
    blocked: bool
    replaced_by: str | None


class WorkerShown(TypedDict):
    """A worker, with its processes, latest seen first."""

    worker_id: str
    instances: list[InstanceShown]


class WorkerList(TypedDict):
    """Workers by id."""

    workers: list[WorkerShown]


# For admins.


class Reloaded(TypedDict):
    """What a reload has changed."""

    status: str
    generation: int
    workers: Difference
    clients: Difference


class WorkerSection(TypedDict):
    """A section of `workers.toml`."""

    name: str
    tokens: int
    """How many it has."""
    expires_at: Moment | None
    skills: tuple[str, ...] | None
    """What it may be given; null = anything."""
    description: str


class ClientSection(TypedDict):
    """A section of `clients.toml`."""

    name: str
    tokens: int
    """How many it has."""
    expires_at: Moment | None
    plan: str | None
    monthly_attempts: int | None
    """How many jobs it may submit in a calendar month; null = any number."""
    roles: tuple[Role, ...]
    params: dict[str, Any]
    description: str


class Credentials(TypedDict):
    """Who may talk, without anything that lets one in."""

    generation: int
    workers: list[WorkerSection]
    clients: list[ClientSection]


AuditEntry = TypedDict(
    "AuditEntry",
    {
        "number": int,
        "at": Moment,
        "who": str,
        "action": str,
        "from": str,
        "details": dict[str, Any],
    },
)
"""Something that was changed by an administrative call."""


class AuditPage(TypedDict):
    """What was changed by whom, in order."""

    audit: list[AuditEntry]


# For workers, where the classes of `_wire.messages` do not say it.


class Issued(TypedDict):
    """A short-lived token, and what renews it once."""

    access_token: str
    refresh_token: str
    expires_in: int
    """Seconds."""
    worker_id: str


class Returned(TypedDict):
    """What was taken back."""

    status: str
    count: int
