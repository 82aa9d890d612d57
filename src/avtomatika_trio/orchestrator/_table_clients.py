"""The routes of clients; their paths are below `/api/v1`, `/api` and versions of blueprints."""

from typing import Annotated, Any

import attrs
from msgspec import Meta

from avtomatika_trio._core.access import Role
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._core.files import LONGEST_URL_SECONDS
from avtomatika_trio._core.graph import Graph
from avtomatika_trio._wire.messages import MOST_JOBS_PER_SUBMISSION, Submission
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._registry import endpoints_of
from avtomatika_trio.orchestrator._route import Answered, Body, Caller, Parameter, Route

#: How long a client may wait for a change; proxies commonly cut at 60 s (nginx's default).
MOST_WAIT_SECONDS = 60.0

MOST_PER_PAGE = 1000
MOST_REASON_CHARACTERS = 1000

_JOBS = "Jobs"
_FILES = "Files of jobs"
_SERVED = "Blueprints and workers"
_ADMIN = "For admins"

_Whole = Annotated[int, Meta(ge=0)]
_Positive = Annotated[int, Meta(ge=1)]
_Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


@attrs.frozen(kw_only=True)
class Cancellation:
    """Why a job is cancelled."""

    reason: Annotated[str, Meta(extra_json_schema={"maxLength": MOST_REASON_CHARACTERS})] = (
        "cancelled by the client"
    )


#: What a path without a name cannot be answered with.
_OF_NAMES = ("no_such_route", "blueprint_not_found")


def _client(id_: str, method: str, path: str, role: Role, **more: Any) -> Route:
    return Route(id=id_, method=method, path=path, caller=Caller.CLIENT, role=role, **more)


_JOB_ID = Parameter(name="job_id", where="path", text="The id of a job.", example="JOB_ID")
_BLUEPRINT = Parameter(
    name="name", where="path", text="The name of a blueprint.", example="BLUEPRINT"
)
_FILE = Parameter(
    name="name",
    where="path",
    text="The name of the file; it may have folders, as in `frames/0001.png`.",
    example="frames/0001.png",
    has_slashes=True,
)
_FIELDS = Parameter(
    name="fields", text="Only these members, with commas; `id` is always there.", example="status"
)
_LIMIT = Parameter(
    name="limit",
    kind=_Positive,
    text=f"At most so many; more than {MOST_PER_PAGE} count as that.",
)
_AFTER_EVENT = Parameter(name="after", kind=_Whole, text="Only events with an `event_id` above it.")
_NEXT = {"Link": "The next page, with `rel=next`; there is none without it."}

SUBMIT = _client(
    *("submit", "POST", "/jobs/{name}", Role.SUBMITTER),
    group=_JOBS,
    summary="Submit one job of a blueprint, or several",
    text=(
        f"A list of up to {MOST_JOBS_PER_SUBMISSION} is accepted as a whole or not at all."
        " An empty body counts as `{}`."
    ),
    parameters=(
        _BLUEPRINT,
        Parameter(
            name="Idempotency-Key",
            where="header",
            kind=Annotated[str, Meta(pattern="^[ -~]{1,255}$")],
            text=(
                "A submission with a key may be sent again for 24 hours without making second"
                " jobs; draw a fresh one for each, such as a UUID."
            ),
        ),
        Parameter(name="traceparent", where="header", text="W3C Trace Context; kept with the job."),
        Parameter(name="tracestate", where="header", text="W3C Trace Context; kept with the job."),
    ),
    body=Body(
        kind=(Submission, list[Submission]),
        example={"initial_data": {"path": "/films/one.mp4"}, "labels": {"shop": "north"}},
    ),
    answers=(
        Answered(
            status=202,
            text="The jobs are stored.",
            kind=(shapes.Accepted, shapes.AcceptedJobs),
            headers={
                "Location": "Where the job is, if it is one.",
                "Idempotent-Replayed": "`true`: this was answered before, and nothing is new.",
            },
        ),
    ),
    problems=(
        *("no_such_route", "blueprint_not_found", "quota_exceeded"),
        *("idempotency_key_in_use", "idempotency_key_reused"),
    ),
)

EVENTS = _client(
    *("job_events", "GET", "/jobs/{job_id}/events", Role.VIEWER),
    group=_JOBS,
    summary="What happens to a job, as it happens",
    text=(
        "Server-sent events: those of the history, `progress` of running tasks, and at last"
        " `end` with the job."
    ),
    parameters=(
        _JOB_ID,
        _AFTER_EVENT,
        Parameter(
            name="Last-Event-ID",
            where="header",
            kind=_Whole,
            text="As `after`, and counts more.",
        ),
    ),
    answers=(Answered(text="It ends with the job.", content="text/event-stream"),),
    problems=("no_such_route", "job_not_found"),
)

