"""Whatever is asked while the storage is away: 503, when to ask again, and no traceback."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from tests.orchestrator.clients import EPOCH, WORKER_TOKEN, make_context, open_client
from trio.testing import MockClock

from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage import MemoryStorage

AWAY = "redis at db:6379 cannot be used: connection refused"
RESULT = {"job_id": "j", "task_id": "t", "worker_id": "w", "status": "success", "data": {}}
JOB = "/api/v1/jobs/p00-1"


class Away(MemoryStorage):
    """A storage that can be opened, and is away from then on."""

    is_away = False

    def __init__(self) -> None:
        super().__init__(now=lambda: EPOCH + trio.current_time())

    def _check(self) -> None:
        if self.is_away:
            raise StorageUnavailable(AWAY)

    async def commit(self, operation: Callable[..., Any], partition: str | None = None) -> Any:
        await trio.lowlevel.checkpoint()
        self._check()
        return await super().commit(operation, partition)

    def __getattribute__(self, name: str) -> Any:
        reads = ("job", "jobs", "job_counts", "tasks", "attempts", "history", "progress")
        if name in (*reads, "instance", "instances", "access", "audit"):
            self._check()
        return super().__getattribute__(name)


HEADERS = {"Content-Type": "application/json", "X-Worker-ID": "w", "X-Worker-Token": WORKER_TOKEN}
WORKERS: list[tuple[str, str, Any]] = [
    ("POST", "/workers/register", {"worker_id": "w", "worker_type": "cpu"}),
    ("PATCH", "/workers/w", {}),
    ("PATCH", "/workers/w", {"worker_id": "w", "status": "idle", "current_tasks": ["t"]}),
    ("GET", "/workers/w/tasks/next?available_skills=k", None),
    ("GET", "/workers/w/tasks/next?available_skills=k&instance=i&max_tasks=4&poll=1", None),
    ("POST", "/tasks/result", RESULT),
    ("POST", "/tasks/result?max_tasks=3&instance=i&poll=1", [RESULT]),
    ("POST", "/tasks/return", {"worker_id": "w", "task_ids": ["t"]}),
    (
        "POST",
        "/events",
        {
            "event_id": "e",
            "worker_id": "w",
            "origin_worker_id": "w",
            "event_type": "progress",
            "target_task_id": "t",
            "payload": {"progress": 0.5},
        },
    ),
]
CLIENTS: list[tuple[str, str, Any]] = [
    ("GET", "/readyz", None),
    ("POST", "/api/v1/jobs/resize", {"initial_data": {}}),
    ("POST", "/api/v1/jobs/resize", [{"initial_data": {}}]),
    ("GET", "/api/v1/jobs", None),
    ("GET", JOB, None),
    ("GET", f"{JOB}?wait=5", None),
    ("GET", f"{JOB}/history", None),
    ("POST", f"{JOB}/cancel", None),
    ("GET", "/api/v1/workers", None),
    ("GET", "/api/v1/admin/audit", None),
    ("GET", f"{JOB}/tasks", None),
    ("GET", f"{JOB}/files", None),
    ("GET", f"{JOB}/files/upload?filename=a.txt", None),
    ("PUT", f"{JOB}/files/content/a.txt", {"a": 1}),
    ("GET", f"{JOB}/files/download/a.txt", None),
]


@pytest.mark.parametrize(("method", "path", "body"), [*WORKERS, *CLIENTS])
async def test_every_route_tells_that_the_storage_is_away(
    method: str,
    path: str,
    body: Any,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    storage = Away()
    context = make_context(storage)
    if (method, path, body) in WORKERS:
        path = f"/_worker{path}"
    async with open_client(context) as client:
        storage.is_away = True
        content = None if body is None else json.dumps(body)
        with caplog.at_level(logging.INFO):
            answer = await client.request(method, path, content=content, headers=HEADERS)
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "storage_unavailable"
    assert AWAY in answer.json()["detail"]
    assert [it for it in caplog.records if it.exc_info or it.levelno >= logging.ERROR] == []
