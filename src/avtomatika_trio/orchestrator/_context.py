"""What the loops and the routes of an orchestrator share."""

import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Protocol

import attrs
import trio

from avtomatika_trio._core.rules import Rules
from avtomatika_trio.blobs import Blobs
from avtomatika_trio.orchestrator._access import Access
from avtomatika_trio.orchestrator._credential_files import CredentialFiles
from avtomatika_trio.orchestrator._http import HttpProblem
from avtomatika_trio.orchestrator._limits import RateLimits
from avtomatika_trio.orchestrator._metrics import Metrics
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.orchestrator._signatures import Signatures
from avtomatika_trio.orchestrator._unsure import Unsure
from avtomatika_trio.orchestrator._wrong_tokens import WrongTokens
from avtomatika_trio.storage._base import Storage

TASK_FILES_DIR = Path("/tmp/avtomatika-payloads")  # noqa: S108 - ours in it are 0600
"""Where files are while something is done with them, unless that is told."""

#: Of chance in each id of an attempt.
_WIRE_ID_BYTES = 12


class Chance(Protocol):
    """Where randomness comes from, so that a test can replay it."""

    def noise(self) -> float:
        """A number in [-1, 1), for jitter."""
        ...

    def in_any_order(self, names: Sequence[str]) -> Sequence[str]:
        """*names*, shuffled."""
        ...

    def job_id(self, partition: str) -> str:
        """Fresh, of a job in *partition*; ids made later sort later."""
        ...

    def wire_ids(self, partition: str, count: int) -> Sequence[str]:
        """So many, fresh and not to be guessed; ids made later sort later."""
        ...

    def request_id(self) -> str:
        """Fresh; it is no secret."""
        ...


class SystemChance:
    """Randomness of the operating system."""

    def __init__(self) -> None:
        self._last = 0

    def noise(self) -> float:
        return random.uniform(-1, 1)  # noqa: S311 - jitter is no secret

    def in_any_order(self, names: Sequence[str]) -> Sequence[str]:
        return random.sample(names, len(names))  # nobody gains by guessing

    def job_id(self, partition: str) -> str:
        return f"{partition}-{self._later():015x}{secrets.token_hex(6)}"

    def wire_ids(self, partition: str, count: int) -> Sequence[str]:
        # A poll draws as many as it has room for: the system is asked once for all of them.
        drawn = secrets.token_hex(_WIRE_ID_BYTES * count)
        first, size = self._later(count), 2 * _WIRE_ID_BYTES
        return [
            f"{partition}-task-{first + n:015x}{drawn[n * size : (n + 1) * size]}"
            for n in range(count)
        ]

    def request_id(self) -> str:
        return f"{random.getrandbits(128):032x}"

    def _later(self, count: int = 1) -> int:
        """Milliseconds and a counter within them: sorts by time as a UUIDv7 does.

        So that new rows lie together in the indexes of a database, however large it is.

        Returns:
            The first of *count* that follow one another.
        """
        first = max(self._last + 1, time.time_ns() // 1_000_000 << 12)
        self._last = first + count - 1
        return first


@attrs.frozen(kw_only=True)
class Limits:
    """What clients, workers and handlers may ask for."""

    poll_hold_seconds: float = 30.0
    handler_timeout_seconds: float = 60.0
    max_params_bytes: int = 262_144
    max_transitions: int = 100
    max_body_bytes: int = 1_048_576
    max_file_bytes: int = 5 * 1024**3
    events_heartbeat_seconds: float = 15.0
    """After so much silence a stream of events says that it is still there."""


@attrs.frozen(kw_only=True)
class Security:
    """How callers prove who they are."""

    auth_mode: str = "mixed"
    """`mixed`, `mtls-only` or `token-only`: what workers may show."""
    signing: str = "optional"
    """`required`, `optional` or `off`: whether messages of workers must be signed."""
    secret_key: bytes | None = attrs.field(default=None, repr=False)
    """What tasks are signed with."""
    access_token_seconds: float = 3600.0
    time_zone: tzinfo = UTC
    """Where the months of quotas begin."""


@attrs.frozen(kw_only=True)
class Context:
    """One orchestrator's parts."""

    storage: Storage
    blueprints: Blueprints
    client_token: str | None = attrs.field(repr=False)
    worker_token: str | None = attrs.field(repr=False)
    files: CredentialFiles = attrs.field(factory=CredentialFiles)
    security: Security = attrs.field(factory=Security)
    rates: RateLimits = attrs.field(factory=RateLimits.off)
    wrong_tokens: WrongTokens = attrs.field(factory=WrongTokens)
    access: Access = attrs.field(init=False)
    signatures: Signatures = attrs.field(init=False)
    rules: Rules = attrs.field(factory=Rules)
    limits: Limits = attrs.field(factory=Limits)
    chance: Chance = attrs.field(factory=SystemChance)
    s3_config_hash: str | None = None
    """Of the place where files are kept, if it is on S3."""
    blobs: Blobs | None = None
    """Where files of jobs are kept; None = nowhere."""
    task_files_dir: Path = TASK_FILES_DIR
    """Where files are while something is done with them."""
    handlers_in_thread: bool = True
    """Whether a handler that is not `async` gets a thread; False on a virtual clock."""
    pause: Callable[[float], Awaitable[None]] = trio.sleep
    """How loops wait that look for what is due: so many seconds, or longer if nothing is."""
    unsure: Unsure = attrs.field(factory=Unsure)
    """Of tasks that may have been handed out to nobody."""
    metrics: Metrics = attrs.field(factory=Metrics)
    """What is measured; the storage counts there if it was opened so (`counted`)."""
    draining: trio.Event = attrs.field(factory=trio.Event)
    """Set when the end has begun: parked requests answer at once."""

    @access.default
    def _make_access(self) -> Access:
        return Access(self.storage, self.client_token, self.worker_token, self.files)

    @signatures.default
    def _make_signatures(self) -> Signatures:
        return Signatures(self.security.signing, self.storage.now)

    async def slow_down(self, address: str) -> None:
        """Wait until a refusal may be sent to *address*, or the end has begun.

        Raises:
            HttpProblem: 429; see `WrongTokens`.
        """
        problem: HttpProblem | None = None
        async with trio.open_nursery() as waiting:
            waiting.start_soon(self.end_when_draining, waiting.cancel_scope)
            try:
                await self.wrong_tokens.slow_down(address)
            except HttpProblem as exc:  # as it is, not in the nursery's group
                problem = exc
            waiting.cancel_scope.cancel()
        if problem is not None:
            raise problem

    async def end_when_draining(self, waiting: trio.CancelScope) -> None:
        """Cancel *waiting* when the end has begun; to run beside it."""
        await self.draining.wait()
        waiting.cancel()

    def month(self) -> str:
        """The calendar month that it is where the installation is, as in `2026-11`."""
        return f"{datetime.fromtimestamp(self.storage.now(), self.security.time_zone):%Y-%m}"

    def seconds_left_in_month(self) -> int:
        """How long that month still lasts, at least a second."""
        now = datetime.fromtimestamp(self.storage.now(), self.security.time_zone)
        year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
        first = datetime(year, month, 1, tzinfo=self.security.time_zone)
        return max(1, int(first.timestamp() - self.storage.now()) + 1)
