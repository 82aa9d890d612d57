"""What clients ask: jobs, blueprints, workers; below `/api/v1` and `/api` alike.

These routes check and translate; every rule is an operation of the core.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from http import HTTPStatus
from urllib.parse import urlencode

import trio
from quart import request
from quart_trio import QuartTrio

from avtomatika_trio._core import steps
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._core.graph import to_dot, to_json
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.json_values import NotJson, copy_json
from avtomatika_trio._core.submission import Submission as Remembered
from avtomatika_trio._wire.messages import MOST_JOBS_PER_SUBMISSION, Submission
from avtomatika_trio._wire.tracing import read_tracing
from avtomatika_trio.errors import InvalidMessage, Problem, QuotaExceeded
from avtomatika_trio.orchestrator import _answer_shapes as shapes, _answers as answers
from avtomatika_trio.orchestrator._access import Client
from avtomatika_trio.orchestrator._answers import Answer, json_answer, not_modified
from avtomatika_trio.orchestrator._client_request import (
    admit,
    is_final,
    only_known,
    owned_job,
    read_as,
    read_body,
    seconds,
    whole_number,
)
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import HttpProblem
from avtomatika_trio.orchestrator._idempotency import KNOWN, REPLAYED, Asked, KeysInUse, asked_once
from avtomatika_trio.orchestrator._job_commits import cancel, submit
from avtomatika_trio.orchestrator._job_filters import read_job_query
from avtomatika_trio.orchestrator._job_views import (
    DETAILS,
    SUMMARY,
    etag_of,
    is_known,
    wanted_fields,
    with_fields,
)
from avtomatika_trio.orchestrator._observed import is_at
from avtomatika_trio.orchestrator._registry import PREFIXES, endpoints_of, prefixes_of
from avtomatika_trio.orchestrator._route import Route, served
from avtomatika_trio.orchestrator._routes_admin import AdminRoutes, audit_row
from avtomatika_trio.orchestrator._routes_files import FileRoutes
from avtomatika_trio.orchestrator._table_clients import (
    ANY_LABEL,
    CLIENT_ROUTES,
    MOST_PER_PAGE,
    MOST_REASON_CHARACTERS,
    MOST_WAIT_SECONDS,
    STREAMED,
    Cancellation,
    endpoint_routes,
)

_MOST_PROBLEMS = 20

View = Callable[..., Awaitable[Answer]]


def add_job_routes(app: QuartTrio, context: Context) -> None:
    """Serve the clients' routes from *app*, but for those that are streamed."""
    routes = _Routes(context)
    admin = AdminRoutes(context)
    files = FileRoutes(context)
    handlers: dict[str, View] = {
        "submit": routes.submit,
        "list_jobs": routes.list_jobs,
        "get_job": routes.get_job,
        "job_history": routes.history,
        "job_tasks": routes.tasks,
        "cancel_job": routes.cancel,
        "list_files": files.list_files,
        "upload_url": files.upload_url,
        "list_blueprints": routes.list_blueprints,
        "get_blueprint": routes.blueprint,
        "blueprint_graph": routes.graph,
        "list_workers": routes.list_workers,
        "reload_workers": admin.reload,
        "credentials": admin.credentials,
        "audit": admin.audit,
    }
    table = [it for it in CLIENT_ROUTES if it not in STREAMED]
    for prefix in prefixes_of(context.blueprints):
        for route, handler in served(table, handlers):
            _add_rule(app, context, prefix, route, handler)
        for blueprint in context.blueprints:
            for route in endpoint_routes(blueprint):
                submit = partial(routes.submit, name=blueprint.name)
                _add_rule(app, context, prefix, route, submit)


def _add_rule(app: QuartTrio, context: Context, prefix: str, route: Route, handler: View) -> None:
    names = [it.name for it in route.parameters if it.where == "query"]
    has_any = ANY_LABEL.name in names

    async def view(**named: str) -> Answer:
        is_at(route.template)
        client = await admit(context, request.headers, request.remote_addr or "", route.needed)
        if not has_any:  # that one looks at its names itself
            only_known(names)
        return await handler(client, **named)

    rule = prefix + route.rule
    app.add_url_rule(rule, f"{route.method} {rule}", view, methods=[route.method])


