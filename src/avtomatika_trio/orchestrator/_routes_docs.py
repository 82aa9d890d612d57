"""`/openapi.json`, and the page of it: which routes there are.

Anybody may know what is the same everywhere.  Names and endpoints of blueprints are business of
this installation: they are shown to whoever has a client's token, and a wrong one is refused.
"""

from collections.abc import Iterable
from functools import cached_property
from http import HTTPStatus

from quart import request

from avtomatika_trio._core.access import Role
from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio._wire.codec import encode
from avtomatika_trio.orchestrator._answers import Answer
from avtomatika_trio.orchestrator._client_request import admit, shows_token
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._docs_page import POLICY, docs_page
from avtomatika_trio.orchestrator._openapi import Json, create_document

_HEADERS = {
    "cache-control": "private, no-cache",  # the answer depends on the token
    "x-content-type-options": "nosniff",
}


class _Told:
    """The document of *blueprints* and its page, made when they are first asked for and kept."""

    def __init__(self, blueprints: Iterable[Blueprint]) -> None:
        self._blueprints = blueprints

    @cached_property
    def _document(self) -> Json:
        return create_document(self._blueprints)

    @cached_property
    def document(self) -> bytes:
        return encode(self._document)

    @cached_property
    def page(self) -> bytes:
        return docs_page(self._document).encode()


class DocsRoutes:
    """One method per route."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._to_anybody = _Told(())
        self._to_clients = _Told(context.blueprints)

    async def document(self) -> Answer:
        """`GET /openapi.json`."""
        told = await self._told()
        return told.document, HTTPStatus.OK, {"content-type": "application/json", **_HEADERS}

    async def page(self) -> Answer:
        """`GET /_public/docs`."""
        told = await self._told()
        kind = {"content-type": "text/html; charset=utf-8", "content-security-policy": POLICY}
        return told.page, HTTPStatus.OK, {**kind, **_HEADERS}

    async def _told(self) -> _Told:
        """What whoever asks may know.

        Raises:
            HttpProblem: 401, 403, 429; see `admit`.
        """
        if not shows_token(request.headers):
            return self._to_anybody
        await admit(self._context, request.headers, request.remote_addr or "", Role.VIEWER)
        return self._to_clients
