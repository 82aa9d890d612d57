"""What of a job a client wants to see: some of its members, or only what it has not seen yet."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from quart import request

from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import Progress
from avtomatika_trio._wire.codec import encode
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._answer_shapes import JobDetails, JobSummary

#: The members of a job in a list.
SUMMARY = tuple(JobSummary.__annotations__)

#: Those of one job; the result is there once it has ended.
DETAILS = tuple(JobDetails.__annotations__)


def wanted_fields(choices: Sequence[str]) -> frozenset[str] | None:
    """Which of *choices* the query asks for; None = all of them.

    Raises:
        InvalidMessage: it asks for another one.
    """
    text = request.args.get("fields")
    if text is None:
        return None
    names = text.split(",")
    for name in names:
        if name not in choices:
            fault = f"there is no member {name[:40]!r}; there are: {', '.join(choices)}"
            raise InvalidMessage((Problem("?fields", fault),))
    return frozenset({"id", *names})


def with_fields(answer: Mapping[str, Any], fields: frozenset[str] | None) -> Mapping[str, Any]:
    """What of *answer* is wanted."""
    if fields is None:
        return answer
    return {name: value for name, value in answer.items() if name in fields}


def etag_of(job: Job, progress: Sequence[Progress], fields: frozenset[str] | None) -> str:
    """Changes with the job, with what its tasks say, and with what is shown of it.

    A weak one: the same job may be written in other bytes.
    """
    said = [(it.task_id, it.attempt, it.at, it.progress, it.message) for it in progress]
    shown = None if fields is None else sorted(fields)
    text = encode([job.id, job.revision, said, shown])
    return f'W/"{hashlib.sha256(text).hexdigest()[:32]}"'


def is_known(etag: str) -> bool:
    """Whether the client has it already (RFC 9110, 13.1.2)."""
    text = ",".join(request.headers.getlist("If-None-Match"))
    known = [it.strip().removeprefix("W/") for it in text.split(",")]
    return "*" in known or etag.removeprefix("W/") in known
