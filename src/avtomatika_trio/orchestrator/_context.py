"""What the loops and the routes of an orchestrator share."""

import random
import secrets
import time
from typing import Protocol

import attrs
import trio

from avtomatika_trio._core.rules import Rules
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.storage._base import Storage

#: The partition that job ids begin with; a storage with one partition has only this one.
_PARTITION = "p00"


class Chance(Protocol):
    """Where randomness comes from, so that a test can replay it."""

    def noise(self) -> float:
        """A number in [-1, 1), for jitter."""
        ...

    def job_id(self) -> str:
        """Fresh; ids made later sort later."""
        ...

    def wire_id(self) -> str:
        """Fresh and not to be guessed; ids made later sort later."""
        ...


class SystemChance:
    """Randomness of the operating system."""

    def __init__(self) -> None:
        self._last = 0

    def noise(self) -> float:
        return random.uniform(-1, 1)  # noqa: S311 - jitter is no secret

    def job_id(self) -> str:
        return f"{_PARTITION}-{self._later()}{secrets.token_hex(6)}"

    def wire_id(self) -> str:
        return f"{_PARTITION}-task-{self._later()}{secrets.token_hex(12)}"

    def _later(self) -> str:
        """Milliseconds and a counter within them: sorts by time as a UUIDv7 does.

        So that new rows lie together in the indexes of a database, however large it is.
        """
        self._last = max(self._last + 1, time.time_ns() // 1_000_000 << 12)
        return f"{self._last:015x}"


@attrs.frozen(kw_only=True)
class Limits:
    """What clients, workers and handlers may ask for."""

    poll_hold_seconds: float = 30.0
    handler_timeout_seconds: float = 60.0
    max_params_bytes: int = 262_144
    max_transitions: int = 100
    max_body_bytes: int = 1_048_576


@attrs.frozen(kw_only=True)
class Context:
    """One orchestrator's parts."""

    storage: Storage
    blueprints: Blueprints
    client_token: str
    worker_token: str
    rules: Rules = attrs.field(factory=Rules)
    limits: Limits = attrs.field(factory=Limits)
    chance: Chance = attrs.field(factory=SystemChance)
    draining: trio.Event = attrs.field(factory=trio.Event)
    """Set when the end has begun: parked requests answer at once."""
