"""The routes of clients; their paths are below `/api/v1`, `/api` and versions of blueprints."""

from collections.abc import Iterable
from typing import Annotated, Any

import attrs
from msgspec import Meta

from avtomatika_trio._core.access import Role
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._core.graph import Graph
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._wire.messages import MOST_JOBS_PER_SUBMISSION, Submission
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._registry import endpoints_of
from avtomatika_trio.orchestrator._route import Answered, Body, Parameter, Route
from avtomatika_trio.orchestrator._table_files import (
    FILE_ROUTES,
    GET_FILE,
    JOB_ID,
    PUT_FILE,
    client_route,
)

#: How long a client may wait for a change; proxies commonly cut at 60 s (nginx's default).
MOST_WAIT_SECONDS = 60.0

MOST_PER_PAGE = 1000
MOST_REASON_CHARACTERS = 1000

_JOBS = "Jobs"
_SERVED = "Blueprints and workers"
_ADMIN = "For admins"

_MOST = 10**18 - 1  # what `as_whole_number` reads: up to 18 digits
_Whole = Annotated[int, Meta(ge=0, le=_MOST)]
_Positive = Annotated[int, Meta(ge=1, le=_MOST)]
_Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


@attrs.frozen(kw_only=True)
class Cancellation:
    """Why a job is cancelled."""

    reason: Annotated[str, Meta(extra_json_schema={"maxLength": MOST_REASON_CHARACTERS})] = (
        "cancelled by the client"
    )


#: How the original calls a status, where that differs.
STATUS_ALIASES = {"waiting_for_parallel_tasks": JobStatus.WAITING_FOR_PARALLEL}

#: What a path without a name cannot be answered with.
_OF_NAMES = ("no_such_route", "blueprint_not_found")


_BLUEPRINT = Parameter(
    name="name", where="path", text="The name of a blueprint.", example="BLUEPRINT"
)


def _some_of(names: Iterable[str]) -> Any:
    """Text that is one of *names*, or several with commas."""
    one = f"({'|'.join(names)})"
    return Annotated[str, Meta(pattern=f"^{one}(,{one})*$")]


def _fields(shape: Any) -> Parameter:
    return Parameter(
        name="fields",
        kind=_some_of(shape.__annotations__),
        text="Only these members, with commas; `id` is always there.",
        example="status",
    )


ANY_LABEL = Parameter(
    name="label.NAME",
    text=(
        "Only jobs whose label `NAME`, which stands for any name, has this value;"
        " of several, those that have all."
    ),
)
_LIMIT = Parameter(
    name="limit",
    kind=_Positive,
    text=f"At most so many; more than {MOST_PER_PAGE} count as that.",
)
_AFTER_EVENT = Parameter(name="after", kind=_Whole, text="Only events with an `event_id` above it.")
_NEXT = {"Link": "The next page, with `rel=next`; there is none without it."}

SUBMIT = client_route(
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
        kind=(
            Submission,
            Annotated[list[Submission], Meta(max_length=MOST_JOBS_PER_SUBMISSION)],
        ),
        example={"initial_data": {"path": "/films/one.mp4"}, "labels": {"shop": "north"}},
    ),
    answers=(
        Answered(
            status=202,
            text="The jobs are stored.",
            kind=(shapes.Accepted, shapes.AcceptedJobs),
            headers={
                "Location": "Where the job is, if it is one.",
                "Idempotency-Key-Seconds": "For how long a key is known.",
                "Idempotent-Replayed": "`true`: this was answered before, and nothing is new.",
            },
        ),
    ),
    problems=(
        *("no_such_route", "blueprint_not_found", "quota_exceeded", "body_packed"),
        *("idempotency_key_in_use", "idempotency_key_reused"),
    ),
)

