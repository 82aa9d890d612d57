"""Who may talk, with real processes: the page that the product was asked for with, as written;
revocation by SIGHUP, kills in between, and no secret left behind anywhere.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from tests.e2e.killing import CLIENT_TOKEN, SOURCE, WORKER_TOKEN, Program, lasting_port

from avtomatika_trio.client import Client
from avtomatika_trio.errors import Refused

pytestmark = pytest.mark.e2e

# The blocks of section 2 of that page, word by word.

WORKERS_TOML = """\
# workers.toml
[worker-video-1]
token = "unique-secret-token-for-video-1"

[worker-audio-5]
token = "another-secret-for-audio-5"
"""

ORCHESTRATOR_ENV = """\
# En archivo .env del Orquestador
WORKERS_CONFIG_PATH="workers.toml"
"""

WORKER_ENV = """\
# En archivo .env del Worker
WORKER_ID="worker-video-1"
AVTOMATIKA_WORKER_TOKEN="unique-secret-token-for-video-1"
"""

VIDEO_TOKEN = "unique-secret-token-for-video-1"
AUDIO_TOKEN = "another-secret-for-audio-5"


def read_env(text: str) -> dict[str, str]:
    """What a shell makes of a dotenv file."""
    words = [shlex.split(line, comments=True) for line in text.splitlines()]
    return dict(word[0].split("=", 1) for word in words if word)


class Place:
    """A folder with an orchestrator and workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = lasting_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.programs: list[Program] = []
        arguments = ["serve", "--storage", "sqlite:e2e.db", "--port", str(self.port)]
        self.orchestrator = Program(
            "orchestrator",
            [*arguments, "--blueprints", "sleep_blueprints", "-o", "json"],
            folder,
            read_env(ORCHESTRATOR_ENV),
        )
        self.programs.append(self.orchestrator)

    def write_workers(self, text: str) -> None:
        path = self.folder / "workers.toml"
        path.touch(mode=0o600)
        path.write_text(text)

    def start(self) -> None:
        self.orchestrator.start()
        self.orchestrator.said()

    def add_worker(self, name: str, environ: Mapping[str, str]) -> Program:
        """Start a worker of the skill `sleep`, with *environ* as its .env file has it."""
        program = Program(
            name,
            ["worker", "run", "sleep_worker:worker", "--spool-dir", f"spool-{name}"],
            self.folder,
            {
                "E2E_NOTES": f"{self.folder}/notes-{name}.txt",
                "ORCHESTRATOR_URL": self.url,
                "HEARTBEAT_INTERVAL": "1",
                **environ,
            },
        )
        program.start()
        self.programs.append(program)
        return program

    def client(self) -> Client:
        return Client(self.url, CLIENT_TOKEN)

    def wait(self, name: str, seconds: float) -> dict[str, object]:
        """Submit a job of the skill `sleep`; returns it, final."""
        with self.client() as client:
            job_id = client.submit("sleep", {"skill": "sleep", "n": 1, "seconds": 0, "name": name})
            return client.wait(job_id, timeout_seconds=seconds).raw


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    place.write_workers(WORKERS_TOML)
    try:
        yield place
    finally:
        for program in reversed(place.programs):
            program.end()


