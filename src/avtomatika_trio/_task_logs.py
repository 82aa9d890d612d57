"""Whose log line it is: the job, the task and the attempt in whose handler it was written.

The fields are in a context variable, which threads of handlers inherit; so lines of handlers
that run together are never mixed up.  Nothing here changes how a program logs: a filter on a
log handler of its choice copies the fields to the records.
"""

import json
import logging
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from avtomatika_trio._wire.tracing import kept_tracing

#: What records get; empty where it is not known.
FIELDS = (
    *("job_id", "task_id", "attempt", "skill", "state", "worker_id", "trace_id", "span_id"),
    "request_id",
)

#: What a record has by itself; everything else was given as `extra`.
_OF_EVERY_RECORD = frozenset(
    {*vars(logging.makeLogRecord({})), *FIELDS, "message", "asctime", "taskName"}
)

_HERE: ContextVar[Mapping[str, object]] = ContextVar("avtomatika_log_fields")


class log_fields:  # noqa: N801 - what it is called for, as `contextlib.suppress` is
    """What is logged within belongs to what *fields* name, some of `FIELDS`.

    A class, since each request and each step of a job is within one: a generator takes thrice
    as long.
    """

    __slots__ = ("_before", "_fields")

    def __init__(self, **fields: object) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._before = _HERE.set(self._fields)

    def __exit__(self, *_: object) -> None:
        _HERE.reset(self._before)


def trace_fields(tracing_context: Mapping[str, Any]) -> dict[str, str]:
    """`trace_id` and `span_id` of a W3C traceparent, if there is a valid one."""
    known = kept_tracing(tracing_context) if tracing_context else {}
    if not known:
        return {}
    _, trace_id, span_id, *_ = known["traceparent"].split("-")
    return {"trace_id": trace_id, "span_id": span_id}


class TaskContextFilter(logging.Filter):
    """Gives log records the attributes in `FIELDS`; lets all of them through.

        handler.addFilter(TaskContextFilter())
        handler.setFormatter(logging.Formatter("%(message)s [%(job_id)s %(task_id)s]"))

    Add it to a log *handler* that runs in the thread in which is logged, so before a
    `QueueHandler` and not behind it.  What is not known is an empty text, also outside of
    task handlers.  An attribute that `extra` gave stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add what is missing."""
        here = _HERE.get({})
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, here.get(name, ""))
        return True


class TextFormatter(logging.Formatter):
    """A line for people, with the `reason` that `extra` gave; `[job_id task_id attempt]` is
    behind it where there is one, or the id of the request that it is about."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line, before a traceback."""
        names = ("job_id", "task_id", "attempt", "state", "request_id")
        known = [str(it) for name in names if (it := getattr(record, name, "")) != ""]
        line = super().formatMessage(record)
        if reason := getattr(record, "reason", ""):
            line = f"{line}: {reason}"
        return f"{line} [{' '.join(known)}]" if known else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `ts` (RFC 3339), `level`, `logger`, `msg`, what is known of
    `FIELDS`, what `extra` gave besides, `exc`, the traceback, and `stack`, if it was asked for."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; never with a line break in it."""
        at = datetime.fromtimestamp(record.created, UTC)
        said: dict[str, object] = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "msg": _message(record),
        }
        said |= {name: it for name in FIELDS if (it := getattr(record, name, "")) != ""}
        taken = _OF_EVERY_RECORD | said.keys()
        said |= {name: it for name, it in vars(record).items() if name not in taken}
        if record.exc_info and record.exc_info[1] is not None:
            said["exc"] = "".join(traceback.format_exception(record.exc_info[1]))
        if record.stack_info:
            said["stack"] = record.stack_info
        try:
            return json.dumps(said, default=str, allow_nan=False)
        except Exception:  # noqa: BLE001 - the border to foreign code: keys, cycles and `__str__`
            return json.dumps({name: _told(it) for name, it in said.items()})


def _told(value: object) -> object:
    """Of a value that may be no JSON."""
    if isinstance(value, str | int):
        return value
    try:
        return str(value)
    except Exception as exc:  # noqa: BLE001 - as above
        return f"<{type(value).__name__} of which str() fails: {type(exc).__name__}>"


def _message(record: logging.LogRecord) -> str:
    """Also of a line whose arguments do not fit: what `logging` says of those is no JSON."""
    try:
        return record.getMessage()
    except Exception as exc:  # noqa: BLE001 - the border to foreign code: texts and `__str__`
        return f"{record.msg!r} does not fit its arguments: {type(exc).__name__}: {exc}"
