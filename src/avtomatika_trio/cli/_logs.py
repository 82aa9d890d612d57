"""The log of `serve` and `worker run`: lines on stderr."""

import logging

from avtomatika_trio._task_logs import JsonFormatter, TaskContextFilter, TextFormatter

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
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
