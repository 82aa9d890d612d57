"""A worker at work: what runs, in which nursery, and in which order it ends.

    upkeep        registration, heartbeats, delivery of results, giving back; ends last
      attempts    the handlers; on stop they get their time of grace
        polling   asks for work; ends at once

A lease so never expires because its worker is draining (rule L10).  What belongs to one
orchestrator has tasks of its own, so that none ever waits for another's.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

import attrs
import trio

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio._core.turns import InOrder, Turns, Weighted
from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio.worker._access_tokens import keep_access_token
from avtomatika_trio.worker._addresses import addresses_of
from avtomatika_trio.worker._api import Address, Http, open_http, open_thread_http
from avtomatika_trio.worker._attempt import Attempt
from avtomatika_trio.worker._attempts import Attempts
from avtomatika_trio.worker._beats import LoopWatch
from avtomatika_trio.worker._capacity import NO_LIMITS, Capacity
from avtomatika_trio.worker._credential import Credential
from avtomatika_trio.worker._delivery import Delivery
from avtomatika_trio.worker._health import serve_health
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._in_turn import InTurn
from avtomatika_trio.worker._intake import Intake
from avtomatika_trio.worker._last_words import say_last_words
from avtomatika_trio.worker._link import Link
from avtomatika_trio.worker._payloads import Payloads, open_payloads
from avtomatika_trio.worker._polling import Poller, poll_beside, poll_while_active
from avtomatika_trio.worker._posting import Poster
from avtomatika_trio.worker._predecessors import Predecessors
from avtomatika_trio.worker._probing import Probing
from avtomatika_trio.worker._renewal import Renewal
from avtomatika_trio.worker._requests import Identity, Terms
from avtomatika_trio.worker._resources import registration_of
from avtomatika_trio.worker._routes import Routes
from avtomatika_trio.worker._seal import Seal
from avtomatika_trio.worker._settling import Settling
from avtomatika_trio.worker._skills import Skill
from avtomatika_trio.worker._slots import Slots
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool import Spool
from avtomatika_trio.worker._spool_entry import SpoolEntry
from avtomatika_trio.worker._status import Status
from avtomatika_trio.worker._surroundings import Surroundings
from avtomatika_trio.worker._switchboard import Switchboard

logger = logging.getLogger(__name__)

_FAILOVER = "FAILOVER"


async def run_service(
    *,
    worker_id: str,
    worker_type: str,
    settings: WorkerSettings,
    skills: Mapping[str, Skill],
    world: Surroundings,
    capacity: Capacity,
    stop: trio.Event,
    running: dict[str, Attempt],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Work until *stop*; the attempts are kept in *running*, by task id.

    When this returns, nothing of the worker runs on, save threads of handlers that did not
    end in time; they are named in the log.

    Cancelling it is like killing the process: what was under way is lost, noticed, and done
    again.  Results that are in the spool are delivered by the next process.

    Raises:
        SpoolError: the spool cannot be opened.
        ExceptionGroup: of whatever one of the loops has crashed with, which is a bug.
    """
    registration = registration_of(worker_id, worker_type, settings, skills, world.instance)
    identity = Identity(instance=world.instance, registration=registration, seal=Seal.of(settings))
    addresses = addresses_of(settings, worker_id, world.wall_clock)
    async with AsyncExitStack() as resources:
        spool = await resources.enter_async_context(world.open_spool(world.instance))
        clients = [
            (address, await resources.enter_async_context(open_http(address, world.transport)))
            for address in addresses
        ]
        wants_files = any("task_files" in skill.wants for skill in skills.values())
        opening = open_payloads(settings, world.instance, wants_files=wants_files)
        payloads = await resources.enter_async_context(opening)
        service = _Service(
            identity, settings, skills, spool, payloads, clients, world, running, capacity
        )
        capacity.usage.open(is_real=world.beats_in_thread)
        with capacity.hot.telling(service.beat_soon):
            await service.run(stop, task_status)


@attrs.frozen(kw_only=True, eq=False)
class _Branch:
    """What there is for one orchestrator."""

    home: Home
    renewal: Renewal
    probing: Probing
    credential: Credential


