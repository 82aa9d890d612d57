"""What workers ask: `/_worker/...`, with the paths, headers and members of RXON.

One pure ASGI callable.  It checks and translates; every rule is an operation of the core.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from http import HTTPStatus
from typing import Any

import trio

from avtomatika_trio._core import lease
from avtomatika_trio._core.dispatch import HandOut, Offer, lease_seconds
from avtomatika_trio._core.ledger import Instance, InstanceKind
from avtomatika_trio._wire import messages
from avtomatika_trio._wire.codec import decode, decode_any
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._access import Session
from avtomatika_trio.orchestrator._answer_shapes import Issued, Returned
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._hand_outs import give_back
from avtomatika_trio.orchestrator._heartbeats import note_heartbeat
from avtomatika_trio.orchestrator._http import (
    AsgiApp,
    Disconnected,
    HttpProblem,
    Receive,
    Request,
    Scope,
    Send,
    read_request,
    send_json,
    send_nothing,
    send_problem,
)
from avtomatika_trio.orchestrator._job_log import tell_ignored
from avtomatika_trio.orchestrator._observed import is_at
from avtomatika_trio.orchestrator._polls import Presence, hand_over, wait_for_tasks
from avtomatika_trio.orchestrator._problems import EXPECTED, as_problem
from avtomatika_trio.orchestrator._reports import report, take_back
from avtomatika_trio.orchestrator._route import allowed, finder, served
from avtomatika_trio.orchestrator._routes_tokens import issue_tokens, refresh_tokens
from avtomatika_trio.orchestrator._rxon import (
    as_payload,
    as_report,
    as_said,
    foreign_id,
    foreign_instance,
    no_route,
    read_room,
    skill_names,
    unauthorized,
    warning_for,
)
from avtomatika_trio.orchestrator._table_workers import WORKER_ROUTES
from avtomatika_trio.orchestrator._worker_door import Door, Sender
from avtomatika_trio.orchestrator._worker_events import note_events, read_events

logger = logging.getLogger(__name__)

#: What workers of the original do, and beat, when they do not say how often (seconds).
_FOREIGN_INTERVAL_SECONDS = 15.0
_OUR_INTERVAL_SECONDS = 10.0

_WITHDRAWN = "the credential was withdrawn meanwhile"


def create_worker_routes(context: Context) -> AsgiApp:
    """The ASGI callable for every path below `/_worker/`."""
    routes = _Routes(context)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = await read_request(scope, receive)
        except Disconnected:
            return
        try:
            await routes.serve(request, receive, send)
        except EXPECTED as exc:
            await send_problem(send, as_problem(exc))

    return app


_Handler = Callable[..., Awaitable[None]]


def _answering(handler: Callable[..., Awaitable[Any]]) -> _Handler:
    """What sends the answer that *handler* returns."""

    async def answer(request: Request, receive: Receive, send: Send, **named: str) -> None:
        del receive
        await send_json(send, await handler(request, **named))

    return answer


class _Routes:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.door = Door(context)
        handlers: dict[str, _Handler] = {
            "register": _answering(self.register),
            "heartbeat": _answering(self.heartbeat),
            "poll": self.poll,
            "result": self.result,
            "take_back": _answering(self.take_back),
            "event": _answering(self.event),
            "issue_tokens": _answering(self.issue_tokens),
            "refresh_tokens": _answering(self.refresh_tokens),
        }
        self.handlers = {route.id: it for route, it in served(WORKER_ROUTES, handlers)}
        self.find = finder(WORKER_ROUTES)

    async def serve(self, request: Request, receive: Receive, send: Send) -> None:
        route, named = self.find(request.method, request.path)
        if route is None:
            raise no_route(request.path, allowed(WORKER_ROUTES, request.path))
        is_at(route.template)
        await self.handlers[route.id](request, receive, send, **named)

    async def admit(self, request: Request, kind: str, in_path: str | None = None) -> Sender:
        """Who has sent *request*, one of those that are counted as *kind*."""
        sender = await self.door.admit(request, in_path)
        self.context.rates.take(kind, sender.worker_id)
        return sender

    def check(self, request: Request, sender: Sender) -> None:
        """Let the body through if its signatures are right, or there need be none."""
        signatures = self.context.signatures
        if signatures.concern(request.body):
            raw = decode_any(request.body)
            for body in raw if isinstance(raw, list) else [raw]:
                signatures.check(sender, body)

    async def register(self, request: Request) -> dict[str, Any]:
        admitted = await self.admit(request, "register")
        sender = admitted.worker_id
        said = decode(request.body, messages.Registration)
        if said.worker_id != sender:
            raise foreign_id(sender, said.worker_id)
        self.check(request, admitted)
        ours = said.instance is not None
        instance_id = said.instance or foreign_instance(sender)
        await self._instance(sender, instance_id)
        interval = said.heartbeat_seconds or (
            _OUR_INTERVAL_SECONDS if ours else _FOREIGN_INTERVAL_SECONDS
        )
        registration = lease.Registration(
            worker_id=sender,
            instance=instance_id,
            kind=InstanceKind.OURS if ours else InstanceKind.FOREIGN,
            skills=admitted.may_do(tuple(skill.name for skill in said.supported_skills)),
            credential=admitted.credential,
            interval_seconds=interval,
            said=as_said(request.body),
        )
        rules = self.context.rules
        operation = partial(lease.register, said=registration, rules=rules)
        storage = self.context.storage
        await storage.commit(operation, storage.home_of(instance_id))
        answer: dict[str, Any] = {"status": "registered", "version": messages.RXON_VERSION}
        if ours:
            lease_seconds = rules.lease_for(interval)
            answer |= {
                "extensions": list(messages.EXTENSIONS),
                "cluster_id": self.context.storage.cluster_id,
                "lease_seconds": lease_seconds,
                "heartbeat_seconds": lease_seconds / 3,
                "signing": self.context.signatures.policy,
            }
        version = request.headers.get(messages.VERSION_HEADER.lower(), messages.RXON_VERSION)
        warning = warning_for(said, version, self.context.s3_config_hash)
        if warning is not None:
            logger.warning("worker %s: %s", sender, warning)
            answer["warning"] = warning
        return answer

    async def heartbeat(self, request: Request, worker_id: str) -> dict[str, Any]:
        admitted = await self.admit(request, "heartbeat", worker_id)
        sender = admitted.worker_id
        empty = request.body.strip() in (b"", b"{}")
        said = messages.Heartbeat() if empty else decode(request.body, messages.Heartbeat)
        if not empty:
            self.check(request, admitted)
        skills = skill_names(said.supported_skills)
        beat = lease.Beat(
            worker_id=sender,
            instance=said.instance or foreign_instance(sender),
            number=said.beat,
            last_poll=said.last_poll,
            open_polls=tuple(said.open_polls),
            current_tasks=None if said.current_tasks is None else tuple(said.current_tasks),
            replaces=tuple(said.replaces),
            blocked_seconds=said.loop_blocked_seconds,
            leaving=said.leaving or said.status == "offline",
            status=said.status,
            skills=None if skills is None else admitted.may_do(skills),
            hot_skills=None if said.hot_skills is None else tuple(said.hot_skills),
        )
        answer = await note_heartbeat(self.context, beat)
        if not answer.known:
            raise HttpProblem(HTTPStatus.NOT_FOUND, "worker_not_found", "Worker not found")
        if answer.sender is not None:
            self._remember(answer.sender, said.usage)
        for note in answer.notes:
            logger.warning("%s", note)
        if answer.is_first:  # by now it has named those that it replaces
            await self._report_twins(beat)
        return {
            "status": "ttl_refreshed" if empty else "ok",
            "cancel_task_ids": list(answer.cancel),
            "replaced": list(answer.replaced),
        }

    def _remember(self, sender: Instance, usage: Any) -> None:
        """What it tells beside what is stored, for as long as its leases last."""
        seconds = lease_seconds(sender.kind, sender.interval_seconds, self.context.rules)
        now = trio.current_time()
        self.context.metrics.heard.note(sender, usage=usage, until=now + seconds, now=now)

    async def _report_twins(self, beat: lease.Beat) -> None:
        """Two processes that use one worker id keep their own leases, and are reported (L7)."""
        twins = sorted(
            other.id
            for other in await self.context.storage.instances(beat.worker_id)
            if other.id != beat.instance and not other.gone
        )
        if twins:
            logger.warning(
                "worker id %r is used by %s and %s; give each process a WORKER_ID of its own",
                beat.worker_id,
                beat.instance,
                ", ".join(twins),
            )

    async def poll(self, request: Request, receive: Receive, send: Send, worker_id: str) -> None:
        sender = await self.door.admit(request, worker_id)
        rates = self.context.rates
        rates.check("poll", sender.worker_id)
        many = "max_tasks" in request.query
        presence = Presence()
        limit = self.context.limits.poll_hold_seconds
        hold = request.number("timeout", limit, most=limit)
        with self._session(sender, presence.waiting) as session:
            offer = await self._offer(request, sender)
            got = await wait_for_tasks(self.context, offer, receive, presence, hold)
            if not got:
                rates.count("poll", sender.worker_id)  # busy ones may come as often as they like
        if session.is_over:
            await give_back(self.context, got, _WITHDRAWN)
            got = ()
            if not self.door.lets_in(sender):
                raise unauthorized(_WITHDRAWN)
        await hand_over(
            self.context, offer, got, presence, partial(self._send_tasks, send, many=many)
        )

    def _session(
        self, sender: Sender, waiting: trio.CancelScope
    ) -> AbstractContextManager[Session]:
        return self.context.access.session(partial(self.door.is_as_before, sender), waiting)

    async def _send_tasks(self, send: Send, sending: tuple[HandOut, ...], *, many: bool) -> None:
        key = self.context.security.secret_key
        if not sending:
            await send_nothing(send)
            return
        answer: dict[str, Any] = (
            {"tasks": [as_payload(it, key, ours=True) for it in sending]}
            if many
            else as_payload(sending[0], key, ours=False)
        )
        self.context.metrics.tasks_sent(await send_json(send, answer))

    async def _instance(self, sender: str, instance_id: str) -> Instance | None:
        """What is known of an instance, unless it is another worker's."""
        instance = await self.context.storage.instance(instance_id)
        if instance is not None and instance.worker_id != sender:
            raise foreign_id(sender, instance.worker_id)
        return instance

    async def _offer(self, request: Request, admitted: Sender) -> Offer:
        sender = admitted.worker_id
        most = request.number("max_tasks", 1, most=messages.MOST_PER_REQUEST)
        instance_id = request.query.get("instance") or foreign_instance(sender)
        instance = await self._instance(sender, instance_id)
        named = request.query.get("available_skills")
        if named is not None:
            skills = tuple(filter(None, named.split(",")))
        else:
            skills = () if instance is None else instance.skills
        return Offer(
            instance=instance_id,
            poll=int(request.number("poll", 1, most=2**53)),
            skills=admitted.may_do(tuple(dict.fromkeys(skills))),
            most=int(most),
            room=read_room(request.query.get("room", "")),
        )

    async def result(self, request: Request, receive: Receive, send: Send) -> None:
        del receive  # it is not parked
        sender = await self.door.admit(request)
        rates = self.context.rates
        rates.check("result", sender.worker_id)
        self.check(request, sender)
        listed = isinstance(decode_any(request.body), list)
        said = (
            decode(request.body, list[messages.Result])
            if listed
            else [decode(request.body, messages.Result)]
        )
        if len(said) > messages.MOST_PER_REQUEST:
            problem = Problem("$", f"at most {messages.MOST_PER_REQUEST} results in one post")
            raise InvalidMessage((problem,))
        self.context.metrics.results_received(len(request.body))
        reports = [as_report(one, sender.worker_id) for one in said]
        presence = Presence()
        with self._session(sender, presence.waiting) as session:
            offer = await self._offer(request, sender) if "max_tasks" in request.query else None
            answers, got = await report(self.context, reports, offer)
        tell_ignored(said, answers, request.headers)
        if not any(it["status"] == "accepted" for it in answers):
            rates.count("result", sender.worker_id)  # who does work may tell it at any rate
        if not listed:
            await send_json(send, answers[0])
            return

        async def answer(sending: tuple[HandOut, ...]) -> None:
            key = self.context.security.secret_key
            tasks = [as_payload(it, key, ours=True) for it in sending]
            size = await send_json(send, {"results": answers, "tasks": tasks})
            if tasks:
                self.context.metrics.tasks_sent(size)

        if offer is None or session.is_over:
            await give_back(self.context, got, _WITHDRAWN)
            await answer(())
        else:
            await hand_over(self.context, offer, got, presence, answer)

    async def issue_tokens(self, request: Request) -> Issued:
        return await issue_tokens(self.context, await self.admit(request, "token"))

    async def refresh_tokens(self, request: Request) -> Issued:
        self.context.rates.take("token", f"refresh {request.address}")
        return await refresh_tokens(self.context, request)

    async def take_back(self, request: Request) -> Returned:
        sender = await self.admit(request, "return")
        said = decode(request.body, messages.Return)
        self.check(request, sender)
        count = await take_back(self.context, sender.worker_id, said.task_ids, said.unstarted)
        return {"status": "returned", "count": count}

    async def event(self, request: Request) -> dict[str, Any]:
        admitted = await self.admit(request, "event")
        try:
            said, listed = read_events(request.body)
        except InvalidMessage as exc:
            return {"status": "error", "message": f"Invalid event payload: {exc}"}
        self.check(request, admitted)
        answers = await note_events(self.context, admitted.worker_id, said)
        return {"results": answers} if listed else answers[0]
