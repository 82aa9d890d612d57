"""Events of attempts on their way into the history, in order.

An event waits here until an orchestrator has answered it, so that a handler never waits for one
that is away.  What is still here when the handler has ended travels with the result, in the
spool and in one commit: wherever the result arrives, its events were there before (rule E3).
"""

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NoReturn

import attrs
import trio

from avtomatika_trio._core.event_rules import MOST_EVENTS, payload_bytes
from avtomatika_trio._wire.codec import encode
from avtomatika_trio._wire.messages import (
    MOST_EVENTS_PER_REQUEST,
    CarriedEvent,
    EventAnswer,
    TaskPayload,
    WorkerEvent,
)
from avtomatika_trio._wire.tracing import span_of
from avtomatika_trio.errors import InvalidEvent, OrchestratorUnavailable, Refused
from avtomatika_trio.worker import _requests
from avtomatika_trio.worker._link import Link, Noise, retry_seconds
from avtomatika_trio.worker._requests import Terms
from avtomatika_trio.worker._routes import Routes

logger = logging.getLogger(__name__)

#: In one post; a server of ours reads 1 MiB by default.
_MOST_POST_BYTES = 256 * 1024

#: How long the result of a handler that has ended waits for its events to be taken, while
#: they are being taken.
_LAST_SECONDS = 3.0

#: Of a result together with its events; half of what a server of ours reads by default.
_MOST_RESULT_BYTES = 512 * 1024
_MOST_CARRIED_BYTES = 256 * 1024

#: Of an event's envelope in a list.
_ENVELOPE_BYTES = 600

_FINAL_REFUSALS = frozenset({400, 413, 422})
#: A token that is over; there will be another one.
_UNAUTHORIZED = 401

#: What the original answers to an event that it has taken already.
_DUPLICATE = "Duplicate message"


class EventReceipt:
    """What `send_event` returns: awaiting it tells whether the event is in the history.

    It does not have to be awaited.  In an `async def`, `await send_event(...)` waits until the
    orchestrator has stored the event, and does not wait for one that cannot be reached: the
    event is on its way then, or goes with the result.

    Args:
        loop: In which it can be awaited; None = in any, since it is settled at once.
    """

    def __init__(self, loop: trio.lowlevel.TrioToken | None) -> None:
        self._loop = loop
        self._settled = trio.Event()
        self._problem: str | None = None
        self.is_stored = False
        """Whether an orchestrator has said that it is in the history."""

    def __await__(self) -> Generator[Any, Any, bool]:
        return (yield from self._wait().__await__())

    async def _wait(self) -> bool:
        # A task of another loop cannot be woken from this one; Trio would end the worker.
        is_here = trio.lowlevel.in_trio_task()
        if not is_here or self._loop not in (None, trio.lowlevel.current_trio_token()):
            raise RuntimeError(
                "send_event can be awaited in the worker's own loop only; in a thread, and in a"
                " loop that runs there, call it without await"
            )
        await self._settled.wait()
        if self._problem is not None:
            raise InvalidEvent(self._problem)
        return self.is_stored

    def settle(self, *, is_stored: bool, problem: str | None = None) -> None:
        """Let who awaits it go on; in the loop.  What was said first stays."""
        if not self._settled.is_set():
            self._problem = problem
            self._settled.set()
        self.is_stored = is_stored


def not_kept() -> EventReceipt:
    """That of an event that does not go into the history."""
    receipt = EventReceipt(None)
    receipt.settle(is_stored=False)
    return receipt


@attrs.frozen(kw_only=True)
class _Event:
    said: WorkerEvent
    size: int
    """About how many bytes it has in a list."""
    receipt: EventReceipt


@attrs.define(kw_only=True, eq=False)
class _Line:
    """The events of one attempt."""

    task: TaskPayload
    count: int = 0
    """How many there were; the number of the newest."""
    unsent: deque[_Event] = attrs.field(factory=deque)
    most: int = MOST_EVENTS_PER_REQUEST
    """In one post: fewer once a list was refused."""
    told: set[str] = attrs.field(factory=set)
    """Why events were not wanted, as far as it is in the log."""


