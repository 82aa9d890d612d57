"""Asking one orchestrator for tasks."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import trio

from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio.errors import OrchestratorUnavailable, Refused
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._intake import Intake
from avtomatika_trio.worker._link import Link, Noise, Outage, knows_us_not
from avtomatika_trio.worker._requests import Identity, Terms
from avtomatika_trio.worker._slots import MOST_PER_POLL, Slots

#: A server that does not hold polls open is asked again no sooner than this.
_EMPTY_POLL_SECONDS = 0.5


class Poller:
    """The polling of one link.

    Args:
        link: Whom to ask.
        identity: Who asks.
        skills: For what.
        slots: How much there is room for.
        intake: Where tasks go.
        wanted_hold_seconds: How long a poll should be held open while there is no work.
        wait_for_room: Returns when the spool has room for the results (rule R6).
        register_again: Called when the orchestrator says that it does not know the worker.
        noise: For the jitter of delays.
    """

    def __init__(
        self,
        *,
        link: Link,
        identity: Identity,
        skills: Sequence[str],
        slots: Slots,
        intake: Intake,
        wanted_hold_seconds: float,
        wait_for_room: Callable[[str], Awaitable[None]],
        register_again: Callable[[], None],
        noise: Noise,
    ) -> None:
        self._link = link
        self._identity = identity
        self._skills = skills
        self._slots = slots
        self._intake = intake
        self._wanted_hold_seconds = wanted_hold_seconds
        self._wait_for_room = wait_for_room
        self._register_again = register_again
        self._outage = Outage(link, "polling", noise)

    async def run(self) -> NoReturn:
        """Poll until cancelled.

        An orchestrator that does not answer is an ordinary event; any other error is a bug
        and is let out.
        """
        while True:
            await self._outage.over()
            terms = await self._link.until_registered()
            await self._wait_for_room(terms.cluster_id)
            while not self._slots.free:
                await self._slots.wait_for_free()
                await self._wait_for_room(terms.cluster_id)
            await trio.sleep_until(await self._poll(terms))

    async def _poll(self, terms: Terms) -> float:
        """Ask once; returns not before when to ask again."""
        ask = self._intake.open(self._slots.take(MOST_PER_POLL if terms.batch else 1))
        tasks: list[TaskPayload] = []
        is_answered = False
        try:
            with self._link.until_next_registration():
                tasks = await self._ask(terms, ask)
                is_answered = True
        except (OrchestratorUnavailable, Refused) as exc:
            self._outage.failed(exc)
            if knows_us_not(exc):
                self._register_again()
        else:
            self._outage.succeeded()
        finally:
            begun = self._intake.close(ask, terms, tasks)
        is_empty = is_answered and not begun
        return ask.sent_at + (_EMPTY_POLL_SECONDS if is_empty else 0.0)

    async def _ask(self, terms: Terms, ask: _requests.Ask) -> list[TaskPayload]:
        hold = _requests.hold_seconds(terms, self._wanted_hold_seconds)
        request = _requests.poll(self._identity, terms, ask, hold, self._skills)
        within = _requests.answer_seconds(terms, hold)
        reply = await self._link.http.send(request, within_seconds=within)
        return _requests.read_tasks(self._link.url, reply, terms)
