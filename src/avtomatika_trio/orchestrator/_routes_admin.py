"""What administrators ask: who may talk, and what was changed."""

from http import HTTPStatus
from typing import Any

from quart import request

from avtomatika_trio._core.access import AuditRow, ClientCredential, WorkerCredential
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.orchestrator import _answer_shapes as shapes
from avtomatika_trio.orchestrator._access import Client
from avtomatika_trio.orchestrator._answers import Answer, json_answer, rfc3339
from avtomatika_trio.orchestrator._client_request import whole_number
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._http import HttpProblem
from avtomatika_trio.orchestrator._table_clients import MOST_PER_PAGE


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
        answer: shapes.Reloaded = {
            "status": "worker_configs_reloaded",
            "generation": applied.access.generation,
            "workers": applied.workers,
            "clients": applied.clients,
        }
        return json_answer(answer)

    async def credentials(self, client: Client) -> Answer:
        """`GET /admin/credentials`: who may talk, without anything that lets one in."""
        del client
        access = self.context.access.roster.access
        answer: shapes.Credentials = {
            "generation": access.generation,
            "workers": [_worker(it) for it in access.workers or ()],
            "clients": [_client(it) for it in access.clients or ()],
        }
        return json_answer(answer)

    async def audit(self, client: Client) -> Answer:
        """`GET /admin/audit`: what was changed by whom, in order."""
        del client
        after = whole_number("after", 0)
        limit = whole_number("limit", 100, least=1, most=MOST_PER_PAGE)
        rows = await self.context.storage.audit(after=after, limit=limit)
        listed: list[shapes.AuditEntry] = [
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
        answer: shapes.AuditPage = {"audit": listed}
        return json_answer(answer)


def _worker(section: WorkerCredential) -> shapes.WorkerSection:
    return {
        "name": section.name,
        "tokens": len(section.hashes),
        "expires_at": None if section.expires_at is None else rfc3339(section.expires_at),
        "skills": section.skills,
        "description": section.description,
    }


def _client(section: ClientCredential) -> shapes.ClientSection:
    return {
        "name": section.name,
        "tokens": len(section.hashes),
        "expires_at": None if section.expires_at is None else rfc3339(section.expires_at),
        "plan": section.plan,
        "monthly_attempts": section.monthly_attempts,
        "roles": section.roles,
        "params": section.params,
        "description": section.description,
    }
