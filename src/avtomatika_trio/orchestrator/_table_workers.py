"""The routes of workers: those of RXON, and our extensions of it."""

from typing import Annotated, Any

import attrs
from msgspec import Meta

from avtomatika_trio._wire import messages
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._route import Answered, Body, Caller, Parameter, Route

_GROUP = "For workers (RXON)"

_WORKER_ID = Parameter(
    name="worker_id", where="path", kind=messages.Name, text="Its id.", example="worker-1"
)
_ROOM = r"[A-Za-z0-9_.-]{1,128}(~[A-Za-z0-9_.-]{1,128})*:[0-9]{1,9}"
_Number = Annotated[float, Meta(ge=0)]

_TASKS_ARE_WANTED = (
    Parameter(
        name="max_tasks",
        kind=_Number,
        text="Extension: at most so many; the answer is a list then.",
    ),
    Parameter(name="instance", text="Extension: the id of the process."),
    Parameter(name="poll", kind=_Number, text="Extension: a number that grows with each request."),
    Parameter(
        name="available_skills", text="Only tasks of these skills, with commas.", example="render"
    ),
    Parameter(
        name="room",
        kind=Annotated[str, Meta(pattern=f"^{_ROOM}(,{_ROOM})*$")],
        text="Extension: no more tasks than that of these skills, as in `render~upscale:1,mix:2`.",
        example="render:2",
    ),
)


@attrs.frozen(kw_only=True)
class Refresh:
    """A request for new tokens."""

    refresh_token: str


def _worker(id_: str, method: str, path: str, **more: Any) -> Route:
    return Route(id=id_, method=method, path=path, caller=Caller.WORKER, group=_GROUP, **more)


def _said(kind: Any, *, is_required: bool = True, example: Any = None) -> Body:
    return Body(kind=kind, is_required=is_required, is_closed=False, example=example)


_TOKENS = Answered(text="Fresh tokens.", kind=shapes.Issued)

WORKER_ROUTES = (
    _worker(
        *("register", "POST", "/_worker/workers/register"),
        summary="Say who the worker is and what it can do",
        body=_said(
            messages.Registration,
            example={"worker_id": "worker-1", "supported_skills": [{"name": "render"}]},
        ),
        answers=(Answered(text="It is known.", kind=messages.Registered),),
    ),
    _worker(
        *("heartbeat", "PATCH", "/_worker/workers/{worker_id}"),
        summary="Say that the worker is alive",
        text="An empty body renews all leases of a worker without extensions.",
        parameters=(_WORKER_ID,),
        body=_said(messages.Heartbeat, is_required=False, example={"status": "idle"}),
        answers=(Answered(text="Leases are renewed.", kind=messages.Beaten),),
        problems=("no_such_route", "worker_not_found"),
    ),
    _worker(
        *("poll", "GET", "/_worker/workers/{worker_id}/tasks/next"),
        summary="Ask for a task",
        text="It is held until there is one, or the time is over.",
        parameters=(
            _WORKER_ID,
            Parameter(
                name="timeout",
                kind=_Number,
                text="For how many seconds; more than `WORKER_POLL_TIMEOUT_SECONDS` count as that.",
            ),
            *_TASKS_ARE_WANTED,
        ),
        answers=(
            Answered(text="A task, or a list.", kind=(messages.TaskPayload, messages.Tasks)),
            Answered(status=204, text="There is none.", content=None),
        ),
        problems=("no_such_route",),
    ),
    _worker(
        *("result", "POST", "/_worker/tasks/result"),
        summary="Report a result, or several",
        parameters=_TASKS_ARE_WANTED,
        body=_said(
            (
                messages.Result,
                Annotated[list[messages.Result], Meta(max_length=messages.MOST_PER_REQUEST)],
            ),
            example={"job_id": "JOB_ID", "task_id": "TASK_ID", "status": "success", "data": {}},
        ),
        answers=(
            Answered(
                text="What became of it; the same again if it is sent again.",
                kind=(messages.ResultAnswer, messages.ResultsAnswer),
            ),
        ),
    ),
    _worker(
        *("take_back", "POST", "/_worker/tasks/return"),
        summary="Give attempts back",
        text="An extension.",
        body=_said(messages.Return, example={"task_ids": ["TASK_ID"]}),
        answers=(Answered(text="They are queued again.", kind=shapes.Returned),),
    ),
    _worker(
        *("event", "POST", "/_worker/events"),
        summary="Say how far a task is, or what has happened in it; one event or several",
        body=_said(
            (
                messages.WorkerEvent,
                Annotated[
                    list[messages.WorkerEvent], Meta(max_length=messages.MOST_EVENTS_PER_REQUEST)
                ],
            ),
            example={
                "event_id": "1",
                "worker_id": "worker-1",
                "origin_worker_id": "worker-1",
                "event_type": "progress",
                "target_task_id": "TASK_ID",
                "payload": {"progress": 0.5},
            },
        ),
        answers=(
            Answered(
                text="What became of it; the same again if it is sent again.",
                kind=(messages.EventAnswer, messages.EventsAnswer),
            ),
        ),
    ),
    _worker(
        *("issue_tokens", "POST", "/_worker/auth/token"),
        summary="Exchange a token or certificate for a short-lived token",
        answers=(_TOKENS,),
    ),
    Route(
        id="refresh_tokens",
        method="POST",
        path="/_worker/auth/token/refresh",
        caller=Caller.ANYBODY,
        group=_GROUP,
        summary="Renew a short-lived token",
        text="A refresh token is good for one use.",
        parameters=(
            Parameter(
                name=messages.WORKER_ID_HEADER,
                where="header",
                text="Whose it is.",
                example="worker-1",
                is_required=True,
            ),
        ),
        body=_said(Refresh, example={"refresh_token": "TOKEN"}),
        answers=(_TOKENS,),
        problems=(
            *("worker_id_missing", "unauthorized", "rate_limited", "too_many_wrong_tokens"),
            "storage_unavailable",
        ),
    ),
)