_JOB_ROUTES = (
    SUBMIT,
    _client(
        *("list_jobs", "GET", "/jobs", Role.VIEWER),
        group=_JOBS,
        summary="List jobs, newest first",
        text="Without results. Arguments that are not listed here are refused.",
        parameters=(
            Parameter(name="status", text="One or several, with commas.", example="running"),
            Parameter(name="blueprint", text="Of this blueprint."),
            Parameter(
                name="label.NAME",
                text=(
                    "Only jobs whose label `NAME`, which stands for any name, has this value;"
                    " of several, those that have all."
                ),
            ),
            Parameter(
                name="created_after",
                kind=_Moment,
                text="Only jobs created then or later.",
                example="2026-01-31T12:00:00Z",
            ),
            Parameter(
                name="created_before",
                kind=_Moment,
                text="Only jobs created earlier.",
                example="2026-02-01T12:00:00Z",
            ),
            Parameter(
                name="client",
                text="For operators: the jobs of this client, `*` for everybody's.",
            ),
            Parameter(name="cursor", text="`next_cursor` of the page before."),
            _LIMIT,
            _FIELDS,
        ),
        answers=(Answered(text="A page of jobs.", kind=shapes.JobPage, headers=_NEXT),),
    ),
    _client(
        *("get_job", "GET", "/jobs/{job_id}", Role.VIEWER),
        group=_JOBS,
        summary="Look at a job, or wait for news of it",
        parameters=(
            _JOB_ID,
            Parameter(
                name="wait",
                kind=Annotated[float, Meta(ge=0)],
                text=(
                    "Answer when there is news, after so many seconds at the latest; more than"
                    f" {MOST_WAIT_SECONDS:g} count as that."
                ),
            ),
            Parameter(
                name="after",
                kind=_Whole,
                text="News is a revision above this one; without it, the end of the job.",
            ),
            _FIELDS,
            Parameter(
                name="If-None-Match",
                where="header",
                text="An `ETag`: if nothing has changed since, the answer is 304.",
            ),
        ),
        answers=(
            Answered(
                text="The job as it stands.",
                kind=shapes.JobDetails,
                headers={"ETag": "Changes with the job and its progress."},
            ),
            Answered(status=304, text="Nothing has changed.", content=None),
        ),
        problems=("no_such_route", "job_not_found"),
    ),
    _client(
        *("job_history", "GET", "/jobs/{job_id}/history", Role.VIEWER),
        group=_JOBS,
        summary="What happened to a job, oldest first",
        parameters=(_JOB_ID, _AFTER_EVENT, _LIMIT),
        answers=(
            Answered(text="A page of events.", kind=list[shapes.HistoryEvent], headers=_NEXT),
        ),
        problems=("no_such_route", "job_not_found"),
    ),
    EVENTS,
    _client(
        *("job_tasks", "GET", "/jobs/{job_id}/tasks", Role.VIEWER),
        group=_JOBS,
        summary="The tasks of a job, with their attempts",
        parameters=(_JOB_ID,),
        answers=(Answered(text="All of them.", kind=shapes.TaskList),),
        problems=("no_such_route", "job_not_found"),
    ),
    _client(
        *("cancel_job", "POST", "/jobs/{job_id}/cancel", Role.SUBMITTER),
        group=_JOBS,
        summary="Cancel a job",
        text=(
            "Queued tasks are cancelled at once, a running attempt when its worker next sends a"
            " heartbeat. The body may be empty."
        ),
        parameters=(_JOB_ID,),
        body=Body(kind=Cancellation, example={"reason": "not wanted any more"}),
        answers=(Answered(text="The job has ended.", kind=shapes.Cancelled),),
        problems=("no_such_route", "job_not_found", "job_is_final"),
    ),
)

_OF_FILES = (
    *("no_such_route", "job_not_found", "files_off", "files_refused", "files_unavailable"),
    "disk_full",
)

PUT_FILE = _client(
    *("put_file", "PUT", "/jobs/{job_id}/files/content/{name}", Role.SUBMITTER),
    group=_FILES,
    summary="Keep the body as a file of a job",
    parameters=(_JOB_ID, _FILE),
    body=Body(content="application/octet-stream"),
    answers=(Answered(text="It is kept.", kind=shapes.Uploaded),),
    problems=(*_OF_FILES, "job_is_final", "file_too_large"),
)

