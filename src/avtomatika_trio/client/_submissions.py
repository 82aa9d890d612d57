"""Submitting jobs, one or many, as plans."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from avtomatika_trio._core.json_values import NotJson, copy_json
from avtomatika_trio._shapes import is_record, plain
from avtomatika_trio._wire.messages import (
    IDEMPOTENCY_SECONDS_HEADER,
    MOST_JOBS_PER_SUBMISSION,
)
from avtomatika_trio.client._answers import body_of, read_as
from avtomatika_trio.client._arguments import as_count, as_labels, as_text
from avtomatika_trio.client._plans import Ask, Fault, Listed, Plan, Reply
from avtomatika_trio.client._records import Json
from avtomatika_trio.client._requests import Surroundings, ask, encoded, quoted
from avtomatika_trio.client._retry import Repeat, may_repeat
from avtomatika_trio.errors import InvalidMessage, OrchestratorUnavailable, Problem, Refused

#: The body of one submission stays below the smallest sensible MAX_BODY_BYTES (1 MiB).
_MOST_BYTES_PER_SUBMISSION = 900_000

#: Whoever submits again in good faith would have two jobs.
_UNSURE = (
    "it may have been submitted all the same: look for the job before you submit it again;"
    " with an idempotency key of your own that would be safe"
)

#: What an orchestrator takes as a key; a header would lose spaces at the ends.
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")

#: Characters of a key that the numbers of several requests are added to.
_MOST_OF_A_NUMBERED_KEY = 240


@attrs.frozen(kw_only=True)
class NewJobs:
    """What is the same for all jobs of a call of `submit` or `submit_many`."""

    blueprint: str
    labels: Mapping[str, str] | None = None
    max_transitions: int | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None


def submit(world: Surroundings, new: NewJobs, initial_data: object) -> Plan[str]:
    """The id of one new job."""
    body = encoded(_submission(new, {} if initial_data is None else initial_data, "$"))
    answer = yield from _submit(world, new, body, new.idempotency_key)
    return read_as(world.url, lambda it: str(it["job_id"]), answer)


def submit_many(
    world: Surroundings, new: NewJobs, initial_data: Iterable[object]
) -> Plan[Listed[str]]:
    """The ids of new jobs, one for each of *initial_data*."""
    bodies = (encoded(_submission(new, data, f"$[{at}]")) for at, data in enumerate(initial_data))
    ids: list[str] = []
    key = new.idempotency_key
    if key is not None and len(as_text("idempotency_key", key)) > _MOST_OF_A_NUMBERED_KEY:
        fault = f"must be 1 to {_MOST_OF_A_NUMBERED_KEY} characters where many are submitted"
        raise InvalidMessage((Problem("idempotency_key", fault),))
    try:
        for number, chunk in enumerate(_chunks(bodies), 1):
            key = new.idempotency_key
            if key is not None and number > 1:
                key = f"{key}-{number}"
            answer = yield from _submit(world, new, b"[" + b",".join(chunk) + b"]", key)
            ids += read_as(world.url, lambda it: [str(job["job_id"]) for job in it["jobs"]], answer)
    except (InvalidMessage, OrchestratorUnavailable, Refused) as exc:
        if not ids:
            raise
        raise attrs.evolve(exc, submitted=tuple(ids)) from None
    return ids


def _submit(world: Surroundings, new: NewJobs, body: bytes, key: str | None) -> Plan[Any]:
    sent = world.new_key() if key is None else _sendable("idempotency_key", key)
    headers = {"idempotency-key": sent}
    if new.traceparent is not None:
        headers["traceparent"] = _sendable("traceparent", new.traceparent)
    request = Ask(method="POST", path=f"/jobs/{quoted(new.blueprint)}", body=body, headers=headers)
    # Who names a key says that the orchestrator knows keys; an older one ignores them, and
    # a submission that may have arrived would be doubled by another try.
    is_safe = key is not None or world.learnt.knows_keys
    tries: list[Reply | Fault] = []
    try:
        reply = yield from ask(
            world, request, Repeat.ALWAYS if is_safe else Repeat.IF_NOT_DONE, failed_tries=tries
        )
    except OrchestratorUnavailable as exc:
        unsure = key is None and not all(may_repeat(Repeat.IF_NOT_DONE, it) for it in tries)
        if not unsure:
            raise
        raise attrs.evolve(exc, reason=f"{exc.reason}; {_UNSURE}") from None
    if IDEMPOTENCY_SECONDS_HEADER.lower() in reply.headers:
        world.learnt.knows_keys = True
    return body_of(world.url, reply)


def _sendable(name: str, value: str) -> str:
    if not _KEY.fullmatch(as_text(name, value)):
        fault = f"must be 1 to 255 printable characters of ASCII, not {value[:40]!r}"
        raise InvalidMessage((Problem(name, fault),))
    return value


def _submission(new: NewJobs, initial_data: object, path: str) -> Json:
    if not isinstance(initial_data, Mapping) and not is_record(initial_data):
        fault = (
            "must be a dict with texts as keys, or a dataclass or the like, not of type"
            f" {type(initial_data).__name__}"
        )
        raise InvalidMessage((Problem(f"{path}.initial_data", fault),))
    try:
        data = copy_json(plain(initial_data, "initial_data"), "initial_data")
        said: Json = {"initial_data": data}
    except NotJson as exc:
        raise InvalidMessage((Problem(f"{path}.initial_data", str(exc)),)) from None
    if new.labels is not None:
        said["labels"] = as_labels("labels", new.labels)
    if new.max_transitions is not None:
        said["max_transitions"] = as_count("max_transitions", new.max_transitions)
    return said


def _chunks(encoded: Iterable[bytes]) -> Iterator[list[bytes]]:
    """*encoded*, in order, cut into what one submission may hold."""
    chunk: list[bytes] = []
    size = 0
    for one in encoded:
        full = len(chunk) == MOST_JOBS_PER_SUBMISSION
        if full or (chunk and size + len(one) > _MOST_BYTES_PER_SUBMISSION):
            yield chunk
            chunk, size = [], 0
        chunk.append(one)
        size += len(one) + 1
    if chunk:
        yield chunk
