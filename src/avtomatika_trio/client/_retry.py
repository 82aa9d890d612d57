"""When a request is sent again: a pure policy."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus

from avtomatika_trio.client._plans import Fault, Reply

#: The pauses double from the first to the longest.
_FIRST_SECONDS = 0.2
_LONGEST_SECONDS = 5.0

#: Somebody in front of an orchestrator says these in its place while it is away.
AWAY = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}

_NOT_DONE = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


class Repeat(Enum):
    """How a request may be sent again."""

    NEVER = "never"
    ALWAYS = "always"  #: sent twice it does the same as once
    IF_NOT_DONE = "if not done"  #: only where nothing was sent, or it was put off


def may_repeat(repeat: Repeat, heard: Reply | Fault, *, in_use: bool = False) -> bool:
    """Whether a request may be sent again after what was *heard*.

    Args:
        repeat: What kind of request it is.
        heard: What came of it.
        in_use: Whether the answer says that the same submission is still being worked on.
    """
    if repeat is Repeat.NEVER:
        return False
    if isinstance(heard, Fault):
        return repeat is Repeat.ALWAYS or not heard.sent
    if repeat is Repeat.IF_NOT_DONE:
        return in_use or heard.status in _NOT_DONE
    return in_use or heard.status in AWAY or heard.status == HTTPStatus.TOO_MANY_REQUESTS


def is_away(heard: Reply | Fault) -> bool:
    """Whether another orchestrator may do better than the one that this came of."""
    return isinstance(heard, Fault) or heard.status in AWAY


def may_have_worked(heard: Reply | Fault) -> bool:
    """Whether a request that this came of, and no success, may have had its effect all the same."""
    return heard.sent if isinstance(heard, Fault) else heard.status in AWAY


def back_off(tries: int, noise: float) -> float:
    """How many seconds to let pass after so many failed *tries*; *noise* is from 0 to 1.

    At least half of it is certain, so that a crowd of clients spreads but does not hurry.
    """
    whole = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(tries - 1, 16))
    return whole * (0.5 + noise / 2)


def next_pause(
    tries: int, noise: float, *, asked_seconds: float | None, left_seconds: float
) -> float | None:
    """For how long to pause before another try; None = give up.

    Args:
        tries: How many have failed.
        noise: From 0 to 1.
        asked_seconds: What `Retry-After` asks for.
        left_seconds: How much time the whole may still take.
    """
    pause = max(back_off(tries, noise), asked_seconds or 0.0)
    return pause if pause <= left_seconds else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that `Retry-After` asks for; None = it does not, or cannot be understood.

    A date is counted from the `Date` of the same answer, so that no clock is compared with ours.
    """
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said)
    until, now = _date(said), _date(headers.get("date", ""))
    if until is None or now is None:
        return None
    return max(0.0, (until - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