class _Routes:
    """One method per route; each is given the client first."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.storage = context.storage
        self.keys = KeysInUse()

    async def submit(self, client: Client, name: str) -> Answer:
        blueprint = self._blueprint(name)
        body = await read_body()
        listed = body.startswith(b"[")
        said = read_as(body, list[Submission]) if listed else [read_as(body, Submission)]
        asked = asked_once(client.id, blueprint.name, body)
        new = self._new_jobs(client, blueprint, said, listed=listed, asked=asked)
        ids, headers = tuple(order.id for order in new), KNOWN
        if new:
            with self.keys.hold(asked):
                once = None if asked is None else asked.answered_by(ids)
                before = await self._commit_new(client, new, once)
            if asked is not None and before is not None:
                asked.check(before)
                ids, headers = before.job_ids, {**KNOWN, **REPLAYED}
        accepted: shapes.AcceptedJobs = {
            "jobs": [{"job_id": job_id, "status": "accepted"} for job_id in ids]
        }
        if listed:
            return json_answer(accepted, HTTPStatus.ACCEPTED, headers)
        headers = {**headers, "location": f"{PREFIXES[0]}/jobs/{ids[0]}"}
        return json_answer(accepted["jobs"][0], HTTPStatus.ACCEPTED, headers)

    async def _commit_new(
        self, client: Client, new: list[steps.NewJob], once: Remembered | None
    ) -> Remembered | None:
        """Store *new*, and count them against the client's quota."""
        section = client.section
        allowed = None if section is None else section.monthly_attempts
        try:
            return await submit(self.context, new, allowed, once)
        except QuotaExceeded as exc:
            detail = f"{exc}, and these are {len(new)} (monthly_attempts of {client.id!r})"
            headers = {"retry-after": str(self.context.seconds_left_in_month())}
            raise HttpProblem(
                HTTPStatus.TOO_MANY_REQUESTS, "quota_exceeded", detail, headers=headers
            ) from None

    def _new_jobs(
        self,
        client: Client,
        blueprint: Blueprint,
        said: list[Submission],
        *,
        listed: bool,
        asked: Asked | None,
    ) -> list[steps.NewJob]:
        if len(said) > MOST_JOBS_PER_SUBMISSION:
            text = f"at most {MOST_JOBS_PER_SUBMISSION} jobs in one submission, not {len(said)}"
            raise InvalidMessage((Problem("$", text),))
        most = self.context.limits.max_transitions
        problems: list[Problem] = []
        for number, one in enumerate(said):
            problems += _faults(one, f"$[{number}]" if listed else "$", most)
        if problems:
            raise InvalidMessage(tuple(problems[:_MOST_PROBLEMS]))
        start = blueprint.start
        seen = [request.headers.getlist(name) for name in ("traceparent", "tracestate")]
        tracing = read_tracing(*seen)
        if asked is None:
            partition = self.context.chance.in_any_order(self.storage.partitions)[0]
        else:
            partition = self.storage.home_of(asked.id)
        return [
            steps.NewJob(
                id=self.context.chance.job_id(partition),
                blueprint=blueprint.name,
                client=client.id,
                start=start,
                initial_data=one.initial_data,
                labels=one.labels,
                tracing_context=tracing,
                max_transitions=most if one.max_transitions is None else one.max_transitions,
            )
            for one in said
        ]

    async def list_jobs(self, client: Client) -> Answer:
        limit = whole_number("limit", 100, least=1, most=MOST_PER_PAGE)
        query = read_job_query(client, limit + 1)
        fields = wanted_fields(SUMMARY)
        found = await self.storage.jobs(query)
        page = found[:limit]
        next_cursor = answers.cursor_after(page[-1]) if len(found) > limit else None
        link = {} if next_cursor is None else _link_to_next(cursor=next_cursor)
        jobs = [with_fields(answers.job_summary(job), fields) for job in page]
        return json_answer({"jobs": jobs, "next_cursor": next_cursor}, headers=link)

    async def get_job(self, client: Client, job_id: str) -> Answer:
        wait = seconds("wait", most=MOST_WAIT_SECONDS)
        after = whole_number("after", -1)
        fields = wanted_fields(DETAILS)
        job = await owned_job(self.context, client, job_id)
        if wait and not _is_news(job, after):
            job = await self._next_news(client, job, after, wait)
        progress = () if job.status.is_final else await self.storage.progress(job.id)
        etag = {"etag": etag_of(job, progress, fields)}
        if is_known(etag["etag"]):
            return not_modified(etag)
        return json_answer(with_fields(answers.job_details(job, progress), fields), headers=etag)

    async def _next_news(self, client: Client, job: Job, after: int, wait: float) -> Job:
        """The job once there is news of it; as it stands when the time or the service ends."""
        waiting = trio.CancelScope(deadline=trio.current_time() + wait)
        access = self.context.access
        with access.session(partial(access.lets_in, client), waiting) as session:
            async with trio.open_nursery() as watchers:
                watchers.start_soon(self.context.end_when_draining, waiting)
                with waiting, self.storage.job_news(job.id) as news:
                    job = await owned_job(self.context, client, job.id)
                    while not _is_news(job, after):
                        await news.wait()
                        job = await owned_job(self.context, client, job.id)
                watchers.cancel_scope.cancel()
        if session.is_over:
            detail = "the token was withdrawn while this request waited"
            raise HttpProblem(HTTPStatus.UNAUTHORIZED, "token_unknown", detail)
        return job

    async def history(self, client: Client, job_id: str) -> Answer:
        after = whole_number("after", 0)
        limit = whole_number("limit", MOST_PER_PAGE, least=1, most=MOST_PER_PAGE)
        job = await owned_job(self.context, client, job_id)
        found = await self.storage.history(job.id, after=after, limit=limit + 1)
        page = found[:limit]
        link = _link_to_next(after=str(page[-1].number)) if len(found) > limit else {}
        return json_answer([answers.history_event(row) for row in page], headers=link)

    async def tasks(self, client: Client, job_id: str) -> Answer:
        job = await owned_job(self.context, client, job_id)
        tasks = await self.storage.tasks(job.id)
        attempts = await self.storage.attempts(job.id)
        answer: shapes.TaskList = {"tasks": answers.tasks_with_attempts(tasks, attempts)}
        return json_answer(answer)

    async def cancel(self, client: Client, job_id: str) -> Answer:
        said = read_as(await read_body(), Cancellation)
        if len(said.reason) > MOST_REASON_CHARACTERS:
            text = f"has at most {MOST_REASON_CHARACTERS} characters, not {len(said.reason)}"
            raise InvalidMessage((Problem("$.reason", text),))
        job = await owned_job(self.context, client, job_id)
        row = None if job.client == client.id else audit_row(client, "cancel_job", job=job.id)
        was_final, cancelled = await cancel(self.context, job.id, said.reason, row)
        if was_final:
            raise is_final(cancelled)
        answer: shapes.Cancelled = {
            "status": "cancellation_request_accepted",
            "job": answers.job_details(cancelled, ()),
        }
        return json_answer(answer)

    def _blueprint(self, name: str) -> Blueprint:
        blueprint = self.context.blueprints.get(name)
        if blueprint is None:
            known = ", ".join(one.name for one in self.context.blueprints) or "none"
            detail = f"there is no blueprint {name[:128]!r}; known here: {known}"
            raise HttpProblem(HTTPStatus.NOT_FOUND, "blueprint_not_found", detail)
        return blueprint

    async def list_blueprints(self, client: Client) -> Answer:
        del client  # blueprints are everybody's
        listed: list[shapes.BlueprintShown] = [
            {
                "name": blueprint.name,
                "endpoints": [PREFIXES[0] + path for path in endpoints_of(blueprint)],
                "states": len(blueprint.states),
            }
            for blueprint in self.context.blueprints
        ]
        answer: shapes.BlueprintList = {"blueprints": listed}
        return json_answer(answer)

    async def blueprint(self, client: Client, name: str) -> Answer:
        del client
        return json_answer(to_json(self._blueprint(name)))

    async def graph(self, client: Client, name: str) -> Answer:
        del client
        content_type = {"content-type": "text/vnd.graphviz; charset=utf-8"}
        return to_dot(self._blueprint(name)).encode(), HTTPStatus.OK, content_type

    async def list_workers(self, client: Client) -> Answer:
        del client  # workers are everybody's
        instances = await self.storage.instances()
        leases = await self.storage.lease_counts(instances)
        now, heard = trio.current_time(), self.context.metrics.heard
        usages = {it.id: heard.usage(it.id, now) for it in instances}
        answer: shapes.WorkerList = {"workers": answers.workers(instances, leases, usages)}
        return json_answer(answer)


def _is_news(job: Job, after: int) -> bool:
    """Whether one who knows revision *after* (-1: who wants the end) need not wait."""
    return job.status.is_final or 0 <= after < job.revision


def _faults(said: Submission, path: str, max_transitions: int) -> Iterable[Problem]:
    """What a valid message may still get wrong."""
    asked = said.max_transitions
    if asked is not None and not 1 <= asked <= max_transitions:
        text = f"must be from 1 to {max_transitions} (MAX_TRANSITIONS_PER_JOB)"
        yield Problem(f"{path}.max_transitions", text)
    try:
        copy_json(said.initial_data, "initial_data")
    except NotJson as exc:
        yield Problem(f"{path}.initial_data", str(exc))


def _link_to_next(**changes: str) -> dict[str, str]:
    query = urlencode({**request.args.to_dict(), **changes})
    return {"link": f'<{request.path}?{query}>; rel="next"'}
