"""What can happen to a request, and to which."""

import enum
import math
from collections.abc import Callable
from fnmatch import fnmatchcase

import attrs
import trio


class Fault(enum.Enum):
    """What can happen to a request and its answer."""

    REFUSE = "refuse"
    """Nobody listens."""
    BLACK_HOLE = "black hole"
    """It vanishes; there is never any answer."""
    LOSE_REQUEST = "lose request"
    """The connection is reset before the server has read it."""
    LOSE_ANSWER = "lose answer"
    """The server has done its work; the client sees a reset."""
    DELAY_REQUEST = "delay request"
    """It arrives later, even if its client has given up by then."""
    DELAY_ANSWER = "delay answer"
    """The answer arrives later, if its client still waits."""
    DUPLICATE = "duplicate"
    """It arrives twice; the answer to the copy, which arrives later, is read by nobody."""
    KEEP_OPEN = "keep open"
    """A proxy does not tell the server when the client goes away."""


@attrs.frozen(kw_only=True)
class Call:
    """A request as it sets out."""

    client: str
    server: str
    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


Matches = Callable[[Call], bool]


def calls(method: str, path: str, client: str = "*", server: str = "*") -> Matches:
    """Matches requests; each of the arguments may have the wildcards of a shell."""

    def matches(call: Call) -> bool:
        return (
            fnmatchcase(call.method, method)
            and fnmatchcase(call.path, path)
            and fnmatchcase(call.client, client)
            and fnmatchcase(call.server, server)
        )

    return matches


@attrs.define(kw_only=True, eq=False)
class Rule:
    """A fault, and whom it befalls."""

    fault: Fault
    matches: Matches
    seconds: float = 0.0
    """How long a delay is, or how much later a copy arrives."""
    times: float = math.inf
    until: float = math.inf
    """By `trio.current_time`."""
    hits: list[float] = attrs.field(factory=list)
    """When it befell a request."""

    def befalls(self, call: Call) -> bool:
        now = trio.current_time()
        if len(self.hits) >= self.times or now >= self.until or not self.matches(call):
            return False
        self.hits.append(now)
        return True


@attrs.frozen(kw_only=True)
class Seen:
    """How one request ended for its client."""

    at: float
    call: Call
    outcome: int | str
    """The status of the answer, or the name of the error."""
