"""The worker as its author sees it."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, overload

import trio

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio._service_notice import service_notice
from avtomatika_trio._wire.messages import SkillInfo
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker._capacity import Capacity
from avtomatika_trio.worker._groups import CapacityChecker
from avtomatika_trio.worker._hot_skills import HotSkills
from avtomatika_trio.worker._middlewares import Middleware, Middlewares
from avtomatika_trio.worker._resources import check_prices
from avtomatika_trio.worker._service import run_service
from avtomatika_trio.worker._skill_blueprint import SkillBlueprint
from avtomatika_trio.worker._skills import (
    INJECTED,
    Handler,
    Skill,
    check_provided,
    checked_name,
    completed,
    create_skill,
)
from avtomatika_trio.worker._skills_folder import load_skills
from avtomatika_trio.worker._start import (
    Choices,
    anchored,
    check_arguments,
    checked_worker_id,
    real_world,
    run_until_signalled,
    telling_up,
    worker_id_of,
)
from avtomatika_trio.worker._surroundings import Surroundings
from avtomatika_trio.worker._talk import Talk
from avtomatika_trio.worker._telemetry import UsageChecker

H = TypeVar("H", bound=Handler)


class Worker(Talk):
    """Takes tasks from an orchestrator and runs handlers for them.

    What handlers call while they run is inherited from `Talk`.

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
        super().__init__()
        check_arguments(worker_type, skill_type_limits, task_type_limits, skill_dependencies)
        self.worker_type = worker_type
        self._choices = Choices(settings)
        self._choices.override(overrides)
        self._skills: dict[str, Skill] = {}
        self._middlewares = Middlewares()
        self._folders: set[Path] = set()
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
        input_schema: dict[str, Any] | None = None,
        output_schema: dict[str, Any] | None = None,
        events_schema: dict[str, Any] | None = None,
        output_statuses: list[str] | None = None,
    ) -> Callable[[H], H]: ...

    def skill(
        self,
        name: Any = None,
        *,
        type: str | None = None,  # noqa: A002 - what the protocol calls it
        description: str | None = None,
        version: str | None = None,
        input_schema: dict[str, Any] | None = None,
        output_schema: dict[str, Any] | None = None,
        events_schema: dict[str, Any] | None = None,
        output_statuses: list[str] | None = None,
    ) -> Any:
        """Register the handler of a skill: `@worker.skill`, `@worker.skill("resize")`.

        The handler is called with what its parameters name: `params` (a dict, or what it is
        annotated with: a dataclass, an attrs class, a msgspec.Struct, a TypedDict, a pydantic
        model), what middlewares provide, `task_id`,
        `job_id`, `attempt` (1 for the first), `idempotency_key` (the same for every attempt
        at a task), `send_progress`, `send_event`, `check_for_cancellation`, `task_files` (see
        `TaskFiles`), `priority`, `tracing_context`; `**kwargs` gets all of them.  An
        `async def` runs in the loop, a `def` in a thread.  What it may return and raise is
        told in `worker/_outcome.py`.  It may be called more than once for one task.

        Args:
            name: What tasks call it; the function's name if it is not given.
            type: What sort of skill it is; its name if it is not given.
            description: For people; the first paragraph of the docstring if not given.
            version: Of the skill; `__version__` of the handler's module if not given.
            input_schema: JSON Schema of its params; that of their annotation if not given.
            output_schema: JSON Schema of its data; that of the return annotation if not given.
            events_schema: JSON Schema of each event it sends, by its type.
            output_statuses: The statuses that it may return.

        Raises:
            ConfigError: the name is taken or malformed, or the handler has an annotation that
                cannot be used.  A parameter that nothing fills is an error at the start, as is
                a class that an annotation names and its module does not define.
        """
        if callable(name):
            return self.skill()(name)

        def register(function: H) -> H:
            chosen = getattr(function, "__name__", "") if name is None else name
            info = SkillInfo(
                name=checked_name(chosen, function, self._skills),
                type=type or chosen,
                description=description,
                version=version,
                input_schema=input_schema,
                output_schema=output_schema,
                events_schema=events_schema,
                output_statuses=output_statuses,
            )
            self._skills[info.name] = create_skill(info, function, self._middlewares, is_early=True)
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

    def include(self, blueprint: SkillBlueprint, *, prefix: str = "") -> None:
        """Register every skill of *blueprint*, its name behind *prefix*.

        Raises:
            ConfigError: as `skill`.
        """
        for function, named in blueprint:
            name = named["name"] or getattr(function, "__name__", "")
            # A prefix alone is no name: that there is none is told as without it.
            self.skill(**named | ({"name": f"{prefix}{name}"} if name else {}))(function)

    include_blueprint = include
    """The older name of `include`."""

    def load_skills(self, folder: Path) -> None:
        """Load every `*.py` of *folder*, which is what `WORKER_SKILLS_DIR` does at the start.

        The skills of each `SkillBlueprint` in them are registered, and `setup(worker)` of a
        file is called.  A folder is loaded once.

        Raises:
            ConfigError: there is none, or a file is broken; it is named, with the line.
        """
        if folder.resolve() not in self._folders:
            load_skills(folder, self)
            self._folders.add(folder.resolve())

    def add_middleware(self, function: Middleware, *, provides: Collection[str] = ()) -> None:
        """Do something around every handler: `async def function(context, call_next)`.

        The first that is added is the outermost.  What it returns is the outcome, so it returns
        what `await call_next()` returns, or something else in its place; what it raises counts
        as raised by the handler.  Faults in the params are raised by `call_next` as
        `InvalidInput`.

        Args:
            function: Called with a `TaskContext` and what calls the next one.
            provides: Names of parameters that it fills with `context.provide(name, value)`, also
                of skills that are registered already.

        Raises:
            ConfigError: it is no such function, or a name is taken.
        """
        self._middlewares.add(function, provides, INJECTED)

    @property
    def skills(self) -> tuple[str, ...]:
        """The names of what it can do."""
        return tuple(self._skills)

    def configure(self, **overrides: Any) -> WorkerSettings:
        """Change single settings, as for `Worker`, and tell what all of them now come to.

        Raises:
            ConfigError: with every problem, of every source.
        """
        self._choices.override(overrides)
        return self._choices.load()

    def settings_over(self, plain: Mapping[str, Any]) -> WorkerSettings:
        """What its author chose over *plain*, by field; no source is asked.  For tests."""
        return self._choices.over(plain)

    @property
    def wants_files(self) -> bool:
        """Whether one of its handlers asks for `task_files`.  For tests.

        Raises:
            ConfigError: as `serve`, of a class that is not there.
        """
        return any("task_files" in completed(it).wants for it in self._skills.values())

    def run(self) -> None:
        """Work until SIGTERM or SIGINT (Ctrl-C), then end gracefully.

        Running attempts get `shutdown_timeout_seconds`, and what is cut off is given back.  A
        second signal ends the process at once, as if it were not handled at all.  systemd is told
        of start, life and end (`Type=notify`).

        Raises:
            As `serve`.
        """
        notice = service_notice(os.environ)
        serve = partial(self.serve, task_status=telling_up(notice, lambda: self.skills))
        trio.run(run_until_signalled, serve, self.stop, notice)

    run_with_health_check = run
    """Older name of `run`, which always answers health checks."""

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `stop` is called; for a program that has a trio loop of its own.

        Args:
            task_status: Told when the worker is up, which it is also while it cannot reach
                the orchestrator.

        Raises:
            ConfigError: the settings are wrong, or there is no skill.
            SpoolError: the spool's folder cannot be used.
        """
        settings = anchored(self._choices.load())
        worker_id = await worker_id_of(settings)
        world = real_world(settings, worker_id)
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
        if settings.skills_dir is not None:
            self.load_skills(settings.skills_dir)
        if not self._skills:
            raise ConfigError(("the worker has no skill; register one with @worker.skill",))
        if self._stop is not None:
            raise ConfigError(("this worker is running already; make a second Worker",))
        checked_worker_id(worker_id)
        self._skills |= {name: completed(skill) for name, skill in self._skills.items()}
        check_provided(self._skills.values(), self._middlewares.provides)
        self._capacity.hot.check()
        in_code = self._choices.has("cost_per_skill")
        check_prices(settings.cost_per_skill or {}, self.skills, in_code=in_code)
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
                running=self._running,
                task_status=task_status,
            )
        finally:
            self._running.clear()
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
