"""An orchestrator's app over a memory storage, and ways to ask it things.

The handlers are all `async`: the others run in threads, which virtual time does not see.
"""

import contextlib
from collections.abc import AsyncIterator
from functools import cache, partial
from typing import Any, cast

import attrs
import httpx
import trio

from avtomatika_trio import Blueprint
from avtomatika_trio._core.access import AuditRow, ClientCredential
from avtomatika_trio._core.admission import apply, open_access
from avtomatika_trio._wire.token_hashes import hash_token
from avtomatika_trio.orchestrator._app import create_app
from avtomatika_trio.orchestrator._context import Context, Limits
from avtomatika_trio.orchestrator._http import AsgiApp
from avtomatika_trio.orchestrator._registry import Blueprints
from avtomatika_trio.storage._base import Storage
from avtomatika_trio.storage._memory import MemoryStorage

TOKEN = "the-token-of-the-client"
WORKER_TOKEN = "the-token-of-the-workers"
EPOCH = 1_700_000_000.0


def resize() -> Blueprint:
    """One task, then the end; posted to `/jobs/pictures` too."""
    blueprint = Blueprint("resize", api_endpoint="/jobs/pictures")

    @blueprint.handler(is_start=True)
    async def start(actions: Any, initial_data: dict[str, Any]) -> None:
        actions.dispatch_task("scale", initial_data, {"success": "done"})

    @blueprint.handler(is_end=True)
    async def done(state_history: dict[str, Any]) -> dict[str, Any]:
        return {"size": state_history.get("size")}

    return blueprint


def walk() -> Blueprint:
    """Ends by itself: start -> middle -> end; `pause` seconds are spent in the middle."""
    blueprint = Blueprint("walk", api_version="v2")

    @blueprint.handler(is_start=True)
    async def start(actions: Any) -> None:
        actions.go_to("middle")

    @blueprint.handler
    async def middle(actions: Any, pause: float = 0) -> None:
        await trio.sleep(pause)
        actions.go_to("end")

    @blueprint.handler(is_end=True)
    async def end() -> dict[str, Any]:
        return {"walked": True}

    return blueprint


def memory() -> MemoryStorage:
    """A storage whose time passes with Trio's."""
    return MemoryStorage(now=lambda: EPOCH + trio.current_time())


@cache
def blueprints() -> Blueprints:
    """`resize` and `walk`, checked once for all tests."""
    return Blueprints([resize(), walk()])


async def let_in(context: Context, name: str, **fields: Any) -> None:
    """Let in one more client, whose token is `token-of-<name>`.

    Args:
        context: Of the orchestrator.
        name: Of the client.
        fields: Of its `ClientCredential`.
    """
    fresh = partial(open_access, fresh_salt="5a" * 16)
    access = await context.storage.commit(fresh)
    hashed = hash_token(f"token-of-{name}", bytes.fromhex(access.salt))
    client = ClientCredential(name=name, hashes=(hashed,), **fields)
    operation = partial(
        apply,
        workers=None,
        clients=(*(access.clients or ()), client),
        audit=AuditRow(at=0, who="test", action="test", origin=""),
    )
    await context.storage.commit(operation)
    await context.access.open()


def make_context(storage: Storage | None = None, **limits: Any) -> Context:
    """The parts of an orchestrator that knows `resize` and `walk`."""
    return Context(
        storage=storage or memory(),
        blueprints=blueprints(),
        client_token=TOKEN,
        worker_token=WORKER_TOKEN,
        limits=Limits(**limits),
    )


@attrs.frozen(kw_only=True)
class Raw:
    """An answer, as it left the app."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask_raw(
    app: AsgiApp,
    method: str,
    path: str,
    *,
    query: bytes = b"",
    body: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> Raw:
    """Ask with what no well-behaved client would send."""
    scope = http_scope(method, path, query, headers)
    sent: list[dict[str, Any]] = []
    answered = trio.Event()
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop()
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            answered.set()

    await app(scope, receive, send)
    names = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    whole = b"".join(message.get("body", b"") for message in sent[1:])
    return Raw(status=sent[0]["status"], headers=names, body=whole)


def http_scope(
    method: str,
    path: str,
    query: bytes = b"",
    headers: list[tuple[bytes, bytes]] | None = None,
) -> dict[str, Any]:
    """As a server makes it; with the client's token unless *headers* are given."""
    authorised = [(b"host", b"o"), (b"x-client-token", TOKEN.encode())]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "query_string": query,
        "root_path": "",
        "headers": authorised if headers is None else headers,
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8080),
    }


@contextlib.asynccontextmanager
async def open_client(context: Context, token: str = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the orchestrator's app, without a network between them."""
    transport = httpx.ASGITransport(app=cast("Any", create_app(context)))
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://orchestrator",
        headers={"X-Client-Token": token},
        timeout=None,
    ) as client:
        yield client


class Worker:
    """A worker, reduced to its requests.

    Args:
        client: Of the orchestrator that it works for; the client's token goes unread.
        worker_id: Its name.
        token: What it shows.
    """

    def __init__(
        self, client: httpx.AsyncClient, worker_id: str = "w1", token: str = WORKER_TOKEN
    ) -> None:
        self.client = client
        self.token = token
        self.worker_id = worker_id
        self.instance = f"{worker_id}-run-1"
        self.polls = 0

    async def register(self, *skills: str, **more: Any) -> None:
        """Say what it can do, and *more*."""
        said = {
            "worker_id": self.worker_id,
            "instance": self.instance,
            "supported_skills": [{"name": skill} for skill in skills],
            **more,
        }
        await self._send("POST", "/_worker/workers/register", said)

    async def take(self) -> list[dict[str, Any]]:
        """Lease what is queued, without waiting."""
        self.polls += 1
        query = f"instance={self.instance}&poll={self.polls}&max_tasks=10&timeout=0"
        path = f"/_worker/workers/{self.worker_id}/tasks/next?{query}"
        answer = await self._send("GET", path, None)
        return [] if answer.status_code == 204 else list(answer.json()["tasks"])

    async def report_progress(self, task: dict[str, Any], progress: float) -> None:
        """Say how far it is."""
        said = {
            "event_id": "e1",
            "worker_id": self.worker_id,
            "origin_worker_id": self.worker_id,
            "event_type": "progress",
            "target_task_id": task["task_id"],
            "payload": {"progress": progress, "message": "half way"},
        }
        await self._send("POST", "/_worker/events", said)

    async def report(self, task: dict[str, Any], **result: Any) -> None:
        """Report a result; a success unless *result* says otherwise."""
        said = {"job_id": task["job_id"], "task_id": task["task_id"], "status": "success"}
        await self._send("POST", "/_worker/tasks/result", {**said, **result})

    async def _send(self, method: str, path: str, said: Any) -> httpx.Response:
        headers = {"X-Worker-Token": self.token, "X-Worker-ID": self.worker_id}
        answer = await self.client.request(method, path, json=said, headers=headers)
        answer.raise_for_status()
        return answer
