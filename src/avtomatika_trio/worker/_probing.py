"""Probes: the small questions that tell a silent orchestrator from one that has no work.

When to ask is decided by `_core.failover.probe_at`.  A lone orchestrator is not probed: nothing
would follow from the answer.
"""

from typing import NoReturn

import trio

from avtomatika_trio._core.failover import PROBE_MISSES, PROBE_SECONDS, Standing, probe_at
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._api import ConnectionDropped, Overloaded, Silent
from avtomatika_trio.worker._link import Link

#: Misses further apart than this are not in a row: nobody has looked in between.
_IN_A_ROW_SECONDS = 3 * PROBE_SECONDS


class Probing:
    """The probes of one link."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._probed_at = float("-inf")
        self._missed_at = float("-inf")
        self._misses = 0

    async def run(self) -> NoReturn:
        """Probe when it is due, until cancelled."""
        while True:
            now = trio.current_time()
            due_at = self._due_at()
            if due_at <= now:
                await self._probe()
                continue
            # Polls begin and end without a word to anybody here: look again before long.
            with trio.move_on_at(min(due_at, now + PROBE_SECONDS)):
                await self._link.board.changed()

    def _due_at(self) -> float:
        link = self._link
        is_next = link.board.policy.active == link.url and link.terms is None
        return probe_at(
            link.board.policy.health(link.url),
            is_watched=link.is_waited_for or is_next,
            probed_at=self._probed_at,
            heard_at=link.heard_at,
        )

    async def _probe(self) -> None:
        self._probed_at = trio.current_time()
        try:
            await self._ask()
        except Silent as exc:
            self._missed(exc)
        except OrchestratorUnavailable as exc:
            self._link.board.failed(self._link.url, f"{exc.reason} (probe)")
        else:
            self._misses = 0
            self._link.heard()

    async def _ask(self) -> None:
        """Return if there was an answer that is good enough."""
        request = _requests.probe(self._link.terms)
        try:
            try:
                await self._link.http.send(request, within_seconds=PROBE_SECONDS)
            except ConnectionDropped:  # an idle connection that has just been closed
                await self._link.http.send(request, within_seconds=PROBE_SECONDS)
        except (Overloaded, Refused):
            pass  # it answers; whether it lets the worker in is for others to find out

    def _missed(self, exc: Silent) -> None:
        """One miss may be bad luck; that other answers come, late as they are, does not count."""
        now = trio.current_time()
        if now - self._missed_at > _IN_A_ROW_SECONDS:
            self._misses = 0
        self._missed_at = now
        self._misses += 1
        is_up = self._link.board.policy.health(self._link.url).standing is Standing.UP
        if self._misses >= PROBE_MISSES or not is_up:
            self._misses = 0
            self._link.board.failed(self._link.url, f"{exc.reason} (probe)")
