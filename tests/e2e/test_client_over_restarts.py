"""Whoever submits and waits with the Python client notices no restart of orchestrators."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.e2e.killing import CLIENT_TOKEN, Program, lasting_port, orchestrator, worker
from tests.storage.redis_servers import start_server

from avtomatika_trio.client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SUBMITTERS = 3


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in reversed(started):
        program.end()


@attrs.define
class Submitter:
    """Submits one job after the other, each with its number, until it is told to stop."""

    urls: list[str]
    labels: dict[str, str]
    ids: list[str] = attrs.field(factory=list)
    faults: list[Exception] = attrs.field(factory=list)
    is_over: threading.Event = attrs.field(factory=threading.Event)

    def run(self) -> None:
        with Client(self.urls, CLIENT_TOKEN) as client:
            while not self.is_over.is_set():
                try:
                    data: dict[str, Any] = {"n": len(self.ids)}
                    self.ids.append(client.submit("single", data, labels=self.labels))
                except Exception as exc:  # noqa: BLE001 - whatever it is, the test shows it
                    self.faults.append(exc)


def test_submissions_over_kills_are_all_there_and_none_is_doubled(
    tmp_path: Path, programs: list[Program]
) -> None:
    with start_server("valkey") as redis:
        ports = [lasting_port(), lasting_port()]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        servers = [orchestrator(tmp_path, port, storage=redis.url) for port in ports]
        for at, server in enumerate(servers):
            server.name = f"orchestrator-{at}"
            programs.append(server)
            server.start()
        for server in servers:
            server.said()
        programs.append(worker(tmp_path, "w", *urls))
        programs[-1].start()

        labels = {"run": "restarts"}
        submitters = [Submitter(urls if at % 2 else urls[::-1], labels) for at in range(SUBMITTERS)]
        threads = [threading.Thread(target=it.run) for it in submitters]
        for thread in threads:
            thread.start()
        for victim in (*servers, servers[0]):
            time.sleep(0.7)
            victim.kill()
            time.sleep(0.3)
            victim.start()
            victim.said()
        for it in submitters:
            it.is_over.set()
        for thread in threads:
            thread.join()

        assert [fault for it in submitters for fault in it.faults] == []
        made = [job_id for it in submitters for job_id in it.ids]
        with Client(urls, CLIENT_TOKEN) as client:
            assert sorted(job.id for job in client.list(labels=labels)) == sorted(made)
            assert len(set(made)) == len(made) > 30
            ends = [client.wait(job_id, timeout_seconds=60) for job_id in made[-20:]]
        assert {job.status for job in ends} == {"finished"}
        for program in reversed(programs):
            program.end()
