"""`avtomatika job`: submit and follow jobs."""

import json
import math
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from avtomatika_trio._core.job import FINAL, JobStatus
from avtomatika_trio.cli._connect import ask_by_name, open_client
from avtomatika_trio.cli._exits import CommandError, Exit, explained
from avtomatika_trio.cli._job_list import print_list
from avtomatika_trio.cli._narrowing import given
from avtomatika_trio.cli._output import (
    listing,
    note,
    print_json,
    print_line,
    print_records,
    printable,
)
from avtomatika_trio.cli._waits import read_on, telling_waits
from avtomatika_trio.cli._watching import FanOut, Watching
from avtomatika_trio.errors import AvtomatikaError, OrchestratorUnavailable, RateLimited, Refused

if TYPE_CHECKING:
    from avtomatika_trio.client import Client

_Job = Mapping[str, Any]

#: Progress does not change a job's revision: it is looked at this often.
_LOOK_SECONDS = 1.0

#: For how long the orchestrator may leave a question open.
_SILENCE_SECONDS = 30.0

#: For how long the orchestrator may be away while a job is followed; a restart takes less.
_OUTAGE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5

_HISTORY_COLUMNS = {
    "TIME": "timestamp",
    "EVENT": "event_type",
    "STATE": "state",
    "NEXT": "next_state",
    "TASK": "task_id",
    "ATTEMPT": "attempt",
    "WORKER": "worker_id",
    "DETAILS": "details",
}


def run(options: Namespace) -> int:
    """Do what the verb says.

    Raises:
        CommandError: the data are wrong, there is no token, or a wait has timed out.
        AvtomatikaError: as the client raises.
    """
    verbs: dict[str, Callable[[Client, Namespace], int]] = {
        "submit": _submit,
        "get": _get,
        "list": print_list,
        "history": _history,
        "watch": _watch,
        "cancel": _cancel,
    }
    if options.verb == "submit":
        options.data = read_data(options.data)
    # A submission gets its time whatever is said of the job: else it may arrive untold.
    silence = options.timeout if options.verb == "watch" else math.inf
    with open_client(options, min(max(silence, 1.0), _SILENCE_SECONDS)) as client:
        return verbs[options.verb](client, options)


def _submit(client: "Client", options: Namespace) -> int:
    more = given(options, "labels", "idempotency_key")
    submit = partial(client.submit, options.blueprint, options.data, **more)
    try:
        job_id = ask_by_name(client, options.blueprint, submit)
    except KeyboardInterrupt:
        note("the job may have been submitted; `avtomatika job list` shows it if it was")
        return Exit.INTERRUPTED
    if options.wait:
        try:
            note(f"job {job_id}")
            changes = _follow(client, job_id, options.timeout)
            *_, job = telling_waits(client, changes, Watching(), time.time)
        except KeyboardInterrupt:
            return _detached(job_id)
        _print_job(options.output, job)
        return _outcome(job)
    if options.output == "table":
        print_line(job_id)
        note(f"follow it: avtomatika job watch {job_id}")
    else:
        print_json({"job_id": job_id}, one_line=options.output == "jsonl")
    return Exit.OK


def _get(client: "Client", options: Namespace) -> int:
    _print_job(options.output, client.get(options.job_id).raw)
    return Exit.OK


def _history(client: "Client", options: Namespace) -> int:
    events = [event.raw for event in client.history(options.job_id)]
    if options.output == "table":
        # A task's id begins with the job's, which is known here.
        for event in events:
            event["task_id"] = (event["task_id"] or "").removeprefix(f"{options.job_id}-")
    print_records(options.output, events, _HISTORY_COLUMNS)
    return Exit.OK


def _cancel(client: "Client", options: Namespace) -> int:
    try:
        job = client.cancel(options.job_id, options.reason)
    except Refused as exc:
        if exc.status != HTTPStatus.CONFLICT:
            raise
        remedy = f"`avtomatika job get {options.job_id}` shows how it ended"
        raise attrs.evolve(exc, detail=f"{exc.detail}; {remedy}") from exc
    _print_job(options.output, job.raw)
    return Exit.OK


def _watch(client: "Client", options: Namespace) -> int:
    """Draw the job on a terminal; elsewhere print each change.

    That is a line for people, or the job as it is; `json` is its end alone.
    """
    changes = _follow(client, options.job_id, options.timeout)
    try:
        job = _drawn(client, changes) if options.output == "table" else None
        if job is None:
            job = _told(client, options.output, changes)
    except KeyboardInterrupt:
        return _detached(options.job_id)
    if options.output != "jsonl":
        _print_job(options.output, job)
    return _outcome(job)


def _detached(job_id: str) -> int:
    note(f"detached; job {job_id} goes on; watch it again: avtomatika job watch {job_id}")
    return Exit.INTERRUPTED


def _drawn(client: "Client", changes: Iterator[_Job]) -> _Job | None:
    """The job after its last change, all of them drawn; None where that cannot be done."""
    if not sys.stdout.isatty():
        return None  # and the library that draws need not be loaded
    from avtomatika_trio.cli._watch_screen import can_draw, draw

    return draw(client, changes) if can_draw() else None


def _told(client: "Client", output: str, changes: Iterator[_Job]) -> _Job:
    """The job after its last change, each of them told in a line."""
    said = ""
    known = Watching()
    job: _Job = {}
    for job in telling_waits(client, changes, known, time.time):
        if output == "table" and job["status"] == JobStatus.WAITING_FOR_PARALLEL:
            read_on(client, job["id"], known)
        line = json.dumps(job) if output == "jsonl" else _change(job, known.fan_out)
        if line != said and output != "json":
            print_line(line)
        said = line
    return job