EVENTS = client_route(
    *("job_events", "GET", "/jobs/{job_id}/events", Role.VIEWER),
    group=_JOBS,
    summary="What happens to a job, as it happens",
    text=(
        "Server-sent events: those of the history, `progress` of running tasks, and at last"
        " `end` with the job."
    ),
    parameters=(
        JOB_ID,
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
    client_route(
        *("list_jobs", "GET", "/jobs", Role.VIEWER),
        group=_JOBS,
        summary="List jobs, newest first",
        text="Without results. Arguments that are not listed here are refused.",
        parameters=(
            Parameter(
                name="status",
                kind=_some_of([*JobStatus, *STATUS_ALIASES]),
                text="One or several, with commas.",
                example="running",
            ),
            Parameter(name="blueprint", text="Of this blueprint."),
            ANY_LABEL,
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
            _fields(shapes.JobSummary),
        ),
        answers=(Answered(text="A page of jobs.", kind=shapes.JobPage, headers=_NEXT),),
    ),
    client_route(
        *("get_job", "GET", "/jobs/{job_id}", Role.VIEWER),
        group=_JOBS,
        summary="Look at a job, or wait for news of it",
        parameters=(
            JOB_ID,
            Parameter(
                name="wait",
                kind=Annotated[float, Meta(ge=0)],
                text=(
                    "Answer when there is news, or the job has ended, after so many seconds at"
                    f" the latest; more than {MOST_WAIT_SECONDS:g} count as that."
                ),
            ),
            Parameter(
                name="after",
                kind=_Whole,
                text="News is a revision above this one; without it, the end of the job.",
            ),
            _fields(shapes.JobDetails),
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
    client_route(
        *("job_history", "GET", "/jobs/{job_id}/history", Role.VIEWER),
        group=_JOBS,
        summary="What happened to a job, oldest first",
        parameters=(JOB_ID, _AFTER_EVENT, _LIMIT),
        answers=(
            Answered(text="A page of events.", kind=list[shapes.HistoryEvent], headers=_NEXT),
        ),
        problems=("no_such_route", "job_not_found"),
    ),
    EVENTS,
    client_route(
        *("job_tasks", "GET", "/jobs/{job_id}/tasks", Role.VIEWER),
        group=_JOBS,
        summary="The tasks of a job, with their attempts",
        parameters=(JOB_ID,),
        answers=(Answered(text="All of them.", kind=shapes.TaskList),),
        problems=("no_such_route", "job_not_found"),
    ),
    client_route(
        *("cancel_job", "POST", "/jobs/{job_id}/cancel", Role.SUBMITTER),
        group=_JOBS,
        summary="Cancel a job",
        text=(
            "Queued tasks are cancelled at once, a running attempt when its worker next sends a"
            " heartbeat. The body may be empty."
        ),
        parameters=(JOB_ID,),
        body=Body(kind=Cancellation, example={"reason": "not wanted any more"}),
        answers=(Answered(text="The job has ended.", kind=shapes.Cancelled),),
        problems=("no_such_route", "job_not_found", "job_is_final", "body_packed"),
    ),
)

_OTHER_ROUTES = (
    client_route(
        *("list_blueprints", "GET", "/blueprints", Role.VIEWER),
        group=_SERVED,
        summary="The blueprints that are served here",
        answers=(Answered(text="All of them.", kind=shapes.BlueprintList),),
    ),
    client_route(
        *("get_blueprint", "GET", "/blueprints/{name}", Role.VIEWER),
        group=_SERVED,
        summary="The graph of a blueprint, as JSON",
        parameters=(_BLUEPRINT,),
        answers=(Answered(text="Its states, and what leads where.", kind=Graph),),
        problems=("no_such_route", "blueprint_not_found"),
    ),
    client_route(
        *("blueprint_graph", "GET", "/blueprints/{name}/graph", Role.VIEWER),
        group=_SERVED,
        summary="The graph of a blueprint, in DOT",
        parameters=(_BLUEPRINT,),
        answers=(Answered(text="For Graphviz.", content="text/vnd.graphviz"),),
        problems=("no_such_route", "blueprint_not_found"),
    ),
    client_route(
        *("list_workers", "GET", "/workers", Role.OPERATOR),
        group=_SERVED,
        summary="The workers, with their processes",
        answers=(Answered(text="All that were heard of.", kind=shapes.WorkerList),),
    ),
    client_route(
        *("reload_workers", "POST", "/admin/reload-workers", Role.ADMIN),
        group=_ADMIN,
        summary="Read workers.toml and clients.toml again",
        text="They are taken over as a whole, or with a mistake in either not at all.",
        answers=(Answered(text="They are in force.", kind=shapes.Reloaded),),
        problems=("credentials_refused",),
    ),
    client_route(
        *("credentials", "GET", "/admin/credentials", Role.ADMIN),
        group=_ADMIN,
        summary="Who may talk",
        answers=(Answered(text="Without tokens and hashes.", kind=shapes.Credentials),),
    ),
    client_route(
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

CLIENT_ROUTES = (*_JOB_ROUTES, *FILE_ROUTES, *_OTHER_ROUTES)


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
