"""What a test is told of a job."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from avtomatika_trio._core.known_files import SCHEME
from avtomatika_trio.client import HistoryEvent, Job, JobFault, TaskInfo
from avtomatika_trio.orchestrator._file_names import ALL_JOBS

#: Of a history, at its beginning and at its end.
_MOST_LINES = 25


@attrs.frozen(kw_only=True)
class EndedJob:
    """A job that has ended, however.  As a text it is its history, for messages of tests."""

    id: str
    blueprint: str
    status: str
    """`finished`, `failed`, `cancelled` or `quarantined`; `JobStatus` has the same."""
    state: str
    """The last one."""
    result: Any
    error: JobFault | None
    """Why it has not finished: `code`, `message`, `state`, `details`."""
    state_history: Mapping[str, Any]
    states: tuple[str, ...]
    """The states that it was in, in order."""
    history: tuple[HistoryEvent, ...]
    """All that has happened to it."""
    tasks: tuple[TaskInfo, ...]
    """Each with its attempts."""
    seconds: float
    """How long it took, in virtual time."""
    files: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)
    """The content of each of its files, by name; see `file`."""

    @property
    def events(self) -> tuple[str, ...]:
        """The types of its history, such as `("job_created", "task_dispatched", ...)`."""
        return tuple(event.event_type for event in self.history)

    @property
    def attempts(self) -> dict[str, int]:
        """How many attempts there were at each skill."""
        counts: dict[str, int] = {}
        for task in self.tasks:
            counts[task.skill] = counts.get(task.skill, 0) + len(task.attempts)
        return counts

    def file(self, name: str) -> bytes:
        """The content of one of its files.

        Args:
            name: As handlers of its blueprint know it, or its URI, as results have it.

        Raises:
            LookupError: it has no such file.
        """
        short = name.partition(f"/{ALL_JOBS}{self.id}/")[2] if name.startswith(SCHEME) else name
        if short not in self.files:
            below = [it for it in self.files if name.endswith("/") and it.startswith(short)]
            if below:
                raise LookupError(f"{name} is a folder; ask for one of its files: {below}")
            has = ", ".join(self.files) or "none"
            raise LookupError(f"job {self.id} has no file {name!r}; its files: {has}")
        return self.files[short]

    def assert_finished(self) -> Any:
        """See that it has ended as it should; returns its result.

        Raises:
            AssertionError: it has not; the message has its error and its history.
        """
        __tracebackhide__ = True
        assert self.status == "finished", f"it should have finished:\n{self}"
        return self.result

    def assert_failed(self, code: str | None = None) -> JobFault:
        """See that it has failed or is quarantined; returns its error.

        Args:
            code: Of the error, such as `PERMANENT_ERROR`; None = any.

        Raises:
            AssertionError: it has not, or with another code; the message has its history.
        """
        __tracebackhide__ = True
        assert self.status in {"failed", "quarantined"}, f"it should have failed:\n{self}"
        assert self.error is not None, f"it has no error:\n{self}"
        assert code in (None, self.error.code), f"it should have failed with {code}:\n{self}"
        return self.error

    def __str__(self) -> str:
        return "\n".join([self._head(), *told(self.history)])

    def _head(self) -> str:
        head = f"job {self.id} of {self.blueprint} is {self.status} in state {self.state!r}"
        if self.error is not None:
            return f"{head}: {self.error.code}: {self.error.message}"
        return f"{head}, its result is {self.result!r}"


def ended(
    job: Job,
    history: Sequence[HistoryEvent],
    tasks: Sequence[TaskInfo],
    state_history: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> EndedJob:
    """The record of *job*."""
    return EndedJob(
        id=job.id,
        blueprint=job.blueprint_name,
        status=job.status,
        state=job.state or "",
        result=job.result,
        error=job.error,
        state_history=state_history,
        states=_states(history),
        history=tuple(history),
        tasks=tuple(tasks),
        files=files,
        seconds=(job.updated_at - job.created_at).total_seconds(),
    )


def told(history: Sequence[HistoryEvent]) -> list[str]:
    """A line for each event: how many seconds after the first one, and what it was.

    In the middle of a long history some are left out.
    """
    lines = [_line(event, history[0]) for event in history]
    left_out = len(lines) - 2 * _MOST_LINES
    if left_out <= 0:
        return lines
    return [*lines[:_MOST_LINES], f"  ... {left_out} more ...", *lines[-_MOST_LINES:]]


def _line(event: HistoryEvent, first: HistoryEvent) -> str:
    after = (event.timestamp - first.timestamp).total_seconds()
    words = [f"  {after:>10.3f} s  {event.event_type:<20}", event.state or ""]
    if event.next_state is not None:
        words.append(f"-> {event.next_state}")
    if event.attempt is not None:
        words.append(f"attempt {event.attempt} on {event.worker_id}")
    if event.details:
        words.append(str(event.details))
    return " ".join(words).rstrip()


def _states(history: Sequence[HistoryEvent]) -> tuple[str, ...]:
    """The states of a job, in order; an aggregator is named by its own events first."""
    states: list[str] = []
    for event in history:
        is_news = event.task_id is None and event.state not in (None, *states[-1:])
        entered = [event.state if is_news else None, event.next_state]
        states += [state for state in entered if state is not None]
    return tuple(states)
