"""The requests of a worker and what their answers mean.  No I/O here.

Extensions are used only where the answer to the registration announced them: towards a
server without them, a poll brings one bare task and results go one by one.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import attrs

from avtomatika_trio._wire.codec import decode, decode_any, encode
from avtomatika_trio._wire.messages import (
    Beaten,
    EventAnswer,
    EventsAnswer,
    Registered,
    Registration,
    ResultAnswer,
    ResultsAnswer,
    Return,
    TaskPayload,
    Tasks,
    WorkerEvent,
)
from avtomatika_trio.errors import InvalidMessage, OrchestratorUnavailable
from avtomatika_trio.worker._api import Reply, Request
from avtomatika_trio.worker._seal import Seal
from avtomatika_trio.worker._snapshot import Snapshot
from avtomatika_trio.worker._spool_entry import SpoolEntry

T = TypeVar("T")

#: What a server that does not say how long its leases are gives a worker of this protocol.
FOREIGN_LEASE_SECONDS = 150.0

#: What a server without our extensions holds a poll, whatever it is asked.
_FOREIGN_HOLD_SECONDS = 30.0

#: How much longer than it is held a poll may take.
_POLL_GRACE_SECONDS = 5.0

_NO_ANSWER = (b"", b"null")


@attrs.frozen(kw_only=True)
class Terms:
    """What an orchestrator announced when the worker registered."""

    cluster_id: str
    """Orchestrators with the same one share a storage."""
    lease_seconds: float
    beat_seconds: float
    """How often to beat."""
    any_data: bool
    batch: bool
    instances: bool
    gives_back: bool
    sweeps: bool
    """Whether it can be asked without waiting."""
    room: bool = False
    """Whether it can be told how many tasks of some of the skills may come."""
    events: bool = False
    """Whether it knows numbered events, lists of them, and those that come with results."""
    wants_signatures: bool = False
    """Whether every message must be signed."""
    warning: str | None = None
    """What does not fit together, in its words."""


@attrs.frozen(kw_only=True)
class Identity:
    """Who the worker is."""

    instance: str
    """This run of the process."""
    registration: Registration
    seal: Seal = attrs.field(factory=Seal)
    """How it is seen whether a task is the orchestrator's."""

    @property
    def worker_id(self) -> str:
        """Its id, which outlives the process."""
        return self.registration.worker_id


@attrs.frozen(kw_only=True)
class Ask:
    """A request that can carry tasks, as its answer will have to be judged."""

    poll: int
    most: int
    """How many slots were taken for it."""
    sent_at: float
    """By `trio.current_time`."""
    skills: tuple[str, ...] = ()
    """What it asks for."""
    room: tuple[tuple[tuple[str, ...], int], ...] = ()
    """Skills that share a limit, and how many tasks of these it asks for at most."""


def register(identity: Identity) -> Request:
    """`POST /_worker/workers/register`."""
    return Request(
        method="POST",
        path="/_worker/workers/register",
        body=encode(identity.registration),
    )


def read_registered(url: str, reply: Reply, interval_seconds: float) -> Terms:
    """What was announced.

    Args:
        url: Who answered; names the cluster if nothing else does.
        reply: The answer; an empty one announces nothing.
        interval_seconds: How often the worker means to beat.

    Raises:
        OrchestratorUnavailable: it is not what an orchestrator answers.
    """
    said = Registered() if reply.body in _NO_ANSWER else _read(url, reply, Registered)
    lease = _above_zero(said.lease_seconds, FOREIGN_LEASE_SECONDS)
    beat = min(interval_seconds, lease / 3, _above_zero(said.heartbeat_seconds, lease))
    return Terms(
        cluster_id=said.cluster_id or url,
        lease_seconds=lease,
        beat_seconds=beat,
        any_data="any_data" in said.extensions,
        batch="batch" in said.extensions,
        instances="instances" in said.extensions,
        gives_back="return" in said.extensions,
        sweeps="sweep" in said.extensions,
        room="room" in said.extensions,
        events="events" in said.extensions,
        # The original, which announces nothing, wants them.
        wants_signatures=said.signing == "required" or not said.extensions,
        warning=said.warning,
    )


