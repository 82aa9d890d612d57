"""Giving back what will not be done here (rule H6)."""

import logging
from collections.abc import Iterable, Sequence
from typing import NoReturn

import trio

from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._link import Link, Noise, retry_seconds
from avtomatika_trio.worker._routes import Routes
from avtomatika_trio.worker._snapshot import Holdings

logger = logging.getLogger(__name__)

#: If it does not work, the next heartbeat, which does not name them, has the same effect.
_MOST_TRIES = 3


class Returns:
    """Sends back attempts to the orchestrator that issued them, or to another of its cluster."""

    def __init__(self, link: Link, routes: Routes, holdings: Holdings, noise: Noise) -> None:
        self._link = link
        self._routes = routes
        self._holdings = holdings
        self._noise = noise
        self._started: list[str] = []
        self._unstarted: list[str] = []
        self._is_posting = False
        self._changed = trio.lowlevel.ParkingLot()

    def give_back(self, task_ids: Sequence[str]) -> None:
        """Send back what was not begun."""
        self._unstarted += task_ids
        self._changed.unpark_all()

    def give_back_started(self, task_ids: Iterable[str]) -> None:
        """Send back what was begun and is given up; it is held until that is known."""
        self._started += task_ids
        self._changed.unpark_all()

    async def run(self) -> NoReturn:
        """Do so until cancelled."""
        while True:
            while not (self._started or self._unstarted):
                await self._changed.park()
            started, self._started = self._started, []
            unstarted, self._unstarted = self._unstarted, []
            self._is_posting = True
            await self._post(started, unstarted)
            self._holdings.drop(started)
            self._is_posting = False
            self._changed.unpark_all()

    async def all_given_back(self) -> None:
        """Return when nothing is left to give back."""
        while self._started or self._unstarted or self._is_posting:
            await self._changed.park()

    async def _post(self, started: Sequence[str], unstarted: Sequence[str]) -> None:
        terms = self._link.terms
        if terms is None or not terms.gives_back:
            return  # that server has its own ways to notice
        request = _requests.give_back([*started, *unstarted], unstarted)
        for failures in range(1, _MOST_TRIES + 1):
            link = self._routes.best(terms.cluster_id, self._link.url) or self._link
            try:
                await link.http.send(request)
            except (OrchestratorUnavailable, Refused) as exc:
                logger.debug("giving back failed: %s", exc)
                await trio.sleep(retry_seconds(exc, failures, self._noise()))
            else:
                return
