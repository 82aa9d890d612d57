"""What becomes of jobs, in the log: a line for each row of the history, once it is durable.

Who follows a trace finds the orchestrator's part of it by `trace_id`.  Lines of jobs whose trace
is sampled have the level INFO, those of others DEBUG: whoever submits decides, job by job, whether
it is to be followed, and nobody pays for lines that nobody has asked for.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from avtomatika_trio._core.fencing import Answer
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import HistoryRow
from avtomatika_trio._core.task import Task
from avtomatika_trio._task_logs import trace_fields
from avtomatika_trio._wire.messages import Result
from avtomatika_trio._wire.tracing import is_sampled, kept_tracing

logger = logging.getLogger("avtomatika_trio.orchestrator.jobs")

#: The details that a line shows: words of ours and names, never what people have written.
_SHOWN = ("blueprint", "branches", "skill", "status", "code", "reason")

#: Of each text in a line.
_MOST_CHARACTERS = 500


class JobLog:
    """The rows of one commit, to be told once it is durable; a run that is repeated has its own."""

    __slots__ = ("_noted", "_tells_all")

    def __init__(self) -> None:
        self._noted: list[tuple[int, HistoryRow, Mapping[str, Any]]] = []
        self._tells_all = logger.isEnabledFor(logging.DEBUG)

    def note(self, row: HistoryRow, about: Job | Task | None) -> None:
        """Keep *row*, which is about that."""
        tracing = {} if about is None else about.tracing_context
        if not tracing and not self._tells_all:
            return  # as most rows are: each commit comes by here
        level = _level(tracing)
        if logger.isEnabledFor(level):
            self._noted.append((level, row, tracing))

    def tell(self) -> None:
        """Log what was noted."""
        for level, row, tracing in self._noted:
            _tell(level, row, tracing)


def _tell(level: int, row: HistoryRow, tracing_context: Mapping[str, Any]) -> None:
    details = row.details or {}
    shown = [f"{name} {details[name]}" for name in _SHOWN if name in details]
    if row.next_state is not None:
        shown.append(f"next state {row.next_state}")
    what = ": ".join(filter(None, (row.type.replace("_", " "), ", ".join(shown))))
    fields = {
        "job_id": row.job_id,
        "state": row.state,
        "task_id": row.task_id,
        "attempt": row.attempt,
        "worker_id": row.worker_id,
    }
    _log(level, what, fields, tracing_context)


def tell_ignored(
    said: Sequence[Result], answers: Sequence[Answer], headers: Mapping[str, str]
) -> None:
    """Log the results that nothing was made of: they have no row.

    Args:
        said: What a worker has posted.
        answers: What was answered to each.
        headers: Of the request, by their names in lower case.
    """
    for result, answer in zip(said, answers, strict=True):
        if answer["status"] != "ignored":
            continue
        tracing = kept_tracing(result.trace_context) or kept_tracing(headers)
        level = _level(tracing)
        if logger.isEnabledFor(level):
            fields = {"job_id": result.job_id, "task_id": result.task_id}
            _log(level, f"result ignored: {answer['reason']}", fields, tracing)


def _level(tracing_context: Mapping[str, Any]) -> int:
    is_asked_for = bool(tracing_context) and is_sampled(tracing_context)
    return logging.INFO if is_asked_for else logging.DEBUG


def _log(
    level: int, what: str, fields: Mapping[str, object], tracing_context: Mapping[str, Any]
) -> None:
    known = {name: _on_one_line(it) for name, it in fields.items() if it is not None}
    extra = {**known, **trace_fields(tracing_context)}
    logger.log(level, "%s", _on_one_line(what), extra=extra)


def _on_one_line(value: object) -> object:
    """Workers choose statuses and codes of errors, and may send any id: none of them forges a
    line of the log, or makes it longer than people read."""
    if not isinstance(value, str):
        return value
    if len(value) > _MOST_CHARACTERS:
        value = value[:_MOST_CHARACTERS] + "…"
    if value.isprintable():
        return value
    return "".join(it if it.isprintable() else repr(it)[1:-1] for it in value)
