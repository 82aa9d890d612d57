"""Following the demo's job by its history, and killing what runs it on the way."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from avtomatika_trio.demo._blueprint import AUDITING
from avtomatika_trio.demo._cluster import Cluster
from avtomatika_trio.demo._notes import read_notes
from avtomatika_trio.demo._processes import DemoFailed, Process
from avtomatika_trio.demo._proof import Row, finished_names
from avtomatika_trio.demo._screen import Screen
from avtomatika_trio.errors import OrchestratorUnavailable

_LOOK_SECONDS = 0.03
"""How often the history is asked for: half a dozen of modules are counted in this time."""

_PATIENCE_SECONDS = 90.0
"""How long nothing may happen: a vanished worker is noticed within 40 seconds."""

_TRIES = 200
"""How often a worker is looked at before it is killed; it has nothing for moments only."""

_ENDED = frozenset({"job_finished", "job_failed", "job_cancelled", "job_quarantined"})
_LET_GO = frozenset({"attempt_lost", "attempt_unclaimed", "attempt_returned", "task_finished"})


@attrs.frozen(kw_only=True)
class _Kill:
    """Something that is killed on the way."""

    due: Callable[[], bool]
    do: Callable[[], None]


@attrs.define(kw_only=True)
class Follower:
    """One job, and all that is known of it."""

    cluster: Cluster
    screen: Screen
    job_id: str
    folder: Path
    """Where the workers leave their notes."""
    history: list[Row] = attrs.field(factory=list)
    total: int = 0
    """How many modules there are; 0 until they have been listed."""
    counted: int = 0
    handed_out: set[str] = attrs.field(factory=set)
    """The tasks of modules that have been handed out."""

    def follow(self, *, kill: bool) -> dict[str, Any]:
        """Wait until the job has ended.

        Args:
            kill: Kill the orchestrator when half of the modules are counted, and one of the
                workers when three quarters are handed out; both are started again at once.

        Returns:
            The job.

        Raises:
            DemoFailed: It has not finished, nothing happens any more, a process has ended by
                itself, or the job ended before everything was killed that should be.
        """
        kills: list[_Kill] = []
        if kill:
            kills = [
                _Kill(due=lambda: self.counted >= 0.5 * self.total, do=self._kill_orchestrator),
                # Not when they are counted: after an outage results may come in all at once.
                _Kill(due=lambda: len(self.handed_out) >= 0.75 * self.total, do=self._kill_worker),
            ]
        quiet_since = time.monotonic()
        while not any(row["event_type"] in _ENDED for row in self.history[-1:]):
            self.cluster.check()
            if self._look():
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > _PATIENCE_SECONDS:
                raise DemoFailed(f"nothing has happened for {_PATIENCE_SECONDS:.0f} seconds")
            if kills and self.total and kills[0].due():
                kills.pop(0).do()
            time.sleep(_LOOK_SECONDS)
        job = self.cluster.client.get(self.job_id)
        if not job.succeeded:
            reason = job.error.message if job.error else "no reason is given"
            raise DemoFailed(f"the job is {job.status}: {reason}")
        if kills:
            raise DemoFailed("the job was over before everything was killed that should be")
        return job.raw

    def _look(self) -> bool:
        """Read what is new in the history; returns whether anything is."""
        last = self.history[-1]["event_id"] if self.history else 0
        try:
            news = [it.raw for it in self.cluster.client.history(self.job_id, after=last)]
        except OrchestratorUnavailable:
            return False  # a connection to the one that was killed; `check` knows of the others
        self.history += news
        for row in news:
            if row["event_type"] == "branches_dispatched":
                self.total = row["details"]["branches"]
            elif row["event_type"] == "attempt_leased" and row["state"] == AUDITING:
                self.handed_out.add(row["task_id"])
        self.counted += sum(1 for _ in finished_names(news))
        if self.total:
            self.screen.counted(self.counted, self.total)
        return bool(news)

    def _kill_orchestrator(self) -> None:
        begun = time.monotonic()
        at = f"{self.counted} of {self.total} counted"
        self.cluster.kill_orchestrator()
        took = time.monotonic() - begun
        self.screen.say(
            f"killed the orchestrator (SIGKILL), {at}; serving again after {took:.1f} s"
        )

    def _kill_worker(self) -> None:
        """Kill one that is at work: each in turn is stopped, looked at, and let go if it is not."""
        for attempt in range(_TRIES):
            worker = self.cluster.workers[attempt % len(self.cluster.workers)]
            worker.pause()
            time.sleep(_LOOK_SECONDS)  # what it has sent already is counted now
            self._look()
            if held := self._begun_by(worker):
                at = f"{self.counted} of {self.total} counted"
                self.cluster.kill_worker(worker)
                self.screen.say(
                    f"killed worker {worker.name} (SIGKILL), {at} and {held} more begun by it;"
                    " started it again"
                )
                return
            worker.resume()
        raise DemoFailed("no worker has had anything to do for a while, so none was killed")

    def _begun_by(self, worker: Process) -> int:
        """How many modules *worker* has been given, has begun, and has not brought back."""
        held: set[tuple[str, int]] = set()
        for row in self.history:
            if row["state"] != AUDITING or row["worker_id"] != worker.name:
                continue
            attempt = row["task_id"], row["attempt"]
            if row["event_type"] == "attempt_leased":
                held.add(attempt)
            elif row["event_type"] in _LET_GO:
                held.discard(attempt)
        return len(held & {(note.task_id, note.attempt) for note in read_notes(self.folder)})