def _follow(client: "Client", job_id: str, timeout_seconds: float) -> Iterator[_Job]:
    """The job whenever it may have changed, at last when it is final.

    An orchestrator that goes away in between is waited for: it may be starting again.
    So is one that wants to be asked less often.

    Raises:
        CommandError: it is not final in time, or nothing was told of it.
        OrchestratorUnavailable: it does not answer at the beginning, or stays away.
        RateLimited: likewise.
    """
    began = time.monotonic()
    until = began + timeout_seconds
    seen = -math.inf
    away = False
    job: _Job = {}
    while True:
        left = max(0.0, until - time.monotonic())
        try:
            job = client.get(
                job_id,
                wait_seconds=min(_LOOK_SECONDS, left) if job else 0,
                after=job.get("revision", 0),
            ).raw
        except (OrchestratorUnavailable, RateLimited) as exc:
            asked = exc.retry_after_seconds if isinstance(exc, RateLimited) else None
            pause = max(_PAUSE_SECONDS, asked or 0.0)
            if not job and 0 < left <= time.monotonic() - began:
                _not_told(job_id, timeout_seconds, exc)
            if time.monotonic() + pause > seen + _OUTAGE_SECONDS:
                raise
            if not away:
                # Of which of the tries this is does not help who waits.
                told = str(attrs.evolve(exc, request_id=None)).removesuffix(".")
                note(f"{told}; waiting for it")
            away = True
            left = max(0.0, until - time.monotonic())
            time.sleep(min(pause, left))
        else:
            if away:
                note(f"{client.url} answers again")
            seen, away = time.monotonic(), False
            yield job
            if job["status"] in FINAL:
                return
        if left <= 0:
            _time_out(job_id, timeout_seconds, job)


def _time_out(job_id: str, timeout_seconds: float, job: _Job) -> NoReturn:
    raise CommandError(
        Exit.TIMED_OUT,
        f"job {job_id} is {job['status']} after {timeout_seconds:g} seconds; it goes on:"
        f" avtomatika job watch {job_id}",
    )


def _not_told(job_id: str, timeout_seconds: float, error: AvtomatikaError) -> NoReturn:
    raise CommandError(
        Exit.TIMED_OUT,
        f"nothing was told of job {job_id} in {timeout_seconds:g} seconds: {explained(error)}",
    )


def _change(job: _Job, branches: FanOut | None) -> str:
    """Where *job* is, on one line; it differs when something worth a line has changed."""
    parts = [str(job["updated_at"]), str(job["status"]), str(job["state"])]
    if branches is not None and job["status"] == JobStatus.WAITING_FOR_PARALLEL:
        parts.append(f"{branches.done} of {branches.total} branches done")
    told = [said for said in job["progress"] if said["progress"] is not None]
    if told:
        share = sum(said["progress"] for said in told) / len(told)
        parts.append(f"{share:.0%} of {len(told)} running")
    parts += [said["message"] for said in job["progress"][-1:] if said["message"]]
    return "  ".join(map(printable, parts))


def _print_job(output: str, job: _Job) -> None:
    if output != "table":
        print_json(job, one_line=output == "jsonl")
        return
    error = job["error"] or {}
    print_line(
        listing(
            {
                "id": job["id"],
                "blueprint": job["blueprint_name"],
                "status": job["status"],
                "state": job["state"],
                "created": job["created_at"],
                "updated": job["updated_at"],
                "error": f"{error['code']}: {error['message']}" if error else None,
                "progress": _progress(job) or None,
                "result": json.dumps(job["result"], ensure_ascii=False)
                if job.get("result") is not None
                else None,
            }
        )
    )


def _progress(job: _Job) -> str:
    told = [
        " ".join(filter(None, (f"{said['progress'] or 0:.0%}", said["message"])))
        for said in job["progress"]
    ]
    return ", ".join(told)


def _outcome(job: _Job) -> int:
    """The exit code that stands for how *job* has ended."""
    if job["status"] == JobStatus.FINISHED:
        return Exit.OK
    why = f": {job['error']['message']}" if job["error"] else ""
    note(f"job {job['id']} is {job['status']}{printable(why)}")
    return Exit.FAILED


def read_data(text: str) -> dict[str, Any]:
    """The initial data of a job.

    Args:
        text: JSON, `@` and the name of a file, or `-` for stdin.

    Raises:
        CommandError: it cannot be read, or is not a JSON object.
    """
    source = "--data"
    if text == "-":
        source, text = "stdin", sys.stdin.read()
    elif text.startswith("@"):
        source = text[1:]
        try:
            text = Path(source).read_text("utf-8")
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or "not UTF-8"
            raise _wrong(repr(source), f"cannot be read ({reason})") from None
    try:
        data = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as exc:
        raise _wrong(
            source, f"not JSON at line {exc.lineno}, column {exc.colno}: {exc.msg}"
        ) from None
    except (ValueError, RecursionError) as exc:
        raise _wrong(source, f"not JSON that can be sent: {exc}") from None
    if not isinstance(data, dict):
        raise _wrong(source, f"it is a {_KINDS[type(data)]}, not an object")
    return data


_KINDS = {
    list: "list",
    str: "text",
    int: "number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _wrong(source: str, fault: str) -> CommandError:
    return CommandError(
        Exit.USAGE, f"{source}: {fault}; give a JSON object, such as '{{\"n\": 1}}'"
    )
