"""What workers ask: `/_worker/...`, with the paths, headers and members of RXON.

One pure ASGI callable.  It checks and translates; every rule is an operation of the core.
"""

import hmac
import logging
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import trio

from avtomatika_trio._core import lease, results
from avtomatika_trio._core.arguments import NAME
from avtomatika_trio._core.dispatch import HandOut, Offer, hand_out
from avtomatika_trio._core.ledger import InstanceKind, Ledger, Progress
from avtomatika_trio._core.task import TaskFault, TaskResult
from avtomatika_trio._wire import messages
from avtomatika_trio._wire.codec import decode, decode_any
from avtomatika_trio.errors import InvalidMessage, Problem, StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import (
    AsgiApp,
    Disconnected,
    HttpProblem,
    Receive,
    Request,
    Scope,
    Send,
    invalid,
    read_request,
    send_json,
    send_nothing,
    send_problem,
)
from avtomatika_trio.orchestrator._polls import (
    Presence,
    fresh_wire_ids,
    hand_over,
    wait_for_tasks,
)

logger = logging.getLogger(__name__)

PREFIX = "/_worker/"

#: What workers of the original do, and beat, when they do not say how often (seconds).
_FOREIGN_INTERVAL_SECONDS = 15.0
_OUR_INTERVAL_SECONDS = 10.0

#: Characters of a progress message that are kept.
_LONGEST_MESSAGE = 1000


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
        except InvalidMessage as exc:
            await send_problem(send, invalid(exc))
        except HttpProblem as exc:
            await send_problem(send, exc)
        except StorageUnavailable as exc:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            await send_problem(send, HttpProblem(status, "storage_unavailable", str(exc)))

    return app


