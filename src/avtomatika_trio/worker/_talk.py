"""What handlers say and ask through the `Worker` itself, and which attempt they mean."""

import logging
from collections.abc import Mapping
from typing import Any

from avtomatika_trio.worker._attempt import RUNNING, Attempt
from avtomatika_trio.worker._cancellation import CancellationCheck
from avtomatika_trio.worker._event_posts import EventReceipt, not_kept
from avtomatika_trio.worker._events import SendEvent, read_event
from avtomatika_trio.worker._progress import Checkpoint, read_progress

logger = logging.getLogger(__name__)


class NoAttempt(RuntimeError):
    """There is no running attempt that a call could mean; give it the task id."""


class Talk:
    """Those methods of a `Worker` that are for its handlers."""

    def __init__(self) -> None:
        self._running: dict[str, Attempt] = {}
        """Its attempts, by their task id."""

    def send_progress(self, *args: Any, **named: Any) -> Checkpoint:
        """Tell how far an attempt is; in a handler, as the `send_progress` that it is given.

        It is called with `progress` (a number, 0 to 1) and perhaps `message`, by position or
        by name; `task_id` names the attempt and may stand before them, as may a `job_id`
        behind that.  It may be awaited in an `async def`, and comes back at once.

        Raises:
            RuntimeError: it cannot know which attempt is meant; give `task_id`.
        """
        said = read_progress(args, named)
        attempt = self._meant(said.task_id, "send_progress")
        if attempt is None:
            logger.debug("progress of task %s, which does not run, is ignored", said.task_id)
        elif said.progress is not None:
            attempt.home.progress.note(attempt.task, said.progress, said.message)
        return Checkpoint()

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
        said = read_event(args, named)
        attempt = self._meant(said.task_id, "send_event")
        if attempt is None or attempt.skill is None:
            logger.debug("an event of task %s, which does not run, is ignored", said.task_id)
            return not_kept()
        return SendEvent(attempt.task, attempt.skill, attempt.home).send(said)

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
        return self.send_event(
            event_type=said["event_type"], payload=said["payload"], task_id=task_id
        )

    def check_for_cancellation(self, task_id: str | None = None) -> CancellationCheck:
        """Whether nobody wants the result of an attempt any more; from any thread.

            if worker.check_for_cancellation(task_id):
                return

        In an `async def` await it.  An attempt that does not run (any more) counts as
        cancelled.

        Args:
            task_id: Of the attempt; not needed in a handler.

        Raises:
            RuntimeError: it cannot know which attempt is meant; give *task_id*.
        """
        attempt = self._meant(task_id, "check_for_cancellation")
        if attempt is not None:
            return CancellationCheck(attempt.is_over)
        if RUNNING.get(None) is not None:
            logger.warning("task %s does not run here, so it counts as cancelled", task_id)
        return CancellationCheck(lambda: True)

    def raise_if_cancelled(self, task_id: str | None = None) -> None:
        """End the handler if nobody wants its result; as `check_for_cancellation`.

        Raises:
            TaskCancelled: nobody does; let it out of the handler.
            RuntimeError: it cannot know which attempt is meant; give *task_id*.
        """
        self.check_for_cancellation(task_id).raise_if_cancelled()

    def _meant(self, task_id: str | None, call: str) -> Attempt | None:
        """The attempt of *task_id*, or None if it has ended.

        Raises:
            NoAttempt: none was named, and this is not the context of a handler.
        """
        here = RUNNING.get(None)
        if task_id is not None:
            if here is not None and here.task.task_id == task_id:
                return here
            return self._running.get(task_id)
        if here is None:
            raise NoAttempt(
                f"{call} was called outside of a handler, or in a thread that the handler has"
                f" started itself: give it the handler's task_id, {call}(task_id=...)"
            )
        return here
