"""The blueprints that an orchestrator knows, by name and by endpoint."""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from avtomatika_trio._core.blueprint import Blueprint
from avtomatika_trio.errors import BlueprintError

#: What the paths of clients begin with; the common one first: it is the one that answers name.
PREFIXES = ("/api/v1", "/api")


class Blueprints:
    """Checked blueprints.

    Args:
        blueprints: In any order; each is checked.

    Raises:
        BlueprintError: one of them is not usable, or two want the same name or endpoint.
    """

    def __init__(self, blueprints: Iterable[Blueprint] = ()) -> None:
        self._by_name: dict[str, Blueprint] = {}
        self._by_endpoint: dict[str, Blueprint] = {}
        for blueprint in blueprints:
            self._add(blueprint)

    def _add(self, blueprint: Blueprint) -> None:
        blueprint.check()
        if blueprint.name in self._by_name:
            raise BlueprintError(blueprint.name, ("there are two blueprints of this name",))
        self._by_name[blueprint.name] = blueprint
        for endpoint in endpoints_of(blueprint):
            other = self._by_endpoint.setdefault(endpoint, blueprint)
            if other is not blueprint:
                problem = f"its endpoint {endpoint!r} is also that of {other.name!r}"
                raise BlueprintError(blueprint.name, (problem,))

    def __iter__(self) -> Iterator[Blueprint]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> Blueprint | None:
        """The blueprint called *name*."""
        return self._by_name.get(name)

    def at(self, endpoint: str) -> Blueprint | None:
        """The blueprint whose jobs are posted to *endpoint*, such as `/jobs/resize`."""
        return self._by_endpoint.get(endpoint)


def endpoints_of(blueprint: Blueprint) -> tuple[str, ...]:
    """Where jobs of *blueprint* are posted, below `/api/v1` and `/api`."""
    by_name = f"/jobs/{blueprint.name}"
    if blueprint.api_endpoint is None or blueprint.api_endpoint == by_name:
        return (by_name,)
    return (blueprint.api_endpoint, by_name)


def prefixes_of(blueprints: Iterable[Blueprint]) -> list[str]:
    """What paths of clients may begin with: `PREFIXES`, and the versions of *blueprints*."""
    versions = [f"/api/{b.api_version}" for b in blueprints if b.api_version is not None]
    return list(dict.fromkeys([*PREFIXES, *versions]))


def load_blueprints(source: str) -> list[Blueprint]:
    """Import every blueprint of *source*.

    Args:
        source: A folder (each `*.py` in it that does not begin with an underscore is
            imported), a file, or the dotted name of a module.

    Raises:
        BlueprintError: nothing is there, or a file could not be imported; it is named.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(f for f in path.glob("*.py") if not f.name.startswith("_"))
        if not files:
            raise BlueprintError(source, ("there is no *.py file in this folder",))
        found = [b for file in files for b in _blueprints_in(_import_file(file))]
        return list({id(blueprint): blueprint for blueprint in found}.values())
    if path.suffix == ".py" and path.is_file():
        return _blueprints_in(_import_file(path))
    return _blueprints_in(_import_module(source))


def _blueprints_in(module: ModuleType) -> list[Blueprint]:
    found: dict[int, Blueprint] = {}
    for value in vars(module).values():
        if isinstance(value, Blueprint):
            found[id(value)] = value
    return list(found.values())


def _import_file(file: Path) -> ModuleType:
    name = f"avtomatika_blueprints.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BlueprintError(str(file), ("this is not a Python file",))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BlueprintError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as exc:  # the border to foreign code: name the file
        del sys.modules[name]
        problem = f"cannot be imported: {type(exc).__name__}: {exc}"
        raise BlueprintError(str(file), (problem,)) from exc
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BlueprintError:
        raise
    except ModuleNotFoundError as exc:
        problem = (
            f"is neither a folder, a file nor a module that can be imported ({exc});"
            " `avtomatika init` writes a folder of one to begin with"
        )
        raise BlueprintError(name, (problem,)) from exc
    except (Exception, SystemExit) as exc:  # the border to foreign code: name the module
        problem = f"cannot be imported: {type(exc).__name__}: {exc}"
        raise BlueprintError(name, (problem,)) from exc
