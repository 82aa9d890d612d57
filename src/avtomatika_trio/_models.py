"""Models of pydantic, and what it says of values that do not fit them.

They are known by their methods: pydantic is not imported here, for it need not be installed.
"""

import sys
import types
import typing
from collections.abc import Callable
from typing import Any, TypeGuard, Union

import attrs

from avtomatika_trio.errors import Problem

#: One message tells at most this many problems.
_MOST_PROBLEMS = 20


class Misfit(Exception):
    """A value does not fit; every problem carries its path."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems[:_MOST_PROBLEMS]
        super().__init__("; ".join(f"{it.path}: {it.message}" for it in self.problems))

    @property
    def details(self) -> dict[str, Any]:
        """The problems as JSON."""
        return {"problems": [{"path": it.path, "message": it.message} for it in self.problems]}


@attrs.frozen(eq=False)
class Models:
    """What an annotation asks for that is a model, or a union of such."""

    _read: Callable[[Any], Any]
    _describe: Callable[..., dict[str, Any]]

    def build(self, raw: Any) -> Any:
        """What *raw*, JSON or an instance, is as a model.

        Raises:
            Misfit: it does not fit.
        """
        try:
            return self._read(raw)
        except Exception as exc:  # the border to foreign code: pydantic's and the model's errors
            errors = getattr(exc, "errors", None)
            if not callable(errors):
                raise Misfit((Problem("$", f"{type(exc).__name__}: {exc}"),)) from exc
            told = tuple(Problem(_path(it["loc"]), str(it["msg"])) for it in errors())
            raise Misfit(told) from exc

    def schema(self, *, is_output: bool) -> dict[str, Any]:
        """JSON Schema of what is written, or else of what is read."""
        return dict(self._describe(mode="serialization" if is_output else "validation"))


def models_of(annotation: Any) -> Models | None:
    """The models that *annotation* asks for; None if it asks for something else."""
    if is_model(annotation):
        return Models(annotation.model_validate, annotation.model_json_schema)
    options = [it for it in options_of(annotation) if it is not types.NoneType]
    if len(options) < 2 or not all(map(is_model, options)):
        return None
    adapter = sys.modules["pydantic"].TypeAdapter(annotation)  # the models have imported it
    return Models(adapter.validate_python, adapter.json_schema)


def is_model(kind: Any) -> TypeGuard[Any]:
    """Whether *kind* is a model of pydantic."""
    return (
        isinstance(kind, type)
        and callable(getattr(kind, "model_validate", None))
        and callable(getattr(kind, "model_dump", None))
    )


def options_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of everything else the one that it is."""
    if typing.get_origin(kind) is typing.Annotated:
        return options_of(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (Union, types.UnionType):
        return typing.get_args(kind)
    return (kind,)


def _path(steps: Any) -> str:
    return "$" + "".join(f"[{it}]" if isinstance(it, int) else f".{it}" for it in steps)
