"""The routes that anybody may ask."""

from typing import Any

import attrs

from avtomatika_trio._core.access import Role
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._metrics import CONTENT_TYPE
from avtomatika_trio.orchestrator._route import Answered, Caller, Route


def _route(id_: str, path: str, summary: str, answered: Answered, *problems: str) -> Route:
    return Route(
        id=id_,
        method="GET",
        path=path,
        caller=Caller.ANYBODY,
        group="For everybody",
        summary=summary,
        answers=(answered,),
        problems=problems,
    )


_ALIVE = Answered(text="The process serves.", kind=shapes.Alive)
_METRICS = Answered(
    text="In Prometheus' text format 0.0.4.", content=CONTENT_TYPE.partition(";")[0]
)

#: Nobody needs a token for these, but one that is shown must be right.
_OF_TOKENS = ("token_unknown", "role_missing", "rate_limited", "too_many_wrong_tokens")

PUBLIC_ROUTES = (
    _route("status", "/_public/status", "Whether the process serves", _ALIVE),
    _route("healthz", "/healthz", "Whether the process serves", _ALIVE),
    _route("livez", "/livez", "Whether the process serves", _ALIVE),
    _route(
        "readyz",
        "/readyz",
        "Whether work that is sent here would be done",
        Answered(text="The storage answers, and no shutdown has begun.", kind=shapes.Alive),
        *("draining", "storage_unavailable"),
    ),
    _route("public_metrics", "/_public/metrics", "What this process has counted", _METRICS),
    _route("metrics", "/metrics", "What this process has counted", _METRICS),
    _route(
        "version",
        "/version",
        "What is running",
        Answered(text="The versions of the package and of the protocol.", kind=shapes.Version),
    ),
    attrs.evolve(
        _route(
            "docs",
            "/_public/docs",
            "A page of these routes",
            Answered(text="For browsers; it needs nothing from elsewhere.", content="text/html"),
            *_OF_TOKENS,
        ),
        role=Role.VIEWER,
    ),
    attrs.evolve(
        _route(
            "openapi",
            "/openapi.json",
            "This document",
            Answered(text="OpenAPI 3.1.", kind=dict[str, Any]),
            *_OF_TOKENS,
        ),
        role=Role.VIEWER,
        text="With a client's token it has the endpoints of blueprints, too.",
    ),
)
