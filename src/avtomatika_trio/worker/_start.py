"""From the settings and the signals of a process to a worker that runs in it."""

import logging
import os
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import attrs
import trio

from avtomatika_trio._config import (
    Secret,
    WorkerSettings,
    find_settings_file,
    load_worker_settings,
)
from avtomatika_trio._core.arguments import NAME, unknown_names
from avtomatika_trio._ending_signals import ending_signals
from avtomatika_trio._service_notice import ServiceNotice, Up
from avtomatika_trio.errors import AvtomatikaError, ConfigError
from avtomatika_trio.worker._spool import open_spool
from avtomatika_trio.worker._spool_folder import default_worker_id
from avtomatika_trio.worker._surroundings import Surroundings

logger = logging.getLogger(__name__)

#: Whether a module is just being imported for the worker in it, which is to run only then.
IMPORTED: ContextVar[bool] = ContextVar("avtomatika_imported_for_its_worker", default=False)


class Choices:
    """The settings of a worker: what its author chose, over what the sources say.

    Args:
        settings: In the place of environment and file.
    """

    def __init__(self, settings: WorkerSettings | None) -> None:
        self._settings = settings
        self._overrides: dict[str, Any] = {}

    def override(self, overrides: dict[str, Any]) -> None:
        """Choose single settings by their field's name.

        Raises:
            ConfigError: there is no setting of that name.
        """
        fields = [field.name for field in attrs.fields(WorkerSettings)]
        if unknown := [name for name in overrides if name not in fields]:
            raise ConfigError((unknown_names("Worker", unknown, fields),))
        self._overrides |= overrides

    def has(self, name: str) -> bool:
        """Whether the author has chosen the setting of that field."""
        return self._settings is not None or self._overrides.get(name) is not None

    def load(self) -> WorkerSettings:
        """What they come to.

        Raises:
            ConfigError: with every problem, of every source.
        """
        settings = self._read(
            environ=os.environ, file=find_settings_file(os.environ), overrides=self._overrides
        )
        settings.s3()  # half of what S3 needs is a mistake, now and not at the first file
        return settings

    def over(self, plain: Mapping[str, Any]) -> WorkerSettings:
        """What they come to over *plain*, by field, in the place of environment and file.

        Raises:
            ConfigError: with every problem.
        """
        return self._read(environ={}, file=None, overrides={**plain, **self._overrides})

    def _read(self, **sources: Any) -> WorkerSettings:
        if self._settings is None:
            return load_worker_settings(**sources, in_code=True).settings
        token = self._overrides.get("token")
        if isinstance(token, str):
            return attrs.evolve(self._settings, **{**self._overrides, "token": Secret(token)})
        return attrs.evolve(self._settings, **self._overrides)


def check_arguments(worker_type: object, *dicts: object) -> None:
    """Look whether the arguments of a `Worker` that are no settings have their types.

    Args:
        worker_type: Of the worker.
        dicts: `skill_type_limits`, `task_type_limits` and `skill_dependencies`.

    Raises:
        ConfigError: they have not.
    """
    names = ("skill_type_limits", "task_type_limits", "skill_dependencies")
    examples = ('{"gpu": 1}', '{"gpu": 1}', '{"render": ["sdxl", "vae"]}')
    faults = [
        f"{name}: it is no dict, but {given!r}; give one such as {example}"
        for name, given, example in zip(names, dicts, examples, strict=True)
        if given is not None and not isinstance(given, Mapping)
    ]
    if worker_type is not None and not isinstance(worker_type, str):
        faults.insert(0, f"worker_type: it is no text, but {worker_type!r}; give one such as 'gpu'")
    if faults:
        raise ConfigError(tuple(faults))


def checked_worker_id(worker_id: str) -> str:
    """*worker_id*, if it can be one.

    Raises:
        ConfigError: it cannot.
    """
    if NAME.fullmatch(worker_id) is None:
        problem = f"a worker id has 1 to 128 letters, digits, '_' or '-', not {worker_id!r}"
        raise ConfigError((problem,))
    return worker_id


async def worker_id_of(settings: WorkerSettings) -> str:
    """The one that is set, or the one that is kept beside the spool."""
    if settings.worker_id is not None:
        return settings.worker_id
    return await trio.to_thread.run_sync(partial(default_worker_id, settings.spool_dir))


def anchored(settings: WorkerSettings) -> WorkerSettings:
    """*settings* with the folders where they are now: a handler may change the working folder."""
    folders = ("spool_dir", "payload_dir", "files_dir", "blob_cache_dir")
    told = {name: getattr(settings, name) for name in folders}
    return attrs.evolve(
        settings, **{name: it.absolute() for name, it in told.items() if it is not None}
    )


def real_world(settings: WorkerSettings, worker_id: str) -> Surroundings:
    """Disk, network, clock and chance of this machine."""
    return Surroundings(
        open_spool=lambda instance: open_spool(
            settings.spool_dir,
            worker_id=worker_id,
            instance=instance,
            max_entries=settings.spool_max_entries,
        ),
        instance=uuid.uuid4().hex,
        noise=lambda: random.uniform(-1.0, 1.0),  # noqa: S311 - jitter
    )


def telling_up(
    notice: ServiceNotice,
    skills: Callable[[], Sequence[str]],
    announce: Callable[[], None] = lambda: None,
) -> Up:
    """The `task_status` for a worker with *skills*, of which *notice* tells that it is up.

    *announce* tells people first.
    """
    return Up(notice, lambda: f"works for skills {', '.join(skills())}", announce)


async def run_until_signalled(
    serve: Callable[[], Awaitable[None]], stop: Callable[[], None], notice: ServiceNotice
) -> None:
    """*serve*, and call *stop* at SIGTERM or SIGINT; a second signal ends the process.

    Who has started the process is told by *notice* that it is alive, and that it ends.

    Raises:
        ConfigError: it would run a second time when the module is imported.
        As *serve*.
    """
    if IMPORTED.get():
        problem = (
            "`worker.run()` is called while its module is imported for its worker;"
            ' write it below `if __name__ == "__main__":`'
        )
        raise ConfigError((problem,))
    failure: AvtomatikaError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, stop, notice)
        nursery.start_soon(notice.keep_alive)
        try:
            await serve()
        except AvtomatikaError as exc:  # as it is, not in the nursery's group
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _stop_on_signal(stop: Callable[[], None], notice: ServiceNotice) -> None:
    with ending_signals() as signals:
        async for _ in signals:
            logger.info("stopping; a second signal ends the worker at once")
            notice.stopping()
            stop()
