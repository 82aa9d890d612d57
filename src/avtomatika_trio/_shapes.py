"""What annotations say of params and results: values are built of them, checked and described.

msgspec knows dataclasses, attrs classes, its own structs, `TypedDict`s and the types of
Python; for classes of pydantic there is `_models`.
"""

import collections.abc
import dataclasses
import pathlib
import types
import typing
from functools import partial
from typing import Any, TypeVar

import attrs
import msgspec
import msgspec.inspect

from avtomatika_trio._core.json_values import MAX_DEPTH, NotJson
from avtomatika_trio._models import Misfit, Models, is_model, models_of, options_of
from avtomatika_trio._wire.codec import as_problem
from avtomatika_trio.errors import Problem

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: Annotations that ask for the value as it is.
_RAW = (Any, object, dict, collections.abc.Mapping)

#: Generics whose items are all of one type, and those whose values are.
_ROWS = (list, set, frozenset, tuple, collections.abc.Sequence, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Unknown(Exception):
    """There is no telling what an annotation means as JSON."""


@attrs.frozen(eq=False)
class Shape:
    """What an annotation asks for."""

    annotation: Any
    schema: dict[str, Any]
    """JSON Schema 2020-12, self-contained."""
    models: Models | None = None
    """What it is as models of pydantic, if it is such or a union of them."""
    has_models: bool = False
    """Whether there are such in it."""

    @property
    def takes_object(self) -> bool:
        """Whether an object may fit."""
        return _takes_object(self.schema, self.schema.get("$defs", {}))

    def build(self, raw: Any) -> Any:
        """What *raw*, JSON, is as the annotated type; instances of models may be in it.

        Raises:
            Misfit: it does not fit.
        """
        if self.models is not None:
            return self.models.build(raw)
        try:
            return _convert(raw, self.annotation)
        except msgspec.ValidationError as exc:
            told = _all_problems(raw, self.annotation) or (as_problem("$", exc),)
        except Exception as exc:  # noqa: BLE001 - the border to foreign code: hooks of the class
            told = (Problem("$", f"{type(exc).__name__}: {exc}"),)
        raise Misfit(told)


def shape_of(annotation: Any, *, is_output: bool = False) -> Shape | None:
    """What *annotation* asks for; None if for nothing in particular.

    Args:
        annotation: Resolved: it has no names of types as texts.
        is_output: Whether values of it are written, not read; pydantic describes both.

    Raises:
        Unknown: it means nothing as JSON; the text says why.
    """
    if annotation in _RAW or _is_open_mapping(annotation) or isinstance(annotation, TypeVar):
        return None
    if any(
        "__is_pydantic_dataclass__" in getattr(it, "__dict__", {}) for it in options_of(annotation)
    ):
        raise Unknown("what a dataclass of pydantic asks for would not be checked")
    try:
        models, has_models = models_of(annotation), True
        if models is not None:
            schema = models.schema(is_output=is_output)
        else:
            schema, has_models = _schema(annotation, is_output=is_output)
            msgspec.json.Decoder(annotation, dec_hook=_from_json)
    except Exception as exc:  # the border to foreign code: whatever its class makes of it
        raise Unknown(str(exc) or type(exc).__name__) from exc
    return Shape(annotation, {"$schema": _DIALECT, **schema}, models, has_models)


def _takes_object(schema: dict[str, Any], named: dict[str, Any]) -> bool:
    """Whether an object may fit *schema*, one of ours; *named* are its `$defs`."""
    if "$ref" in schema:
        return _takes_object(named.get(schema["$ref"].rpartition("/")[2], {}), named)
    for options in ("anyOf", "oneOf"):
        if options in schema:
            return any(_takes_object(it, named) for it in schema[options])
    return "enum" not in schema and "const" not in schema and schema.get("type") in {None, "object"}


def _is_open_mapping(annotation: Any) -> bool:
    """Whether it is `dict[str, Any]` or the like."""
    if typing.get_origin(annotation) not in _RAW:
        return False
    values = typing.get_args(annotation)[-1:]  # of `Annotated` it may have no hash
    return values in ((Any,), (object,))


def _schema(annotation: Any, *, is_output: bool) -> tuple[dict[str, Any], bool]:
    """The schema of what is no model itself, and whether there are models in it."""
    inner: dict[str, Any] = {}
    has_models = False

    def describe(kind: type) -> dict[str, Any]:
        nonlocal has_models
        if issubclass(kind, pathlib.PurePath):
            return {"type": "string"}
        if (models := models_of(kind)) is not None:
            has_models = True
            described = models.schema(is_output=is_output)
            inner.update(described.pop("$defs", {}))  # its references begin at the root
            return described
        raise TypeError(f"{kind.__qualname__} is no type that JSON can be made into")

    schema = msgspec.json.schema(annotation, schema_hook=describe)
    if inner:
        schema["$defs"] = {**inner, **schema.get("$defs", {})}
    return schema, has_models


def _from_json(kind: type, raw: Any) -> Any:
    """What msgspec does not know itself."""
    if issubclass(kind, pathlib.PurePath):
        if not isinstance(raw, str):
            raise TypeError(f"Expected `str`, got `{type(raw).__name__}`")
        return kind(raw)
    if (models := models_of(kind)) is not None:
        try:
            return models.build(raw)
        except Misfit as exc:
            raise ValueError(str(exc)) from exc
    raise TypeError(f"{kind.__qualname__} is no type that JSON can be made into")


_convert = partial(msgspec.convert, dec_hook=_from_json, str_keys=True)


# Every problem, not only the first: as the codec does it, for more kinds of classes.


def _all_problems(raw: Any, kind: Any) -> tuple[Problem, ...]:
    try:
        return tuple(_problems(raw, kind, "$"))
    except Exception:  # noqa: BLE001 - classes that only msgspec can read: the first one is told
        return ()


def _problems(raw: Any, kind: Any, path: str) -> list[Problem]:
    options = options_of(kind)
    for option in options:
        origin, inner = typing.get_origin(option), typing.get_args(option)
        if origin in _ROWS and isinstance(raw, list) and inner[1:] in {(), (...,)}:
            told = [_problems(it, inner[0], f"{path}[{at}]") for at, it in enumerate(raw)]
            return [p for each in told for p in each] or _problem(raw, kind, path)
        if origin in _MAPPINGS and isinstance(raw, dict):
            told = [_problems(it, inner[1], f"{path}.{name}") for name, it in raw.items()]
            return [p for each in told for p in each] or _problem(raw, kind, path)
    records = [it for it in options if _fields(it) is not None]
    if len(records) == 1 and isinstance(raw, dict):
        return _of_record(raw, records[0], path) or _problem(raw, kind, path)
    models = [it for it in map(models_of, options) if it is not None]
    if len(models) == 1 and _is_meant_for_model(raw, options):
        try:
            models[0].build(raw)
        except Misfit as exc:
            return [Problem(path + it.path.removeprefix("$"), it.message) for it in exc.problems]
    return _problem(raw, kind, path)


def _is_meant_for_model(raw: Any, options: tuple[Any, ...]) -> bool:
    """Whether the model in *options* is the one that should say what is wrong with *raw*."""
    if isinstance(raw, dict):
        return True
    is_optional = types.NoneType in options
    return len(options) == 1 + is_optional and not (raw is None and is_optional)


def _of_record(raw: dict[str, Any], kind: Any, path: str) -> list[Problem]:
    problems: list[Problem] = []
    fields = _fields(kind) or ()
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in fields:
        at = f"{path}.{field.encode_name}"
        if field.encode_name in raw:
            hint = hints[field.name]
            while typing.get_origin(hint) in (typing.Required, typing.NotRequired):
                (hint,) = typing.get_args(hint)
            problems += _problems(raw[field.encode_name], hint, at)
        elif field.required:
            problems.append(Problem(at, "is missing"))
    if getattr(getattr(kind, "__struct_config__", None), "forbid_unknown_fields", False):
        known = [field.encode_name for field in fields]
        listed = ", ".join(known)
        problems += [
            Problem(f"{path}.{name}", f"is not known here; the members are: {listed}")
            for name in raw
            if name not in known and name != kind.__struct_config__.tag_field
        ]
    return problems


def _problem(raw: Any, kind: Any, path: str) -> list[Problem]:
    try:
        _convert(raw, kind)
    except msgspec.ValidationError as exc:
        return [as_problem(path, exc)]
    except Exception as exc:  # noqa: BLE001 - the border to foreign code: hooks of the class
        return [Problem(path, f"{type(exc).__name__}: {exc}")]
    return []


def _fields(kind: Any) -> tuple[msgspec.inspect.Field, ...] | None:
    """The fields of *kind* if it is a class of named fields."""
    if not isinstance(kind, type):
        return None
    info = msgspec.inspect.type_info(kind)
    known = (
        msgspec.inspect.StructType,
        msgspec.inspect.DataclassType,
        msgspec.inspect.TypedDictType,
    )
    if not isinstance(info, known) or getattr(info, "array_like", False):
        return None
    return tuple(info.fields)


# Instances to JSON.


def is_record(value: Any) -> bool:
    """Whether *value* is an instance of a class of named fields."""
    kind = type(value)
    return (
        dataclasses.is_dataclass(kind)
        or attrs.has(kind)
        or isinstance(value, msgspec.Struct)
        or is_model(kind)
    )


def plain(
    value: Any,
    path: str = "result",
    depth: int = 0,
    *,
    is_inside: bool = False,
    keeps_models: bool = False,
) -> Any:
    """*value* with dicts in the place of instances; what else is no JSON stays as it is.

    In an instance what msgspec can write is written: sets, dates, paths, enums and so on.

    Args:
        value: What a handler returned.
        path: How to call it in a message.
        depth: How many levels are above it.
        is_inside: Whether it is in an instance.
        keeps_models: Whether instances of pydantic models stay, to be looked at.

    Raises:
        NotJson: an instance holds what cannot be written.
    """
    if value is None or isinstance(value, str | int | float) or depth > MAX_DEPTH:
        return value  # too deep is told where JSON is checked

    def inner(it: Any, at: str, *, is_inside: bool = is_inside) -> Any:
        at_it = f"{path}{at}"
        return plain(it, at_it, depth + 1, is_inside=is_inside, keeps_models=keeps_models)

    if isinstance(value, dict):
        return {_key(key) if is_inside else key: inner(it, f".{key}") for key, it in value.items()}
    if isinstance(value, list | tuple):
        return [inner(it, f"[{at}]") for at, it in enumerate(value)]
    if keeps_models and is_model(type(value)):
        return value
    # Not by msgspec: it leaves out defaults of dataclasses that it has built itself.
    if (fields := _members(value)) is not None:
        return {name: inner(it, f".{name}", is_inside=True) for name, it in fields.items()}
    if not is_inside and not is_record(value):
        return value
    try:
        return msgspec.to_builtins(value, enc_hook=_to_json, str_keys=True)
    except Exception as exc:  # the border to foreign code: whatever it is
        raise NotJson([f"{path}: {exc}"]) from exc


def _key(key: Any) -> Any:
    """*key*, of a dict in an instance, as JSON has it: a number or a date as text."""
    if isinstance(key, str):
        return key
    try:
        return next(iter(msgspec.to_builtins({key: None}, str_keys=True)))
    except (TypeError, ValueError):
        return key  # which is told where JSON is checked


def _members(value: Any) -> dict[str, Any] | None:
    """The members of an instance that is written field by field, as JSON calls them."""
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        config = kind.__struct_config__
        if config.array_like:
            return None
        tag = {} if config.tag_field is None else {config.tag_field: config.tag}
        names = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
        members = {encoded: getattr(value, name) for name, encoded in names}
        return {**tag, **{name: it for name, it in members.items() if it is not msgspec.UNSET}}
    if attrs.has(kind):
        return {field.name: getattr(value, field.name) for field in attrs.fields(kind)}
    if dataclasses.is_dataclass(kind):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
    return None


def _to_json(value: Any) -> Any:
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if is_model(type(value)):
        return value.model_dump(mode="json", by_alias=True)
    raise TypeError(f"a {type(value).__name__} is not JSON")