class _Routes:
    def __init__(self, context: Context) -> None:
        self.context = context
        self._token = context.worker_token.encode()

    async def serve(self, request: Request, receive: Receive, send: Send) -> None:
        match (request.method, *request.path.removeprefix(PREFIX).split("/")):
            case ("POST", "workers", "register"):
                await send_json(send, await self.register(request))
            case ("PATCH", "workers", worker_id):
                await send_json(send, await self.heartbeat(request, worker_id))
            case ("GET", "workers", worker_id, "tasks", "next"):
                await self.poll(request, worker_id, receive, send)
            case ("POST", "tasks", "result"):
                await self.result(request, send)
            case ("POST", "tasks", "return"):
                await send_json(send, await self.take_back(request))
            case ("POST", "events"):
                await send_json(send, await self.event(request))
            case _:
                raise _no_route(request)

    def authenticate(self, request: Request, worker_id: str | None) -> str:
        """The worker id of the sender.

        Args:
            request: With the token in its header.
            worker_id: The id in the path, which wins over the header's.
        """
        sender = worker_id or request.headers.get(messages.WORKER_ID_HEADER.lower())
        token = request.headers.get(messages.TOKEN_HEADER.lower())
        if token is None:
            raise _unauthorized("Missing X-Worker-Token header")
        if not hmac.compare_digest(token.encode(), self._token):
            raise _unauthorized("No valid token found (GLOBAL_WORKER_TOKEN / WORKER_TOKEN)")
        if not sender:
            raise _unauthorized("Missing X-Worker-ID header")
        if NAME.fullmatch(sender) is None:
            raise InvalidMessage((Problem("worker_id", f"is not a worker id: {sender!r}"),))
        return sender

    async def register(self, request: Request) -> dict[str, Any]:
        sender = self.authenticate(request, None)
        said = decode(request.body, messages.Registration)
        if said.worker_id != sender:
            raise _foreign_id(sender, said.worker_id)
        ours = said.instance is not None
        interval = said.heartbeat_seconds or (
            _OUR_INTERVAL_SECONDS if ours else _FOREIGN_INTERVAL_SECONDS
        )
        registration = lease.Registration(
            worker_id=sender,
            instance=said.instance or _foreign(sender),
            kind=InstanceKind.OURS if ours else InstanceKind.FOREIGN,
            skills=tuple(skill.name for skill in said.supported_skills),
            interval_seconds=interval,
            said=_as_dict(request.body),
        )
        rules = self.context.rules
        operation = partial(lease.register, said=registration, rules=rules)
        await self.context.storage.commit(operation)
        answer: dict[str, Any] = {"status": "registered", "version": messages.RXON_VERSION}
        if ours:
            lease_seconds = rules.lease_for(interval)
            answer |= {
                "extensions": list(messages.EXTENSIONS),
                "cluster_id": self.context.storage.cluster_id,
                "lease_seconds": lease_seconds,
                "heartbeat_seconds": lease_seconds / 3,
            }
        warning = await self._warning(request, registration)
        return answer if warning is None else {**answer, "warning": warning}

    async def _warning(self, request: Request, said: lease.Registration) -> str | None:
        version = request.headers.get(messages.VERSION_HEADER.lower(), messages.RXON_VERSION)
        if version != messages.RXON_VERSION:
            return (
                "Protocol version mismatch! Orchestrator:"
                f" {messages.RXON_VERSION}, Worker: {version}."
            )
        twins = [
            other.id
            for other in await self.context.storage.instances()
            if other.worker_id == said.worker_id and other.id != said.instance and not other.gone
        ]
        if not twins or said.kind is InstanceKind.FOREIGN:
            return None
        warning = (
            f"worker id {said.worker_id!r} is also that of {', '.join(sorted(twins))}; if that"
            " process is not dead, give each worker a WORKER_ID of its own"
        )
        logger.warning("%s", warning)
        return warning

    async def heartbeat(self, request: Request, worker_id: str) -> dict[str, Any]:
        sender = self.authenticate(request, worker_id)
        empty = request.body.strip() in (b"", b"{}")
        said = messages.Heartbeat() if empty else decode(request.body, messages.Heartbeat)
        beat = lease.Beat(
            worker_id=sender,
            instance=said.instance or _foreign(sender),
            number=said.beat,
            last_poll=said.last_poll,
            open_polls=tuple(said.open_polls),
            current_tasks=None if said.current_tasks is None else tuple(said.current_tasks),
            replaces=tuple(said.replaces),
            blocked_seconds=said.loop_blocked_seconds,
            leaving=said.leaving or said.status == "offline",
            status=said.status,
            skills=_skill_names(said.supported_skills),
        )
        operation = partial(lease.heartbeat, beat=beat, rules=self.context.rules)
        answer = await self.context.storage.commit(operation)
        if not answer.known:
            raise HttpProblem(HTTPStatus.NOT_FOUND, "worker_not_found", "Worker not found")
        for note in answer.notes:
            logger.warning("%s", note)
        return {
            "status": "ttl_refreshed" if empty else "ok",
            "cancel_task_ids": list(answer.cancel),
            "replaced": list(answer.replaced),
        }

    async def poll(self, request: Request, worker_id: str, receive: Receive, send: Send) -> None:
        sender = self.authenticate(request, worker_id)
        many = "max_tasks" in request.query
        offer = await self._offer(request, sender)
        limit = self.context.limits.poll_hold_seconds
        hold = request.number("timeout", limit, most=limit)
        presence = Presence()
        got = await wait_for_tasks(self.context, offer, receive, presence, hold)

        async def answer(sending: tuple[HandOut, ...]) -> None:
            if not sending:
                await send_nothing(send)
            elif many:
                await send_json(send, {"tasks": [_as_payload(it, ours=True) for it in sending]})
            else:
                await send_json(send, _as_payload(sending[0], ours=False))

        await hand_over(self.context, offer, got, presence, answer)

    async def _offer(self, request: Request, sender: str) -> Offer:
        most = request.number("max_tasks", 1, most=messages.MOST_PER_REQUEST)
        instance_id = request.query.get("instance") or _foreign(sender)
        instance = await self.context.storage.instance(instance_id)
        if instance is not None and instance.worker_id != sender:
            raise _foreign_id(sender, instance.worker_id)
        named = request.query.get("available_skills")
        if named is not None:
            skills = tuple(dict.fromkeys(filter(None, named.split(","))))
        else:
            skills = () if instance is None else instance.skills
        return Offer(
            instance=instance_id,
            poll=int(request.number("poll", 1, most=2**53)),
            skills=skills,
            most=int(most),
        )

    async def result(self, request: Request, send: Send) -> None:
        sender = self.authenticate(request, None)
        raw = decode_any(request.body)
        listed = isinstance(raw, list)
        said = (
            decode(request.body, list[messages.Result])
            if listed
            else [decode(request.body, messages.Result)]
        )
        if len(said) > messages.MOST_PER_REQUEST:
            problem = Problem("$", f"at most {messages.MOST_PER_REQUEST} results in one post")
            raise InvalidMessage((problem,))
        reports = [_as_report(one, sender) for one in said]
        offer = await self._offer(request, sender) if "max_tasks" in request.query else None
        operation = partial(
            _report_and_hand_out,
            reports=reports,
            offer=offer,
            wire_ids=() if offer is None else fresh_wire_ids(self.context, offer.most),
            context=self.context,
            noise=self.context.chance.noise(),
        )
        with trio.CancelScope(shield=True):
            answers, got = await self.context.storage.commit(operation)
        if not listed:
            await send_json(send, answers[0])
            return

        async def answer(sending: tuple[HandOut, ...]) -> None:
            tasks = [_as_payload(it, ours=True) for it in sending]
            await send_json(send, {"results": answers, "tasks": tasks})

        if offer is None:
            await answer(())
        else:
            await hand_over(self.context, offer, got, Presence(), answer)

    async def take_back(self, request: Request) -> dict[str, Any]:
        sender = self.authenticate(request, None)
        said = decode(request.body, messages.Return)
        operation = partial(
            lease.take_back,
            worker_id=sender,
            wire_ids=tuple(said.task_ids),
            unstarted=frozenset(said.unstarted),
            rules=self.context.rules,
            noise=self.context.chance.noise(),
        )
        return {"status": "returned", "count": await self.context.storage.commit(operation)}

    async def event(self, request: Request) -> dict[str, Any]:
        sender = self.authenticate(request, None)
        try:
            said = decode(request.body, messages.WorkerEvent)
        except InvalidMessage as exc:
            return {"status": "error", "message": f"Invalid event payload: {exc}"}
        if said.worker_id != sender:
            raise _foreign_id(sender, said.worker_id)
        if said.event_type == "progress" and said.target_task_id is not None:
            operation = partial(
                _note_progress,
                sender=sender,
                wire_id=said.target_task_id,
                progress=_as_share(said.payload.get("progress")),
                message=str(said.payload.get("message", ""))[:_LONGEST_MESSAGE],
            )
            await self.context.storage.commit(operation)
        return {"status": "event_accepted"}


