"""What a client does, as steps that somebody else takes.

A plan is a generator: it yields a step, is sent what came of it, and returns the result.
So every rule is written once, and `Client` and `AsyncClient` only send, sleep and read.
"""

import math
from collections.abc import Callable, Generator, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

import attrs

from avtomatika_trio.errors import InvalidMessage, Problem

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Ask:
    """Send this request; a `Reply` or a `Fault` comes of it."""

    method: str
    path: str
    base: str = ""
    """The address of the orchestrator that is asked."""
    query: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    held_seconds: float = 0.0
    """For how long the orchestrator may hold the answer back."""
    late_seconds: float = math.inf
    """How much later than that the answer may come; the client's patience may be less."""
    stream: bool = False
    """Leave the body of a success unread; `Read` gets it."""


@attrs.frozen
class Read:
    """Read on in the open stream; bytes come of it, or None at its end, whatever ended it."""


@attrs.frozen
class Pause:
    """Let so much time pass."""

    seconds: float


@attrs.frozen
class Give:
    """Give one item to whoever iterates."""

    item: Any


@attrs.frozen
class Done:
    """A plan has come to its end, with this result."""

    result: Any


@attrs.frozen(kw_only=True)
class Reply:
    """An answer; its body is empty as long as it is a stream."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict)
    """Their names in small letters."""
    body: bytes = b""

    @property
    def is_success(self) -> bool:
        """Whether it is a yes."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


@attrs.frozen(kw_only=True)
class Fault:
    """No answer came."""

    reason: str
    sent: bool
    """Whether the request may have arrived."""


#: A list, where a class has a method of that name.
Listed: TypeAlias = list[T]
Step: TypeAlias = Ask | Read | Pause | Give
Plan: TypeAlias = Generator[Step, Any, T]


def sound(place: str, write: Callable[[], T]) -> T:
    """What *write* makes of texts from *place*.

    Raises:
        InvalidMessage: one holds half a surrogate pair, as arguments of commands do that are
            not UTF-8, and cannot be sent.
    """
    try:
        return write()
    except UnicodeEncodeError as exc:
        fault = f"{exc.object[:40]!r} is not valid Unicode; give text in UTF-8"
        raise InvalidMessage((Problem(place, fault),)) from None
