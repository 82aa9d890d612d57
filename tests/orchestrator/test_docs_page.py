"""The page of the routes: whole, for browsers that fetch and run nothing, and safely escaped."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

from tests.orchestrator.clients import TOKEN, make_context, open_client

from avtomatika_trio.orchestrator._docs_page import POLICY, docs_page
from avtomatika_trio.orchestrator._openapi import create_document

_VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Reads the page as a browser does; fails where it is not well-formed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.style = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs_: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)
        for name, value in attrs_:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src"}:
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def test_the_page_tells_everything_of_the_document() -> None:
    document = create_document(make_context().blueprints)
    page = Reader(docs_page(document))
    assert len(page.ids) == len(set(page.ids))
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page.text
            assert operation["operationId"] in page.ids
            for parameter in operation["parameters"]:
                assert parameter.get("name", "") in page.text
    for name, schema in document["components"]["schemas"].items():
        assert f"object-{name}" in page.ids
        for member in schema.get("properties", {}):
            assert member in page.text


def test_every_link_stays_here() -> None:
    page = Reader(docs_page(create_document()))
    inside = {it[1:] for it in page.links if it.startswith("#")}
    assert inside - set(page.ids) == set()
    assert [it for it in page.links if not it.startswith("#")] == ["../openapi.json"]


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = Reader(docs_page(create_document()))
    assert page.tags & {"script", "link", "img", "iframe", "form", "object", "embed"} == set()
    assert {it for it in page.attributes if it.startswith("on") or it in {"style", "src"}} == set()
    assert "url(" not in page.style
    assert "@import" not in page.style
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert POLICY.startswith("default-src 'none';")


def test_whatever_is_in_the_document_stays_text() -> None:
    evil = "<script>alert(1)</script>\"'>&lt;`<b>`"
    [tag] = create_document()["tags"][:1]
    operation: dict[str, Any] = {
        "operationId": evil,
        "tags": [tag["name"]],
        "summary": evil,
        "description": evil,
        "parameters": [
            {
                "name": evil,
                "in": "path",
                "required": True,
                "description": evil,
                "example": evil,
                "schema": {"type": evil, "enum": [evil]},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                evil: {"schema": {"$ref": f"#/components/schemas/{evil}"}, "example": evil}
            },
        },
        "responses": {
            "200": {"description": evil, "content": {evil: {"schema": {"type": evil}}}},
            "400": {"description": evil, "content": {evil: {"schema": {"format": evil}}}},
        },
        "security": [{"ClientToken": []}],
    }
    document = create_document()
    document["info"] = {"title": evil, "version": evil, "description": evil}
    document["tags"] = [tag]
    document["paths"] = {f"/{evil}/{{{evil}}}": {"post": operation}}
    document["components"]["schemas"] = {
        evil: {
            "description": evil,
            "properties": {evil: {"description": evil, "anyOf": [{"type": evil}]}},
        }
    }
    text = docs_page(document)
    assert "<script" not in text
    assert re.search(r"<b>", text) is None
    page = Reader(text)
    assert page.tags <= Reader(docs_page(create_document())).tags
    assert "<script>alert(1)</script>" in page.text


async def test_it_is_served_with_its_policy() -> None:
    context = make_context()
    async with open_client(context) as client:
        answer = await client.get("/_public/docs", headers={"X-Client-Token": TOKEN})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.text == docs_page(create_document(context.blueprints))


def test_curl_lines_can_be_pasted() -> None:
    text = Reader(docs_page(create_document())).text
    submit = (
        """curl -X POST "$URL/api/v1/jobs/BLUEPRINT" \\ -H "X-Client-Token: $CLIENT_TOKEN" \\"""
    )
    assert submit in text
    assert """-d '{"initial_data": {"path": "/films/one.mp4"}""" in text
    assert '-H "X-Worker-Token: $WORKER_TOKEN"' in text
    assert 'curl "$URL/healthz"' in text
