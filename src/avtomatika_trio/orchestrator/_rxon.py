"""Between RXON's messages and the core's records: translation, and refusals in RXON's words."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from avtomatika_trio._core import results
from avtomatika_trio._core.dispatch import HandOut, Room
from avtomatika_trio._core.events import SaidEvent
from avtomatika_trio._core.known_files import kept_metadata
from avtomatika_trio._core.task import TaskFault, TaskResult
from avtomatika_trio._wire import messages
from avtomatika_trio._wire.codec import decode_any
from avtomatika_trio._wire.file_metadata import file_metadata
from avtomatika_trio._wire.signing import sign_task
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._http import HttpProblem

PREFIX = "/_worker/"


def as_share(value: Any) -> float | None:
    """Progress as a number from 0 to 1, if it is a number at all."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(1, max(0, value)))


def as_report(said: messages.Result, sender: str) -> results.Report:
    if said.worker_id is not None and said.worker_id != sender:
        raise foreign_id(sender, said.worker_id)
    error = said.error
    if isinstance(error, str):
        error = messages.ResultError(code="TRANSIENT_ERROR", message=error)
    if error is None and said.status == "failure":
        error = messages.ResultError(code="TRANSIENT_ERROR", message="the worker gave no reason")
    fault = None
    if error is not None and said.status != "success":
        fault = TaskFault(code=error.code, message=error.message, details=error.details)
    result = TaskResult(
        status=said.status,
        data=said.data,
        error=fault,
        data_metadata=kept_metadata(said.data_metadata),
    )
    return results.Report(
        worker_id=sender,
        wire_id=said.task_id,
        job_id=said.job_id,
        result=result,
        events=tuple(as_event(it) for it in said.events),
        events_lost=said.events_lost,
    )


def as_event(said: messages.WorkerEvent | messages.CarriedEvent) -> SaidEvent:
    return SaidEvent(
        id=said.event_id, number=said.number, type=said.event_type, payload=said.payload
    )


def as_payload(hand_out: HandOut, key: bytes | None, *, ours: bool) -> dict[str, Any]:
    """A task on the wire, signed if there is a *key*; *ours* have the members of extensions."""
    task, attempt = hand_out.task, hand_out.attempt
    payload: dict[str, Any] = {
        "job_id": task.job_id,
        "task_id": attempt.wire_id,
        "type": task.skill,
        "params": task.params,
        "priority": task.priority,
        "tracing_context": task.tracing_context,
        "timestamp": int(attempt.leased_at),
    }
    if task.params_metadata:
        known = task.params_metadata.items()
        payload["params_metadata"] = {it: file_metadata(entry) for it, entry in known}
    if key is not None:
        payload["sig"] = sign_task(payload, key)
    if ours:
        payload["attempt"] = attempt.number
        payload["idempotency_key"] = task.id
        payload["lease_seconds"] = hand_out.lease_seconds
    return payload


def warning_for(
    said: messages.Registration, version: str, s3_config_hash: str | None
) -> str | None:
    """What a worker is told that it registers with, if something does not fit together.

    Args:
        said: Its registration.
        version: Of the protocol, as it says.
        s3_config_hash: Of the place where files are kept here.
    """
    found: list[str] = []
    if version != messages.RXON_VERSION:
        found.append(
            f"Protocol version mismatch! Orchestrator: {messages.RXON_VERSION}, Worker: {version}."
        )
    theirs = said.capabilities.get("s3_config_hash")
    if theirs is not None and theirs != s3_config_hash:
        found.append(
            "The worker keeps files in another place (endpoint, key or bucket of S3) than this"
            " orchestrator: clients cannot reach what it uploads."
        )
    return " ".join(found) or None


def as_said(body: bytes) -> dict[str, Any]:
    said = decode_any(body)
    assert isinstance(said, dict)
    return {name: value for name, value in said.items() if name != "security"}


def skill_names(skills: list[messages.SkillInfo] | None) -> tuple[str, ...] | None:
    return None if skills is None else tuple(skill.name for skill in skills)


_ROOM = re.compile(r"([A-Za-z0-9_.-]{1,128}(?:~[A-Za-z0-9_.-]{1,128})*):([0-9]{1,9})")


def read_room(text: str) -> tuple[Room, ...]:
    """The member `room` of a query: `a~b:2,c:1`.

    Raises:
        InvalidMessage: it is malformed, or names a skill twice.
    """
    found: list[Room] = []
    named: list[str] = []
    for item in filter(None, text.split(",")):
        match = _ROOM.fullmatch(item)
        if match is None:
            problem = "is not a list of skills and numbers, such as render~upscale:1,convert:2"
            raise InvalidMessage((Problem("?room", problem),))
        skills = tuple(match[1].split("~"))
        named += skills
        found.append(Room(skills=skills, most=int(match[2])))
    if len(set(named)) < len(named):
        raise InvalidMessage((Problem("?room", "names a skill twice; give each once"),))
    return tuple(found)


def foreign_instance(worker_id: str) -> str:
    """The instance id of a worker that does not announce instances; not a valid one of ours."""
    return f"foreign/{worker_id}"


def no_route(path: str, allowed: Sequence[str]) -> HttpProblem:
    """404, or 405 if another method would have been right."""
    if not allowed:
        return HttpProblem(HTTPStatus.NOT_FOUND, "no_such_route", f"there is no {path}")
    right = ", ".join(allowed)
    detail = f"this method is not for this path; allowed: {right}"
    return HttpProblem(
        HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, headers={"allow": right}
    )


def unauthorized(why: str) -> HttpProblem:
    return HttpProblem(HTTPStatus.FORBIDDEN, "unauthorized", f"Unauthorized: {why}")


def foreign_id(sender: str, other: str) -> HttpProblem:
    detail = f"Forbidden: Authenticated worker '{sender}' cannot speak for worker '{other}'."
    return HttpProblem(HTTPStatus.FORBIDDEN, "foreign_worker_id", detail)
