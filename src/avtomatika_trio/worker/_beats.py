"""What drives `Upkeep`: a thread in production, a trio task on a virtual clock.

The thread has an HTTP client of its own and reads nothing but the snapshot, so it goes on
when a handler blocks the loop.  It also notices that, tells the orchestrator for how long
(rule L5), and writes into the log, once each time, what the loop is stuck in.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import trio

from avtomatika_trio._wire.messages import Beaten
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker._api import Http, ThreadHttp
from avtomatika_trio.worker._link import LinkError
from avtomatika_trio.worker._requests import Terms
from avtomatika_trio.worker._upkeep import Listener, Upkeep

logger = logging.getLogger(__name__)

#: How often the loop shows that it turns, unless heartbeats are more frequent.
_TICK_SECONDS = 1.0


class LoopWatch:
    """Whether the loop turns.  The loop ticks, another thread looks.

    Args:
        tick_seconds: How often it ticks.
        warn_after_seconds: From when on the log is told what it is stuck in.
        clock: Monotonic.
    """

    def __init__(
        self,
        tick_seconds: float,
        warn_after_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tick_seconds = tick_seconds
        self._warn_after_seconds = warn_after_seconds
        self._clock = clock
        self._loop_thread = threading.get_ident()
        self._ticked_at = clock()
        self._told_of = -1.0
        self._telling = threading.Lock()

    @classmethod
    def of_beats(cls, interval_seconds: float) -> "LoopWatch":
        """One that is fine enough for heartbeats every *interval_seconds*."""
        return cls(min(_TICK_SECONDS, interval_seconds / 2), interval_seconds)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._ticked_at = self._clock()
            await trio.sleep(self._tick_seconds)

    def blocked_seconds(self) -> float:
        """For how long it has not turned; for another thread than the loop's."""
        ticked_at = self._ticked_at
        blocked = max(0.0, self._clock() - ticked_at - self._tick_seconds)
        if blocked >= self._warn_after_seconds:
            with self._telling:  # the threads of several links may look at the same time
                self._tell(blocked, ticked_at)
        return blocked

    def _tell(self, blocked: float, ticked_at: float) -> None:
        """Write into the log, once for each time, what it is stuck in."""
        if self._told_of == ticked_at:
            return
        self._told_of = ticked_at
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the only way
        stack = "".join(traceback.format_stack(frame)) if frame else "(unknown)\n"
        logger.warning(
            "the event loop has been blocked for %.1f s; a handler that computes or waits"
            " without `await` belongs into a `def`. It is here:\n%s",
            blocked,
            stack,
        )


OpenHttp = Callable[[], AbstractContextManager[ThreadHttp]]


async def beat_in_thread(upkeep: Upkeep, open_http: OpenHttp, wake: threading.Event) -> None:
    """Drive *upkeep* from a thread until cancelled.

    Args:
        upkeep: Only the thread calls it, save where it says otherwise.
        open_http: Opens the thread's own client, in the thread.
        wake: Set by whoever changes when the next request is due.

    Resource handling: cancelling waits for the thread, which may be in the middle of a
    request: at most as long as that may take.
    """
    stop = threading.Event()

    async def stop_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stop.set()
            wake.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_when_cancelled)
        work = partial(_beat, upkeep, open_http, wake, stop)
        await trio.to_thread.run_sync(work, limiter=trio.CapacityLimiter(1))
        nursery.cancel_scope.cancel()


def _beat(
    upkeep: Upkeep, open_http: OpenHttp, wake: threading.Event, stop: threading.Event
) -> None:
    with open_http() as http:
        while not stop.is_set():
            wait_seconds = upkeep.wait_seconds()
            if wait_seconds:
                wake.wait(wait_seconds)
                wake.clear()
            else:
                _exchange(upkeep, http)


def _exchange(upkeep: Upkeep, http: ThreadHttp) -> None:
    try:
        reply = http.send(upkeep.next_request())
    except (OrchestratorUnavailable, Refused) as exc:
        upkeep.failed(exc)
    else:
        upkeep.answered(reply)


async def beat_in_task(upkeep: Upkeep, http: Http, changed: trio.lowlevel.ParkingLot) -> None:
    """Drive *upkeep* from the loop until cancelled.

    Args:
        upkeep: With trio's clock.
        http: Whom to talk to.
        changed: Unparked by whoever changes when the next request is due.
    """
    while True:
        wait_seconds = upkeep.wait_seconds()
        if wait_seconds:
            with trio.move_on_after(wait_seconds):
                await changed.park()
            continue
        try:
            reply = await http.send(upkeep.next_request())
        except (OrchestratorUnavailable, Refused) as exc:
            upkeep.failed(exc)
        else:
            upkeep.answered(reply)


class ToLoop:
    """A `Listener` for the thread that passes everything on to one on the loop."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._token = trio.lowlevel.current_trio_token()

    def registered(self, terms: Terms) -> None:
        """See `Listener`."""
        self._tell(self._listener.registered, terms)

    def beaten(self, answer: Beaten) -> None:
        """See `Listener`."""
        self._tell(self._listener.beaten, answer)

    def failed(self, exc: LinkError) -> None:
        """See `Listener`."""
        self._tell(self._listener.failed, exc)

    def _tell(self, what: Callable[..., None], *args: Any) -> None:
        self._token.run_sync_soon(what, *args)
