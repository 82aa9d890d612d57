"""What the tests of commands share: blueprints, tokens, and how a command ran."""

import json
from collections.abc import Callable
from typing import Any

import attrs

from avtomatika_trio import Blueprint
from avtomatika_trio.orchestrator._tokens import Tokens

TOKENS = Tokens(client_token="client-secret", worker_token="worker-secret")

quick = Blueprint("quick", api_endpoint="/jobs/quickly")


@quick.handler(is_start=True)
def begin(actions: Any, initial_data: dict[str, Any]) -> None:
    actions.go_to("fails" if initial_data.get("fail") else "done")


@quick.handler(is_end=True)
def done(initial_data: dict[str, Any]) -> dict[str, Any]:
    return initial_data


@quick.handler(is_end=True, outcome="failed")
def fails() -> None:
    pass


waits = Blueprint("waits")


@waits.handler(is_start=True)
def ask(actions: Any) -> None:
    actions.dispatch_task("nobody_can", {}, {"success": "over"})


@waits.handler(is_end=True)
def over() -> None:
    pass


@attrs.frozen(kw_only=True)
class Ran:
    """How a command has ended, and what it has printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]
