"""A worker at work: what runs, in which nursery, and in which order it ends.

    upkeep        registration, heartbeats, delivery of results, giving back; ends last
      attempts    the handlers; on stop they get their time of grace
        polling   asks for work; ends at once

A lease so never expires because its worker is draining (rule L10).
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import attrs
import httpx
import trio

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio._wire.messages import Registration, TaskPayload
from avtomatika_trio.worker._api import Address, Http, open_http, open_thread_http
from avtomatika_trio.worker._attempts import Attempts
from avtomatika_trio.worker._delivery import Delivery
from avtomatika_trio.worker._health import open_health_port, serve_health
from avtomatika_trio.worker._intake import Intake
from avtomatika_trio.worker._link import Link, Noise
from avtomatika_trio.worker._polling import Poller
from avtomatika_trio.worker._progress import ProgressReports
from avtomatika_trio.worker._renewal import Renewal
from avtomatika_trio.worker._requests import FOREIGN_LEASE_SECONDS, Identity, Terms
from avtomatika_trio.worker._returns import Returns
from avtomatika_trio.worker._settling import Settling
from avtomatika_trio.worker._skills import Skill
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool import Spool

logger = logging.getLogger(__name__)

#: How long results that are still on their way may take at the end; what does not get
#: through stays in the spool.
_LAST_RESULTS_SECONDS = 5.0
#: And then the returns of threads, and the goodbye, each.
_LAST_WORD_SECONDS = 2.0


@attrs.frozen(kw_only=True)
class Surroundings:
    """What a worker needs of the world; tests have worlds of their own."""

    open_spool: Callable[[str], AbstractAsyncContextManager[Spool]]
    """Opens the spool for an instance."""
    instance: str
    """The random id of this run."""
    noise: Noise
    wall_clock: Callable[[], float] = time.time
    transport: httpx.AsyncBaseTransport | None = None
    """Instead of the network."""
    thread_transport: httpx.BaseTransport | None = None
    """Instead of the network, for the heartbeats' thread."""
    beats_in_thread: bool = True
    """False on a virtual clock, which does not see threads."""


