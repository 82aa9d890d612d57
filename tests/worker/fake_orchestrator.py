"""An orchestrator without storage or blueprints, for tests of the worker.

It keeps the promises that a worker relies on: a task has at most one lease, an answer's tasks
are leased before they are sent, heartbeats reconcile, a result is applied once and answered
the same when it comes again.  It records what it granted and what it was told.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import attrs
import httpx
import trio

from avtomatika_trio._wire.codec import decode, decode_any, encode
from avtomatika_trio._wire.messages import (
    EXTENSIONS,
    Heartbeat,
    Registration,
    Result,
    Return,
    WorkerEvent,
)
from avtomatika_trio.orchestrator._rxon import read_room

URL = "http://orchestrator"
Answer = httpx.Response


@attrs.define(kw_only=True)
class Task:
    """A task and what became of it."""

    key: str
    skill: str
    params: Any
    attempts: int = 0
    leased_as: str | None = None
    result: Result | None = None


@attrs.define(kw_only=True)
class Lease:
    task: Task
    poll: int
    instance: str
    ended: str | None = None
    """None while it counts, else how it ended."""
    answer: dict[str, Any] | None = None


def _answer(body: Any, status: int = 200) -> Answer:
    content = encode(body) if status != 204 else b""
    return httpx.Response(status, content=content, headers={"Content-Type": "application/json"})


def _problem(status: int, text: str) -> Answer:
    return _answer({"error": text, "detail": text, "status": status}, status)


def _within(tasks: list[Task], told: str) -> list[Task]:
    """Those of *tasks* that there is room for, as the member `room` of a query tells it."""
    rooms = read_room(told)
    kept: list[Task] = []
    for task in tasks:
        if all(it.most > 0 for it in rooms if task.skill in it.skills):
            kept.append(task)
            rooms = tuple(it.after([task.skill]) for it in rooms)
    return kept


@attrs.define(kw_only=True, eq=False)
class FakeOrchestrator:
    name: str = ""
    """What its tasks' ids begin with."""
    extensions: tuple[str, ...] = EXTENSIONS
    cluster_id: str | None = "blue"
    lease_seconds: float = 30.0
    heartbeat_seconds: float | None = 10.0
    hold_seconds: float = 30.0
    known: set[str] = attrs.field(factory=set)
    """Worker ids."""
    instances: set[str] = attrs.field(factory=set)
    queue: list[Task] = attrs.field(factory=list)
    tasks: dict[str, Task] = attrs.field(factory=dict)
    leases: dict[str, Lease] = attrs.field(factory=dict)
    surplus: int = 0
    """How many tasks the first grant has too many."""
    to_cancel: set[str] = attrs.field(factory=set)
    down: bool = False
    """Refuses connections."""
    fault: Callable[[httpx.Request], Awaitable[Answer | None]] | None = None
    """Asked first; an answer of its own, or None to go on."""
    after: Callable[[httpx.Request, Answer], Awaitable[Answer]] | None = None
    """What the network makes of an answer."""

    requests: list[tuple[float, str]] = attrs.field(factory=list)
    registrations: list[Registration] = attrs.field(factory=list)
    beats: list[Heartbeat] = attrs.field(factory=list)
    beat_times: list[float] = attrs.field(factory=list)
    polls: list[dict[str, str]] = attrs.field(factory=list)
    granted: list[str] = attrs.field(factory=list)
    posts: list[list[Result]] = attrs.field(factory=list)
    queries: list[dict[str, str]] = attrs.field(factory=list)
    """Of the posts."""
    posted_as: list[str] = attrs.field(factory=list)
    applied: list[Result] = attrs.field(factory=list)
    returned: list[Return] = attrs.field(factory=list)
    events: list[WorkerEvent] = attrs.field(factory=list)
    """As they were posted."""
    noted: dict[str, list[tuple[int, str, Any]]] = attrs.field(factory=dict)
    """By attempt, in order: those with numbers, posted or brought by the result."""
    refuse_event: Callable[[WorkerEvent], dict[str, Any] | None] = lambda _: None
    """What is answered to an event that is not taken."""
    headers: list[httpx.Headers] = attrs.field(factory=list)
    _news: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    # What a test does

    def submit(self, skill: str = "echo", params: Any = None, count: int = 1) -> list[Task]:
        new = [
            Task(
                key=f"{self.name}k{len(self.tasks) + n}",
                skill=skill,
                params={} if params is None else params,
            )
            for n in range(count)
        ]
        self.tasks |= {task.key: task for task in new}
        self.queue += new
        self._news.unpark_all()
        return new

    async def until(self, condition: Callable[[], object], *, seconds: float = 36_000.0) -> None:
        """Wait for *condition*, in steps of a tenth of a second."""
        with trio.fail_after(seconds):
            while not condition():  # noqa: ASYNC110 - conditions are of many things
                await trio.sleep(0.1)

    async def all_done(self) -> None:
        await self.until(lambda: all(task.result for task in self.tasks.values()))

    def results(self) -> dict[str, tuple[str, Any]]:
        """By the task's stable key."""
        return {
            task.key: (task.result.status, task.result.data)
            for task in self.tasks.values()
            if task.result is not None
        }

    def forget(self) -> None:
        """As if it had been restarted without its storage's workers."""
        self.known.clear()
        self.instances.clear()

    # What a worker does

    async def answer(self, request: httpx.Request) -> Answer:
        self.requests.append((trio.current_time(), f"{request.method} {request.url.path}"))
        self.headers.append(request.headers)
        if self.down:
            raise httpx.ConnectError("refused")
        await trio.lowlevel.checkpoint()
        if self.fault is not None:
            answer = await self.fault(request)
            if answer is not None:
                return answer
        answered = await self._serve(request)
        return answered if self.after is None else await self.after(request, answered)

    async def _serve(self, request: httpx.Request) -> Answer:
        words = request.url.path.strip("/").split("/")
        query = dict(parse_qsl(request.url.query.decode(), keep_blank_values=True))
        match (request.method, *words):
            case ("POST", "_worker", "workers", "register"):
                return self.register(request.content)
            case ("PATCH", "_worker", "workers", worker_id):
                return self.heartbeat(worker_id, request.content)
            case ("GET", "_worker", "workers", worker_id, "tasks", "next"):
                return await self._poll(worker_id, query)
            case ("POST", "_worker", "tasks", "result"):
                return self._result(request, query)
            case ("POST", "_worker", "tasks", "return"):
                return self._return(decode(request.content, Return))
            case ("POST", "_worker", "events"):
                return self._events(request.content)
            case ("GET", "readyz") if self.extensions:
                return _answer({"status": "ok"})
            case ("GET", "_public", "status"):
                return _answer({"status": "ok"})
        return httpx.Response(404, text="no such route")

    def register(self, body: bytes) -> Answer:
        said = decode(body, Registration)
        self.registrations.append(said)
        self.known.add(said.worker_id)
        answer: dict[str, Any] = {"status": "registered"}
        if self.extensions:
            assert said.instance is not None
            self.instances.add(said.instance)
            answer |= {
                "extensions": list(self.extensions),
                "cluster_id": self.cluster_id,
                "lease_seconds": self.lease_seconds,
                "heartbeat_seconds": self.heartbeat_seconds,
            }
        return _answer(answer)

    def heartbeat(self, worker_id: str, body: bytes) -> Answer:
        said = decode(body, Heartbeat)
        self.beats.append(said)
        if worker_id not in self.known:
            return _problem(404, "Worker not found")
        if not self.extensions:
            return _answer({"status": "ok"})
        assert said.instance in self.instances
        named = set(said.current_tasks or ())
        for wire_id, lease in self.leases.items():
            if lease.ended is not None:
                continue
            if lease.instance in said.replaces and wire_id in named:
                lease.instance = said.instance
            elif lease.instance in said.replaces:
                self._end(wire_id, "lost")
            elif (
                lease.instance == said.instance
                and lease.poll <= said.last_poll
                and lease.poll not in said.open_polls
                and wire_id not in named
            ):
                self._end(wire_id, "unclaimed")
        for wire_id in self.to_cancel & named & self.leases.keys():
            self.leases[wire_id].ended = "cancelled"  # with its job: it is not queued again
        cancel = {wire_id for wire_id in named if self._is_over(wire_id)}
        return _answer(
            {"status": "ok", "cancel_task_ids": sorted(cancel), "replaced": said.replaces}
        )

    def _is_over(self, wire_id: str) -> bool:
        lease = self.leases.get(wire_id)
        return lease is not None and lease.ended is not None

    async def _poll(self, worker_id: str, query: dict[str, str]) -> Answer:
        self.polls.append(query)
        with trio.move_on_after(min(float(query["timeout"]), self.hold_seconds)):
            while not (got := self._grant(worker_id, query)):
                await self._news.park()
            if "max_tasks" in query:
                return _answer({"tasks": got})
            return _answer(got[0])
        return _answer(None, 204)

    def _grant(self, worker_id: str, query: dict[str, str]) -> list[dict[str, Any]]:
        if worker_id not in self.known:
            return []
        skills = query["available_skills"].split(",")
        fitting = [task for task in self.queue if task.skill in skills]
        most = int(query.get("max_tasks", 1)) + self.surplus
        self.surplus = 0
        fitting = _within(fitting, query.get("room", ""))
        return [self._lease(task, query) for task in fitting[:most]]

    def _lease(self, task: Task, query: dict[str, str]) -> dict[str, Any]:
        self.queue.remove(task)
        task.attempts += 1
        wire_id = f"{task.key}-{task.attempts}"
        task.leased_as = wire_id
        self.leases[wire_id] = Lease(
            task=task, poll=int(query.get("poll", 0)), instance=query.get("instance", "")
        )
        self.granted.append(wire_id)
        said = {"job_id": f"job-{task.key}", "task_id": wire_id, "type": task.skill}
        ours = {"attempt": task.attempts, "idempotency_key": task.key} if query.get("poll") else {}
        return {**said, "params": task.params, "priority": 0, **ours}

    def _end(self, wire_id: str, how: str) -> None:
        lease = self.leases[wire_id]
        lease.ended = how
        if lease.task.leased_as == wire_id and lease.task.result is None:
            lease.task.leased_as = None
            self.queue.append(lease.task)
            self._news.unpark_all()

    def _result(self, request: httpx.Request, query: dict[str, str]) -> Answer:
        listed = isinstance(decode_any(request.content), list)
        many = decode(request.content, list[Result]) if listed else None
        results = many if many is not None else [decode(request.content, Result)]
        self.posts.append(results)
        self.queries.append(query)
        sender = request.headers["X-Worker-ID"]
        self.posted_as.append(sender)
        assert all(result.worker_id in (None, sender) for result in results)
        answers = [self._apply(result) for result in results]
        if not listed:
            return _answer(answers[0])
        tasks = self._grant(sender, query) if "max_tasks" in query else []
        return _answer({"results": answers, "tasks": tasks})

    def _apply(self, result: Result) -> dict[str, Any]:
        lease = self.leases.get(result.task_id)
        if lease is None:
            return {"status": "ignored", "reason": "job_not_found", "message": "never heard of it"}
        if lease.answer is None:
            lease.answer = self._apply_first(result, lease)
        return lease.answer

    def _apply_first(self, result: Result, lease: Lease) -> dict[str, Any]:
        task = lease.task
        if task.result is not None or task.leased_as not in (None, result.task_id):
            return {"status": "ignored", "reason": "stale_task", "message": "too late"}
        if task in self.queue:
            self.queue.remove(task)
        lease.ended = "done"
        task.result = result
        for said in result.events:
            self._note_event(result.task_id, said.number, said.event_type, said.payload)
        self.applied.append(result)
        return {"status": "accepted", "transition": f"{result.status}_transition"}

    def _events(self, body: bytes) -> Answer:
        if not isinstance(decode_any(body), list):
            said = decode(body, WorkerEvent)
            assert said.number is None or "events" in self.extensions
            return _answer(self._event(said))
        assert "events" in self.extensions
        many = decode(body, list[WorkerEvent])
        assert len({said.target_task_id for said in many}) == 1
        return _answer({"results": [self._event(said) for said in many]})

    def _event(self, said: WorkerEvent) -> dict[str, Any]:
        refused = self.refuse_event(said)
        if refused is not None:
            return refused
        assert said.target_task_id is not None
        if said.number is not None:
            self._note_event(said.target_task_id, said.number, said.event_type, said.payload)
        self.events.append(said)
        return {"status": "event_accepted"}

    def _note_event(self, wire_id: str, number: int, event_type: str, payload: Any) -> None:
        noted = self.noted.setdefault(wire_id, [])
        if not noted or noted[-1][0] < number:
            noted.append((number, event_type, payload))

    def noted_payloads(self, wire_id: str = "k0-1") -> list[Any]:
        """Of the events of an attempt, in the order of its history."""
        return [payload for _, _, payload in self.noted.get(wire_id, [])]

    def _return(self, said: Return) -> Answer:
        self.returned.append(said)
        for wire_id in said.task_ids:
            lease = self.leases.get(wire_id)
            if lease is not None and lease.ended is None:
                if lease.task.attempts == 3:  # patience ends: quarantined
                    lease.ended = "returned"
                    continue
                self._end(wire_id, "returned")
        return _answer({"status": "returned"})


def decoded(request: httpx.Request) -> Any:
    """The body of a request."""
    return json.loads(request.content)
