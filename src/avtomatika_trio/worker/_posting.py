"""Posting results to one orchestrator, and asking for the next tasks in the same breath."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

import trio

from avtomatika_trio._wire.messages import ResultsAnswer, TaskPayload
from avtomatika_trio.errors import OrchestratorUnavailable, Refused, SpoolError
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._api import ServerFault
from avtomatika_trio.worker._delivery import Delivery
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._intake import Intake
from avtomatika_trio.worker._link import (
    DELIVERY,
    LinkError,
    Noise,
    Outage,
    is_unauthorized,
    knows_us_not,
)
from avtomatika_trio.worker._requests import Ask, Identity, Terms
from avtomatika_trio.worker._settling import Settling
from avtomatika_trio.worker._slots import MOST_PER_POLL, Slots
from avtomatika_trio.worker._spool_entry import SpoolEntry

logger = logging.getLogger(__name__)

#: One is on its way while the next forms; more would only make the batches smaller.
_POSTS_AT_A_TIME = 2

_FINAL_REFUSALS = frozenset({400, 413, 422})


class Poster:
    """The posts of one link.

    Args:
        home: Where they go.
        identity: Who did the work.
        delivery: Tells what to post, and whether there is room for more results.
        settling: Decides what is done with an entry that was answered.
        slots: The worker's.
        intake: Where tasks go.
        may_ask: Whether work is asked for at this orchestrator now.
        register_again: Called when the orchestrator says that it does not know the worker.
        beat_soon: As of a `Poller`, for posts whose answers could bring tasks.
        noise: For the jitter of delays.
        wall_clock: Unix time, to tell how old a result is.
    """

    def __init__(
        self,
        *,
        home: Home,
        identity: Identity,
        delivery: Delivery,
        settling: Settling,
        slots: Slots,
        intake: Intake,
        may_ask: Callable[[], bool],
        register_again: Callable[[], None],
        beat_soon: Callable[[str], None],
        noise: Noise,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._home = home
        self._link = home.link
        self._identity = identity
        self._delivery = delivery
        self._settling = settling
        self._slots = slots
        self._intake = intake
        self._may_ask = may_ask
        self._register_again = register_again
        self._beat_soon = beat_soon
        self._wall_clock = wall_clock
        self._outage = Outage(home.link, DELIVERY, noise)
        self._slots_along = 0
        """Slots that travel with results which wait for the next post."""

    @property
    def is_able(self) -> bool:
        """See `Desk`."""
        return self._link.is_usable and not self._outage.is_on

    def keep_slot(self, cluster_id: str) -> bool:
        """See `Desk`."""
        if not (self.is_able and self._link.serves(cluster_id) and self._may_ask()):
            return False
        self._slots_along += 1
        return True

    def free_slots(self) -> None:
        """See `Desk`."""
        along, self._slots_along = self._slots_along, 0
        self._slots.release(along)

    async def run(self) -> None:
        """Post until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_POSTS_AT_A_TIME):
                nursery.start_soon(self._keep_posting)

    async def _keep_posting(self) -> NoReturn:
        link = self._link
        while True:
            await self._outage.over()
            await link.board.until_usable(link.url)
            terms = await link.until_registered()
            batch = self._delivery.take(link.url, terms) if self.is_able else []
            if batch:
                await self._post(batch, terms)
                continue
            self.free_slots()  # no result that they could travel with is left
            await self._delivery.changed()

    async def _post(self, batch: Sequence[SpoolEntry], terms: Terms) -> None:
        answers: ResultsAnswer | None = None
        try:
            with self._link.posting():
                answers = await self._exchange(batch, terms)
        except Refused as exc:
            await self._not_accepted(batch, terms, exc)
            return
        except ServerFault as exc:
            await self._choked(batch, terms, exc)
            return
        except OrchestratorUnavailable as exc:
            self._put_back(batch, exc)
            return
        if answers is None:  # it went down meanwhile
            self._delivery.put_back(batch)
        else:
            self._outage.succeeded()
            later = await self._settling.settle(
                batch, answers.results, self._link.url, self._wall_clock()
            )
            self._delivery.settled(batch, for_home=later)

    async def _exchange(self, batch: Sequence[SpoolEntry], terms: Terms) -> ResultsAnswer:
        """Post once, and let the tasks in that come with the answer."""
        ask = self._ask(batch, terms)
        tasks: list[TaskPayload] | None = None
        request = _requests.post_results(self._identity, batch, terms, ask)
        try:
            reply = await self._link.http.send(request)
            answers = _requests.read_answers(
                self._link.url, reply, terms, len(batch), self._identity.seal
            )
            tasks = answers.tasks
        finally:
            # Begun before the results are settled: at no moment does the snapshot name less
            # than what is held.
            if ask is not None:
                self._intake.close(ask, terms, tasks or ())
                if tasks is None:
                    self._beat_soon(terms.cluster_id)
        return answers

    def _ask(self, batch: Sequence[SpoolEntry], terms: Terms) -> Ask | None:
        """Ask for as many tasks as slots came along, and others that happen to be free."""
        self.free_slots()
        if (
            not terms.batch
            or not self._intake.is_open
            or not self._may_ask()
            or batch[0].worker_id != self._identity.worker_id
            or self._delivery.is_full(terms.cluster_id)
            or not self._intake.groups.are_available()
        ):
            return None
        # Nobody else runs between freeing the slots and taking them.
        slots = self._slots.take(MOST_PER_POLL)
        return self._intake.open(self._home, slots) if slots else None

    def _put_back(self, batch: Sequence[SpoolEntry], exc: LinkError) -> None:
        self._outage.failed(exc)
        self.free_slots()
        self._delivery.put_back(batch)

    async def _not_accepted(self, batch: Sequence[SpoolEntry], terms: Terms, exc: Refused) -> None:
        if exc.status in _FINAL_REFUSALS:
            await self._refused(batch, terms, exc)
        elif is_unauthorized(exc) and batch[0].worker_id != self._identity.worker_id:
            await self._settling.set_aside(batch, f"no credential for its worker id: {exc}")
            self._delivery.settled(batch)
        else:
            if knows_us_not(exc):
                self._register_again()
            self._put_back(batch, exc)

    async def _choked(self, batch: Sequence[SpoolEntry], terms: Terms, exc: ServerFault) -> None:
        """One in *batch* is too much for the orchestrator: let the others pass it."""
        if len(batch) > 1:
            await self._halve(batch, terms)
            return
        self._outage.failed(exc)
        self.free_slots()
        self._delivery.settled(batch, instead=batch)  # behind all others

    async def _halve(self, batch: Sequence[SpoolEntry], terms: Terms) -> None:
        middle = len(batch) // 2
        await self._post(batch[:middle], terms)
        await self._post(batch[middle:], terms)

    async def _refused(self, batch: Sequence[SpoolEntry], terms: Terms, exc: Refused) -> None:
        """Something in *batch* will never be accepted: find it, and tell that instead (R7)."""
        if len(batch) > 1:
            await self._halve(batch, terms)
            return
        try:
            replacement = await self._settling.replace(batch[0], exc)
        except SpoolError as fault:
            logger.warning("a result that was refused stays as it is: %s", fault)
            self._put_back(batch, exc)
            return
        self._delivery.settled(batch, instead=replacement)
