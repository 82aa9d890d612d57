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
    """The way from a worker's public methods to its attempts.

    Args:
        running: The attempts of the worker by their task id.
    """

    def __init__(self, running: Mapping[str, Attempt]) -> None:
        self._running = running

    def send_progress(self, *args: Any, **named: Any) -> Checkpoint:
        """As `SendProgress`, for the attempt that is named or that runs here."""
        said = read_progress(args, named)
        attempt = self._meant(said.task_id, "send_progress")
        if attempt is None:
            logger.debug("progress of task %s, which does not run, is ignored", said.task_id)
        elif said.progress is not None:
            attempt.home.progress.note(attempt.task, said.progress, said.message)
        return Checkpoint()

    def send_event(self, *args: Any, **named: Any) -> EventReceipt:
        """As `SendEvent`, for the attempt that is named or that runs here."""
        said = read_event(args, named)
        attempt = self._meant(said.task_id, "send_event")
        if attempt is None or attempt.skill is None:
            logger.debug("an event of task %s, which does not run, is ignored", said.task_id)
            return not_kept()
        return SendEvent(attempt.task, attempt.skill, attempt.home).send(said)

    def check_for_cancellation(self, task_id: str | None) -> CancellationCheck:
        """Whether the attempt that is named, or that runs here, is over."""
        attempt = self._meant(task_id, "check_for_cancellation")
        if attempt is not None:
            return CancellationCheck(attempt.is_over)
        if RUNNING.get(None) is not None:
            logger.warning("task %s does not run here, so it counts as cancelled", task_id)
        return CancellationCheck(lambda: True)

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