@attrs.frozen(kw_only=True)
class Unsent:
    """What is left of an attempt's events when it has ended."""

    task_id: str = ""
    events: Sequence[WorkerEvent] = ()

    def __bool__(self) -> bool:
        return bool(self.events)

    def beside(self, body: bytes) -> Mapping[str, Any]:
        """The members of a result that carry them; without them it is *body*."""
        room = min(_MOST_CARRIED_BYTES, _MOST_RESULT_BYTES - len(body))
        carried: list[CarriedEvent] = []
        for said in self.events:
            one = CarriedEvent(
                event_id=said.event_id,
                event_type=said.event_type,
                payload=said.payload,
                number=said.number or 0,
            )
            room -= len(encode(one)) + 1
            if room < 0:
                break
            carried.append(one)
        lost = len(self.events) - len(carried)
        if lost:
            logger.warning(
                "%d events of task %s are lost: the orchestrator was away, and they have no room"
                " beside the result",
                lost,
                self.task_id,
            )
        return {"events": carried, "events_lost": lost}


_NOTHING = Unsent()


class EventPosts:
    """The events of an orchestrator's attempts, on their way there.

    They are bounded by what an attempt may have: `MOST_EVENTS`, of `MOST_PAYLOAD_BYTES` each.

    Args:
        link: The orchestrator.
        routes: Who may stand in for it.
        worker_id: Who sends them.
        noise: For the jitter of delays.
        is_strict: Whether types that a skill does not declare are refused.
    """

    def __init__(
        self, link: Link, routes: Routes, worker_id: str, noise: Noise, *, is_strict: bool
    ) -> None:
        self.is_strict = is_strict
        self._link = link
        self._routes = routes
        self._worker_id = worker_id
        self._noise = noise
        self._lines: dict[str, _Line] = {}
        self._failures = 0
        self._retry_at = float("-inf")
        self._changed = trio.lowlevel.ParkingLot()
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = threading.get_ident()
        link.on_answering.append(self._try_again)

    def begin(self, task: TaskPayload) -> None:
        """The attempt at *task* begins: its events are taken from now on."""
        self._lines[task.task_id] = _Line(task=task)

    def send(self, task: TaskPayload, event_type: str, payload: dict[str, Any]) -> EventReceipt:
        """Take an event of *task*, which has been found right; from any thread."""
        receipt = EventReceipt(self._token)
        keep = partial(self._keep, task.task_id, event_type, payload, receipt)
        if threading.get_ident() == self._loop_thread:
            keep()
        else:
            with contextlib.suppress(trio.RunFinishedError):  # a thread that outlived its worker
                self._token.run_sync_soon(keep)
        return receipt

    def _keep(
        self, task_id: str, event_type: str, payload: dict[str, Any], receipt: EventReceipt
    ) -> None:
        line = self._lines.get(task_id)
        if line is None:  # it has ended
            receipt.settle(is_stored=False)
            return
        line.count += 1
        if line.count > MOST_EVENTS:
            self._tell_once(line, f"there are more than {MOST_EVENTS:,} of this attempt")
        if line.count > MOST_EVENTS + 1:  # by the first one too many the history tells it
            receipt.settle(is_stored=False)
            return
        said = WorkerEvent(
            event_id=f"{task_id[-180:]}-{line.count}",
            worker_id=self._worker_id,
            origin_worker_id=self._worker_id,
            event_type=event_type,
            payload=payload,
            target_job_id=line.task.job_id,
            target_task_id=task_id,
            origin_task_id=task_id,
            number=line.count,
            trace_context=span_of(line.task.tracing_context, task_id) or None,
        )
        size = payload_bytes(payload) + _ENVELOPE_BYTES
        line.unsent.append(_Event(said=said, size=size, receipt=receipt))
        if self._is_out:
            receipt.settle(is_stored=False)
        self._changed.unpark_all()

    async def close(self, task: TaskPayload, terms: Terms, *, is_wanted: bool) -> Unsent:
        """The attempt at *task* has ended: get rid of its events, for a moment.

        Args:
            task: Whose they are.
            terms: What the orchestrator that issued it had announced.
            is_wanted: Whether there is a result.

        Returns:
            What is to go with the result.
        """
        line = self._lines[task.task_id]
        if is_wanted and line.unsent:
            with trio.move_on_after(_LAST_SECONDS):
                while line.unsent and not self._is_out:
                    await self._changed.park()
        del self._lines[task.task_id]
        for event in line.unsent:
            event.receipt.settle(is_stored=False)
        if not is_wanted or not line.unsent:
            return _NOTHING
        left = [event.said for event in line.unsent]
        if terms.events:
            return Unsent(task_id=task.task_id, events=left)
        logger.warning("%d events of task %s are lost", len(left), task.task_id)
        return _NOTHING

    async def run(self) -> NoReturn:
        """Post events until cancelled."""
        while True:
            line = next((it for it in self._lines.values() if it.unsent), None)
            if line is not None and not self._is_out:
                await self._post(line)
                self._changed.unpark_all()
                continue
            with trio.move_on_at(self._retry_at if self._is_out else float("inf")):
                await self._changed.park()

    @property
    def _is_out(self) -> bool:
        """Whether nobody can be reached just now."""
        return trio.current_time() < self._retry_at

    def _try_again(self) -> None:
        self._retry_at = float("-inf")
        self._changed.unpark_all()

    async def _post(self, line: _Line) -> None:
        if line.task.task_id in self._lines:  # the others are next
            self._lines[line.task.task_id] = self._lines.pop(line.task.task_id)
        terms = self._link.terms
        other = None if terms is None else self._routes.best(terms.cluster_id, self._link.url)
        link = other or self._link
        knows_lists = link.terms is not None and link.terms.events
        batch = list(islice(line.unsent, line.most if knows_lists else 1))
        while len(batch) > 1 and sum(event.size for event in batch) > _MOST_POST_BYTES:
            batch.pop()
        try:
            answers = await self._exchange(link, batch, knows_lists=knows_lists)
        except Refused as exc:
            self._refused(line, batch, exc, is_final=not knows_lists)
        except OrchestratorUnavailable as exc:
            self._failed(exc)
        else:
            self._answered(line, batch, answers)

    async def _exchange(
        self, link: Link, batch: Sequence[_Event], *, knows_lists: bool
    ) -> list[EventAnswer]:
        if knows_lists:
            request = _requests.events([event.said for event in batch])
            reply = await link.http.send(request)
            return _requests.read_event_answers(link.url, reply, len(batch))
        [event] = batch
        reply = await link.http.send(_requests.event(attrs.evolve(event.said, number=None)))
        return [_requests.read_event_answer(reply)]

    def _answered(
        self, line: _Line, batch: Sequence[_Event], answers: Sequence[EventAnswer]
    ) -> None:
        self._failures = 0
        for event, answer in zip(batch, answers, strict=True):
            line.unsent.popleft()
            is_stored = answer.status not in ("error", "ignored")
            problem = None
            if not is_stored:
                why = answer.message or answer.reason or "no reason"
                self._tell_once(line, why)
                problem = why if answer.status == "error" else None
            event.receipt.settle(is_stored=is_stored, problem=problem)

    def _refused(
        self, line: _Line, batch: Sequence[_Event], exc: Refused, *, is_final: bool
    ) -> None:
        if exc.status not in _FINAL_REFUSALS and (exc.status == _UNAUTHORIZED or not is_final):
            self._failed(exc)
        elif len(batch) > 1:
            line.most = 1  # the one that is meant comes alone
        elif _DUPLICATE in exc.detail:
            self._answered(line, batch, [EventAnswer()])
        else:
            self._answered(line, batch, [EventAnswer(status="error", message=str(exc))])

    def _failed(self, exc: OrchestratorUnavailable | Refused) -> None:
        self._failures += 1
        delay = retry_seconds(exc, self._failures, self._noise())
        self._retry_at = trio.current_time() + delay
        if not self._is_out:
            return
        logger.debug("events are not taken now: %s", exc)
        for line in self._lines.values():
            for event in line.unsent:
                event.receipt.settle(is_stored=False)

    def _tell_once(self, line: _Line, why: str) -> None:
        if why not in line.told and len(line.told) < MOST_EVENTS:
            line.told.add(why)
            logger.warning("events of task %s are not kept: %s (said once)", line.task.task_id, why)
