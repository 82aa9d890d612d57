"""Every method of a client, as a plan: which requests, and what is made of the answers."""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import attrs

from avtomatika_trio._core.arguments import NAME
from avtomatika_trio._wire.codec import encode
from avtomatika_trio.client._answers import REQUEST_ID, body_of, error_of, problem, read_as
from avtomatika_trio.client._arguments import (
    as_count,
    as_labels,
    as_moment,
    as_seconds,
    as_text,
)
from avtomatika_trio.client._plans import Ask, Fault, Give, Listed, Pause, Plan, Reply, sound
from avtomatika_trio.client._records import (
    BlueprintInfo,
    HistoryEvent,
    Job,
    Json,
    TaskInfo,
    WorkerInfo,
)
from avtomatika_trio.client._retry import (
    Repeat,
    is_away,
    may_have_worked,
    may_repeat,
    next_pause,
    retry_after,
)
from avtomatika_trio.errors import (
    InvalidMessage,
    JobNotFound,
    Problem,
    Refused,
)

_MOST_PER_PAGE = 1000

#: The code of the error of a job that somebody has cancelled.
_CANCELLED = "CANCELLED"


@attrs.define
class Learnt:
    """What the orchestrator has said of itself."""

    knows_keys: bool = False
    """Whether it knows a submission again by its key."""


@attrs.define
class Places:
    """The addresses of orchestrators of one storage, of which one at a time is asked."""

    urls: tuple[str, ...]
    _at: int = attrs.field(default=0, init=False)

    @property
    def now(self) -> str:
        """Which is asked."""
        return self.urls[self._at]

    def leave(self, url: str) -> None:
        """Ask the one after *url* from now on, unless another is asked already."""
        at = self._at  # read once: threads may share a client
        if url == self.urls[at]:
            self._at = (at + 1) % len(self.urls)

    def asked_pause(self, heard: Reply | Fault, tries: int) -> float | None:
        """How long a pause *heard*, after so many failed *tries*, asks for; None = it does not.

        Who is away speaks for nobody else: the others are asked once before it is heeded.
        """
        if isinstance(heard, Fault) or (is_away(heard) and tries < len(self.urls)):
            return None
        return retry_after(heard.headers)


@attrs.frozen(kw_only=True)
class Surroundings:
    """What a plan needs of the world."""

    places: Places
    clock: Callable[[], float]
    """Seconds that only grow."""
    noise: Callable[[], float]
    """From 0 to 1."""
    new_key: Callable[[], str]
    new_request_id: Callable[[], str]
    """What the orchestrator's log calls a request, also where no answer comes."""
    retry_seconds: float
    learnt: Learnt = attrs.field(factory=Learnt)

    @property
    def url(self) -> str:
        """Of the orchestrator that is asked now."""
        return self.places.now


def quoted(name: str) -> str:
    """The name of a blueprint, as a part of a path.

    Raises:
        InvalidMessage: it is none.
    """
    if not as_text("blueprint", name):
        raise InvalidMessage((Problem("blueprint", "must not be empty"),))
    return sound("the name", partial(quote, name, safe=""))


def encoded(value: Any) -> bytes:
    """*value* as JSON.

    Raises:
        InvalidMessage: it holds a text that is not Unicode.
    """
    return sound("$", partial(encode, value))


def ask(
    world: Surroundings,
    request: Ask,
    repeat: Repeat = Repeat.ALWAYS,
    *,
    job_id: str | None = None,
    failed_tries: list[Reply | Fault] | None = None,
) -> Plan[Reply]:
    """Send *request*, again where the policy allows, and raise what its answer means.

    Args:
        world: Where to, and for how long.
        request: What to send.
        repeat: How it may be sent again.
        job_id: What it is about, for the error that there is no such job.
        failed_tries: Is given what came of each try that was no success.
    """
    until = world.clock() + world.retry_seconds + request.held_seconds
    named = {REQUEST_ID: world.new_request_id()}
    was_sent = False
    for tries in itertools.count(1):
        url = world.url
        sent = attrs.evolve(request, base=url, headers={**request.headers, **named})
        heard: Reply | Fault = yield sent
        if isinstance(heard, Reply) and heard.is_success:
            return heard
        was_sent = was_sent or not isinstance(heard, Fault) or heard.sent
        if is_away(heard):
            world.places.leave(url)
        if failed_tries is not None:
            failed_tries.append(heard)
        in_use = isinstance(heard, Reply) and problem(heard)[0] == "idempotency_key_in_use"
        pause = None
        if world.retry_seconds > 0 and may_repeat(repeat, heard, in_use=in_use):
            pause = next_pause(
                tries,
                world.noise(),
                asked_seconds=world.places.asked_pause(heard, tries),
                left_seconds=until - world.clock(),
            )
        if pause is None:
            raise error_of(url, heard, job_id, named[REQUEST_ID] if was_sent else None)
        yield Pause(pause)
    raise AssertionError


def job_path(job_id: str, *below: str) -> str:
    """Where a job is asked about.

    Raises:
        JobNotFound: no job has such an id, and some of them would lead elsewhere.
    """
    if not NAME.fullmatch(as_text("job_id", job_id)) or not job_id.strip("."):
        raise JobNotFound(job_id)
    return "/".join(["/jobs", job_id, *below])


