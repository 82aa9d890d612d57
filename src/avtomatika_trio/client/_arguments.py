"""What callers give to a client, looked at before it is used: an error names the argument."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TypeGuard

from avtomatika_trio.errors import ConfigError, InvalidMessage, Problem


def as_text(name: str, value: object) -> str:
    """*value*, if it is a text.

    Raises:
        InvalidMessage: it is not; *name* is the argument.
    """
    if not isinstance(value, str):
        hint = "" if value is None else "; give str(...) of it"
        raise _wrong(name, f"must be text, not {value!r:.40}{hint}")
    return value


def as_seconds(name: str, value: object, *, least: float = -math.inf) -> float:
    """*value*, if it is a number of seconds.

    Raises:
        InvalidMessage: it is not, or is less than *least*.
    """
    if not _is_number(value) or math.isnan(value) or value < least:
        least_text = "" if least == -math.inf else f" >= {least:g}"
        raise _wrong(name, f"must be a number of seconds{least_text}, not {value!r:.40}")
    return float(value)


def as_count(name: str, value: object) -> int:
    """*value*, if it is a whole number.

    Raises:
        InvalidMessage: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(name, f"must be a whole number, not {value!r:.40}")
    return value


def as_moment(name: str, value: object) -> datetime:
    """*value*, if it is a time with its zone.

    Raises:
        InvalidMessage: it is not.
    """
    if not isinstance(value, datetime):
        kind = type(value).__name__
        raise _wrong(name, f"must be a datetime such as datetime.now(UTC), not of type {kind}")
    if value.tzinfo is None:
        raise _wrong(name, "is a time without a zone; give one such as datetime.now(UTC)")
    return value


def as_labels(name: str, value: object) -> dict[str, str]:
    """*value*, if it has names and texts.

    Raises:
        InvalidMessage: it has not.
    """
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise _wrong(name, f'must be a dict such as {{"shop": "north"}}, not of type {kind}')
    for label, text in value.items():
        if not isinstance(label, str) or not isinstance(text, str):
            raise _wrong(name, f"{label!r:.40} and its value must be texts, not {text!r:.40}")
    return dict(value)


def check_durations(*, timeout_seconds: object, retry_seconds: object) -> None:
    """Look at how patient a client is to be.

    Raises:
        ConfigError: it cannot be that.
    """
    problems = []
    if not _is_number(timeout_seconds) or not 0 < timeout_seconds < math.inf:
        fault = f"must be a number of seconds > 0, not {timeout_seconds!r:.40}"
        problems.append(f"timeout_seconds: {fault}")
    if not _is_number(retry_seconds) or not retry_seconds >= 0:
        fault = f"must be a number of seconds >= 0, not {retry_seconds!r:.40}; 0 is never"
        problems.append(f"retry_seconds: {fault}")
    if problems:
        raise ConfigError(tuple(problems))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong(name: str, fault: str) -> InvalidMessage:
    return InvalidMessage((Problem(name, fault),))
