"""SIGKILL at random moments: every job finishes, once, and the history tells why."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from tests.e2e.killing import CLIENT_TOKEN, OPEN, Program, orchestrator, worker

from avtomatika_trio.client import Client
from avtomatika_trio.errors import OrchestratorUnavailable
from avtomatika_trio.storage import open_storage
from avtomatika_trio.testing.invariants import ENDED_WITHOUT_OUTCOME, find_violations

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

JOBS = 500
KILLS = 20


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in reversed(started):
        program.end()


async def violations(path: Path) -> list[str]:
    async with open_storage(f"sqlite:{path}") as storage:
        return await find_violations(storage)


def submit(client: Client, jobs: int) -> dict[str, int]:
    """Submit half single, half parallel jobs; returns what each should come to."""
    expected: dict[str, int] = {}
    for at in range(0, jobs, 50):
        numbers = range(at, at + 50)
        for job_id, n in zip(
            client.submit_many("single", [{"n": n} for n in numbers[:25]]), numbers, strict=False
        ):
            expected[job_id] = n**2
        for job_id, n in zip(
            client.submit_many("parallel", [{"n": n} for n in numbers[25:]]),
            numbers[25:],
            strict=True,
        ):
            expected[job_id] = sum(k**2 for k in range(n % 7))
    return expected


def test_twenty_kills_lose_and_double_nothing(tmp_path: Path, programs: list[Program]) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # shown if it fails
    chance = random.Random(seed)
    server = orchestrator(tmp_path)
    programs.append(server)
    server.start()
    url = server.said()["url"]
    server.arguments[server.arguments.index("0")] = url.rpartition(":")[2]
    workers = [worker(tmp_path, f"w{n}", url) for n in (1, 2)]
    for program in workers:
        programs.append(program)
        program.start()

    with Client(url, token=CLIENT_TOKEN) as client:
        expected = submit(client, JOBS)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.02, 0.5))
        victim = chance.choice([server, server, *workers])
        victim.kill()
        if victim is server:
            assert trio.run(violations, tmp_path / "e2e.db") == []
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0, 0.5))
        victim.start()
        if victim is server:
            victim.said()

    wait_until_done(url, within_seconds=120)
    with Client(url, token=CLIENT_TOKEN) as client:
        results = {job_id: client.get(job_id).raw for job_id in expected}
        histories = {job_id: [it.raw for it in client.history(job_id)] for job_id in expected}
    for program in reversed(programs):
        assert program.end() == 0
    assert trio.run(violations, tmp_path / "e2e.db") == []
    assert {job_id: job["status"] for job_id, job in results.items()} == dict.fromkeys(
        expected, "finished"
    )
    assert {job_id: job["result"]["sum"] for job_id, job in results.items()} == expected
    assert_attempts_are_explained(tmp_path, histories)


def wait_until_done(url: str, within_seconds: float) -> None:
    give_up_at = time.monotonic() + within_seconds
    while True:
        try:
            with Client(url, token=CLIENT_TOKEN) as client:
                if not list(client.list(statuses=OPEN, most=1)):
                    return
        except OrchestratorUnavailable:
            pass
        assert time.monotonic() < give_up_at, "some jobs have not finished"
        time.sleep(0.2)


def assert_attempts_are_explained(
    folder: Path, histories: dict[str, list[dict[str, object]]]
) -> None:
    """No task ran more often than once, plus once for each row that says why."""
    runs = Counter(line.split()[0] for line in (folder / "attempts.txt").read_text().splitlines())
    rows = [row for history in histories.values() for row in history]
    reasons = Counter(row["task_id"] for row in rows if row["event_type"] in ENDED_WITHOUT_OUTCOME)
    tasks = {row["task_id"] for row in rows if row["event_type"] == "task_finished"}
    assert tasks == set(runs)
    unexplained = {key: n for key, n in runs.items() if n > 1 + reasons[key]}
    assert unexplained == {}
