"""What somebody who watches a job knows of it, kept up to date with its history.

Rows of history are added as they come, so that a job of 10,000 branches is read once and not
with every look.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import attrs

Json = Mapping[str, Any]

#: What ends an attempt; `task_finished` does too.
_ATTEMPT_ENDS = frozenset(
    f"attempt_{end}" for end in ("lost", "unclaimed", "returned", "failed", "timed_out")
)
#: More of an event does not fit on a line.
_MOST_EVENT_CHARACTERS = 200

_RUNS = frozenset({"attempt_leased", "attempt_retaken"})

#: A worker that has room takes a task at once; one that is being started takes a little longer.
NOBODY_SECONDS = 5.0


@attrs.define(kw_only=True)
class Passage:
    """A state that the job is in, or has been in; times are Unix seconds."""

    state: str
    entered_at: float
    left_at: float | None = None

    def seconds(self, now: float) -> float:
        """How long the job has been there."""
        return max(0.0, (now if self.left_at is None else self.left_at) - self.entered_at)


@attrs.frozen(kw_only=True)
class Running:
    """An attempt that a worker has."""

    task_id: str
    attempt: int
    worker_id: str
    leased_at: float
    event: str = ""
    """The type of the last event that it has sent, and the payload."""


@attrs.frozen(kw_only=True)
class Waiting:
    """A task that no worker has."""

    task_id: str
    since: float
    """Unix seconds."""
    retry_at: float | None = None
    """Before that no worker is given it."""
    why: str = ""
    """What became of the attempt before, if there was one."""

    def is_left(self, now: float) -> bool:
        """Whether no worker takes it though it could be given to one; *now* is in Unix seconds."""
        return now - max(self.since, self.retry_at or 0.0) >= NOBODY_SECONDS


@attrs.define(kw_only=True)
class FanOut:
    """The branches of the latest parallel dispatch."""

    state: str
    total: int
    done: int = 0


@attrs.define
class Watching:
    """All that is known of one job; see `add`."""

    passages: list[Passage] = attrs.field(factory=list)
    running: dict[str, Running] = attrs.field(factory=dict)
    """By task."""
    waiting: dict[str, Waiting] = attrs.field(factory=dict)
    """By task; branches are told of only once a worker has had them."""
    skills: dict[str, str] = attrs.field(factory=dict)
    """By task, as far as they are known."""
    fan_out: FanOut | None = None
    last_event: int = 0
    """The number of the last event that was added."""
    last_at: float = 0.0

    def add(self, events: Iterable[Json]) -> None:
        """Take note of *events*: rows of the history after `last_event`, oldest first."""
        for event in events:
            self.last_event = event["event_id"]
            self.last_at = unix_seconds(event["timestamp"])
            self._add_state(event)
            self._add_task(event)

    def _add_state(self, event: Json) -> None:
        kind = event["event_type"]
        if event["task_id"] is None:
            self._enter(event["state"])
        if kind == "branches_dispatched":
            total = (event["details"] or {}).get("branches", 0)
            self.fan_out = FanOut(state=event["state"], total=total) if total else None
            if total:
                return  # it goes on to the next state once they are done
        if event["next_state"] is not None:
            self._enter(event["next_state"], again=True)
        if kind.startswith("job_") and kind != "job_created":
            self.passages[-1].left_at = self.last_at
            self._forget_tasks()

    def _enter(self, state: str, *, again: bool = False) -> None:
        """The job is in *state*; *again* if it may have gone there from *state* itself."""
        if self.passages:
            if self.passages[-1].state == state and not again:
                return
            self.passages[-1].left_at = self.last_at
        # What a state has asked for ends with it, though not every task is told of.
        self._forget_tasks()
        self.fan_out = None
        self.passages.append(Passage(state=state, entered_at=self.last_at))

    def _forget_tasks(self) -> None:
        self.running.clear()
        self.waiting.clear()

    def _add_task(self, event: Json) -> None:
        kind, task_id = event["event_type"], event["task_id"]
        if task_id is None:
            return
        skill = (event["details"] or {}).get("skill")
        if skill is not None:
            self.skills[task_id] = skill
        if kind != "worker_event":
            self.waiting.pop(task_id, None)
        if kind == "task_dispatched" or _comes_again(event):
            self.waiting[task_id] = _waiting(task_id, event, self.last_at)
        if kind in _RUNS:
            self.running[task_id] = Running(
                task_id=task_id,
                attempt=event["attempt"],
                worker_id=event["worker_id"],
                leased_at=self.last_at,
            )
        elif kind == "worker_event" and task_id in self.running:
            self.running[task_id] = attrs.evolve(
                self.running[task_id], event=_as_text(event["details"])
            )
        elif kind == "task_finished" or kind in _ATTEMPT_ENDS:
            self.running.pop(task_id, None)
        if kind == "task_finished":
            self.skills.pop(task_id, None)
            if self.fan_out is not None and event["state"] == self.fan_out.state:
                self.fan_out.done = min(self.fan_out.done + 1, self.fan_out.total)

    def are_branches_left(self, now: float) -> bool:
        """Whether no worker takes a branch of those that wait; *now* is in Unix seconds."""
        waits = self.fan_out is not None and self.fan_out.done < self.fan_out.total
        idle = not self.running and not self.waiting
        return waits and idle and now - self.last_at >= NOBODY_SECONDS

    @property
    def lacks_skills(self) -> bool:
        """Whether something runs of which nobody has told the skill; branches are so."""
        return any(task_id not in self.skills for task_id in self.running)


def _comes_again(event: Json) -> bool:
    """Whether *event* is the end of an attempt that another one follows."""
    kind = event["event_type"]
    if kind in {"attempt_failed", "attempt_timed_out"}:
        return "retry_at" in (event["details"] or {})
    return kind in _ATTEMPT_ENDS


def _waiting(task_id: str, event: Json, now: float) -> Waiting:
    """What *event*, of a dispatch or of an attempt that has ended, makes of a task."""
    details: Json = event["details"] or {}
    why = ""
    if event["event_type"] in _ATTEMPT_ENDS:
        error = details.get("error") or {}
        why = error.get("message") or event["event_type"].replace("_", " ")
    return Waiting(
        task_id=task_id,
        since=now,
        retry_at=details.get("retry_at"),
        why=str(why)[:_MOST_EVENT_CHARACTERS],
    )


def _as_text(details: Json) -> str:
    payload = json.dumps(details["payload"], ensure_ascii=False)
    text = f"{details['type']} {payload}" if details["payload"] else details["type"]
    return str(text)[:_MOST_EVENT_CHARACTERS]


def unix_seconds(text: str) -> float:
    """Of a point in time in RFC 3339."""
    return datetime.fromisoformat(text).timestamp()


def duration(seconds: float) -> str:
    """A length of time for people: `0.3 s`, `42 s`, `3:07`, `2:00:05`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
