"""Answers, held against the document of the routes: no status and no member that it lacks."""

import copy
import json
import re
from typing import Any

import attrs
import httpx
import jsonschema_rs

#: What is not ours alone may say more, as RXON allows.
_OPEN = {"TaskPayload", "SkillInfo"}

_PARTIAL = {"JobSummary", "JobDetails"}


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """*document*, its objects without any member that is not in it."""
    strict = copy.deepcopy(document)
    for name, schema in strict["components"]["schemas"].items():
        if "properties" in schema and name not in _OPEN:
            schema["additionalProperties"] = False
    return strict


@attrs.define(eq=False)
class Documented:
    """Holds each answer of a client that it is a hook of against *document*."""

    document: dict[str, Any]
    seen: set[tuple[str, int]] = attrs.field(factory=set)
    """Ids of operations and statuses that were met."""

    async def check(self, answer: httpx.Response) -> None:
        """Fail unless *answer* is one that the document names."""
        await answer.aread()
        request = answer.request
        operation = self.operation(request.method, request.url.path)
        assert operation is not None, (request.method, request.url.path)
        said = operation["responses"].get(str(answer.status_code))
        place = (operation["operationId"], answer.status_code)
        assert said is not None, f"{place} is not documented: {answer.text}"
        assert "x-request-id" in answer.headers
        content = said.get("content", {})
        if not content:
            assert answer.content == b"", place
        else:
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind in content, (place, kind)
            if kind.endswith("json"):
                self._check_body(content[kind]["schema"], answer, place)
        self.seen.add(place)

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """The operation of a request; one with a fixed path first, as it is served."""
        paths = self.document["paths"]
        for template in sorted(paths, key=lambda it: it.count("{")):
            wide = template.endswith(("/content/{name}", "/download/{name}"))
            parts = [re.escape(it) for it in re.split(r"\{\w+\}", template)]
            pattern = "[^/]+".join(parts) if not wide else "[^/]+".join(parts[:-1]) + ".*"
            if re.fullmatch(pattern, path) and method.lower() in paths[template]:
                found: dict[str, Any] = paths[template][method.lower()]
                return found
        return None

    def _check_body(self, schema: Any, answer: httpx.Response, place: tuple[str, int]) -> None:
        whole = {**schema, "components": self.document["components"]}
        validator = jsonschema_rs.Draft202012Validator(whole)
        faults = [str(it) for it in validator.iter_errors(json.loads(answer.content))]
        assert not faults, (place, faults[0], answer.text)


def successes(document: dict[str, Any]) -> set[tuple[str, int]]:
    """The id of each operation with each status that is no error."""
    return {
        (operation["operationId"], int(status))
        for methods in document["paths"].values()
        for operation in methods.values()
        for status in operation["responses"]
        if int(status) < 400
    }
