"""`WORKER_SKILLS_DIR`: the files of a folder, and the skills in them."""

import importlib.util
import inspect
import logging
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker._skill_blueprint import SkillBlueprint
from avtomatika_trio.worker._start import IMPORTED
from avtomatika_trio.worker._talk import Talk

if TYPE_CHECKING:
    from avtomatika_trio.worker._worker import Worker

logger = logging.getLogger(__name__)

_PACKAGE = "avtomatika_skills"


def load_skills(folder: Path, worker: "Worker") -> None:
    """Load every file of *folder* and give its skills to *worker*.

    Files are loaded in the order of their paths, also those of folders in it; what begins
    with `_` or `.` is left out.  They can import each other: the folder is on `sys.path`.

    Raises:
        ConfigError: there is no such folder or no file in it, or the files bring nothing, or one
            cannot be loaded; it is named, with the line.
    """
    if not folder.is_dir():
        raise ConfigError((f"WORKER_SKILLS_DIR: there is no folder {str(folder)!r}; make it",))
    files = list(_files(folder))
    if not files:
        problem = (
            f"WORKER_SKILLS_DIR: there is no *.py file in {str(folder)!r};"
            " those whose names, or folders, begin with '_' or '.' do not count"
        )
        raise ConfigError((problem,))
    if str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))
    before, has_setup = worker.skills, False
    included: list[SkillBlueprint] = []
    for file in files:
        module = _load(file, folder, worker)
        has_setup = has_setup or callable(getattr(module, "setup", None))
        for blueprint in _blueprints_of(module):
            # One file may import it from another.
            if not any(blueprint is other for other in included):
                included.append(blueprint)
                _include(blueprint, file, worker)
    if worker.skills == before and not has_setup:
        problem = (
            f"WORKER_SKILLS_DIR: the files of {str(folder)!r} bring no skill; each has a"
            " SkillBlueprint with skills, or a function setup(worker)"
        )
        raise ConfigError((problem,))


def _include(blueprint: SkillBlueprint, file: Path, worker: "Worker") -> None:
    try:
        worker.include(blueprint)
    except ConfigError as exc:
        raise _broken(file, exc) from exc


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).parts
        if file.is_file() and not any(part.startswith(("_", ".")) for part in parts):
            yield file


def _load(file: Path, folder: Path, worker: "Worker") -> ModuleType:
    """Run *file*, and its `setup`."""
    name = ".".join((_PACKAGE, *file.relative_to(folder).with_suffix("").parts))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # the name ends with .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    before = IMPORTED.set(True)
    try:
        spec.loader.exec_module(module)
        _refuse_others(module, worker)
        _set_up(module, worker)
    except BaseException as exc:
        sys.modules.pop(name, None)
        if isinstance(exc, Exception | SystemExit):  # the border to foreign code: name the file
            raise _broken(file, exc) from exc
        raise
    finally:
        IMPORTED.reset(before)
    return module


def _blueprints_of(module: ModuleType) -> list[SkillBlueprint]:
    found = {id(it): it for it in vars(module).values() if isinstance(it, SkillBlueprint)}
    return list(found.values())


def _refuse_others(module: ModuleType, worker: "Worker") -> None:
    """Raise `ConfigError` if there is another worker, whose skills would be lost."""
    for name, it in vars(module).items():
        # Every Worker is a Talk, also beside one of a class of the author's own.
        if isinstance(it, Talk) and it is not worker and cast("Worker", it).skills:
            problem = (
                f"its {name!r} is a Worker other than the one that loads it, which would not get"
                " its skills; put them into a SkillBlueprint, or register them in setup(worker)"
            )
            raise ConfigError((problem,))


def _set_up(module: ModuleType, worker: "Worker") -> None:
    setup = getattr(module, "setup", None)
    if not callable(setup):
        return
    if inspect.iscoroutinefunction(setup):
        raise ConfigError(("setup(worker) is called before the loop runs; write it as `def`",))
    setup(worker)


def _broken(file: Path, exc: BaseException) -> ConfigError:
    logger.debug("%s cannot be loaded", file, exc_info=exc)
    line: int | None = None
    names = {str(file), str(file.absolute())}  # Python makes it absolute
    if isinstance(exc, SyntaxError) and exc.filename in names:
        line, text = exc.lineno, f"{type(exc).__name__}: {exc.msg}"
    else:
        for frame in traceback.extract_tb(exc.__traceback__):
            if frame.filename in names:
                line = frame.lineno
        text = str(exc) if isinstance(exc, ConfigError) else f"{type(exc).__name__}: {exc}"
    if isinstance(exc, ModuleNotFoundError) and exc.name == _PACKAGE:
        text = "an import that begins with '.'; the folder is on sys.path, so write it without"
    place = str(file) if line is None else f"{file}:{line}"
    return ConfigError((f"{place}: cannot be loaded: {text}",))