def get(
    world: Surroundings,
    job_id: str,
    *,
    wait_seconds: float = 0,
    after: int | None = None,
    late_seconds: float = math.inf,
    repeat: Repeat = Repeat.ALWAYS,
) -> Plan[Job]:
    """One job, once there is news of it."""
    held = as_seconds("wait_seconds", wait_seconds, least=0.0)
    query = {"wait": f"{held:g}"} if held else {}
    if after is not None:
        query["after"] = str(as_count("after", after))
    request = Ask(
        method="GET",
        path=job_path(job_id),
        query=query,
        held_seconds=held,
        late_seconds=late_seconds,
    )
    reply = yield from ask(world, request, repeat, job_id=job_id)
    return read_as(world.url, Job.read, body_of(world.url, reply))


def list_jobs(
    world: Surroundings,
    *,
    statuses: Sequence[str],
    blueprint: str | None,
    client: str | None,
    labels: Mapping[str, str] | None,
    created_after: datetime | None,
    created_before: datetime | None,
    most: int | None,
) -> Plan[None]:
    """Gives jobs, newest first; asks for more as they are taken."""
    wanted = [statuses] if isinstance(statuses, str) else statuses  # one is a sequence of letters
    query: dict[str, str] = {"status": ",".join(wanted)} if wanted else {}
    for name, text in (("blueprint", blueprint), ("client", client)):
        if text is not None:
            query[name] = as_text(name, text)
    told = {} if labels is None else as_labels("labels", labels)
    query |= {f"label.{name}": value for name, value in told.items()}
    for name, moment in (("created_after", created_after), ("created_before", created_before)):
        if moment is not None:
            query[name] = as_moment(name, moment).isoformat()
    left = None if most is None else as_count("most", most)
    while left is None or left > 0:
        query["limit"] = str(_MOST_PER_PAGE if left is None else min(_MOST_PER_PAGE, left))
        reply = yield from ask(world, Ask(method="GET", path="/jobs", query=dict(query)))
        page = body_of(world.url, reply)
        jobs, cursor = read_as(
            world.url, lambda it: ([Job.read(job) for job in it["jobs"]], it["next_cursor"]), page
        )
        for job in jobs:
            yield Give(job)
        if cursor is None:
            return
        query["cursor"] = cursor
        left = None if left is None else left - len(jobs)


def history(world: Surroundings, job_id: str, *, after: int = 0) -> Plan[Listed[HistoryEvent]]:
    """What happened to a job, oldest first."""
    events: list[HistoryEvent] = []
    more = True
    while more:
        path = job_path(job_id, "history")
        request = Ask(method="GET", path=path, query={"after": str(as_count("after", after))})
        reply = yield from ask(world, request, job_id=job_id)
        said = body_of(world.url, reply)
        page = read_as(world.url, lambda it: [HistoryEvent.read(event) for event in it], said)
        events += page
        more = bool(page) and _leads_on(reply)
        after = page[-1].event_id if page else after
    return events


def tasks(world: Surroundings, job_id: str) -> Plan[Listed[TaskInfo]]:
    """The tasks of a job."""
    request = Ask(method="GET", path=job_path(job_id, "tasks"))
    reply = yield from ask(world, request, job_id=job_id)
    return _all(world, TaskInfo.read, "tasks", reply)


def cancel(world: Surroundings, job_id: str, reason: str | None) -> Plan[Job]:
    """The job, cancelled; also where the answer that said so was lost, and another try was late."""
    body = b"" if reason is None else encoded({"reason": reason})
    request = Ask(method="POST", path=job_path(job_id, "cancel"), body=body)
    tries: list[Reply | Fault] = []
    try:
        reply = yield from ask(world, request, job_id=job_id, failed_tries=tries)
    except Refused as exc:
        if exc.status != HTTPStatus.CONFLICT or not any(map(may_have_worked, tries[:-1])):
            raise
        job = yield from get(world, job_id)
        if job.error is None or job.error.code != _CANCELLED:
            raise  # it had ended otherwise
        return job
    return read_as(world.url, lambda it: Job.read(it["job"]), body_of(world.url, reply))


def blueprints(world: Surroundings) -> Plan[Listed[BlueprintInfo]]:
    """What is served."""
    reply = yield from ask(world, Ask(method="GET", path="/blueprints"))
    return _all(world, BlueprintInfo.read, "blueprints", reply)


def blueprint(world: Surroundings, name: str) -> Plan[Json]:
    """States and edges of one."""
    reply = yield from ask(world, Ask(method="GET", path=f"/blueprints/{quoted(name)}"))
    found: Json = body_of(world.url, reply)
    return found


def graph(world: Surroundings, name: str) -> Plan[str]:
    """The graph of one in DOT."""
    reply = yield from ask(world, Ask(method="GET", path=f"/blueprints/{quoted(name)}/graph"))
    return reply.body.decode()


def workers(world: Surroundings) -> Plan[Listed[WorkerInfo]]:
    """Workers by id."""
    reply = yield from ask(world, Ask(method="GET", path="/workers"))
    return _all(world, WorkerInfo.read, "workers", reply)


def reload_access(world: Surroundings) -> Plan[Json]:
    """What a reload has changed."""
    request = Ask(method="POST", path="/admin/reload-workers", body=b"")
    reply = yield from ask(world, request)
    changed: Json = body_of(world.url, reply)
    return changed


def _all(
    world: Surroundings, read: Callable[[Json], Any], member: str, reply: Reply
) -> Listed[Any]:
    said = body_of(world.url, reply)
    return read_as(world.url, lambda it: [read(each) for each in it[member]], said)


def _leads_on(reply: Reply) -> bool:
    return re.search(r'rel="?next"?', reply.headers.get("link", "")) is not None
