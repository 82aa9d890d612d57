"""How long what may pass is tried again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import trio

from avtomatika_trio.errors import BlobUnavailable

T = TypeVar("T")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 10.0


class Passing(Exception):
    """A request failed in a way that may be over when it is sent again."""


@attrs.frozen(kw_only=True)
class Patience:
    """Repeats requests, with pauses that double, until nothing has succeeded for a time."""

    seconds: float = 120.0
    """An outage of the server that is shorter costs no attempt of a task."""
    noise: Callable[[], float] = lambda: 0.0
    """A number in [-1, 1), so that many who wait do not come back at once."""

    async def persist(
        self,
        uri: str,
        call: Callable[[], Awaitable[T]],
        *,
        mark: Callable[[], object] = lambda: None,
    ) -> T:
        """What *call* returns once it raises no `Passing`.

        Args:
            uri: What it is about, for the error.
            call: Tried anew each time.
            mark: How far it is; when that has changed, the patience begins anew.

        Raises:
            BlobUnavailable: the time is over.
        """
        pause, until = _FIRST_PAUSE_SECONDS, trio.current_time() + self.seconds
        while True:
            before = mark()
            try:
                return await call()
            except Passing as exc:
                if mark() != before:
                    pause, until = _FIRST_PAUSE_SECONDS, trio.current_time() + self.seconds
                if trio.current_time() + pause > until:
                    reason = f"the server could not be used for {self.seconds:g} s: {exc}"
                    raise BlobUnavailable(uri, reason) from exc
            await trio.sleep(pause * (1 + self.noise() / 4))
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
