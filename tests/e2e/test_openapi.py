"""A real orchestrator under what schemathesis makes of the document that it serves.

Every operation gets what the document allows, and what it does not; with ids that exist and
with others.  Examples are the same each time.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import attrs
import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from tests.e2e.fixtures.documented_blueprints import resize, walk
from tests.e2e.killing import CLIENT_TOKEN, WORKER_TOKEN, Program, orchestrator

from avtomatika_trio.orchestrator._openapi import create_document

try:
    import schemathesis
    from schemathesis import GenerationMode, checks
except ImportError:  # told by the tests
    schemathesis = None  # type: ignore[assignment]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

_TOKENS = {
    "X-Client-Token": CLIENT_TOKEN,
    "X-Worker-Token": WORKER_TOKEN,
    "X-Worker-ID": "worker-1",
}

#: For each operation and each kind of requests.
_EXAMPLES = 6

OPERATIONS = [
    (method.upper(), path)
    for path, methods in create_document([walk, resize])["paths"].items()
    for method in methods
]


@attrs.frozen(kw_only=True)
class Site:
    """The orchestrator, and what is there."""

    url: str
    schema: Any
    program: Program
    known: dict[str, str]
    """What fills paths and leads to something."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if schemathesis is None:
        pytest.fail("this needs schemathesis; install it: pip install 'schemathesis>=4.32'")
    folder = tmp_path_factory.mktemp("openapi")
    program = orchestrator(folder, blueprints="documented_blueprints")
    program.environ = {"RATE_LIMITING_ENABLED": "false"}
    program.start()
    try:
        url = program.said()["url"]
        with httpx.Client(base_url=url, headers=_TOKENS) as client:
            schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
            schema.validate()
            job_id = client.post("/api/v1/jobs/walk").json()["job_id"]
            client.get(f"/api/v1/jobs/{job_id}?wait=10").raise_for_status()
        known = {"job_id": job_id, "name": "walk", "worker_id": "worker-1"}
        yield Site(url=url, schema=schema, program=program, known=known)
        assert program.end() == 0
        assert "Traceback" not in program.log()
    finally:
        program.kill()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_is_answered_otherwise_than_documented(
    site: Site, method: str, path: str
) -> None:
    operation = site.schema[path][method]
    _try_out(site, operation, operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    said = operation.definition.raw
    if "requestBody" in said or any("$ref" not in it for it in said["parameters"]):
        _try_out(site, operation, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))


def _try_out(site: Site, operation: Any, cases: st.SearchStrategy[Any]) -> None:
    wanted = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.response_headers_conformance,
    ]

    @given(case=cases, is_known=st.booleans())
    @settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any, *, is_known: bool) -> None:
        if is_known:
            case.path_parameters.update({k: site.known[k] for k in case.path_parameters})
        if operation.label.endswith("tasks/next"):
            case.query["timeout"] = "0"  # else it is held
        if isinstance(case.query.get("wait"), int | float):
            case.query["wait"] = min(case.query["wait"], 0.01)
        answer = case.call(base_url=site.url, headers=_TOKENS)
        assert answer.headers["x-request-id"]
        assert answer.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, answer.text
        case.validate_response(answer, checks=wanted)

    ask()
