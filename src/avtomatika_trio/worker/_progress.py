"""`send_progress`: best effort, never in a handler's way.

A handler only notes how far it is; one task of the worker posts the latest note of each
attempt, at most one a second.  Nothing here can delay or fail a handler.
"""

import contextlib
import logging
import math
import sys
import threading
import uuid
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NoReturn

import attrs
import trio

from avtomatika_trio._wire.messages import TaskPayload, WorkerEvent
from avtomatika_trio._wire.tracing import span_of
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._link import Link
from avtomatika_trio.worker._routes import Routes

logger = logging.getLogger(__name__)

#: At most one post for an attempt in this time; the last note wins.
_INTERVAL_SECONDS = 1.0

_MOST_MESSAGE_CHARACTERS = 2_000


@attrs.frozen(kw_only=True)
class _Note:
    task: TaskPayload
    progress: float
    message: str


class Checkpoint:
    """What `send_progress` returns: awaiting it lets others run; not awaiting it is fine."""

    def __await__(self) -> Generator[Any, Any, None]:
        if trio.lowlevel.in_trio_run():  # else in a loop of the handler's own thread
            yield from trio.lowlevel.checkpoint().__await__()  # noqa: ASYNC105 - it is


class ProgressReports:
    """The latest notes of an orchestrator's attempts, on their way there."""

    def __init__(self, link: Link, routes: Routes, worker_id: str) -> None:
        self._link = link
        self._routes = routes
        self._worker_id = worker_id
        self._notes: dict[str, _Note] = {}
        self._next_at: dict[str, float] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = threading.get_ident()

    def of(self, task: TaskPayload) -> "SendProgress":
        """What the handler of *task* is given."""
        return SendProgress(self, task)

    def note(self, task: TaskPayload, progress: float, message: str) -> None:
        """Remember how far *task* is; from any thread."""
        note = _Note(task=task, progress=progress, message=message)
        if threading.get_ident() == self._loop_thread:
            self._keep(note)
            return
        with contextlib.suppress(trio.RunFinishedError):  # a thread that outlived its worker
            self._token.run_sync_soon(self._keep, note)

    def _keep(self, note: _Note) -> None:
        if note.task.task_id in self._next_at:  # else it has ended
            self._notes[note.task.task_id] = note
            self._changed.unpark_all()

    def begin(self, task: TaskPayload) -> None:
        """The attempt at *task* begins: notes are taken from now on."""
        self._next_at[task.task_id] = -math.inf

    def end(self, task: TaskPayload) -> None:
        """The attempt has ended, and its result says more than any note."""
        self._next_at.pop(task.task_id, None)
        self._notes.pop(task.task_id, None)

    async def run(self) -> NoReturn:
        """Post notes until cancelled."""
        while True:
            now = trio.current_time()
            due = [task_id for task_id in self._notes if self._next_at[task_id] <= now]
            for task_id in due:
                await self._post(task_id)
            if not due:
                next_at = min((self._next_at[task_id] for task_id in self._notes), default=math.inf)
                with trio.move_on_at(next_at):
                    await self._changed.park()

    async def _post(self, task_id: str) -> None:
        note = self._notes.pop(task_id, None)
        if note is None:
            return  # it has ended meanwhile
        self._next_at[task_id] = trio.current_time() + _INTERVAL_SECONDS
        said = WorkerEvent(
            event_id=str(uuid.uuid4()),
            worker_id=self._worker_id,
            origin_worker_id=self._worker_id,
            event_type="progress",
            payload={"progress": note.progress, "message": note.message},
            target_job_id=note.task.job_id,
            target_task_id=task_id,
            origin_task_id=task_id,
            trace_context=span_of(note.task.tracing_context, task_id) or None,
        )
        terms = self._link.terms
        other = None if terms is None else self._routes.best(terms.cluster_id, self._link.url)
        try:
            await (other or self._link).http.send(_requests.event(said))
        except (OrchestratorUnavailable, Refused) as exc:
            logger.debug("progress was not taken: %s", exc)


class SendProgress:
    """Tells how far an attempt is: `send_progress(0.5)` or `send_progress(0.5, "half way")`.

    May be awaited in an `async def` and may be called plainly there and in a thread.  The
    older way to call it, `send_progress(task_id, job_id, 0.5, "half way")`, works too; what
    it says of ids is not needed.  Progress that cannot be understood is logged and ignored.
    """

    def __init__(self, reports: ProgressReports, task: TaskPayload) -> None:
        self._reports = reports
        self._task = task

    def __call__(self, *args: Any, **named: Any) -> Checkpoint:
        """Note it.

        Args:
            args: `progress` (a number, 0 to 1) and perhaps `message`, or these two after
                task id and job id.
            named: Any of `progress`, `message`, `task_id`, `job_id`.
        """
        said = read_progress(args, named)
        if said.progress is not None:
            self._reports.note(self._task, said.progress, said.message)
        return Checkpoint()


@attrs.frozen(kw_only=True)
class SaidProgress:
    """What a call of `send_progress` tells."""

    task_id: str | None
    progress: float | None
    """None if it cannot be understood, which is in the log then."""
    message: str


def read_progress(args: Sequence[Any], named: Mapping[str, Any]) -> SaidProgress:
    """Understand the arguments of `send_progress`, in whichever way it was called."""
    names: tuple[str, ...] = ("task_id", "job_id", "progress", "message")
    if len(args) <= 2 and not (args and isinstance(args[0], str)):
        names = names[2:]
    elif len(args) > 1 and isinstance(args[1], int | float):
        names = ("task_id", "progress", "message")
    said = dict(zip(names, args, strict=False)) | dict(named)
    task_id, progress = said.get("task_id"), said.get("progress")
    share: float | None = None
    if isinstance(progress, bool) or not isinstance(progress, int | float):
        logger.warning("send_progress takes a number, not %r; it is ignored", progress)
    elif not -sys.float_info.max <= progress <= sys.float_info.max:
        logger.warning("send_progress takes a finite number, such as 0.5; this one is ignored")
    else:
        share = float(progress)
    message = "" if said.get("message") is None else str(said["message"])
    return SaidProgress(
        task_id=None if task_id is None else str(task_id),
        progress=share,
        message=message[:_MOST_MESSAGE_CHARACTERS].encode(errors="replace").decode(),
    )
