"""A cluster for tests of blueprints and workers."""

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio._core.arguments import did_you_mean, unknown_names
from avtomatika_trio._core.job import Job as StoredJob
from avtomatika_trio.client import AsyncClient, Job
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.testing._cluster import Cluster
from avtomatika_trio.testing._ended_job import EndedJob, ended
from avtomatika_trio.testing._fakes import LOST, as_worker
from avtomatika_trio.testing._kit_files import KitFiles
from avtomatika_trio.testing._machines import WorkerMachine
from avtomatika_trio.testing._open_job import not_ended
from avtomatika_trio.worker import SkillBlueprint, Worker
from avtomatika_trio.worker._skills import Skill

#: How long a test waits for a job, in virtual time, if it does not say.  A second or two of
#: real time: a job that is stuck must not keep the tests from ending.
DAY_SECONDS = 86_400.0

#: Longer than usual, since each poll costs real time and virtual time costs none; two thirds of
#: a lease at most, as everywhere.
POLL_SECONDS = 600.0

#: What workers have who do not say otherwise; beats are rare for the same reason.
_PLAIN = {"heartbeat_interval_seconds": 60.0, "poll_timeout_seconds": POLL_SECONDS}

#: What is the test's and not its workers' choice: where they connect, and as whom, and where
#: files are.
_OURS = (
    "worker_id",
    "orchestrators",
    "mode",
    "token",
    "secret_key",
    "use_access_tokens",
    "blob_cache_dir",
)
_OURS_BY_PREFIX = ("tls_", "health_", "s3_", "aws_")


@attrs.define(eq=False)
class Seat:
    """A worker's seat: when the process in it dies, another one takes it."""

    worker: Worker
    settings: Mapping[str, Any]
    """What wins over its own."""
    machine: WorkerMachine | None = None

    def all_settings(self, files: KitFiles) -> dict[str, Any]:
        """By field; those of `_OURS` are left out, unless they were given here.

        Args:
            files: Where they are.

        Raises:
            ConfigError: the worker's own cannot be used.
        """
        chosen = attrs.asdict(self.worker.settings_over(_PLAIN), recurse=False)
        theirs = {
            name: value
            for name, value in chosen.items()
            if name not in _OURS and not name.startswith(_OURS_BY_PREFIX)
        }
        # Skills of a folder are not known yet.
        wants_files = self.worker.wants_files or chosen["skills_dir"] is not None
        places = files.settings(wants_files=wants_files, allowed=chosen["s3_allowed_buckets"])
        return {**theirs, **places, **self.settings}


def _needs_thread(skill: Skill) -> bool:
    """Whether its handler is called as elsewhere: methods of `task_files` wait for the loop."""
    return not skill.is_async and "task_files" in skill.wants


