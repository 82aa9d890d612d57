"""What anybody may ask: is it alive and ready, which version is it, what has it counted and
which routes are there.

Nothing here needs a token, and nothing of anybody's data is in the answers.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import metadata

import trio
from quart_trio import QuartTrio

from avtomatika_trio._wire.messages import RXON_VERSION
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._answers import Answer, json_answer
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import HttpProblem
from avtomatika_trio.orchestrator._metrics import CONTENT_TYPE
from avtomatika_trio.orchestrator._metrics_storage import skills_of
from avtomatika_trio.orchestrator._observed import is_at
from avtomatika_trio.orchestrator._route import Route, served
from avtomatika_trio.orchestrator._routes_docs import DocsRoutes
from avtomatika_trio.orchestrator._table_public import PUBLIC_ROUTES

#: How long a storage may take for a small read before it counts as gone.
_STORAGE_SECONDS = 2.0

#: No job has this id: looking for it is the small read.
_NO_JOB = "readyz"


def add_public_routes(app: QuartTrio, context: Context) -> None:
    """Serve the public routes from *app*."""

    well: shapes.Alive = {"status": "ok"}

    async def alive() -> Answer:
        return json_answer(well)

    async def ready() -> Answer:
        await _check_ready(context)
        return json_answer(well)

    async def version() -> Answer:
        answer: shapes.Version = {
            "version": metadata.version("avtomatika-trio"),
            "rxon_version": RXON_VERSION,
        }
        return json_answer(answer)

    skills = skills_of(context.blueprints)

    async def metrics() -> Answer:
        await context.metrics.storage.look(context.storage, skills)
        told = context.metrics.as_text(trio.current_time())
        return told, HTTPStatus.OK, {"content-type": CONTENT_TYPE}

    docs = DocsRoutes(context)
    handlers: dict[str, Callable[[], Awaitable[Answer]]] = {
        "status": alive,
        "healthz": alive,
        "livez": alive,
        "readyz": ready,
        "public_metrics": metrics,
        "metrics": metrics,
        "version": version,
        "docs": docs.page,
        "openapi": docs.document,
    }
    for route, handler in served(PUBLIC_ROUTES, handlers):
        _add_rule(app, route, handler)


def _add_rule(app: QuartTrio, route: Route, handler: Callable[[], Awaitable[Answer]]) -> None:
    async def view() -> Answer:
        is_at(route.template)
        return await handler()

    app.add_url_rule(route.rule, route.path, view, methods=[route.method])


async def _check_ready(context: Context) -> None:
    """Make sure that work sent here would be done.

    Raises:
        HttpProblem: 503, with the reason.
    """
    if context.draining.is_set():
        raise _not_ready("draining", "this orchestrator is shutting down")
    fault: str | None = None
    with trio.move_on_after(_STORAGE_SECONDS) as patience:
        try:
            await context.storage.job(_NO_JOB)
        except StorageUnavailable as exc:
            fault = str(exc)
    fault = fault or context.storage.fault
    if fault is not None:
        raise _not_ready("storage_unavailable", f"the storage cannot be used: {fault}")
    if patience.cancelled_caught:
        reason = f"the storage has not answered within {_STORAGE_SECONDS:g} s"
        raise _not_ready("storage_unavailable", reason)


def _not_ready(code: str, detail: str) -> HttpProblem:
    return HttpProblem(HTTPStatus.SERVICE_UNAVAILABLE, code, detail)
