"""What administrators ask: who may talk, and what was changed."""

from http import HTTPStatus
from typing import Any

import attrs
from quart import request

from avtomatika_trio._core.access import AuditRow, ClientCredential, WorkerCredential
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.orchestrator._access import Client
from avtomatika_trio.orchestrator._answers import Answer, json_answer, rfc3339
from avtomatika_trio.orchestrator._client_request import whole_number
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import HttpProblem

_MOST_PER_PAGE = 1000


def audit_row(client: Client, action: str, **details: Any) -> AuditRow:
    """What the audit is told of the present request of *client*; the time comes later."""
    origin = request.remote_addr or ""
    return AuditRow(at=0.0, who=client.id, action=action, origin=origin, details=details)


class AdminRoutes:
    """One method per route; each is given the client first."""

    def __init__(self, context: Context) -> None:
        self.context = context

    async def reload(self, client: Client) -> Answer:
        """`POST /admin/reload-workers`: take over workers.toml and clients.toml as they are."""
        try:
            applied = await self.context.access.reload(
                client.id, request.remote_addr or "", self.context.rules
            )
        except ConfigError as exc:
            detail = f"nothing was changed: {exc}"
            problem = HttpProblem(HTTPStatus.BAD_REQUEST, "credentials_refused", detail)
            raise problem from None
        return json_answer(
            {
                "status": "worker_configs_reloaded",
                "generation": applied.access.generation,
                "workers": attrs.asdict(applied.workers),
                "clients": attrs.asdict(applied.clients),
            }
        )

    async def credentials(self, client: Client) -> Answer:
        """`GET /admin/credentials`: who may talk, without anything that lets one in."""
        del client
        access = self.context.access.roster.access
        return json_answer(
            {
                "generation": access.generation,
                "workers": [_shown(it) for it in access.workers or ()],
                "clients": [_shown(it) for it in access.clients or ()],
            }
        )

    async def audit(self, client: Client) -> Answer:
        """`GET /admin/audit`: what was changed by whom, in order."""
        del client
        after = whole_number("after", 0)
        limit = whole_number("limit", 100, least=1, most=_MOST_PER_PAGE)
        rows = await self.context.storage.audit(after=after, limit=limit)
        listed = [
            {
                "number": it.number,
                "at": rfc3339(it.row.at),
                "who": it.row.who,
                "action": it.row.action,
                "from": it.row.origin,
                "details": it.row.details,
            }
            for it in rows
        ]
        return json_answer({"audit": listed})


def _shown(section: WorkerCredential | ClientCredential) -> dict[str, Any]:
    shown = attrs.asdict(section)
    shown["tokens"] = len(shown.pop("hashes"))
    ends = section.expires_at
    shown["expires_at"] = None if ends is None else rfc3339(ends)
    return shown