def heartbeat(
    identity: Identity,
    terms: Terms,
    snapshot: Snapshot,
    status: str,
    ours: dict[str, Any],
    about: dict[str, Any],
) -> Request:
    """`PATCH /_worker/workers/{id}`.

    Args:
        identity: Who beats.
        terms: Whether the members of *ours* are understood.
        snapshot: What is held.
        status: `idle`, `full` or `offline`.
        ours: Further members of the extension.
        about: Further members that everybody understands.
    """
    body: dict[str, Any] = {
        "worker_id": identity.worker_id,
        "status": status,
        "current_tasks": snapshot.held_for(terms.cluster_id),
        **about,
    }
    if terms.instances:
        body |= {
            "instance": identity.instance,
            "last_poll": snapshot.last_poll,
            "open_polls": sorted(snapshot.open_polls),
            **ours,
        }
    path = f"/_worker/workers/{identity.worker_id}"
    return Request(method="PATCH", path=path, body=encode(body))


def read_beaten(url: str, reply: Reply) -> Beaten:
    """The answer to a heartbeat.

    Raises:
        OrchestratorUnavailable: it is not what an orchestrator answers.
    """
    return Beaten() if reply.body in _NO_ANSWER else _read(url, reply, Beaten)


def hold_seconds(terms: Terms, wanted_seconds: float) -> float:
    """How long a poll asks to be held.

    An answer that is read later than one lease after the poll was sent is worthless (rule
    H5), so a third of the lease is left for the way there and back.
    """
    return min(wanted_seconds, terms.lease_seconds * 2 / 3)


def answer_seconds(terms: Terms, held_seconds: float) -> float:
    """How long the answer to a poll may take."""
    held = held_seconds if terms.batch else max(held_seconds, _FOREIGN_HOLD_SECONDS)
    return held + _POLL_GRACE_SECONDS


def poll(identity: Identity, terms: Terms, ask: Ask, held_seconds: float) -> Request:
    """`GET /_worker/workers/{id}/tasks/next`."""
    query = {"timeout": f"{held_seconds:g}", "available_skills": ",".join(ask.skills)}
    if terms.batch:
        query |= _asking(identity, terms, ask)
    path = f"/_worker/workers/{identity.worker_id}/tasks/next"
    return Request(method="GET", path=path, query=query)


def read_tasks(url: str, reply: Reply, terms: Terms, seal: Seal) -> list[TaskPayload]:
    """The tasks in the answer to a poll; those that *seal* does not let through as refused.

    Raises:
        OrchestratorUnavailable: it is not what an orchestrator answers.
    """
    if reply.status == 204 or reply.body in (*_NO_ANSWER, b"{}", b"[]"):
        return []
    if terms.batch:
        return seal.sort(reply, _read(url, reply, Tasks).tasks, listed=True)
    return seal.sort(reply, [_read(url, reply, TaskPayload)], listed=False)


def post_results(
    identity: Identity,
    entries: Sequence[SpoolEntry],
    terms: Terms,
    ask: Ask | None,
) -> Request:
    """`POST /_worker/tasks/result`, of one result unless the terms allow a list.

    Those of a list may be of several traces, so each has its own as a member.  The headers of a
    request speak of all of it: they name a trace where there is one result only.

    Args:
        identity: Who posts.
        entries: All of one worker id: its own, or one that it had earlier.
        terms: Whether lists are understood.
        ask: For the next tasks, if any are wanted.
    """
    worker_id = entries[0].worker_id
    query: dict[str, str] = {}
    if ask is not None:
        query = {"available_skills": ",".join(ask.skills), **_asking(identity, terms, ask)}
    if terms.batch:
        body = b"[" + b",".join(_with_trace(entry) for entry in entries) + b"]"
    else:
        body = bytes(entries[0].body)
    return Request(
        method="POST",
        path="/_worker/tasks/result",
        query=query,
        body=body,
        worker_id=None if worker_id == identity.worker_id else worker_id,
        tracing=entries[0].trace_context if len(entries) == 1 else {},
    )


