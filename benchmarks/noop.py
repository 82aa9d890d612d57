"""The blueprint and the worker that the benchmarks run: one task per job that does nothing."""

from typing import Any

from avtomatika_trio import ActionFactory, Blueprint
from avtomatika_trio.worker import Worker

blueprint = Blueprint("noop", api_endpoint="/jobs/noop")
worker = Worker()


@blueprint.handler(is_start=True)
async def start(actions: ActionFactory, initial_data: dict[str, Any]) -> None:
    actions.dispatch_task("noop", initial_data, {"success": "done"})


@blueprint.handler(is_end=True)
async def done() -> None:
    """The result is the data of the task."""


@worker.skill("noop")
async def noop(params: dict[str, Any]) -> dict[str, Any]:
    return params
