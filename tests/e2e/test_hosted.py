"""The orchestrator inside plain hypercorn, as its users start it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.e2e

HOSTED = """
from avtomatika_trio import Blueprint
from avtomatika_trio.orchestrator import Orchestrator

blueprint = Blueprint("hosted")

@blueprint.handler(is_start=True)
async def begin(actions):
    actions.go_to("done")

@blueprint.handler(is_end=True)
async def done():
    return {"hosted": True}

app = Orchestrator([blueprint]).asgi_app
"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "hosted.py").write_text(HOSTED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = {**os.environ, "CLIENT_TOKEN": "client", "WORKER_TOKEN": "worker"}
    command = [sys.executable, "-m", "hypercorn", "-k", "trio", "-b", f"127.0.0.1:{port}"]
    child = subprocess.Popen([*command, "hosted:app"], cwd=tmp_path, env=environ)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0


def test_a_job_runs_under_plain_hypercorn(url: str) -> None:
    headers = {"X-Client-Token": "client"}
    with httpx.Client(base_url=url, headers=headers, timeout=10) as client:
        give_up_at = time.monotonic() + 20
        job_id = None
        while job_id is None:
            try:
                job_id = client.post("/api/v1/jobs/hosted").json()["job_id"]
            except httpx.TransportError:
                assert time.monotonic() < give_up_at
                time.sleep(0.1)
        job = client.get(f"/api/v1/jobs/{job_id}?wait=10").json()
    assert (job["status"], job["result"]) == ("finished", {"hosted": True})