GET_FILE = _client(
    *("get_file", "GET", "/jobs/{job_id}/files/download/{name}", Role.VIEWER),
    group=_FILES,
    summary="Get a file of a job",
    parameters=(_JOB_ID, _FILE),
    answers=(
        Answered(
            text="The file.",
            content="application/octet-stream",
            headers={"Content-Disposition": "The name of the file."},
        ),
        Answered(
            status=302,
            text="It is on S3.",
            content=None,
            headers={"Location": "A URL that needs no token, for a minute."},
        ),
    ),
    problems=(*_OF_FILES, "file_not_found"),
)

_FILE_ROUTES = (
    _client(
        *("list_files", "GET", "/jobs/{job_id}/files", Role.VIEWER),
        group=_FILES,
        summary="The files of a job, by name",
        parameters=(
            _JOB_ID,
            Parameter(name="prefix", text="Only names that begin with it.", example="frames/"),
        ),
        answers=(Answered(text="All of them.", kind=shapes.FileList),),
        problems=_OF_FILES,
    ),
    _client(
        *("upload_url", "GET", "/jobs/{job_id}/files/upload", Role.SUBMITTER),
        group=_FILES,
        summary="Where to put a file",
        text="With S3 the URL needs no token, and the file does not pass through here.",
        parameters=(
            _JOB_ID,
            Parameter(
                name="filename",
                text="The name; it may have folders.",
                is_required=True,
                example="frames/0001.png",
            ),
            Parameter(
                name="expires_in",
                kind=Annotated[int, Meta(ge=1, le=LONGEST_URL_SECONDS)],
                text="For how many seconds the URL is valid.",
            ),
        ),
        answers=(Answered(text="Send the file there.", kind=shapes.UploadUrl),),
        problems=(*_OF_FILES, "job_is_final"),
    ),
    PUT_FILE,
    GET_FILE,
)

_OTHER_ROUTES = (
    _client(
        *("list_blueprints", "GET", "/blueprints", Role.VIEWER),
        group=_SERVED,
        summary="The blueprints that are served here",
        answers=(Answered(text="All of them.", kind=shapes.BlueprintList),),
    ),
    _client(
        *("get_blueprint", "GET", "/blueprints/{name}", Role.VIEWER),
        group=_SERVED,
        summary="The graph of a blueprint, as JSON",
        parameters=(_BLUEPRINT,),
        answers=(Answered(text="Its states, and what leads where.", kind=Graph),),
        problems=("no_such_route", "blueprint_not_found"),
    ),
    _client(
        *("blueprint_graph", "GET", "/blueprints/{name}/graph", Role.VIEWER),
        group=_SERVED,
        summary="The graph of a blueprint, in DOT",
        parameters=(_BLUEPRINT,),
        answers=(Answered(text="For Graphviz.", content="text/vnd.graphviz"),),
        problems=("no_such_route", "blueprint_not_found"),
    ),
    _client(
        *("list_workers", "GET", "/workers", Role.OPERATOR),
        group=_SERVED,
        summary="The workers, with their processes",
        answers=(Answered(text="All that were heard of.", kind=shapes.WorkerList),),
    ),
    _client(
        *("reload_workers", "POST", "/admin/reload-workers", Role.ADMIN),
        group=_ADMIN,
        summary="Read workers.toml and clients.toml again",
        text="They are taken over as a whole, or with a mistake in either not at all.",
        answers=(Answered(text="They are in force.", kind=shapes.Reloaded),),
        problems=("credentials_refused",),
    ),
    _client(
        *("credentials", "GET", "/admin/credentials", Role.ADMIN),
        group=_ADMIN,
        summary="Who may talk",
        answers=(Answered(text="Without tokens and hashes.", kind=shapes.Credentials),),
    ),
    _client(
        *("audit", "GET", "/admin/audit", Role.ADMIN),
        group=_ADMIN,
        summary="What was changed by whom, in order",
        parameters=(
            Parameter(name="after", kind=_Whole, text="Only rows with a `number` above it."),
            _LIMIT,
        ),
        answers=(Answered(text="A page of the audit.", kind=shapes.AuditPage),),
    ),
)

STREAMED = (EVENTS, PUT_FILE, GET_FILE)
"""Those that are plain ASGI in front of Quart (ADR 0004)."""

CLIENT_ROUTES = (*_JOB_ROUTES, *_FILE_ROUTES, *_OTHER_ROUTES)


def endpoint_routes(blueprint: Blueprint) -> list[Route]:
    """The routes by which jobs of *blueprint* are submitted, besides that with its name."""
    return [
        attrs.evolve(
            SUBMIT,
            id=f"submit_{blueprint.name}",
            path=endpoint,
            summary=f"Submit one job of {blueprint.name}, or several",
            parameters=tuple(it for it in SUBMIT.parameters if it.where != "path"),
            problems=tuple(it for it in SUBMIT.problems if it not in _OF_NAMES),
        )
        for endpoint in endpoints_of(blueprint)[:-1]
    ]
