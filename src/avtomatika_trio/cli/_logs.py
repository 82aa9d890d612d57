"""The log of `serve` and `worker run`: lines on stderr."""

import logging

#: They log every request, or every connection; that is for who asks for DEBUG.
_CHATTY = ("httpcore", "httpx", "hypercorn.error")


def start_logging(level: str) -> None:
    """Log to stderr what is at least as important as *level* (a name such as `INFO`).

    A worker's author who has set up logging keeps that.
    """
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    if level != "DEBUG":
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
