"""Pages made from the code are as the code is; other pages leave nothing out of it."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from avtomatika_trio._core import ledger
from avtomatika_trio._core.job import JobStatus
from avtomatika_trio._core.task import AttemptStatus
from avtomatika_trio.orchestrator._app import create_quart
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._error_codes import CODES
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.orchestrator._table_clients import STREAMED
from avtomatika_trio.storage import MemoryStorage

DOCS = Path(__file__).parents[2] / "docs"
SOURCE = Path(ledger.__file__).parents[1]
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name",
    [
        "reference/cli.md",
        "reference/errors.md",
        "reference/metrics.md",
        "reference/openapi.json",
        "reference/states.md",
        "explanation/failover.md",
    ],
)
def test_a_generated_page_is_fresh(generate: ModuleType, name: str) -> None:
    page = DOCS / name
    assert page.read_text("utf-8") == generate.pages()[page], "run: python docs/generate.py"


def calls_in(package: str, functions: set[str]) -> Iterator[ast.Call]:
    """Every call of one of *functions* in the modules of *package*."""
    for module in (SOURCE / package).glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in functions:
                yield node


def texts_of(call: ast.Call) -> Iterator[str]:
    """The arguments of *call* that are written as texts."""
    for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def test_every_type_of_history_event_is_explained_and_no_other() -> None:
    types = {f"job_{status}" for status in JobStatus if status.is_final}
    types |= {f"attempt_{status}" for status in (AttemptStatus.FAILED, AttemptStatus.TIMED_OUT)}
    named = re.compile(r"(job|state|branches|task|attempt|worker)_[a-z]+(_[a-z]+)?")
    for call in calls_in("_core", {"HistoryRow", "_record", "record_attempt", "_end"}):
        types |= {text for text in texts_of(call) if named.fullmatch(text)}
    page = (DOCS / "reference" / "history.md").read_text("utf-8")
    tables = page.partition("## The job")[2].partition("## Reasons")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE)) == types


async def test_every_route_of_clients_is_on_the_page_of_http() -> None:
    context = Context(
        storage=MemoryStorage(lambda: 0.0),
        blueprints=Blueprints(),
        client_token="c",
        worker_token="w",
    )
    rules = [rule.rule for rule in create_quart(context).url_map.iter_rules()]
    rules += [it.template for it in STREAMED]
    routes = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)
        for rule in rules
        if not rule.startswith("/api/") or rule.startswith("/api/v1/")
    }
    page = (DOCS / "reference" / "http.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(?:GET|POST|PATCH|PUT)` \| `([^`]+)`", page, re.MULTILINE))
    assert {route for route in documented if not route.startswith("/_worker/")} == routes


def test_every_error_code_of_http_is_on_the_page() -> None:
    codes = {"body_too_large"}
    for call in calls_in("orchestrator", {"HttpProblem", "_not_ready"}):
        codes |= {text for text in texts_of(call) if re.fullmatch("[a-z_]+", text)}
    page = (DOCS / "reference" / "http.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| ([45]\d\d) \| (.+) \|$", page, re.MULTILINE)
    assert {code for code, _, _ in rows} == codes
    assert {code: (int(status), when) for code, status, when in rows} == CODES


def test_every_test_that_the_guarantees_name_is_there() -> None:
    pages = (DOCS / "explanation" / "guarantees.md", DOCS / "how-to" / "secure.md")
    page = "".join(it.read_text("utf-8") for it in pages)
    named = set(re.findall(r"`(test_\w+)`", page))
    there = {
        name
        for file in [*TESTS.rglob("test_*.py"), *(SOURCE / "testing").glob("_promises_*.py")]
        for name in re.findall(r"def (test_\w+)\(", file.read_text("utf-8"))
    }
    assert len(named) > 60
    assert named - there == set()


def test_every_module_has_its_place_in_the_architecture() -> None:
    page = (DOCS / "explanation" / "architecture.md").read_text("utf-8")
    parts = [*SOURCE.glob("*.py"), *(path.parent for path in SOURCE.glob("*/__init__.py"))]
    assert [part.stem for part in parts if f"\n`{part.stem}`\n: " not in page] == []


def test_every_link_of_the_readme_leads_somewhere() -> None:
    text = (DOCS.parent / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert [link for link in links if not (DOCS.parent / link).exists()] == []
