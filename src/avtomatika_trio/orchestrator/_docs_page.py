"""`/_public/docs`: the document of the routes as a page that needs nothing from elsewhere.

It has no script, and its policy allows none: whatever is in the document stays text.
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

Json = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --faint: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.25; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; }
section { margin: 2rem 0; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--faint); padding: .75rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem .3rem 0; text-align: left;
  vertical-align: top; }
th { white-space: nowrap; }
ul { padding-left: 1.2rem; }
.method { font-weight: 700; }
.part { font-weight: 600; margin-bottom: 0; }
""".strip()

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
"""The page's Content-Security-Policy."""

_SHOWN_TOKENS = {
    "ClientToken": ('-H "X-Client-Token: $CLIENT_TOKEN"',),
    "WorkerToken": ('-H "X-Worker-Token: $WORKER_TOKEN"', '-H "X-Worker-ID: worker-1"'),
}

_METHODS = ("get", "put", "post", "patch", "delete")


def docs_page(document: Json) -> str:
    """The page of *document*, as `create_document` makes it."""
    return "\n".join(_page(document)) + "\n"


def _page(document: Json) -> Iterator[str]:
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}: routes</title>"
    yield f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>"
    for paragraph in info["description"].split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    yield '<p>The same for programs: <a href="../openapi.json">openapi.json</a>.</p>'
    groups: dict[str, list[tuple[str, str, Json]]] = {it["name"]: [] for it in document["tags"]}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                groups[methods[method]["tags"][0]].append((method.upper(), path, methods[method]))
    yield "<nav>"
    for name, routes in groups.items():
        yield f"<p>{escape(name)}</p>\n<ul>"
        for method, path, operation in routes:
            shown = f"{method} {escape(path)}"
            link = f'<a href="#{_anchor(operation)}"><code>{shown}</code></a>'
            yield f"<li>{link} {_text(operation['summary'])}</li>"
        yield "</ul>"
    yield "</nav>\n<main>"
    for name, routes in groups.items():
        yield f"<h2>{escape(name)}</h2>"
        for method, path, operation in routes:
            yield from _section(method, path, operation)
    yield "<h2>Objects</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _object(name, schema)
    yield "</main>\n</body>\n</html>"


def _section(method: str, path: str, operation: Json) -> Iterator[str]:
    yield f'<section id="{_anchor(operation)}">'
    yield f'<h3><code><span class="method">{method}</span> {escape(path)}</code></h3>'
    yield f"<p>{_text(operation['summary'])}. {_text(operation['description'])}</p>"
    parameters = [it for it in operation["parameters"] if "$ref" not in it]
    if parameters:
        yield '<p class="part">Parameters</p>'
        rows = [
            (
                f"<code>{escape(it['name'])}</code>",
                f"{it['in']}{', needed' if it['required'] else ''}",
                _kind(it["schema"]),
                _text(it["description"]),
            )
            for it in parameters
        ]
        yield from _table(("Name", "Where", "Kind", "Meaning"), rows)
    if "requestBody" in operation:
        [(content, said)] = operation["requestBody"]["content"].items()
        need = "needed" if operation["requestBody"]["required"] else "may be empty"
        yield f'<p class="part">Body</p>\n<p><code>{escape(content)}</code>, {need}:'
        yield f" {_kind(said['schema'])}</p>"
    answers = operation["responses"].items()
    yield '<p class="part">Answers</p>'
    yield from _answers([it for it in answers if it[0] < "400"])
    yield "<details><summary>Errors</summary>"
    yield from _answers([it for it in answers if it[0] >= "400"])
    yield "</details>"
    yield f"<pre>{escape(_curl(method, path, operation))}</pre>\n</section>"


def _answers(answers: Sequence[tuple[str, Json]]) -> Iterator[str]:
    rows = [
        (f"<code>{status}</code>", _bodies(it), _lines(it["description"])) for status, it in answers
    ]
    yield from _table(("Status", "Body", "Meaning"), rows)


def _object(name: str, schema: Json) -> Iterator[str]:
    yield f'<section id="object-{escape(name)}">\n<h3>{escape(name)}</h3>'
    yield f"<p>{_text(schema.get('description', '').partition(chr(10))[0])}</p>"
    if "enum" in schema:
        yield f"<p>{_kind(schema)}</p>"
    needed = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(member)}</code>",
            f"{_kind(it)}{'' if member in needed else ', may be absent'}",
            _text(it.get("description", "")),
        )
        for member, it in schema.get("properties", {}).items()
    ]
    if rows:
        yield from _table(("Member", "Kind", "Meaning"), rows)
    yield "</section>"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """*rows* are HTML."""
    yield f"<table>\n<tr>{''.join(f'<th>{it}</th>' for it in head)}</tr>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{it}</td>' for it in row)}</tr>"
    yield "</table>"


def _bodies(answer: Json) -> str:
    shown = [
        f"<code>{escape(name)}</code>" + (f": {_kind(it['schema'])}" if it["schema"] else "")
        for name, it in answer.get("content", {}).items()
    ]
    return "<br>".join(shown) or "none"


def _kind(schema: Json) -> str:
    """What a value is, in a few words of HTML."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#object-{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(it) for it in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(it))}</code>" for it in schema["enum"])
    if schema.get("type") == "array":
        items = schema.get("items")
        return f"list of {_kind(items)}" if items else "list"
    kind = schema.get("format") or schema.get("type") or "anything"
    return escape(f"{kind}{_bounds(schema)}")


def _bounds(schema: Json) -> str:
    names = {"minimum": ">=", "maximum": "<=", "maxLength": "of length <="}
    said = [f"{sign} {schema[name]}" for name, sign in names.items() if name in schema]
    return f" {' and '.join(said)}" if said else ""


def _curl(method: str, path: str, operation: Json) -> str:
    """How to ask it by curl; `$URL` is the orchestrator."""
    needed = [it for it in operation["parameters"] if it.get("required")]
    for it in needed:
        if it["in"] == "path":
            path = path.replace(f"{{{it['name']}}}", quote(it["example"]))
    query = [f"{it['name']}={quote(it['example'])}" for it in needed if it["in"] == "query"]
    target = "?".join([path, *query])
    lines = [f'curl {"" if method == "GET" else f"-X {method} "}"$URL{target}"']
    for scheme, options in _SHOWN_TOKENS.items():
        if any(scheme in it for it in operation["security"]) and {} not in operation["security"]:
            lines += options
    lines += [f'-H "{it["name"]}: {it["example"]}"' for it in needed if it["in"] == "header"]
    return " \\\n  ".join([*lines, *_curl_body(operation)])


def _curl_body(operation: Json) -> Iterator[str]:
    if "requestBody" not in operation:
        return
    [(content, said)] = operation["requestBody"]["content"].items()
    if "example" in said:
        yield f'-H "Content-Type: {content}"'
        yield f"-d {shlex.quote(json.dumps(said['example'], ensure_ascii=False))}"
    else:
        yield "--data-binary @FILE"


def _anchor(operation: Json) -> str:
    return escape(re.sub(r"[^A-Za-z0-9_.-]", "-", operation["operationId"]))


def _lines(text: str) -> str:
    """Text whose lines may be items of a list, as HTML."""
    return "<br>".join(_text(it.removeprefix("- ")) for it in text.splitlines())


def _text(text: str) -> str:
    """Text with `code` in it, as HTML."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
