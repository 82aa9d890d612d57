"""The worker as its author sees it."""

import logging
import os
import random
import signal
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, overload

import attrs
import trio

from avtomatika_trio._config import (
    Secret,
    WorkerSettings,
    find_settings_file,
    load_worker_settings,
)
from avtomatika_trio._core.arguments import NAME, unknown_names
from avtomatika_trio._wire.messages import SkillInfo
from avtomatika_trio.errors import AvtomatikaError, ConfigError
from avtomatika_trio.worker._capacity import Capacity
from avtomatika_trio.worker._groups import CapacityChecker
from avtomatika_trio.worker._hot_skills import HotSkills
from avtomatika_trio.worker._service import run_service
from avtomatika_trio.worker._skills import Handler, Skill, create_skill
from avtomatika_trio.worker._spool import open_spool
from avtomatika_trio.worker._spool_folder import default_worker_id
from avtomatika_trio.worker._surroundings import Surroundings
from avtomatika_trio.worker._telemetry import UsageChecker

H = TypeVar("H", bound=Handler)

logger = logging.getLogger(__name__)

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Worker:
    """Takes tasks from an orchestrator and runs handlers for them.

        worker = Worker()

        @worker.skill("resize")
        async def resize(params, send_progress):
            ...
            return {"width": 640}

        worker.run()

    Args:
        worker_type: What sort of worker this is, for people; it wins over `WORKER_TYPE`.
        settings: Used as they are; without them, settings are read when the worker starts,
            from the environment and `avtomatika.toml`.
        skill_type_limits: How many attempts at a time the skills of a type may have, together:
            `{"gpu": 1}`.  Older name: `task_type_limits`.
        capacity_checker: Asked before work is asked for, with the name of each skill; one that
            it answers False for, or raises for, is not offered.  It is called in the loop: quick.
        skill_dependencies: The resources of skills, such as models: a skill is hot while all of
            its own are marked with `add_to_hot_skills`.
        overrides: Single settings by their field's name, such as `max_concurrent_tasks=4`;
            they win over everything else.

    Raises:
        ConfigError: there is no setting of that name.
    """

    def __init__(
        self,
        worker_type: str | None = None,
        *,
        settings: WorkerSettings | None = None,
        skill_type_limits: Mapping[str, int] | None = None,
        task_type_limits: Mapping[str, int] | None = None,
        capacity_checker: CapacityChecker | None = None,
        skill_dependencies: Mapping[str, Sequence[str]] | None = None,
        **overrides: Any,
    ) -> None:
        self.worker_type = worker_type
        self._settings = settings
        self._overrides: dict[str, Any] = {}
        self._override(overrides)
        self._skills: dict[str, Skill] = {}
        self._capacity = Capacity(
            limits={**(task_type_limits or {}), **(skill_type_limits or {})},
            checker=capacity_checker,
            hot=HotSkills(skill_dependencies or {}, lambda: self.skills),
        )
        self._stop: trio.Event | None = None
        self._stop_asked = False

    @overload
    def skill(self, name: H) -> H: ...

    @overload
    def skill(
        self,
        name: str | None = None,
        *,
        type: str | None = None,
        description: str | None = None,
        version: str | None = None,
    ) -> Callable[[H], H]: ...

    def skill(
        self,
        name: Any = None,
        *,
        type: str | None = None,  # noqa: A002 - what the protocol calls it
        description: str | None = None,
        version: str | None = None,
    ) -> Any:
        """Register the handler of a skill: `@worker.skill`, `@worker.skill("resize")`.

        The handler is called with what its parameters name: `params` (a dict), `task_id`,
        `job_id`, `attempt` (1 for the first), `idempotency_key` (the same for every attempt
        at a task), `send_progress`, `task_files` (see `TaskFiles`), `priority`,
        `tracing_context`; `**kwargs` gets all of them.  An `async def` runs in the loop, a
        `def` in a thread.  What it may return and raise is told in `worker/_outcome.py`.  It
        may be called more than once for one task.

        Args:
            name: What tasks call it; the function's name if it is not given.
            type: What sort of skill it is; its name if it is not given.
            description: For people.
            version: Of the skill.

        Raises:
            ConfigError: the name is taken or malformed, or the handler has a parameter that
                nothing can fill.
        """
        if callable(name):
            return self.skill()(name)

        def register(function: H) -> H:
            chosen = getattr(function, "__name__", "") if name is None else name
            info = SkillInfo(
                name=self._checked(chosen),
                type=type or chosen,
                description=description,
                version=version,
            )
            self._skills[info.name] = create_skill(info, function)
            return function

        return register

    @overload
    def task(self, name: H) -> H: ...

    @overload
    def task(
        self,
        name: str | None = None,
        *,
        task_type: str | None = None,
        description: str | None = None,
        version: str | None = None,
    ) -> Callable[[H], H]: ...

    def task(self, name: Any = None, *, task_type: str | None = None, **named: Any) -> Any:
        """The older name of `skill`; *task_type* is its `type`."""
        return self.skill(name, type=task_type, **named)

    @property
    def skills(self) -> tuple[str, ...]:
        """The names of what it can do."""
        return tuple(self._skills)

    def configure(self, **overrides: Any) -> WorkerSettings:
        """Change single settings, as for `Worker`, and tell what all of them now come to.

        Raises:
            ConfigError: with every problem, of every source.
        """
        self._override(overrides)
        return self._load_settings()

    def run(self) -> None:
        """Work until SIGTERM or SIGINT (Ctrl-C), then end gracefully.

        Running attempts get `shutdown_timeout_seconds`, and what is cut off is given back.  A
        second signal ends the process at once, as if it were not handled at all.

        Raises:
            As `serve`.
        """
        trio.run(self._run)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop` is called; for a program that has a trio loop of its own.

        Args:
            task_status: Told when the worker is up, which it is also while it cannot reach
                the orchestrator.

        Raises:
            ConfigError: the settings are wrong, or there is no skill.
            SpoolError: the spool's folder cannot be used.
        """
        settings = self._load_settings()
        worker_id = settings.worker_id
        if worker_id is None:
            read = partial(default_worker_id, settings.spool_dir)
            worker_id = await trio.to_thread.run_sync(read)
        world = Surroundings(
            open_spool=lambda instance: open_spool(
                settings.spool_dir,
                worker_id=worker_id,
                instance=instance,
                max_entries=settings.spool_max_entries,
            ),
            instance=uuid.uuid4().hex,
            noise=lambda: random.uniform(-1.0, 1.0),  # noqa: S311 - jitter
        )
        await self.serve_in(world, settings, worker_id, task_status=task_status)

    async def serve_in(
        self,
        world: Surroundings,
        settings: WorkerSettings,
        worker_id: str,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """As `serve`, in a world of one's own; for clusters in one process and for tests.

        Raises:
            As `serve`.
        """
        if not self._skills:
            raise ConfigError(("the worker has no skill; register one with @worker.skill",))
        if self._stop is not None:
            raise ConfigError(("this worker is running already; make a second Worker",))
        self._checked_id(worker_id)
        self._capacity.hot.check()
        self._capacity.groups(self._skills)  # a limit that makes no sense is a mistake now
        self._stop = trio.Event()
        if self._stop_asked:
            self._stop.set()
        try:
            await run_service(
                worker_id=worker_id,
                worker_type=self.worker_type or settings.worker_type or "generic",
                settings=settings,
                skills=self._skills,
                world=world,
                capacity=self._capacity,
                stop=self._stop,
                task_status=task_status,
            )
        finally:
            self._stop = None
            self._stop_asked = False

    def add_to_hot_skills(self, name: str) -> None:
        """Mark a skill, or a resource of `skill_dependencies`, as loaded.

        Orchestrators are told soon.  Any thread may call it, also before the worker runs.

        Raises:
            ConfigError: there is no such skill or resource.
        """
        self._capacity.hot.add(name)

    def remove_from_hot_skills(self, name: str) -> None:
        """Mark it as not loaded any more; see `add_to_hot_skills`.

        Raises:
            ConfigError: there is no such skill or resource.
        """
        self._capacity.hot.remove(name)

    def set_usage_checker(self, checker: UsageChecker) -> None:
        """Have *checker* measure how busy the machine is, in the place of psutil.

        Args:
            checker: Returns a dict such as `{"cpu_load_percent": 12.5, "ram_used_gb": 3.1}`, or
                None.  It is called in the threads of heartbeats, and has to be quick.
        """
        self._capacity.usage.checker = checker

    add_to_hot_cache = add_to_hot_skills
    """Older name of `add_to_hot_skills`."""
    remove_from_hot_cache = remove_from_hot_skills
    """Older name of `remove_from_hot_skills`."""

    def stop(self) -> None:
        """Ask for a graceful end; to be called in the loop.  Again or too early is fine."""
        self._stop_asked = True
        if self._stop is not None:
            self._stop.set()

    async def _run(self) -> None:
        failure: AvtomatikaError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_on_signal)
            try:
                await self.serve()
            except AvtomatikaError as exc:  # as it is, not in the nursery's group
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _stop_on_signal(self) -> None:
        with trio.open_signal_receiver(*_STOP_SIGNALS) as signals:
            async for _ in signals:
                break
        logger.info("stopping; a second signal ends the worker at once")
        # From here on a signal does what it does to a program that handles none.
        handlers = {number: signal.signal(number, signal.SIG_DFL) for number in _STOP_SIGNALS}
        try:
            self.stop()
            await trio.sleep_forever()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _override(self, overrides: dict[str, Any]) -> None:
        fields = [field.name for field in attrs.fields(WorkerSettings)]
        if unknown := [name for name in overrides if name not in fields]:
            raise ConfigError((unknown_names("Worker", unknown, fields),))
        self._overrides |= overrides

    def _load_settings(self) -> WorkerSettings:
        settings = self._from_sources()
        settings.s3()  # half of what S3 needs is a mistake, now and not at the first file
        return settings

    def _from_sources(self) -> WorkerSettings:
        if self._settings is None:
            return load_worker_settings(
                environ=os.environ,
                file=find_settings_file(os.environ),
                overrides=self._overrides,
            ).settings
        token = self._overrides.get("token")
        if isinstance(token, str):
            return attrs.evolve(self._settings, **{**self._overrides, "token": Secret(token)})
        return attrs.evolve(self._settings, **self._overrides)

    def _checked(self, name: Any) -> str:
        if not isinstance(name, str) or NAME.fullmatch(name) is None:
            problem = (
                f"a skill's name has 1 to 128 letters, digits, '_', '.' or '-', not {name!r};"
                ' give one: @worker.skill("resize")'
            )
            raise ConfigError((problem,))
        if name in self._skills:
            raise ConfigError((f"the skill {name!r} is registered twice; rename one of them",))
        return name

    def _checked_id(self, worker_id: str) -> None:
        if NAME.fullmatch(worker_id) is None:
            problem = f"a worker id has 1 to 128 letters, digits, '_' or '-', not {worker_id!r}"
            raise ConfigError((problem,))