def until(true: Callable[[], bool], what: str, seconds: float = 20) -> float:
    """Return once *true*; how long it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.02)
    return time.monotonic() - began


def test_the_section_of_the_page_works_as_written(place: Place) -> None:
    place.start()
    place.add_worker("video", read_env(WORKER_ENV))
    assert place.wait("individual", 30)["status"] == "finished"
    with place.client() as client:
        assert [it.worker_id for it in client.workers()] == ["worker-video-1"]
    impostors = {
        "another's": {"WORKER_ID": "worker-audio-5", "AVTOMATIKA_WORKER_TOKEN": VIDEO_TOKEN},
        "global": {"WORKER_ID": "worker-audio-5"},  # WORKER_TOKEN is set, for those without one
    }
    for name, environ in impostors.items():
        impostor = place.add_worker(name, environ)
        until(lambda it=impostor: "403" in it.log(), "it was not refused")  # type: ignore[misc]
        assert "Invalid individual worker token" in impostor.log()
    place.add_worker("without", {"WORKER_ID": "worker-without-section"})

    def both() -> bool:
        with place.client() as client:
            ids = {it.worker_id for it in client.workers()}
        return ids == {"worker-video-1", "worker-without-section"}

    until(both, "the token of all does not let in who has none of its own")


def test_a_removed_worker_is_out_and_stays_out(place: Place) -> None:
    place.start()
    place.add_worker("video", read_env(WORKER_ENV))
    with place.client() as client:
        job_id = client.submit("sleep", {"skill": "sleep", "n": 7, "seconds": 3600})

        def attempts() -> list[str]:
            return [it.status for task in client.tasks(job_id) for it in task.attempts]

        until(lambda: attempts() == ["leased"], "the task was not taken")

        place.write_workers('[worker-audio-5]\ntoken = "another-secret-for-audio-5"\n')
        assert place.orchestrator.child is not None
        place.orchestrator.child.send_signal(signal.SIGHUP)
        took = until(lambda: attempts() == ["unclaimed"], "its lease was not given back")
        assert took < 10  # a second, on a machine with nothing else to do

        place.write_workers('[worker-audio-5]\ntokn = "x"\n')
        with pytest.raises(Refused, match=r"workers\.toml line 2, tokn"):
            client.reload_access()

        # An orchestrator that starts with an older file does not bring the token back.
        place.orchestrator.kill()
        place.write_workers(WORKERS_TOML)
        place.start()
        assert "the storage wins" in place.orchestrator.log()
        assert "worker-video-1" in place.orchestrator.log()
        headers = {"X-Worker-Token": VIDEO_TOKEN, "X-Worker-ID": "worker-video-1"}
        body = {"worker_id": "worker-video-1", "supported_skills": []}
        answer = httpx.post(f"{place.url}/_worker/workers/register", json=body, headers=headers)
        assert answer.status_code == 403

        reload = [sys.executable, "-m", "avtomatika_trio", "token", "reload", "--url", place.url]
        environ = {**os.environ, "CLIENT_TOKEN": CLIENT_TOKEN, "PYTHONPATH": str(SOURCE)}
        ran = subprocess.run(
            reload, cwd=place.folder, env=environ, capture_output=True, text=True, check=False
        )
        assert ran.stdout == "workers: added worker-video-1\nclients: unchanged\n"
        answer = httpx.post(f"{place.url}/_worker/workers/register", json=body, headers=headers)
        assert answer.status_code == 200
        who = [(it["who"], it["action"]) for it in _audit(place)]
        assert who == [
            ("SIGHUP", "reload_credentials"),
            ("client", "reload_credentials"),
        ]
        client.cancel(job_id)


def _audit(place: Place) -> list[dict[str, str]]:
    headers = {"X-Client-Token": CLIENT_TOKEN}
    answer = httpx.get(f"{place.url}/api/v1/admin/audit", headers=headers)
    return list(answer.json()["audit"])


def test_no_secret_is_left_anywhere(place: Place) -> None:
    key = "the-secret-key-of-the-orchestrator"
    place.orchestrator.environ = {
        **place.orchestrator.environ,
        "ORCHESTRATOR_SECRET_KEY": key,
        "LOG_LEVEL": "DEBUG",
        "WORKER_SIGNING": "required",
    }
    (place.folder / "clients.toml").write_text(
        '[acme]\ntoken = "the-token-of-acme-limited"\nmonthly_attempts = 5\n'
    )
    place.start()
    more = {"ORCHESTRATOR_SECRET_KEY": key, "LOG_LEVEL": "DEBUG"}
    place.add_worker("video", {**read_env(WORKER_ENV), **more})
    tokens = {**more, "WORKER_ID": "worker-audio-5", "AVTOMATIKA_WORKER_TOKEN": AUDIO_TOKEN}
    place.add_worker("audio", {**tokens, "WORKER_ACCESS_TOKENS": "true"})
    place.add_worker("wrong", {"WORKER_ID": "worker-video-1"})
    until(lambda: "403" in place.programs[-1].log(), "it was not refused")
    told = [str(place.wait("secrets", 30))]
    with Client(place.url, "the-token-of-acme-limited") as acme:
        job = acme.wait(acme.submit("sleep", {"skill": "sleep", "n": 1, "seconds": 0}))
        told += [str(job.raw), *(str(it.raw) for it in acme.history(job.id))]
        told += [str(it.raw) for it in acme.tasks(job.id)]
    with place.client() as client:
        told += [str([it.raw for it in client.workers()]), str(client.reload_access())]
    for path in ("admin/credentials", "admin/audit", "workers"):
        headers = {"X-Client-Token": CLIENT_TOKEN}
        told.append(httpx.get(f"{place.url}/api/v1/{path}", headers=headers).text)
    for program in place.programs:
        assert program.child is not None
        told.append(Path(f"/proc/{program.child.pid}/cmdline").read_text())
    for program in reversed(place.programs):
        program.end()
    kept = [it for it in place.folder.rglob("*") if it.is_file() and it.suffix != ".toml"]
    assert {"e2e.db", "orchestrator.log", "video.log"} <= {it.name for it in kept}
    secrets = [key, VIDEO_TOKEN, AUDIO_TOKEN, CLIENT_TOKEN, WORKER_TOKEN, "the-token-of-acme"]
    for secret in secrets:
        assert [it.name for it in kept if secret.encode() in it.read_bytes()] == []
        assert [it for it in told if secret in it] == []
