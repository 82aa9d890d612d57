"""Registration and heartbeats of one link, without any I/O.

A driver asks when the next request is due, sends it, and hands back what came of it.  In
production that is a thread of its own, so that a handler that blocks the loop loses no lease
(rule L1); in tests on a virtual clock it is a trio task.  Both are in `_beats`.

What the loop has to know is told to a `Listener`, whose calls the driver brings to the loop.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import attrs

from avtomatika_trio._wire.messages import Beaten
from avtomatika_trio.errors import OrchestratorUnavailable
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._api import Reply, Request
from avtomatika_trio.worker._credential import Credential
from avtomatika_trio.worker._link import (
    LinkError,
    Noise,
    is_unauthorized,
    knows_us_not,
    retry_seconds,
)
from avtomatika_trio.worker._requests import Identity, Terms
from avtomatika_trio.worker._snapshot import Holdings


class Listener(Protocol):
    """What the loop is told."""

    def registered(self, terms: Terms) -> None:
        """The orchestrator knows the worker."""

    def beaten(self, answer: Beaten) -> None:
        """A heartbeat was answered."""

    def failed(self, exc: LinkError) -> None:
        """A registration or a heartbeat failed."""


@attrs.define(kw_only=True)
class Upkeep:
    """Keeps the worker known, and its leases alive.

    Not thread-safe: one driver calls it.  Exceptions: `register_again`, `beat_soon` and
    `try_soon` may be called by any thread, and `Holdings` is read whenever it is needed.
    """

    url: str
    identity: Identity
    credential: Credential
    """Told whether what is sent must be signed."""
    holdings: Holdings
    interval_seconds: float
    """How often the worker means to beat; never less often than three times in a lease."""
    status: Callable[[], str]
    blocked_seconds: Callable[[], float]
    """For how long the loop has not turned."""
    replaces: list[str]
    """Earlier instances found in the spool, named until they are acknowledged (rule L6)."""
    listener: Listener
    noise: Noise
    clock: Callable[[], float]
    """In seconds, of the driver's: monotonic time or trio's."""
    about: Callable[[], dict[str, Any]] = dict
    """What else is told, with RXON's names; asked for each heartbeat, by the driver."""
    _terms: Terms | None = None
    _register_again: bool = False
    _beat_soon: bool = False
    _try_soon: bool = False
    _failures: int = 0
    _due_at: float = float("-inf")

    def wait_seconds(self) -> float:
        """How long until the next request is due; 0 = now."""
        if self._register_again or self._try_soon or (self._beat_soon and not self._failures):
            return 0.0
        return max(0.0, self._due_at - self.clock())

    def register_again(self) -> None:
        """The orchestrator does not know the worker (any more)."""
        self._register_again = True

    def beat_soon(self) -> None:
        """Something should be told now, unless heartbeats do not get through anyway."""
        self._beat_soon = True

    def try_soon(self) -> None:
        """The orchestrator answers again: do not wait for the end of a delay."""
        self._try_soon = True

    def next_request(self) -> Request:
        """What to send now."""
        self._beat_soon = self._try_soon = False
        if self._register_again:
            self._register_again = False
            self._terms = None
        if self._terms is None:
            return _requests.register(self.identity)
        return self._heartbeat(self._terms, self.status(), leaving=False)

    def goodbye(self) -> Request | None:
        """The last heartbeat, or None if the orchestrator has never answered.

        To be sent when the driver has ended.
        """
        if self._terms is None:
            return None
        return self._heartbeat(self._terms, "offline", leaving=True)

    def answered(self, reply: Reply) -> None:
        """The last request was answered."""
        try:
            if self._terms is None:
                self._registered(reply)
            else:
                self._beaten(reply, self._terms)
        except OrchestratorUnavailable as exc:
            self.failed(exc)

    def failed(self, exc: LinkError) -> None:
        """The last request was not answered, or with an error."""
        self._failures += 1
        delay = retry_seconds(exc, self._failures, self.noise())
        if self._terms is not None and knows_us_not(exc):
            self._terms = None
            # At once, but a server that forgets us again and again is not hammered.
            self._due_at = self.clock() + (delay if self._failures > 1 else 0.0)
            if self._failures > 1:
                self.listener.failed(exc)
            return
        if self._terms is not None and not is_unauthorized(exc):
            delay = min(delay, self._terms.beat_seconds)  # a lease has room for three beats
        self._due_at = self.clock() + delay
        if delay > 0:
            self.listener.failed(exc)

    def _heartbeat(self, terms: Terms, status: str, *, leaving: bool) -> Request:
        number, snapshot = self.holdings.next_beat()
        ours = {
            "beat": number,
            "replaces": list(self.replaces),
            "loop_blocked_seconds": self.blocked_seconds(),
            "leaving": leaving,
        }
        return _requests.heartbeat(self.identity, terms, snapshot, status, ours, self.about())

    def _registered(self, reply: Reply) -> None:
        terms = _requests.read_registered(self.url, reply, self.interval_seconds)
        self._terms = terms
        self.credential.signs = terms.wants_signatures
        self._due_at = self.clock()  # the first heartbeat tells what is held: at once
        self.listener.registered(terms)

    def _beaten(self, reply: Reply, terms: Terms) -> None:
        answer = _requests.read_beaten(self.url, reply)
        self._failures = 0  # not by a registration: only this shows that we are known
        self._forget(answer.replaced)
        self._due_at = self.clock() + terms.beat_seconds
        self.listener.beaten(answer)

    def _forget(self, replaced: Iterable[str]) -> None:
        gone = frozenset(replaced)
        self.replaces = [instance for instance in self.replaces if instance not in gone]