def _report_and_hand_out(
    ledger: Ledger,
    reports: list[results.Report],
    offer: Offer | None,
    wire_ids: Sequence[str],
    context: Context,
    noise: float,
) -> tuple[list[results.Answer], tuple[HandOut, ...]]:
    """Apply results and hand out the next tasks in one commit."""
    answers = [results.report(ledger, said, context.rules, noise) for said in reports]
    got = () if offer is None else hand_out(ledger, offer, wire_ids, context.rules)
    return answers, got


def _note_progress(
    ledger: Ledger, sender: str, wire_id: str, progress: float | None, message: str
) -> None:
    attempt = ledger.attempt(wire_id)
    if attempt is None or attempt.worker_id != sender or attempt.status != "leased":
        return
    ledger.put_progress(
        Progress(
            job_id=attempt.job_id,
            task_id=attempt.task_id,
            at=ledger.now,
            progress=progress,
            message=message,
        )
    )


def _as_share(value: Any) -> float | None:
    """Progress as a number from 0 to 1, if it is a number at all."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(1, max(0, value)))


def _as_report(said: messages.Result, sender: str) -> results.Report:
    if said.worker_id is not None and said.worker_id != sender:
        raise _foreign_id(sender, said.worker_id)
    error = said.error
    if isinstance(error, str):
        error = messages.ResultError(code="TRANSIENT_ERROR", message=error)
    if error is None and said.status == "failure":
        error = messages.ResultError(code="TRANSIENT_ERROR", message="the worker gave no reason")
    fault = None
    if error is not None and said.status != "success":
        fault = TaskFault(code=error.code, message=error.message, details=error.details)
    result = TaskResult(status=said.status, data=said.data, error=fault)
    return results.Report(worker_id=sender, wire_id=said.task_id, job_id=said.job_id, result=result)


def _as_payload(hand_out: HandOut, *, ours: bool) -> dict[str, Any]:
    task, attempt = hand_out.task, hand_out.attempt
    payload: dict[str, Any] = {
        "job_id": task.job_id,
        "task_id": attempt.wire_id,
        "type": task.skill,
        "params": task.params,
        "priority": task.priority,
        "tracing_context": {},
        "timestamp": int(attempt.leased_at),
    }
    if ours:
        payload["attempt"] = attempt.number
        payload["idempotency_key"] = task.id
        payload["lease_seconds"] = hand_out.lease_seconds
    return payload


def _as_dict(body: bytes) -> dict[str, Any]:
    said = decode_any(body)
    assert isinstance(said, dict)
    return {name: value for name, value in said.items() if name != "security"}


def _skill_names(skills: list[messages.SkillInfo] | None) -> tuple[str, ...] | None:
    return None if skills is None else tuple(skill.name for skill in skills)


def _foreign(worker_id: str) -> str:
    """The instance id of a worker that does not announce instances; not a valid one of ours."""
    return f"foreign/{worker_id}"


def _no_route(request: Request) -> HttpProblem:
    """404, or 405 if another method would have been right."""
    match request.path.removeprefix(PREFIX).split("/"):
        case ["workers", "register"] | ["tasks", "result" | "return"] | ["events"]:
            right = "POST"
        case ["workers", _, "tasks", "next"]:
            right = "GET"
        case ["workers", _]:
            right = "PATCH"
        case _:
            detail = f"there is no {request.path}"
            return HttpProblem(HTTPStatus.NOT_FOUND, "no_such_route", detail)
    detail = f"this method is not for this path; allowed: {right}"
    return HttpProblem(
        HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, headers={"allow": right}
    )


def _unauthorized(why: str) -> HttpProblem:
    return HttpProblem(HTTPStatus.FORBIDDEN, "unauthorized", f"Unauthorized: {why}")


def _foreign_id(sender: str, other: str) -> HttpProblem:
    detail = f"Forbidden: Authenticated worker '{sender}' cannot speak for worker '{other}'."
    return HttpProblem(HTTPStatus.FORBIDDEN, "foreign_worker_id", detail)
