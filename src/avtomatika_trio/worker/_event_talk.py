"""Those methods of a `Worker` that are about events."""

from collections.abc import Mapping
from typing import Any

from avtomatika_trio.worker._event_posts import EventReceipt
from avtomatika_trio.worker._talk import Talk


class EventTalk:
    """What a `Worker` says for the histories of jobs.

    Args:
        talk: The way to its attempts.
    """

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def send_event(self, *args: Any, **named: Any) -> EventReceipt:
        """Add an event to the history of a job; in a handler, as the `send_event` it is given.

            await worker.send_event("frame_done", {"frame": 7})

        It is called with the type and perhaps a payload, by position or by name; `task_id`
        names the attempt and may stand before them, as may a `job_id` behind that.  Any thread
        may call it.  It comes back at once; awaiting what it returns waits for the orchestrator
        to store the event, unless that one cannot be reached.

        Raises:
            InvalidEvent: type or payload are malformed, or not what the skill declares.
            RuntimeError: it cannot know which attempt is meant; give `task_id`.
        """
        return self._talk.send_event(*args, **named)

    def emit_event(self, event: Any) -> EventReceipt:
        """The older way to call `send_event`: with one object, or dict, that has it all.

        Its members are `event_type`, `payload` and perhaps `target_task_id`.

        Raises:
            As `send_event`.
        """
        names = ("event_type", "payload", "target_task_id", "origin_task_id")
        if isinstance(event, Mapping):
            said = {name: event.get(name) for name in names}
        else:
            said = {name: getattr(event, name, None) for name in names}
        task_id = said["target_task_id"] or said["origin_task_id"]
        return self._talk.send_event(
            event_type=said["event_type"], payload=said["payload"], task_id=task_id
        )