class _Service:
    """The parts of one worker, and how they are connected."""

    def __init__(
        self,
        identity: Identity,
        settings: WorkerSettings,
        skills: Mapping[str, Skill],
        spool: Spool,
        payloads: Payloads,
        clients: Sequence[tuple[Address, Http]],
        world: Surroundings,
        running: dict[str, Attempt],
        capacity: Capacity = NO_LIMITS,
    ) -> None:
        self._identity = identity
        self._settings = settings
        self._spool = spool
        self._payloads = payloads
        self._world = world
        self._stopping = False
        self._board = self._switchboard([http.url for _, http in clients])
        self._slots = Slots(settings.max_concurrent_tasks, on_free=self._board.nudge)
        self._capacity = capacity
        self._groups = capacity.groups(skills)
        self._groups.on_change.append(self._board.nudge)
        # What an earlier process has finished is held like what this one will finish.
        recovered = {entry.task_id: entry.cluster_id for entry in spool.recovered.entries}
        self._holdings = Holdings(recovered)
        self._routes = Routes([Link(http, self._board) for _, http in clients])
        self._settling = Settling(spool, self._holdings, self._give_back)
        self._delivery = Delivery(
            routes=self._routes,
            spool=spool,
            settling=self._settling,
            slots=self._slots,
            nudge=self._board.nudge,
            noise=world.noise,
            wall_clock=world.wall_clock,
        )
        self._board.on_change += [self._note_room, self._delivery.look_again]
        self._attempts = self._attempts_of(skills, running)
        self._predecessors = Predecessors(spool, self._board.policy.urls)
        self._watch = LoopWatch.of_beats(settings.heartbeat_interval_seconds)
        self._branches = [
            self._branch(address, link)
            for (address, _), link in zip(clients, self._routes.links, strict=True)
        ]

    def _switchboard(self, urls: Sequence[str]) -> Switchboard:
        return Switchboard(
            urls,
            stable_seconds=self._settings.failback_stable_seconds,
            switches=self._settings.mode == _FAILOVER,
            noise=self._world.noise,
        )

    def _attempts_of(self, skills: Mapping[str, Skill], running: dict[str, Attempt]) -> Attempts:
        return Attempts(
            worker_id=self._identity.worker_id,
            skills=skills,
            slots=self._slots,
            groups=self._groups,
            hot=self._capacity.hot,
            holdings=self._holdings,
            deliver=self._delivery.add,
            places=self._payloads.places,
            running=running,
            call=self._world.call_handler,
            wall_clock=self._world.wall_clock,
        )

    def _branch(self, address: Address, link: Link) -> _Branch:
        world = self._world
        open_beats = partial(open_thread_http, address, world.thread_transport)
        return _Branch(
            home=Home.of(
                link, self._routes, self._holdings, self._identity, self._settings, world.noise
            ),
            renewal=Renewal(
                link=link,
                credential=address.credential,
                identity=self._identity,
                open_thread_http=open_beats if world.beats_in_thread else None,
                watch=self._watch if world.beats_in_thread else None,
                holdings=self._holdings,
                predecessors=self._predecessors,
                interval_seconds=self._settings.heartbeat_interval_seconds,
                status=self._load,
                cancel=self._attempts.cancel,
                about=self._capacity.telling(self._settings, world.wall_clock),
                noise=world.noise,
            ),
            probing=Probing(link),
            credential=address.credential,
        )

    async def run(self, stop: trio.Event, task_status: trio.TaskStatus[None]) -> None:
        """Work until *stop*; see the head of the module for the nesting."""
        for note in self._spool.recovered.notes:
            logger.warning("%s", note)
        async with trio.open_nursery() as upkeep:
            async with trio.open_nursery() as attempts:

                def begin(task: TaskPayload, home: Home, terms: Terms) -> None:
                    attempt = self._attempts.create(task, home, terms)
                    attempts.start_soon(self._attempts.run, attempt)

                intake = Intake(
                    holdings=self._holdings, slots=self._slots, groups=self._groups, begin=begin
                )
                self._start_upkeep(upkeep, intake)
                async with trio.open_nursery() as polling:
                    self._start_polling(polling, intake)
                    task_status.started()
                    await stop.wait()
                    polling.cancel_scope.cancel()
                self._stopping = True
                intake.stop()
                await self._attempts.let_finish(self._settings.shutdown_timeout_seconds)
            await say_last_words(
                homes=[branch.home for branch in self._branches],
                renewals=[branch.renewal for branch in self._branches],
                delivery=self._delivery,
                attempts=self._attempts,
                spool=self._spool,
                holdings=self._holdings,
                predecessors=self._predecessors,
                instance=self._identity.instance,
            )
            upkeep.cancel_scope.cancel()

    def _start_upkeep(self, upkeep: trio.Nursery, intake: Intake) -> None:
        posters = {it.home.link.url: self._poster(it, intake) for it in self._branches}
        self._delivery.desks = posters
        upkeep.start_soon(self._board.run)
        upkeep.start_soon(self._delivery.run)
        upkeep.start_soon(self._predecessors.run)
        upkeep.start_soon(self._tell_health)
        upkeep.start_soon(self._payloads.run)
        upkeep.start_soon(self._groups.run)
        if self._world.beats_in_thread:
            upkeep.start_soon(self._watch.run)
        for branch in self._branches:
            poster = posters[branch.home.link.url]
            branch.home.link.on_down += [
                poster.free_slots,
                partial(intake.lend_all, branch.home),
            ]
            upkeep.start_soon(branch.renewal.run)
            upkeep.start_soon(poster.run)
            upkeep.start_soon(branch.home.run)
            if self._settings.use_access_tokens:
                http, again = branch.home.link.http, branch.renewal.register_again
                upkeep.start_soon(keep_access_token, http, branch.credential, again)
            if not self._board.is_alone:
                upkeep.start_soon(branch.probing.run)

    def _start_polling(self, polling: trio.Nursery, intake: Intake) -> None:
        pollers = [self._poller(branch, intake) for branch in self._branches]
        if self._polls_one():
            for poller in pollers:
                room = self._delivery.wait_for_room
                polling.start_soon(poll_while_active, poller, self._slots, room)
                if self._groups.are_limited:
                    is_full = self._delivery.is_full
                    polling.start_soon(poll_beside, poller, self._slots, is_full)
            return
        in_turn = InTurn(
            pollers,
            turns=self._turns(),
            slots=self._slots,
            intake=intake,
            board=self._board,
            is_full=self._delivery.is_full,
        )
        polling.start_soon(in_turn.run)

    def _polls_one(self) -> bool:
        """Whether one orchestrator at a time is asked for work."""
        return self._settings.mode == _FAILOVER or self._board.is_alone

    def _turns(self) -> Turns:
        if self._settings.mode == "ROUND_ROBIN":
            weights = {target.url: target.weight for target in self._settings.orchestrators}
            return Weighted({url: weights[url] for url in self._board.policy.urls})
        return InOrder(self._board.policy.urls)

    def _poller(self, branch: _Branch, intake: Intake) -> Poller:
        return Poller(
            home=branch.home,
            identity=self._identity,
            intake=intake,
            wanted_hold_seconds=self._settings.poll_timeout_seconds,
            register_again=branch.renewal.register_again,
            beat_soon=self.beat_soon,
            noise=self._world.noise,
        )

    def _poster(self, branch: _Branch, intake: Intake) -> Poster:
        url = branch.home.link.url
        return Poster(
            home=branch.home,
            identity=self._identity,
            delivery=self._delivery,
            settling=self._settling,
            slots=self._slots,
            intake=intake,
            may_ask=lambda: self._polls_one() and self._board.policy.active == url,
            register_again=branch.renewal.register_again,
            beat_soon=self.beat_soon,
            noise=self._world.noise,
            wall_clock=self._world.wall_clock,
        )

    def _note_room(self) -> None:
        full = [
            link.url
            for link in self._routes.links
            if link.terms is not None and self._spool.is_full(link.terms.cluster_id)
        ]
        self._board.without_room_for(full)

    def _give_back(self, entries: Sequence[SpoolEntry]) -> None:
        """Nobody will see these results: let others do the tasks."""
        for entry in entries:
            link = self._routes.best(entry.cluster_id, entry.orchestrator)
            for branch in self._branches:
                if branch.home.link is (link or self._routes.links[0]):
                    branch.home.returns.give_back_started([entry.task_id])

    def beat_soon(self, cluster_id: str | None = None) -> None:
        """Tell news to the orchestrators of a cluster; None = to all."""
        for branch in self._branches:
            if cluster_id is None or branch.home.link.serves(cluster_id):
                branch.renewal.beat_soon()

    def _load(self) -> str:
        """`idle` means that there is room: servers give nothing to others."""
        has_room = len(self._attempts) < self._slots.total and self._groups.has_room()
        is_able = not self._stopping and self._delivery.disk_fault is None
        return "idle" if has_room and is_able else "full"

    async def _tell_health(self) -> None:
        settings, port = self._settings, self._settings.health_port
        if port is None:
            return
        status = Status(
            identity=self._identity,
            mode=settings.mode,
            period_seconds=max(settings.poll_timeout_seconds, settings.heartbeat_interval_seconds),
            board=self._board,
            links=self._routes.links,
            slots=self._slots,
            spool=self._spool,
            delivery=self._delivery,
            running=lambda: len(self._attempts),
            is_stopping=lambda: self._stopping,
            wall_clock=self._world.wall_clock,
        )
        await serve_health(await self._world.open_health(port, settings.health_host), status.tell)
