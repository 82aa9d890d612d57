"""Waiting for a job and following it, as plans."""

import json
import math
from collections.abc import Sequence
from typing import Any

import attrs

from avtomatika_trio.client import _requests
from avtomatika_trio.client._answers import REQUEST_ID, error_of, problem, read_as, refuse
from avtomatika_trio.client._arguments import as_count, as_seconds
from avtomatika_trio.client._plans import Ask, Fault, Give, Pause, Plan, Read, Reply
from avtomatika_trio.client._records import HistoryEvent, Job, Progress
from avtomatika_trio.client._requests import Surroundings
from avtomatika_trio.client._retry import Repeat, is_away, may_repeat, next_pause
from avtomatika_trio.client._sse import EventParser, ServerEvent
from avtomatika_trio.errors import OrchestratorUnavailable, RateLimited, WaitTimedOut

#: How long one request of `wait` is held; half of what an orchestrator grants.
_HOLD_SECONDS = 30.0

#: How much later than its time a wait may end, where the orchestrator says nothing.
_LATE_SECONDS = 5.0

#: Between two tries of `wait` while the orchestrator is away.
_PAUSE_SECONDS = 0.5

#: A stream of events is never silent for longer, or it is dead.
_HEARTBEAT_SECONDS = 15.0

#: Progress does not change a job's revision: without a stream it is looked at this often.
_LOOK_SECONDS = 1.0


def wait(
    world: Surroundings, job_id: str, *, timeout_seconds: float | None, outage_seconds: float
) -> Plan[Job]:
    """One job, once it is final."""
    if timeout_seconds is not None:
        timeout_seconds = as_seconds("timeout_seconds", timeout_seconds)
    as_seconds("outage_seconds", outage_seconds)
    until = math.inf if timeout_seconds is None else world.clock() + timeout_seconds
    away_since: float | None = None
    while True:
        left = until - world.clock()
        hold = max(0.0, min(left, _HOLD_SECONDS))
        late = max(0.0, left - hold) + _LATE_SECONDS
        try:
            job = yield from _requests.get(
                world, job_id, wait_seconds=hold, late_seconds=late, repeat=Repeat.NEVER
            )
        except (OrchestratorUnavailable, RateLimited) as exc:
            asked = exc.retry_after_seconds if isinstance(exc, RateLimited) else None
            pause = max(_PAUSE_SECONDS, asked or 0.0)
            # From when it is noticed: a host that vanishes leaves a held request unanswered for
            # longer than an outage may take.
            away_since = world.clock() if away_since is None else away_since
            outage = world.clock() - away_since
            if outage > outage_seconds or pause > max(outage_seconds, _PAUSE_SECONDS):
                raise
            left = until - world.clock()
            status = None
            if left > 0:
                yield Pause(min(pause, left))
        else:
            away_since = None
            if job.is_final:
                return job
            status = job.status
        if timeout_seconds is not None and left <= 0:
            raise WaitTimedOut(job_id, timeout_seconds, status)


@attrs.define
class _Place:
    """How far a job has been followed."""

    last: int
    """The latest `event_id` that was given."""
    failures: int = 0
    """Tries in a row that brought nothing."""
    seen: float = 0.0
    """When the orchestrator last said something."""


def follow(world: Surroundings, job_id: str, *, after: int, outage_seconds: float) -> Plan[None]:
    """Gives what happens to a job, and at last the job."""
    as_seconds("outage_seconds", outage_seconds)
    place = _Place(last=as_count("after", after), seen=world.clock())
    asked_as = world.new_request_id()
    while True:
        url = world.url
        request = Ask(
            method="GET",
            path=_requests.job_path(job_id, "events"),
            base=url,
            headers={
                "accept": "text/event-stream",
                "last-event-id": str(place.last),
                REQUEST_ID: asked_as,
            },
            held_seconds=_HEARTBEAT_SECONDS,
            stream=True,
        )
        heard: Reply | Fault = yield request
        if isinstance(heard, Reply) and heard.is_success:
            _check_stream(world, heard)
            heard, ended = yield from _read_stream(world, place)
            if ended:
                return
        elif isinstance(heard, Reply) and problem(heard)[0] == "no_such_route":
            yield from _poll(world, job_id, place)
            return
        if is_away(heard):
            world.places.leave(url)
        pause = _pause(world, place, heard, outage_seconds)
        if pause is None:
            is_unsent = isinstance(heard, Fault) and not heard.sent
            raise error_of(url, heard, job_id, None if is_unsent else asked_as)
        yield Pause(pause)


def _check_stream(world: Surroundings, reply: Reply) -> None:
    if not reply.headers.get("content-type", "").startswith("text/event-stream"):
        refuse(world.url, reply.status, "the answer is not a stream of events")


def _read_stream(world: Surroundings, place: _Place) -> Plan[tuple[Fault, bool]]:
    """What made the stream end, and whether the job has ended."""
    parser = EventParser()
    brought = False
    while True:
        chunk: bytes | None = yield Read()
        if chunk is None:
            # The outage begins when it is noticed: a host that vanishes says nothing for longer.
            place.seen = world.clock() if brought else place.seen
            return Fault(reason="the stream of events broke off", sent=True), False
        place.failures, place.seen, brought = 0, world.clock(), True
        for event in read_as(world.url, parser.feed, chunk):
            for item in _items(world, event):
                if isinstance(item, HistoryEvent):
                    if item.event_id <= place.last:
                        continue
                    place.last = item.event_id
                yield Give(item)
            if event.type == "end":
                return Fault(reason="", sent=True), True


def _items(world: Surroundings, event: ServerEvent) -> Sequence[HistoryEvent | Progress | Job]:
    said = read_as(world.url, json.loads, event.data)
    match event.type:
        case "end":
            return [read_as(world.url, Job.read, said)]
        case "progress":
            return read_as(world.url, _progress, said)
        case _ if isinstance(said, dict) and "event_id" in said:
            return [read_as(world.url, HistoryEvent.read, said)]
        case _:
            return []  # of a newer orchestrator


def _progress(said: Any) -> list[Progress]:
    """One report or several, alone or as in a job."""
    if isinstance(said, dict) and isinstance(said.get("progress"), list):
        said = said["progress"]
    return [Progress.read(each) for each in (said if isinstance(said, list) else [said])]


def _pause(
    world: Surroundings, place: _Place, heard: Reply | Fault, outage_seconds: float
) -> float | None:
    """How long to wait before the stream is opened again; None = it is not to be."""
    place.failures += 1
    if not may_repeat(Repeat.ALWAYS, heard):
        return None
    return next_pause(
        place.failures,
        world.noise(),
        asked_seconds=world.places.asked_pause(heard, place.failures),
        left_seconds=place.seen + outage_seconds - world.clock(),
    )


def _poll(world: Surroundings, job_id: str, place: _Place) -> Plan[None]:
    """The same for an orchestrator that has no streams."""
    told: tuple[Progress, ...] = ()
    revision = -1
    while True:
        # The job first: what is in the history of an ended job is all there is.
        job = yield from _requests.get(
            world, job_id, wait_seconds=0 if revision < 0 else _LOOK_SECONDS, after=max(0, revision)
        )
        if job.revision > revision:
            events = yield from _requests.history(world, job_id, after=place.last)
            for event in events:
                yield Give(event)
                place.last = event.event_id
        for progress in job.progress:
            if progress not in told:
                yield Give(progress)
        told, revision = job.progress, job.revision
        if job.is_final:
            yield Give(job)
            return
