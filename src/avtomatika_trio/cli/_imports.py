"""Importing what users have written: blueprints and workers."""

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from avtomatika_trio.errors import BlueprintError

if TYPE_CHECKING:
    from avtomatika_trio._core.blueprint import Blueprint
    from avtomatika_trio.orchestrator._registry import Blueprints


def reach_working_folder() -> None:
    """Let modules of the working directory be imported, as `python -m` does."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def load_checked(source: str) -> "tuple[Blueprints, list[str]]":
    """Import and check every blueprint of *source*, and go on where one is wrong.

    Args:
        source: A folder, a file or the name of a module.

    Returns:
        The blueprints that are usable, and the problems of the others: each names the file,
        and the state and line where there is one.
    """
    from avtomatika_trio.orchestrator._registry import Blueprints

    reach_working_folder()
    problems: list[str] = []
    usable: list[Blueprint] = []
    for part in _parts(source):
        for blueprint in _load(part, problems):
            if any(blueprint is other for other in usable):
                continue  # one file may import it from another
            try:
                Blueprints([*usable, blueprint])
            except BlueprintError as error:
                problems.append(f"{part}: {error}")
            else:
                usable.append(blueprint)
    if not usable and not problems:
        problems.append(f"{source}: there is no Blueprint in it; make one: bp = Blueprint(...)")
    return Blueprints(usable), problems


def _parts(source: str) -> list[str]:
    """The files of a folder; a file or a module is its own only part."""
    folder = Path(source)
    if not folder.is_dir():
        return [source]
    # Beside what is imported may be what those import.
    sys.path.append(str(folder.resolve()))
    files = sorted(file for file in folder.glob("*.py") if not file.name.startswith("_"))
    return [str(file) for file in files] or [source]


def _load(part: str, problems: list[str]) -> "list[Blueprint]":
    """The blueprints of one file or module; none, and a problem more, if it is unusable."""
    from avtomatika_trio.orchestrator._registry import load_blueprints

    if _is_path(part) and not Path(part).exists():
        problems.append(f"{part}: there is no such file or folder")
        return []
    if Path(part).is_file() and not part.endswith(".py"):
        problems.append(f"{part}: is no Python file; give a *.py file, a folder or a module")
        return []
    try:
        return load_blueprints(part)
    except BlueprintError as error:
        if error.blueprint == part:
            place = line_of(error.__cause__, part)
            problems += [f"{part}{place}: {problem}" for problem in error.problems]
        else:
            problems.append(f"{part}: {error}")
    return []


def _is_path(source: str) -> bool:
    return "/" in source or source.startswith(".") or source.endswith(".py")


def line_of(error: BaseException | None, source: str) -> str:
    """` line N`: where in *source*, a file or a module's name, *error* was raised; or nothing."""
    stem = source.removesuffix(".py").replace(".", "/")
    # Whole names: our own `_worker.py` is not the `worker.py` of somebody.
    files = tuple(f"/{it.lstrip('/')}" for it in (source, f"{stem}.py", f"{stem}/__init__.py"))
    place = ""
    for frame in traceback.extract_tb(error.__traceback__ if error is not None else None):
        if f"/{frame.filename}".endswith(files):
            place = f" line {frame.lineno}"
    return place