@attrs.define(eq=False, kw_only=True)
class Rig:
    """A cluster for one test; `cluster` opens it.

    Times are in seconds, and virtual.
    """

    client: AsyncClient
    """A client of its orchestrator, for what this class has no method for."""
    _cluster: Cluster
    _guard: trio.CancelScope
    _files: KitFiles
    _blueprints: tuple[str, ...]
    _vacant: trio.MemorySendChannel[Seat]
    _seats: list[Seat] = attrs.field(factory=list)
    _hired: int = 0
    _doomed: list[str] = attrs.field(factory=list)
    _calls: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)

    async def run(
        self,
        initial_data: dict[str, Any] | None = None,
        blueprint: str | None = None,
        *,
        timeout_seconds: float = DAY_SECONDS,
        **named: Any,
    ) -> EndedJob:
        """Submit a job and wait for its end, whatever that is.

        Args:
            initial_data: What the handlers get; JSON.
            blueprint: Its name; not needed if there is only one.
            timeout_seconds: How long it may take.
            named: As of `AsyncClient.submit`: `labels`, `max_transitions`...

        Raises:
            TimeoutError: it has not ended in time; the message has its history.
        """
        job_id = await self.submit(initial_data, blueprint, **named)
        return await self.wait(job_id, timeout_seconds=timeout_seconds)

    async def submit(
        self,
        initial_data: dict[str, Any] | None = None,
        blueprint: str | None = None,
        **named: Any,
    ) -> str:
        """Submit a job as `run`; returns its id.

        Raises:
            ValueError: there are several blueprints, and none was named.
            InvalidMessage: *initial_data* is not JSON.
            Refused: there is no blueprint of that name.
        """
        if blueprint is None and len(self._blueprints) != 1:
            raise ValueError(f"name one of the blueprints: {', '.join(self._blueprints)}")
        name = blueprint or self._blueprints[0]
        return await self.client.submit(name, initial_data, **named)

    async def wait(self, job_id: str, *, timeout_seconds: float = DAY_SECONDS) -> EndedJob:
        """Wait for the end of a job.

        Raises:
            LookupError: there is no such job.
            TimeoutError: it has not ended in time; the message has its history.
        """
        await self._cluster.job(job_id)
        self._put_off(timeout_seconds)
        stored: StoredJob | None = None
        with trio.move_on_after(timeout_seconds):
            [stored] = await self._cluster.wait_until_final([job_id])
        if not self._cluster.orchestrator.is_up:
            raise TimeoutError(
                f"job {job_id} cannot be looked at: the orchestrator is down;"
                " start_orchestrator starts it"
            )
        history = await self.client.history(job_id)
        tasks = await self.client.tasks(job_id)
        job = await self.client.get(job_id)
        if stored is None:
            raise TimeoutError(
                not_ended(job, tasks, history, skills=self._skills(), seconds=timeout_seconds)
            )
        files = await self._files.of_job(job_id)
        return ended(job, history, tasks, stored.state_history, files)

    async def job(self, job_id: str) -> Job:
        """A job as it is now."""
        return await self.client.get(job_id)

    async def cancel(self, job_id: str, reason: str | None = None) -> Job:
        """Cancel a job; returns it as it is then."""
        return await self.client.cancel(job_id, reason)

    async def put_file(self, uri: str, content: bytes | str) -> str:
        """Keep a file that params may name; returns *uri*.

        Args:
            uri: Such as `s3://films/a.mov`.  Workers may use the bucket `avtomatika-payloads`,
                those of the *files* of `cluster`, and what their `s3_allowed_buckets` say.
            content: A text is kept as UTF-8.

        Raises:
            ValueError: *uri* is not that of a file.
        """
        return await self._files.put(uri, content)

    async def read_file(self, uri: str) -> bytes:
        """The content of any file, by its URI; `EndedJob.files` has those of a job.

        Raises:
            BlobMissing: there is none.
            ValueError: *uri* is not that of a file.
        """
        return await self._files.read(uri)

    def calls(self, skill: str) -> list[dict[str, Any]]:
        """The params of each call of a skill's handler, in order; each attempt is one.

        Raises:
            LookupError: no worker has that skill.
        """
        self._check_skill(skill)
        return [params for name, params in self._calls if name == skill]

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._put_off(seconds)
        await trio.sleep(seconds)

    def _skills(self) -> set[str]:
        """What some worker can do."""
        return {skill for seat in self._seats for skill in seat.worker.skills}

    def _check_skill(self, name: str) -> None:
        if name not in (skills := self._skills()):
            hint = did_you_mean(name, sorted(skills))
            raise LookupError(f"no worker has the skill {name!r}; {hint}")

    def _put_off(self, seconds: float) -> None:
        """Let so much time not count as waited in vain."""
        self._guard.deadline += seconds

    async def add_worker(self, worker: Worker | SkillBlueprint, **settings: Any) -> None:
        """Start one more worker.

        Args:
            worker: What it can do.
            settings: Fields of `WorkerSettings`, such as `max_concurrent_tasks=1`; they win over
                its own.

        Raises:
            ConfigError: there is no such setting, or the worker has no skill.
        """
        fields = [field.name for field in attrs.fields(WorkerSettings)]
        if unknown := [name for name in settings if name not in fields]:
            raise ConfigError((unknown_names("add_worker", unknown, fields),))
        await self.fill(Seat(as_worker(worker), settings))

    async def lose_worker(self, *, during: str | None = None) -> None:
        """Let a worker die without a word; another one takes its place.

        What it was doing is lost when its leases end, and tried again.

        Args:
            during: When it begins its next attempt at this skill; None = at once, the one that
                was started first.

        Raises:
            LookupError: there is no worker, or none with that skill.
        """
        if during is not None:
            self._check_skill(during)
            self._doomed.append(during)
            return
        if not self._seats:
            raise LookupError("there is no worker that could be lost; give skills or workers")
        seat = self._seats[0]
        assert seat.machine is not None
        await seat.machine.kill()
        await self.fill(seat)

    async def stop_orchestrator(self) -> None:
        """Take the orchestrator down, as SIGTERM does; what it stores is kept."""
        await self._cluster.orchestrator.stop()

    async def kill_orchestrator(self) -> None:
        """Take the orchestrator down, as `kill -9` does."""
        await self._cluster.orchestrator.kill()

    async def start_orchestrator(self) -> None:
        """Start it again."""
        await self._cluster.orchestrator.start()

    async def fill(self, seat: Seat) -> None:
        """Start a process in a seat; for `cluster`."""
        if seat not in self._seats:
            self._seats.append(seat)
        self._hired += 1
        machine = self._cluster.add_worker(
            seat.worker, f"worker-{self._hired}", **seat.all_settings(self._files)
        )
        seat.machine = machine
        # Not those of everybody: what handlers do with files takes more of them meanwhile.
        threads = trio.CapacityLimiter(math.inf)

        async def call(skill: Skill, params: dict[str, Any], handler: Callable[[], Any]) -> Any:
            self._calls.append((skill.name, copy.deepcopy(params)))
            if skill.name in self._doomed:
                self._doomed.remove(skill.name)
                returned: Any = LOST
            elif _needs_thread(skill):
                returned = await trio.to_thread.run_sync(
                    handler, limiter=threads, abandon_on_cancel=True
                )
            else:
                returned = handler()
                while inspect.isawaitable(returned):
                    returned = await returned
            if returned is LOST:
                machine.die()
                self._vacant.send_nowait(seat)
                await trio.sleep_forever()
            return returned

        machine.call_handler = call
        await machine.start()

    async def keep_filled(self, vacant: trio.MemoryReceiveChannel[Seat]) -> None:
        """Start another process wherever one was lost, until cancelled; for `cluster`."""
        async for seat in vacant:
            assert seat.machine is not None
            await seat.machine.kill()
            await self.fill(seat)

    async def violations(self) -> list[str]:
        """Kill everything, and tell what is wrong in the storage; for `cluster`."""
        await self._cluster.kill_all()
        failed = {
            f"{seen.call.method} {seen.call.path} was answered 500; the log has the traceback"
            for seen in self._cluster.network.seen
            if seen.outcome == 500
        }
        return [*await self._cluster.violations(), *sorted(failed)]
