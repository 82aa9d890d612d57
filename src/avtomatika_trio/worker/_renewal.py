"""The loop's side of heartbeats: what is done with their answers."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import trio

from avtomatika_trio._wire.messages import Beaten
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker._beats import LoopWatch, OpenHttp, ToLoop, beat_in_task, beat_in_thread
from avtomatika_trio.worker._credential import Credential
from avtomatika_trio.worker._link import HEARTBEAT, Link, LinkError, Noise
from avtomatika_trio.worker._predecessors import Predecessors
from avtomatika_trio.worker._requests import Identity, Terms
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._upkeep import Upkeep

logger = logging.getLogger(__name__)


class Renewal:
    """Keeps one link registered and its leases alive.

    Args:
        link: Told how it goes.
        identity: Who beats.
        credential: Told whether what is sent must be signed.
        open_thread_http: Opens a client for a thread; None = beat from the loop.
        watch: Whether the loop turns; None = it beats itself, so it does.
        holdings: What is held.
        predecessors: The instances that this process replaces.
        interval_seconds: How often to beat, at least.
        status: What to call the worker's load.
        cancel: Called with the wire ids that nobody wants any more, and the cluster that says so.
        about: What else heartbeats tell.
        noise: For the jitter of delays.
    """

    def __init__(
        self,
        *,
        link: Link,
        identity: Identity,
        credential: Credential,
        open_thread_http: OpenHttp | None,
        watch: LoopWatch | None,
        holdings: Holdings,
        predecessors: Predecessors,
        interval_seconds: float,
        status: Callable[[], str],
        cancel: Callable[[Iterable[str], str], None],
        about: Callable[[], dict[str, Any]],
        noise: Noise,
    ) -> None:
        self.link = link
        self._open_thread_http = open_thread_http
        in_thread = open_thread_http is not None
        self._predecessors = predecessors
        self._cancel = cancel
        self._thread_wake = threading.Event()
        self._task_wake = trio.lowlevel.ParkingLot()
        self._new_terms: Terms | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._upkeep = Upkeep(
            url=link.url,
            identity=identity,
            credential=credential,
            holdings=holdings,
            interval_seconds=interval_seconds,
            status=status,
            blocked_seconds=(lambda: 0.0) if watch is None else watch.blocked_seconds,
            replaces=list(predecessors.instances),
            listener=ToLoop(self) if in_thread else self,
            about=about,
            noise=noise,
            clock=time.monotonic if in_thread else trio.current_time,
        )
        link.on_answering.append(self._try_soon)

    async def run(self) -> None:
        """Register and beat until `end` is called."""
        with self._scope:
            if self._open_thread_http is None:
                await beat_in_task(self._upkeep, self.link.http, self._task_wake)
            else:
                await beat_in_thread(self._upkeep, self._open_thread_http, self._thread_wake)
        self._ended.set()

    def register_again(self) -> None:
        """The orchestrator has told another activity that it does not know the worker."""
        self._upkeep.register_again()
        self._wake()

    def beat_soon(self) -> None:
        """Something should be told before the next heartbeat is due."""
        self._upkeep.beat_soon()
        self._wake()

    async def end(self) -> None:
        """Stop beating."""
        self._scope.cancel()
        await self._ended.wait()

    async def say_goodbye(self) -> bool:
        """Send the last heartbeat, once; returns whether this orchestrator holds nothing of this
        instance against the worker.
        """
        request = self._upkeep.goodbye()
        if request is None:
            return self.link.terms is None  # it has never heard of it
        try:
            await self.link.http.send(request)
        except (OrchestratorUnavailable, Refused) as exc:
            logger.info("could not say goodbye: %s", exc)
            return False
        return True

    def registered(self, terms: Terms) -> None:
        """See `Listener`.

        Work is asked for after the first heartbeat: it names what an earlier process has
        finished, which would else be handed out again.
        """
        self._new_terms = terms
        if terms.warning is not None:
            logger.warning("%s says: %s", self.link.url, terms.warning)

    def beaten(self, answer: Beaten) -> None:
        """See `Listener`."""
        if self._new_terms is not None:
            terms, self._new_terms = self._new_terms, None
            self.link.registered(terms)
        self.link.succeeded(HEARTBEAT)
        terms_now = self.link.terms
        assert terms_now is not None, "the first heartbeat follows a registration"
        self._cancel(answer.cancel_task_ids, terms_now.cluster_id)
        # Who knows nothing of instances has nothing to acknowledge either.
        known = answer.replaced if terms_now.instances else self._predecessors.instances
        self._predecessors.acknowledged(self.link.url, known)

    def failed(self, exc: LinkError) -> None:
        """See `Listener`."""
        self.link.failed(HEARTBEAT, exc)

    def _try_soon(self) -> None:
        self._upkeep.try_soon()
        self._wake()

    def _wake(self) -> None:
        self._thread_wake.set()
        self._task_wake.unpark_all()
