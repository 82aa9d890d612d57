"""`/openapi.json`: OpenAPI 3.1, made of the tables of routes and the classes of messages.

Nothing is written down twice: paths, roles and parameters are those of the tables that are
served, schemas those of the classes that requests are read as and answers written from.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib import metadata
from typing import Any

import attrs
import msgspec

from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._wire.messages import CLIENT_TOKEN_HEADER, TOKEN_HEADER, WORKER_ID_HEADER
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._error_codes import CODES, EVERYWHERE, OF_CLIENTS, OF_WORKERS
from avtomatika_trio.orchestrator._member_texts import member_texts
from avtomatika_trio.orchestrator._observed import HEADER as REQUEST_ID_HEADER
from avtomatika_trio.orchestrator._registry import PREFIXES
from avtomatika_trio.orchestrator._route import Answered, Caller, Parameter, Route
from avtomatika_trio.orchestrator._table_clients import CLIENT_ROUTES, endpoint_routes
from avtomatika_trio.orchestrator._table_public import PUBLIC_ROUTES
from avtomatika_trio.orchestrator._table_workers import WORKER_ROUTES

Json = dict[str, Any]

_REF = "#/components/schemas/{name}"
_PROBLEM = "application/problem+json"

#: Of these `fields` may ask for a part, and `id` alone is always there.
_PARTIAL = (shapes.JobSummary, shapes.JobDetails)

_ABOUT = (
    f"The routes of an orchestrator. Those of clients are here below `{PREFIXES[0]}`; `{{short}}`"
    " is the same, and so is `/api/{version}` for the `api_version` of any blueprint.\n\n"
    "Times are RFC 3339 in UTC, durations are seconds. `GET` is also `HEAD`. The roles of clients"
    " are `viewer`, `submitter`, `operator` and `admin`; each includes those before it, and those"
    " of a route are named with its security.\n\n"
    "The protocol of workers is RXON: members that are not known are ignored there, in both"
    " directions."
).replace("{short}", PREFIXES[1])

_SECURITY_SCHEMES: Json = {
    "ClientToken": {"type": "apiKey", "in": "header", "name": CLIENT_TOKEN_HEADER},
    "AvtomatikaToken": {"type": "apiKey", "in": "header", "name": "X-Avtomatika-Token"},
    "BearerToken": {"type": "http", "scheme": "bearer"},
    "WorkerToken": {"type": "apiKey", "in": "header", "name": TOKEN_HEADER},
    "WorkerId": {"type": "apiKey", "in": "header", "name": WORKER_ID_HEADER},
    "ClientCertificate": {
        "type": "mutualTLS",
        "description": "Its DNS names, or its common name, are the ids of workers.",
    },
}

#: What comes with answers of a status, besides the id of the request.
_HEADERS_BY_STATUS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "How to show a token."},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": "After how many seconds to ask again."},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "After how many seconds to ask again."},
}


def all_routes(blueprints: Iterable[Blueprint]) -> list[Route]:
    """Every route of an orchestrator that serves *blueprints*."""
    endpoints = [route for it in blueprints for route in endpoint_routes(it)]
    return [*PUBLIC_ROUTES, *CLIENT_ROUTES, *endpoints, *WORKER_ROUTES]


def create_document(blueprints: Iterable[Blueprint] = ()) -> Json:
    """The document of an orchestrator that serves *blueprints*."""
    routes = all_routes(blueprints)
    schemas = _Schemas(routes)
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "avtomatika-trio",
            "version": metadata.version("avtomatika-trio"),
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": it} for it in dict.fromkeys(route.group for route in routes)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "parameters": {"RequestId": _REQUEST_ID},
            "headers": {
                "RequestId": _header("The id of the request, the caller's or a fresh one.")
            },
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


_REQUEST_ID: Json = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "description": "The caller's own id of the request; one that is not safe to repeat is not.",
    "schema": {"type": "string"},
}


class _Schemas:
    """The JSON Schemas of all types that *routes* name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        kinds: list[Any] = [shapes.ProblemBody]
        closed: list[type] = []
        for route in routes:
            said = () if route.body is None else _options(route.body.kind)
            answered = [kind for it in route.answers for kind in _options(it.kind)]
            kinds += [*(it.kind for it in route.parameters), *said, *answered]
            if route.body is not None and route.body.is_closed:
                closed += [it for it in said if isinstance(it, type) and attrs.has(it)]
        made, self.components = msgspec.json.schema_components(kinds, ref_template=_REF)
        self._by_kind = dict(zip(map(repr, kinds), made, strict=True))
        for schema in self.components.values():  # Pythons differ in the white space of docstrings
            schema["description"] = " ".join(schema.get("description", "").split())
            for member in schema.get("properties", {}).values():  # and releases of msgspec in these
                if member.get("default") in ({}, []):
                    del member["default"]
        for cls in _classes_in(kinds):
            self._describe(cls)
        for cls in closed:
            self.components[cls.__name__]["additionalProperties"] = False
        for partial in _PARTIAL:
            self.components[partial.__name__]["required"] = ["id"]

    def _describe(self, cls: type) -> None:
        members = self.components[cls.__name__].get("properties", {})
        for name, text in member_texts(cls).items():
            if name in members:
                members[name]["description"] = text

    def of(self, kind: Any) -> Json:
        """The schema of *kind*, or of any of a tuple of kinds."""
        found = [self._by_kind[repr(it)] for it in _options(kind)]
        return found[0] if len(found) == 1 else {"anyOf": found}