def _with_trace(entry: SpoolEntry) -> bytes:
    """The result, which is a JSON object that is encoded already, with one more member."""
    body = bytes(entry.body)
    if not entry.trace_context:
        return body
    return b'{"trace_context":' + encode(entry.trace_context) + b"," + body[1:]


def read_answers(url: str, reply: Reply, terms: Terms, count: int, seal: Seal) -> ResultsAnswer:
    """What became of *count* results, and tasks that came along as `read_tasks` tells them.

    Raises:
        OrchestratorUnavailable: it is not what an orchestrator answers.
    """
    if not terms.batch:
        return ResultsAnswer(results=[_read_answer(url, reply)])
    answer = _read(url, reply, ResultsAnswer)
    if len(answer.results) != count:
        reason = f"it answered {len(answer.results)} results when it was sent {count}"
        raise OrchestratorUnavailable(url, reason)
    return attrs.evolve(answer, tasks=seal.sort(reply, answer.tasks, listed=True))


def _read_answer(url: str, reply: Reply) -> ResultAnswer:
    """Any success will do; the text is for the log."""
    if reply.body in _NO_ANSWER:
        return ResultAnswer()
    try:
        return decode(reply.body, ResultAnswer)
    except InvalidMessage:
        pass
    try:
        decode_any(reply.body)
    except InvalidMessage as exc:
        raise OrchestratorUnavailable(url, f"its answer makes no sense: {exc}") from exc
    return ResultAnswer()


def probe(terms: Terms | None) -> Request:
    """Whether it is ready: `GET /readyz`, which the original does not know."""
    path = "/readyz" if terms is None or terms.instances else "/_public/status"
    return Request(method="GET", path=path)


def give_back(task_ids: Sequence[str], unstarted: Sequence[str]) -> Request:
    """`POST /_worker/tasks/return`."""
    body = encode(Return(task_ids=list(task_ids), unstarted=list(unstarted)))
    return Request(method="POST", path="/_worker/tasks/return", body=body)


def event(said: WorkerEvent) -> Request:
    """`POST /_worker/events`, of one event."""
    path = "/_worker/events"
    return Request(method="POST", path=path, body=encode(said), tracing=said.trace_context or {})


def events(said: Sequence[WorkerEvent]) -> Request:
    """`POST /_worker/events`, of a list (extension), all of one attempt."""
    tracing = said[0].trace_context or {}
    return Request(method="POST", path="/_worker/events", body=encode(list(said)), tracing=tracing)


def read_event_answers(url: str, reply: Reply, count: int) -> list[EventAnswer]:
    """What became of *count* events that were sent as a list.

    Raises:
        OrchestratorUnavailable: it is not what an orchestrator answers.
    """
    answers = _read(url, reply, EventsAnswer).results
    if len(answers) != count:
        raise OrchestratorUnavailable(
            url, f"it answered {len(answers)} events when it was sent {count}"
        )
    return answers


def read_event_answer(reply: Reply) -> EventAnswer:
    """What became of one event; any success will do."""
    try:
        return decode(reply.body, EventAnswer)
    except InvalidMessage:
        return EventAnswer()


def _asking(identity: Identity, terms: Terms, ask: Ask) -> dict[str, str]:
    said = {
        "max_tasks": str(ask.most),
        "instance": identity.instance,
        "poll": str(ask.poll),
    }
    if terms.room and ask.room:
        said["room"] = ",".join(f"{'~'.join(skills)}:{most}" for skills, most in ask.room)
    return said


def _read(url: str, reply: Reply, cls: type[T]) -> T:
    try:
        return decode(reply.body, cls)
    except InvalidMessage as exc:
        raise OrchestratorUnavailable(url, f"its answer makes no sense: {exc}") from exc


def _above_zero(value: float | None, otherwise: float) -> float:
    return value if value is not None and value > 0 else otherwise
