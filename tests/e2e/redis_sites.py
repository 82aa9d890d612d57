"""Two orchestrators and their workers on one Redis, whatever becomes of that."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio
from tests.e2e.killing import CLIENT_TOKEN, OPEN, Program, lasting_port, notes_of, sleeper
from tests.e2e.reckoning import Account, Run, read_accounts, read_runs, reckon
from tests.e2e.sites import until

from avtomatika_trio.storage import open_storage
from avtomatika_trio.testing.invariants import find_violations

#: Shorter than the outages, which must not be held against any worker all the same.
LEASE_SECONDS = 6.0
BEAT_SECONDS = LEASE_SECONDS / 3

ENVIRON = {"LEASE_SECONDS": f"{LEASE_SECONDS:g}", "RATE_LIMITING_ENABLED": "no"}

#: From the end of an outage until everything has resumed by itself.
RESUME_SECONDS = 15.0

_START_SECONDS = 20.0
_LOOK_SECONDS = 0.1

#: What no log may have; a worker's `link down` is no traceback.
_ALARMS = ("Traceback", "this is a bug")


@attrs.define(eq=False)
class Pair:
    """The two orchestrators, their workers, and what was accepted."""

    folder: Path
    urls: Sequence[str]
    programs: list[Program]
    http: httpx.AsyncClient
    accepted: dict[str, int] = attrs.field(factory=dict)
    """The number of each job whose submission was acknowledged."""
    refusals: list[httpx.Response] = attrs.field(factory=list)
    number: int = 0

    @property
    def workers(self) -> list[Program]:
        return self.programs[2:]

    async def submit(self, at: int, *, seconds: float = 0.05, skill: str = "sleep") -> str | None:
        """Submit a job to one of them; None if that was refused."""
        self.number += 1
        data = {"skill": skill, "seconds": seconds, "n": self.number}
        number = self.number
        answer = await self.http.post(
            f"{self.urls[at]}/api/v1/jobs/sleep", json={"initial_data": data}
        )
        if answer.status_code != 202:
            self.refusals.append(answer)
            return None
        job_id: str = answer.json()["job_id"]
        self.accepted[job_id] = number
        return job_id

    async def keep_submitting(self, *, skill: str = "sleep") -> None:
        """A little all the time, to either of them in turn."""
        while True:
            for at in range(2):
                await self.submit(at, skill=skill)
                await trio.sleep(0.05)

    async def job(self, at: int, job_id: str) -> dict[str, Any] | None:
        """What one of them knows of a job; None if it does not know it."""
        answer = await self.http.get(f"{self.urls[at]}/api/v1/jobs/{job_id}")
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        told: dict[str, Any] = answer.json()
        return told

    async def readiness(self, at: int) -> tuple[int, str]:
        """Whether it is ready, and the reason if not."""
        answer = await self.http.get(f"{self.urls[at]}/readyz")
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
        return answer.status_code, answer.json().get("detail", "")

    async def see_unready(self, at: int, reason: str, within_seconds: float = 8.0) -> None:
        """Return once it says that it is not ready, for *reason*."""
        seen: set[tuple[int, str]] = set()
        with trio.move_on_after(within_seconds):
            while True:
                told = await self.readiness(at)
                seen.add(told)
                if told[0] == 503 and reason in told[1]:
                    return
                await trio.sleep(_LOOK_SECONDS)
        raise AssertionError(f"{reason!r} was not told, but {seen}")

    async def see_ready(self, within_seconds: float = RESUME_SECONDS) -> None:
        """Return once both are ready."""

        async def both() -> bool:
            return [(await self.readiness(at))[0] for at in range(2)] == [200, 200]

        with trio.fail_after(within_seconds):
            await until(both)

    async def see_running(self, count: int) -> None:
        """Return once workers have begun so many executions."""

        async def begun() -> bool:
            return len(self.runs()) >= count

        with trio.fail_after(_START_SECONDS):
            await until(begun)

    def runs(self) -> list[Run]:
        """Of all workers."""
        return [run for worker in self.workers for run in read_runs(notes_of(worker))]

    async def see_all_done(self, within_seconds: float = RESUME_SECONDS) -> None:
        """Return once no job is open."""

        async def done() -> bool:
            query = f"status={','.join(OPEN)}&limit=1"
            answer = await self.http.get(f"{self.urls[1]}/api/v1/jobs?{query}")
            return answer.status_code == 200 and answer.json()["jobs"] == []

        with trio.fail_after(within_seconds):
            await until(done)

    def check(self) -> None:
        """All processes run, and nothing in their logs is a crash."""
        for program in self.programs:
            program.check()
            log = program.log()
            assert not any(it in log for it in _ALARMS), log[-6000:]

    async def end(self) -> None:
        """End all of them as they should be ended."""
        for program in reversed(self.programs):
            assert await trio.to_thread.run_sync(program.end) == 0


@contextlib.asynccontextmanager
async def open_pair(
    folder: Path,
    storages: Sequence[str],
    *,
    workers: int = 2,
    targets: Sequence[int] = (0, 1),
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Pair]:
    """A pair that runs, of which nothing outlives the block.

    Args:
        folder: For all of their files.
        storages: The URL of the storage, as each of the two has it.
        workers: How many.
        targets: Which of the two the workers know.
        environ: Settings of the workers.
    """
    ports = [lasting_port() for _ in storages]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    programs: list[Program] = []
    for number, (storage, port) in enumerate(zip(storages, ports, strict=True), start=1):
        arguments = ["serve", "--storage", storage, "--port", str(port), "-o", "json"]
        arguments += ["--blueprints", "sleep_blueprints"]
        programs.append(Program(f"o{number}", arguments, folder, ENVIRON))
    known = [urls[at] for at in targets]
    programs += [
        sleeper(
            folder,
            f"w{number}",
            *(known if number % 2 else reversed(known)),
            skill="sleep",
            environ={"HEARTBEAT_INTERVAL": f"{BEAT_SECONDS:g}", **(environ or {})},
        )
        for number in range(1, workers + 1)
    ]
    async with httpx.AsyncClient(
        headers={"X-Client-Token": CLIENT_TOKEN}, trust_env=False, timeout=30
    ) as http:
        try:
            for program in programs:
                await trio.to_thread.run_sync(program.start)
            for program in programs[:2]:
                await trio.to_thread.run_sync(program.said)
            yield Pair(folder, urls, programs, http)
        finally:
            for program in programs:
                program.kill()


async def examine(pair: Pair, url: str) -> tuple[list[str], list[Account]]:
    """Once nothing runs: what is wrong in the storage, by its own account and by others'."""
    async with open_storage(url) as storage:
        violations = await find_violations(storage)
        accounts = await read_accounts(storage)
    problems = reckon(accounts, list(pair.accepted), pair.runs()).problems
    return [*violations, *problems], accounts
