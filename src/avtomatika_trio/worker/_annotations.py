"""The annotations of a handler, with the classes that its texts name.

A class may be written below the handler that names it, so what is not there while its module is
still being imported is looked for again when the worker starts.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

#: What pydantic says of a model that names a class which is not there yet.
_UNDEFINED_MODEL = "class-not-fully-defined"


class Annotations:
    """Those of *function*.

    Args:
        function: A function or method; not wrapped.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._globals: Mapping[str, Any] = getattr(function, "__globals__", {})
        self._locals = _names_around(function)
        self.may_come = _is_being_imported(self._globals.get("__name__"))
        """Whether names that are not there now may be there later."""

    def resolve(self, annotation: Any) -> Any:
        """*annotation* with classes in the place of their names.

        Raises:
            NameError: a name is not there.
            Exception: whatever else a text comes to.
        """
        holder = types.SimpleNamespace(__annotations__={"it": annotation})
        hints = typing.get_type_hints(
            holder, globalns=dict(self._globals), localns=self._locals, include_extras=True
        )
        return hints["it"]


def is_missing_name(fault: BaseException | None) -> bool:
    """Whether *fault*, of whoever looked at a class, is that some name is not there."""
    return isinstance(fault, NameError) or getattr(fault, "code", None) == _UNDEFINED_MODEL


def _names_around(function: Callable[..., Any]) -> dict[str, Any]:
    """What the functions that *function* is written in know by name, while they still run."""
    around, _, _ = getattr(function, "__qualname__", "").rpartition(".<locals>.")
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    names: dict[str, Any] = {}
    frame = inspect.currentframe()
    while around and frame is not None:
        code = frame.f_code
        if code.co_filename == file and around == code.co_qualname:
            names = {**frame.f_locals, **names}
            around, _, _ = around.rpartition(".<locals>.")
        frame = frame.f_back
    return names


def _is_being_imported(module: Any) -> bool:
    """Whether more names of *module* are to come: it is not run to its end yet."""
    if module == "__main__":
        return True  # nobody can tell of it
    spec = getattr(sys.modules.get(module), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
