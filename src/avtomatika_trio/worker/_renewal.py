"""The loop's side of heartbeats: what is done with their answers."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

import trio

from avtomatika_trio._wire.messages import Beaten
from avtomatika_trio.errors import OrchestratorUnavailable, Refused, SpoolError
from avtomatika_trio.worker._beats import LoopWatch, OpenHttp, ToLoop, beat_in_task, beat_in_thread
from avtomatika_trio.worker._link import Link, LinkError, Noise
from avtomatika_trio.worker._requests import Identity, Terms
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool import Spool
from avtomatika_trio.worker._upkeep import Upkeep

logger = logging.getLogger(__name__)

_ACTIVITY = "heartbeat"


class Renewal:
    """Keeps one link registered and its leases alive.

    Args:
        link: Told how it goes.
        identity: Who beats.
        open_thread_http: Opens a client for a thread; None = beat from the loop.
        holdings: What is held.
        spool: Knows the instances that this process replaces.
        interval_seconds: How often to beat, at least.
        status: What to call the worker's load.
        cancel: Called with the wire ids that nobody wants any more.
        noise: For the jitter of delays.
    """

    def __init__(
        self,
        *,
        link: Link,
        identity: Identity,
        open_thread_http: OpenHttp | None,
        holdings: Holdings,
        spool: Spool,
        interval_seconds: float,
        status: Callable[[], str],
        cancel: Callable[[Iterable[str]], None],
        noise: Noise,
    ) -> None:
        self._link = link
        self._identity = identity
        self._open_thread_http = open_thread_http
        in_thread = open_thread_http is not None
        self._spool = spool
        self._cancel = cancel
        self._watch = LoopWatch.of_beats(interval_seconds)
        self._thread_wake = threading.Event()
        self._task_wake = trio.lowlevel.ParkingLot()
        self._new_terms: Terms | None = None
        self._to_forget: list[str] = []
        self._forget_wake = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._upkeep = Upkeep(
            url=link.url,
            identity=identity,
            holdings=holdings,
            interval_seconds=interval_seconds,
            status=status,
            blocked_seconds=self._watch.blocked_seconds if in_thread else lambda: 0.0,
            replaces=list(spool.recovered.instances),
            listener=ToLoop(self) if in_thread else self,
            noise=noise,
            clock=time.monotonic if in_thread else trio.current_time,
        )

    async def run(self) -> None:
        """Register and beat until `end` is called."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_forgetting)
                if self._open_thread_http is None:
                    await beat_in_task(self._upkeep, self._link.http, self._task_wake)
                else:
                    nursery.start_soon(self._watch.run)
                    await beat_in_thread(self._upkeep, self._open_thread_http, self._thread_wake)
        self._ended.set()

    def register_again(self) -> None:
        """The orchestrator has told another activity that it does not know the worker."""
        self._upkeep.register_again()
        self._thread_wake.set()
        self._task_wake.unpark_all()

    async def end(self) -> None:
        """Stop beating."""
        self._scope.cancel()
        await self._ended.wait()

    async def say_goodbye(self) -> None:
        """Send the last heartbeat, once; if it gets through and nothing is left, this
        instance need not be replaced by the next one.
        """
        request = self._upkeep.goodbye()
        if request is None:
            return
        try:
            await self._link.http.send(request)
        except (OrchestratorUnavailable, Refused) as exc:
            logger.info("could not say goodbye: %s", exc)
            return
        if not self._spool.pending():
            await self._forget([self._identity.instance])

    def registered(self, terms: Terms) -> None:
        """See `Listener`.

        Work is asked for after the first heartbeat: it names what an earlier process has
        finished, which would else be handed out again.
        """
        self._new_terms = terms

    def beaten(self, answer: Beaten) -> None:
        """See `Listener`."""
        self._link.succeeded(_ACTIVITY)
        if self._new_terms is not None:
            terms, self._new_terms = self._new_terms, None
            self._link.registered(terms)
        self._cancel(answer.cancel_task_ids)
        if answer.replaced:
            self._to_forget += answer.replaced
            self._forget_wake.unpark_all()

    def failed(self, exc: LinkError) -> None:
        """See `Listener`."""
        self._link.failed(_ACTIVITY, exc)

    async def _keep_forgetting(self) -> NoReturn:
        while True:
            while not self._to_forget:
                await self._forget_wake.park()
            replaced, self._to_forget = self._to_forget, []
            await self._forget(replaced)

    async def _forget(self, instances: list[str]) -> None:
        try:
            await self._spool.forget_instances(instances)
        except SpoolError as exc:
            logger.warning("earlier instances will be announced once more: %s", exc)
