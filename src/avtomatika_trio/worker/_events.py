"""`send_event`: what a handler says for the history of its job.

What is wrong with an event is told at once, in the handler; whether an orchestrator can be
reached is not the handler's affair.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from avtomatika_trio._core.event_rules import PROGRESS, contract_fault, shape_fault
from avtomatika_trio._core.json_values import NotJson, copy_json
from avtomatika_trio._shapes import plain
from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio.errors import InvalidEvent
from avtomatika_trio.worker._event_posts import EventReceipt, not_kept
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._progress import read_progress
from avtomatika_trio.worker._skills import Skill

#: What may follow type and payload; it is understood, and not kept.
_FURTHER = ("priority", "security", "metadata", "origin_worker_id")
_NAMES = frozenset({"event_type", "type", "payload", "task_id", "job_id", *_FURTHER})


class SendEvent:
    """Adds an event to the history: `send_event("frame_done", {"frame": 7})`.

    May be awaited in an `async def` and may be called plainly there and in a thread.

    Args:
        task: Whose attempt says it.
        skill: What that may send.
        home: Who issued the task.
    """

    def __init__(self, task: TaskPayload, skill: Skill, home: Home) -> None:
        self._task = task
        self._skill = skill
        self._home = home

    def __call__(self, *args: Any, **named: Any) -> EventReceipt:
        """Send it.

        Args:
            args: The type and perhaps the payload (an object of JSON values, up to 8 KiB); task
                id, and perhaps job id, may stand before them.  What follows, `priority`,
                `security`, `metadata` and `origin_worker_id`, is not kept.
            named: Any of these; the type as `event_type` or `type`.

        The type `progress` is what `send_progress` sends.

        Raises:
            InvalidEvent: type or payload are malformed, or not what the skill declares.
        """
        return self.send(read_event(args, named))

    def send(self, said: "SaidEvent") -> EventReceipt:
        """Send what was understood already.

        Raises:
            InvalidEvent: as above.
        """
        if said.event_type == PROGRESS and isinstance(said.payload, Mapping):
            note = read_progress((), said.payload)
            if note.progress is not None:
                self._home.progress.note(self._task, note.progress, note.message)
            return not_kept()
        posts = self._home.events
        payload = _checked(said, self._skill, is_strict=posts.is_strict)
        return posts.send(self._task, said.event_type, payload)


@attrs.frozen(kw_only=True)
class SaidEvent:
    """What a call of `send_event` tells."""

    task_id: str | None
    event_type: Any
    payload: Any


def read_event(args: Sequence[Any], named: Mapping[str, Any]) -> SaidEvent:
    """Understand the arguments of `send_event`, in whichever way it was called.

    Raises:
        InvalidEvent: there is no type, or there are arguments that nothing is known of.
    """
    texts = 0
    while texts < min(3, len(args)) and isinstance(args[texts], str):
        texts += 1
    ids = ("task_id", "job_id")[: max(0, texts - 1)]
    names = (*ids, "event_type", "payload", *_FURTHER)
    said = dict(zip(names, args, strict=False)) | dict(named)
    unknown = sorted(named.keys() - _NAMES)
    if unknown or len(args) > len(names):
        what = ", ".join(unknown) or f"{len(args)} arguments"
        raise InvalidEvent(
            f"send_event: {what} cannot be understood; call it as"
            " send_event('frame_done', {'frame': 7})"
        )
    event_type = said.get("event_type", said.get("type"))
    if event_type is None:
        raise InvalidEvent("send_event: event_type: is missing; say it first")
    task_id, payload = said.get("task_id"), said.get("payload")
    return SaidEvent(
        task_id=None if task_id is None else str(task_id),
        event_type=event_type,
        payload={} if payload is None else payload,
    )


def _checked(said: SaidEvent, skill: Skill, *, is_strict: bool) -> dict[str, Any]:
    """The payload, a copy of it that is JSON.

    Raises:
        InvalidEvent: something is wrong with the event.
    """
    try:
        payload = copy_json(plain(said.payload), "payload")
    except NotJson as exc:
        raise InvalidEvent(f"send_event({said.event_type!r}): {exc}") from exc
    fault = shape_fault(said.event_type, payload) or contract_fault(
        said.event_type,
        payload,
        skill.info.events_schema or {},
        strict=is_strict,
        effort=None,
    )
    if fault is not None:
        raise InvalidEvent(f"send_event({said.event_type!r}): {fault}")
    assert isinstance(payload, dict)
    return payload
