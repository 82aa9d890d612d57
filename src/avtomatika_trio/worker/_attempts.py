"""The attempts that are running, and what is left of each when it ends."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial

import msgspec
import trio

from avtomatika_trio._task_logs import log_fields, trace_fields
from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio._wire.tracing import kept_tracing
from avtomatika_trio.worker._attempt import Attempt, Ending, run_attempt
from avtomatika_trio.worker._attempt_files import AttemptFiles, FilePlaces
from avtomatika_trio.worker._event_posts import Unsent
from avtomatika_trio.worker._groups import Groups
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._hot_skills import HotSkills
from avtomatika_trio.worker._outcome import Outcome
from avtomatika_trio.worker._requests import Terms
from avtomatika_trio.worker._skills import CallHandler, Skill
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool_entry import FinishedResult

logger = logging.getLogger(__name__)


class Attempts:
    """The attempts of one worker.

    Args:
        worker_id: Who runs them.
        skills: The handlers by name.
        slots: Each attempt owns one.
        groups: Each attempt has room in the group of its skill.
        hot: Where handlers mark what is hot.
        holdings: Where an attempt stays named until it is settled.
        deliver: Takes a result, and the slot with it.
        places: Where their files are.
        running: Where they are found by task id as long as they run.
        call: Calls their handlers in a way of its own.
        wall_clock: Unix time, for a result's `finished_at`.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        skills: Mapping[str, Skill],
        slots: Slots,
        groups: Groups,
        hot: HotSkills,
        holdings: Holdings,
        deliver: Callable[[FinishedResult], None],
        places: FilePlaces,
        running: dict[str, Attempt],
        call: CallHandler | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._worker_id = worker_id
        self._skills = skills
        self._slots = slots
        self._groups = groups
        self._hot = hot
        self._holdings = holdings
        self._deliver = deliver
        self._places = places
        self._wall_clock = wall_clock
        self._threads = trio.CapacityLimiter(slots.total)
        self._running = running
        self._call = call
        self._left: list[Attempt] = []
        self._ended = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._running)

    def create(self, task: TaskPayload, home: Home, terms: Terms) -> Attempt:
        """An attempt at *task* of *home*, to be given to `run`."""
        files = AttemptFiles(
            self._places,
            task.job_id,
            task.task_id,
            partial(home.progress.note, task),
        )
        skill = self._skills.get(task.type)
        attempt = Attempt(
            task=task,
            skill=skill,
            home=home,
            terms=terms,
            files=files,
            hot=self._hot,
            call=self._call,
        )
        self._running[task.task_id] = attempt
        return attempt

    async def run(self, attempt: Attempt) -> None:
        """Run *attempt*, and see to what is left of it."""
        with self._logged(attempt):
            outcome = await run_attempt(attempt, self._threads)
            unsent = await attempt.home.events.close(
                attempt.task, attempt.terms, is_wanted=outcome is not None
            )
        task_id = attempt.task.task_id
        del self._running[task_id]
        self._groups.end(attempt.task.type)
        self._ended.unpark_all()
        if outcome is not None:
            self._deliver(self._result(attempt, outcome, unsent))
            return
        self._slots.release(1)
        if attempt.ending is Ending.CANCELLED:
            self._holdings.drop([task_id])
        elif attempt.thread_runs:
            self._left.append(attempt)
        else:
            attempt.home.returns.give_back_started([task_id])

    def cancel(self, task_ids: Iterable[str], cluster_id: str) -> None:
        """An orchestrator of that cluster wants these stopped.

        Those that have finished already are left alone: only the answer to its delivery ends
        a result (rule R4).  So are those of other clusters, which are none of its business.
        """
        for task_id in task_ids:
            attempt = self._running.get(task_id)
            if attempt is None or attempt.terms.cluster_id != cluster_id:
                continue
            if attempt.ending is None:
                logger.info("task %s is cancelled", task_id)
                attempt.cancel()

    async def let_finish(self, grace_seconds: float) -> None:
        """Wait for all to end, and cut off those that have not after *grace_seconds*."""
        with trio.move_on_after(grace_seconds):
            while self._running:
                await self._ended.park()
        if self._running:
            logger.warning("%d tasks are cut off and given back", len(self._running))
        for attempt in self._running.values():
            attempt.cut_off()

    def give_back_threads(self) -> None:
        """Give back those whose thread was left to itself: the process is about to end (H6)."""
        for attempt in self._left:
            if attempt.thread_runs:
                logger.warning(
                    "a thread of %s still runs (task %s); it ends with the process",
                    attempt.task.type,
                    attempt.task.task_id,
                )
            attempt.home.returns.give_back_started([attempt.task.task_id])
        self._left.clear()

    def _logged(self, attempt: Attempt) -> AbstractContextManager[None]:
        """What is logged within belongs to *attempt*."""
        task = attempt.task
        return log_fields(
            job_id=task.job_id,
            task_id=task.task_id,
            attempt=task.attempt,
            skill=task.type,
            worker_id=self._worker_id,
            **trace_fields(attempt.tracing_context),
        )

    def _result(self, attempt: Attempt, outcome: Outcome, unsent: Unsent) -> FinishedResult:
        task, terms = attempt.task, attempt.terms
        encode = partial(
            outcome.body,
            job_id=task.job_id,
            task_id=task.task_id,
            worker_id=self._worker_id,
            any_data=terms.any_data,
        )
        body = encode()
        if unsent:
            body = encode(more=unsent.beside(body))
        return FinishedResult(
            cluster_id=terms.cluster_id,
            orchestrator=attempt.home.link.url,
            job_id=task.job_id,
            task_id=task.task_id,
            body=msgspec.Raw(body),
            finished_at=self._wall_clock(),
            trace_context=kept_tracing(attempt.tracing_context),
        )
