"""The log of `serve` and `worker run`: lines on stderr."""

import logging
from collections.abc import Mapping

from avtomatika_trio._task_logs import JsonFormatter, TaskContextFilter, TextFormatter
from avtomatika_trio.cli._output import listing, note

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
    if level != "DEBUG":
        for chatty in map(logging.getLogger, _CHATTY):
            if chatty.level == logging.NOTSET:
                chatty.setLevel(logging.WARNING)


def tell(text: str, lines: Mapping[str, object] | None = None) -> None:
    """Tell people something, and *lines* below it; in the log where that is JSON.

    Who reads one object a line can make nothing of anything else between them.
    """
    told = listing(lines or {}).splitlines()
    if any(isinstance(it.formatter, JsonFormatter) for it in logging.root.handlers):
        logger.info("%s", "; ".join([text, *(" ".join(line.split()) for line in told)]))
        return
    note("\n".join([text, *(f"  {line}" for line in told)]))