def _options(kind: Any) -> tuple[Any, ...]:
    if kind is None:
        return ()
    return kind if isinstance(kind, tuple) else (kind,)


def _classes_in(kinds: Iterable[Any]) -> list[type]:
    """Every class that a schema is made of for one of *kinds*."""
    found: dict[str, type] = {}

    def look(of: msgspec.inspect.Type) -> None:
        cls = getattr(of, "cls", None)
        if isinstance(of, msgspec.inspect.DataclassType | msgspec.inspect.TypedDictType):
            assert isinstance(cls, type)
            if cls.__name__ in found:
                return
            found[cls.__name__] = cls
        for inner in _inner(of):
            look(inner)

    for kind in kinds:
        look(msgspec.inspect.type_info(kind))
    return list(found.values())


def _inner(of: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    names = ("types", "item_types")
    many = [it for name in names for it in getattr(of, name, ()) or ()]
    ones = [getattr(of, name, None) for name in ("type", "item_type", "key_type", "value_type")]
    fields = [it.type for it in getattr(of, "fields", ())]
    return [it for it in (*many, *ones, *fields) if isinstance(it, msgspec.inspect.Type)]


def _operation(route: Route, schemas: _Schemas) -> Json:
    said: Json = {
        "operationId": route.id,
        "tags": [route.group],
        "summary": route.summary,
        "description": " ".join(filter(None, (_role_of(route), route.text))),
        "parameters": [
            *(_parameter(it, schemas) for it in route.parameters),
            {"$ref": "#/components/parameters/RequestId"},
        ],
        "responses": _responses(route, schemas),
        "security": _security(route),
    }
    if route.body is not None:
        body = route.body
        schema = {} if body.kind is None else schemas.of(body.kind)
        example = {} if body.example is None else {"example": body.example}
        content = {body.content: {"schema": schema, **example}}
        said["requestBody"] = {"required": body.is_required, "content": content}
    return said


def _role_of(route: Route) -> str:
    if route.caller is Caller.CLIENT:
        return f"For the role `{route.needed}`."
    return ""


def _parameter(parameter: Parameter, schemas: _Schemas) -> Json:
    said: Json = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.is_required or parameter.where == "path",
        "description": parameter.text,
        "schema": schemas.of(parameter.kind),
    }
    if parameter.example is not None:
        said["example"] = parameter.example
    return said


def _security(route: Route) -> list[Json]:
    roles = [] if route.role is None else [str(route.role)]
    clients: list[Json] = [{it: roles} for it in ("ClientToken", "AvtomatikaToken", "BearerToken")]
    match route.caller:
        case Caller.CLIENT:
            return clients
        case Caller.WORKER:
            return [{"WorkerToken": [], "WorkerId": []}, {"ClientCertificate": []}]
        case _:
            return [{}, *clients] if roles else [{}]


def _responses(route: Route, schemas: _Schemas) -> Json:
    said = {str(it.status): _answer(it, schemas) for it in route.answers}
    of_callers = {Caller.CLIENT: OF_CLIENTS, Caller.WORKER: OF_WORKERS}
    codes = dict.fromkeys((*route.problems, *of_callers.get(route.caller, ()), *EVERYWHERE))
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code][0], []).append(code)
    for status, those in sorted(by_status.items()):
        said[str(status)] = {
            "description": "\n".join(f"- `{code}`: {CODES[code][1]}" for code in those),
            "headers": _headers(_HEADERS_BY_STATUS.get(HTTPStatus(status), {})),
            "content": {_PROBLEM: {"schema": schemas.of(shapes.ProblemBody)}},
        }
    return said


def _answer(answered: Answered, schemas: _Schemas) -> Json:
    said: Json = {"description": answered.text, "headers": _headers(answered.headers)}
    if answered.content is not None:
        schema = {} if answered.kind is None else schemas.of(answered.kind)
        said["content"] = {answered.content: {"schema": schema}}
    return said


def _headers(headers: Mapping[str, str]) -> Json:
    known = {name: _header(text) for name, text in headers.items()}
    return {**known, REQUEST_ID_HEADER: {"$ref": "#/components/headers/RequestId"}}


def _header(text: str) -> Json:
    return {"description": text, "schema": {"type": "string"}}