async def run_service(
    *,
    worker_id: str,
    worker_type: str,
    settings: WorkerSettings,
    skills: Mapping[str, Skill],
    world: Surroundings,
    stop: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Work until *stop*.

    When this returns, nothing of the worker runs on, save threads of handlers that did not
    end in time; they are named in the log.

    Cancelling it is like killing the process: what was under way is lost, noticed, and done
    again.  Results that are in the spool are delivered by the next process.

    Raises:
        SpoolError: the spool cannot be opened.
        ExceptionGroup: of whatever one of the loops has crashed with, which is a bug.
    """
    address = Address(url=settings.orchestrator_url, worker_id=worker_id, token=settings.token)
    registration = Registration(
        worker_id=worker_id,
        worker_type=worker_type,
        supported_skills=[skill.info for skill in skills.values()],
        instance=world.instance,
        heartbeat_seconds=settings.heartbeat_interval_seconds,
    )
    identity = Identity(instance=world.instance, registration=registration)
    async with (
        world.open_spool(world.instance) as spool,
        open_http(address, world.transport) as http,
    ):
        service = _Service(identity, address, settings, skills, spool, http, world)
        await service.run(stop, task_status)


class _Service:
    """The parts of one worker, and how they are connected."""

    def __init__(
        self,
        identity: Identity,
        address: Address,
        settings: WorkerSettings,
        skills: Mapping[str, Skill],
        spool: Spool,
        http: Http,
        world: Surroundings,
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._skills = tuple(skills)
        self._spool = spool
        self._world = world
        self._stopping = False
        self._link = Link(http)
        self._slots = Slots(settings.max_concurrent_tasks)
        # What an earlier process has finished is held like what this one will finish.
        self._holdings = Holdings(entry.task_id for entry in spool.recovered.entries)
        self._progress = ProgressReports(self._link, identity.worker_id)
        self._returns = Returns(self._link, self._holdings, world.noise)
        self._delivery = Delivery(
            link=self._link,
            identity=identity,
            skills=self._skills,
            spool=spool,
            settling=Settling(spool, self._holdings, self._returns.give_back_started),
            slots=self._slots,
            register_again=self._register_again,
            noise=world.noise,
            wall_clock=world.wall_clock,
        )
        self._attempts = Attempts(
            worker_id=identity.worker_id,
            url=self._link.url,
            skills=skills,
            slots=self._slots,
            holdings=self._holdings,
            returns=self._returns,
            progress=self._progress,
            deliver=self._delivery.add,
            wall_clock=world.wall_clock,
        )
        open_beats = partial(open_thread_http, address, world.thread_transport)
        self._renewal = Renewal(
            link=self._link,
            identity=identity,
            open_thread_http=open_beats if world.beats_in_thread else None,
            holdings=self._holdings,
            spool=spool,
            interval_seconds=settings.heartbeat_interval_seconds,
            status=self._status,
            cancel=self._attempts.cancel,
            noise=world.noise,
        )

    async def run(self, stop: trio.Event, task_status: trio.TaskStatus[None]) -> None:
        """Work until *stop*; see the head of the module for the nesting."""
        for note in self._spool.recovered.notes:
            logger.warning("%s", note)
        async with trio.open_nursery() as upkeep:
            async with trio.open_nursery() as attempts:

                def begin(task: TaskPayload, terms: Terms) -> None:
                    attempts.start_soon(self._attempts.run, self._attempts.create(task, terms))

                intake = Intake(
                    holdings=self._holdings,
                    slots=self._slots,
                    begin=begin,
                    give_back=self._returns.give_back,
                )
                upkeep.start_soon(self._renewal.run)
                upkeep.start_soon(self._delivery.run, intake)
                upkeep.start_soon(self._returns.run)
                upkeep.start_soon(self._progress.run)
                upkeep.start_soon(self._tell_health)
                async with trio.open_nursery() as polling:
                    polling.start_soon(self._poller(intake).run)
                    task_status.started()
                    await stop.wait()
                    polling.cancel_scope.cancel()
                self._stopping = True
                intake.stop()
                await self._attempts.let_finish(self._settings.shutdown_timeout_seconds)
            await self._say_last_words()
            upkeep.cancel_scope.cancel()

    async def _say_last_words(self) -> None:
        """No handler runs any more: deliver, give back, and say goodbye, in this order."""
        with trio.move_on_after(_LAST_RESULTS_SECONDS):
            await self._delivery.all_delivered()
            await self._returns.all_given_back()
        undelivered = len(self._spool.pending())
        if undelivered:
            logger.warning("%d results stay in the spool for the next run", undelivered)
        await self._renewal.end()
        self._attempts.give_back_threads()
        with trio.move_on_after(_LAST_WORD_SECONDS):
            await self._returns.all_given_back()
        # Also what could not be given back is not held by anybody now.
        self._holdings.keep_only(entry.task_id for entry in self._spool.pending())
        with trio.move_on_after(_LAST_WORD_SECONDS):
            await self._renewal.say_goodbye()

    def _poller(self, intake: Intake) -> Poller:
        return Poller(
            link=self._link,
            identity=self._identity,
            skills=self._skills,
            slots=self._slots,
            intake=intake,
            wanted_hold_seconds=self._settings.poll_timeout_seconds,
            wait_for_room=self._delivery.wait_for_room,
            register_again=self._register_again,
            noise=self._world.noise,
        )

    def _register_again(self) -> None:
        self._renewal.register_again()

    def _status(self) -> str:
        """`idle` means that there is room: servers give nothing to others."""
        has_room = len(self._attempts) < self._slots.total and not self._stopping
        return "idle" if has_room else "full"

    async def _tell_health(self) -> None:
        port = self._settings.health_port
        if port is not None:
            listeners = await open_health_port(port, self._settings.health_host)
            await serve_health(listeners, self._health)

    def _health(self) -> tuple[bool, Mapping[str, Any]]:
        terms, heard_at = self._link.terms, self._link.heard_at
        silent = None if heard_at is None else trio.current_time() - heard_at
        lease = FOREIGN_LEASE_SECONDS if terms is None else terms.lease_seconds
        is_well = silent is not None and silent <= lease
        return is_well, {
            "status": "ok" if is_well else "unavailable",
            "worker_id": self._identity.worker_id,
            "orchestrator": self._link.url,
            "seconds_since_contact": None if silent is None else round(silent, 3),
            "running": len(self._attempts),
            "undelivered": len(self._spool.pending()),
        }
