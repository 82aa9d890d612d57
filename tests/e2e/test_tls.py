"""TLS with a private authority, workers that are known by their certificates, and signatures."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.killing import CLIENT_TOKEN, SOURCE, Program, lasting_port
from tests.e2e.test_access import until
from tests.orchestrator.authority import Authority

from avtomatika_trio.client import Client

pytestmark = pytest.mark.e2e


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    try:
        yield started
    finally:
        for program in reversed(started):
            program.end()


def test_work_is_done_by_workers_that_have_nothing_but_a_certificate(
    tmp_path: Path, programs: list[Program]
) -> None:
    ours, foreign = Authority(tmp_path), Authority(tmp_path, "foreign")
    server = ours.sign("127.0.0.1", "localhost")
    port = lasting_port()
    url = f"https://127.0.0.1:{port}"
    tls = {
        "TLS_ENABLED": "true",
        "TLS_CERT_PATH": server.cert,
        "TLS_KEY_PATH": server.key,
        "TLS_CA_PATH": ours.file,
        "WORKER_AUTH_MODE": "mtls-only",
        "WORKER_SIGNING": "required",
        "ACCESS_TOKEN_SECONDS": "10",
    }
    arguments = ["serve", "--storage", "sqlite:e2e.db", "--port", str(port)]
    arguments += ["--blueprints", "sleep_blueprints", "-o", "json"]
    orchestrator = Program("orchestrator", arguments, tmp_path, tls)
    orchestrator.start()
    programs.append(orchestrator)
    assert orchestrator.said()["url"] == url

    def add_worker(name: str, authority: Authority, worker_id: str) -> Program:
        shown = authority.sign(worker_id)
        environ = {
            "WORKER_ID": name,
            "ORCHESTRATOR_URL": url,
            "HEARTBEAT_INTERVAL": "1",
            "TLS_CA_PATH": ours.file,
            "TLS_CERT_PATH": shown.cert,
            "TLS_KEY_PATH": shown.key,
            "WORKER_ACCESS_TOKENS": "true",
            "E2E_NOTES": f"{tmp_path}/notes-{name}.txt",
        }
        command = ["worker", "run", "sleep_worker:worker", "--spool-dir", f"spool-{name}"]
        program = Program(name, command, tmp_path, environ)
        program.start()
        programs.append(program)
        return program

    good = add_worker("w1", ours, "w1")
    stranger = add_worker("w2", foreign, "w2")
    liar = add_worker("w3", ours, "w4")
    with Client(url, CLIENT_TOKEN, ca_file=ours.file) as client:
        jobs: list[dict[str, Any]] = []
        for seconds in (0, 12):  # longer than a token lives
            job_id = client.submit("sleep", {"skill": "sleep", "n": seconds, "seconds": seconds})
            jobs.append(client.wait(job_id, timeout_seconds=40).raw)
        assert [job["status"] for job in jobs] == ["finished", "finished"]
        assert [it.worker_id for it in client.workers()] == ["w1"]
    until(lambda: "does not match worker_id" in liar.log(), "it was not refused")
    until(lambda: "link down" in stranger.log(), "nothing is said of its certificate")
    assert "Traceback" not in good.log() + stranger.log() + liar.log() + orchestrator.log()

    listing = [sys.executable, "-m", "avtomatika_trio", "job", "list", "-o", "json"]
    environ = {
        **{name: it for name, it in os.environ.items() if not name.startswith("TLS_")},
        "CLIENT_TOKEN": CLIENT_TOKEN,
        "PYTHONPATH": str(SOURCE),
        "AVTOMATIKA_URL": url,
    }
    for ca, code in ((ours.file, 0), (foreign.file, 1)):
        ran = subprocess.run(
            listing,
            cwd=tmp_path,
            env={**environ, "TLS_CA_PATH": ca},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, ran.stderr
        assert "Traceback" not in ran.stderr
