"""What stands under the members of classes of ours, as texts for people."""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache


def member_texts(cls: type) -> Mapping[str, str]:
    """The text under each member of *cls* and of the classes of its module that it extends.

    None where the source is not there.
    """
    return _texts_of_module(cls.__module__).get(cls.__name__, {})


@cache
def _texts_of_module(name: str) -> Mapping[str, Mapping[str, str]]:
    """By class and member; of modules of this package."""
    if not name.startswith("avtomatika_trio."):
        return {}
    try:
        source = inspect.getsource(sys.modules[name])
    except (OSError, TypeError):  # it was installed without sources
        return {}
    found: dict[str, dict[str, str]] = {}
    for cls in ast.parse(source).body:
        if isinstance(cls, ast.ClassDef):
            # A `TypedDict` does not know what it extends before Python 3.12.
            extended = [it.id for it in cls.bases if isinstance(it, ast.Name)]
            inherited = {k: v for name in extended for k, v in found.get(name, {}).items()}
            found[cls.name] = inherited | dict(_texts(cls))
    return found


def _texts(cls: ast.ClassDef) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for member, below in zip(cls.body, cls.body[1:], strict=False):
        if not isinstance(member, ast.AnnAssign) or not isinstance(member.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found.append((member.target.id, " ".join(str(below.value.value).split())))
    return found
