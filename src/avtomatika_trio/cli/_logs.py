"""The log of `serve` and `worker run`: lines on stderr."""

import logging
import sys
import threading
from collections.abc import Mapping
from types import TracebackType

from avtomatika_trio._task_logs import JsonFormatter, TaskContextFilter, TextFormatter
from avtomatika_trio.cli._output import complain, listing, note

logger = logging.getLogger(__name__)

#: They log every request, or every connection; that is for who asks for DEBUG.
_CHATTY = ("httpcore", "httpx", "hypercorn.error")


def start_logging(level: str, form: str = "text") -> None:
    """Log to stderr what is at least as important as *level* (a name such as `INFO`).

    A worker's author who has set up logging keeps that.

    Args:
        level: The least important level.
        form: `text`, or `json` for one object a line.
    """
    handler = logging.StreamHandler()
    handler.addFilter(TaskContextFilter())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    if form == "json" and handler in logging.root.handlers:
        _leave_nothing_beside_it()
    if level != "DEBUG":
        for chatty in map(logging.getLogger, _CHATTY):
            if chatty.level == logging.NOTSET:
                chatty.setLevel(logging.WARNING)


def is_json() -> bool:
    """Whether lines of the log are JSON."""
    return any(isinstance(it.formatter, JsonFormatter) for it in logging.root.handlers)


def _leave_nothing_beside_it() -> None:
    """Log what Python would else print: warnings, and the traceback of what ends the process."""
    logging.captureWarnings(capture=True)

    def log(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
        logger.critical("the process ends: %s", kind.__name__, exc_info=(kind, exc, trace))

    def log_of_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is SystemExit:
            return  # `sys.exit` ends a thread without a word
        name = None if args.thread is None else args.thread.name
        logger.error(
            "thread %s has ended: %s", name, args.exc_type.__name__, exc_info=args.exc_value
        )

    sys.excepthook = log
    threading.excepthook = log_of_thread


def fault(text: str) -> None:
    """Tell people why the command ends; in the log where that is JSON."""
    if is_json():
        logger.error("%s", text)
    else:
        complain(text)


def tell(text: str, lines: Mapping[str, object] | None = None) -> None:
    """Tell people something, and *lines* below it; in the log where that is JSON.

    Who reads one object a line can make nothing of anything else between them.
    """
    told = listing(lines or {}).splitlines()
    if is_json():
        logger.info("%s", "; ".join([text, *(" ".join(line.split()) for line in told)]))
        return
    note("\n".join([text, *(f"  {line}" for line in told)]))
