"""Records as clients see them: JSON objects with times in RFC 3339.

Names are those of RXON where it has one (`job_id`, `blueprint_name`); an object keeps its
members also where they are null, so that a client can rely on them.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import attrs
from quart import Response

from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import Instance, Progress
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio._wire.codec import decode, encode
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.storage._base import NumberedRow

Answer = tuple[bytes, int, dict[str, str]] | Response
"""Body, status and headers; or all of it."""


def json_answer(
    body: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Answer:
    """*body* as JSON, with *headers* besides its type."""
    return encode(body), int(status), {"content-type": "application/json", **(headers or {})}


def not_modified(headers: Mapping[str, str]) -> Response:
    """The answer 304: nothing is said of the type and the length of a body, as Quart would.

    A length would be that of the body that is not sent (RFC 9110, 8.6), not 0.
    """
    response = Response(b"", HTTPStatus.NOT_MODIFIED, headers=dict(headers))
    del response.headers["content-type"]
    del response.headers["content-length"]
    return response


def rfc3339(at: float) -> str:
    """Unix seconds as in `2026-01-31T12:00:00.250Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def job_summary(job: Job) -> shapes.JobSummary:
    """A job as it stands in a list: without its result, which may be large."""
    return {
        "id": job.id,
        "job_id": job.id,
        "blueprint_name": job.blueprint,
        "labels": job.labels,
        "status": job.status,
        "state": job.state,
        "revision": job.revision,
        "transitions": job.transitions,
        "error": job.error,
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "client": job.client,
    }


def job_details(job: Job, progress: Sequence[Progress]) -> shapes.JobDetails:
    """One job with the *progress* of its tasks; `result` is there once it is final."""
    answer: shapes.JobDetails = {
        **job_summary(job),  # type: ignore[typeddict-item] # `result` need not be there
        "tracing_context": job.tracing_context,
        "progress": [progress_of(said) for said in progress],
    }
    if job.status.is_final:
        answer["result"] = job.result
    return answer


def progress_of(said: Progress) -> shapes.ProgressShown:
    """How far a running task is."""
    return {
        "task_id": said.task_id,
        "progress": said.progress,
        "message": said.message,
        "at": rfc3339(said.at),
    }


def history_event(numbered: NumberedRow) -> shapes.HistoryEvent:
    """One line of a job's history."""
    row = numbered.row
    return {
        "event_id": numbered.number,
        "event_type": row.type,
        "timestamp": rfc3339(row.at),
        "revision": row.revision,
        "state": row.state,
        "next_state": row.next_state,
        "task_id": row.task_id,
        "attempt": row.attempt,
        "worker_id": row.worker_id,
        "details": row.details,
    }


def tasks_with_attempts(
    tasks: Sequence[Task], attempts: Sequence[Attempt]
) -> list[shapes.TaskShown]:
    """A job's tasks, each with its attempts in order."""
    by_task: dict[str, list[shapes.AttemptShown]] = {}
    for attempt in attempts:
        by_task.setdefault(attempt.task_id, []).append(
            {
                "number": attempt.number,
                "status": attempt.status,
                "worker_id": attempt.worker_id,
                "leased_at": rfc3339(attempt.leased_at),
                "ended_at": None if attempt.ended_at is None else rfc3339(attempt.ended_at),
            }
        )
    return [_task(task, by_task.get(task.id, [])) for task in tasks]


def _task(task: Task, attempts: list[shapes.AttemptShown]) -> shapes.TaskShown:
    result = task.result
    return {
        "id": task.id,
        "state": task.state,
        "skill": task.skill,
        "branch": task.branch,
        "key": task.key,
        "status": task.status,
        "priority": task.priority,
        "failures": task.failures,
        "lost": task.lost,
        "result_status": None if result is None else result.status,
        "error": None if result is None else result.error,
        "created_at": rfc3339(task.created_at),
        "attempts": attempts,
    }


def workers(
    instances: Sequence[Instance], leases: Mapping[str, int], usages: Mapping[str, Any]
) -> list[shapes.WorkerShown]:
    """Workers by id, each with its processes, latest seen first.

    Args:
        instances: Every process heard of.
        leases: How many attempts each of them (by instance id) has.
        usages: What each has told last of its machine.
    """
    by_worker: dict[str, list[shapes.InstanceShown]] = {}
    for instance in instances:
        said = instance.registration
        by_worker.setdefault(instance.worker_id, []).append(
            {
                "instance": instance.id,
                "kind": instance.kind,
                "status": instance.status,
                "worker_type": said.get("worker_type", "generic"),
                "skills": list(instance.skills),
                "announced": _announced(instance),
                "hot_skills": list(instance.hot_skills),
                "slots": said.get("slots"),  # as it was said, like the next four
                "resources": said.get("resources"),
                "installed_software": said.get("installed_software"),
                "installed_artifacts": said.get("installed_artifacts"),
                "capabilities": said.get("capabilities"),
                "usage": usages.get(instance.id),
                "registered_at": rfc3339(instance.registered_at),
                "seen_at": rfc3339(instance.seen_at),
                "leases": leases.get(instance.id, 0),
                "gone": instance.gone,
                "blocked": instance.blocked_since is not None,
                "replaced_by": instance.replaced_by,
            }
        )
    return [{"worker_id": id_, "instances": by_worker[id_]} for id_ in sorted(by_worker)]


def _announced(instance: Instance) -> list[dict[str, Any]]:
    """What *instance* said of the skills that it may do: descriptions, versions, schemas."""
    said = instance.registration.get("supported_skills") or ()
    return [
        {name: it for name, it in skill.items() if it is not None}
        for skill in said
        if skill["name"] in instance.skills
    ]


@attrs.frozen(kw_only=True)
class _Cursor:
    """The last job of a page."""

    at: float
    id: str


def cursor_after(job: Job) -> str:
    """Where the page that begins after *job* begins: opaque to clients."""
    text = encode(_Cursor(at=job.created_at, id=job.id))
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def read_cursor(text: str) -> tuple[float, str]:
    """`(created_at, id)` of the job that `cursor_after` was given.

    Raises:
        InvalidMessage: it was not made there.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        raw.decode()
        cursor = decode(raw, _Cursor, closed=True)
    except (binascii.Error, ValueError, InvalidMessage):
        problem = Problem("?cursor", "is not one of ours; take it from next_cursor, unchanged")
        raise InvalidMessage((problem,)) from None
    return cursor.at, cursor.id
