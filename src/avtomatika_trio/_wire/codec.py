"""attrs classes to and from JSON, strictly, with the path of every problem.

msgspec decodes and checks in one pass and stops at the first fault.  Only when there is
one is the body looked at again, member by member, to tell all of them.
"""

import types
import typing
from functools import cache
from typing import Any, TypeVar, Union

import attrs
import msgspec

from avtomatika_trio._core.json_values import MAX_DEPTH
from avtomatika_trio.errors import InvalidMessage, Problem

T = TypeVar("T")

#: What a message may be nested: as deep as any value of an author's, and its envelope.
MOST_LEVELS = MAX_DEPTH + 8

#: One message tells at most this many problems; a list of 1,000 results may have more.
_MOST_PROBLEMS = 20

encode = msgspec.json.Encoder().encode
"""Anything made of attrs classes and JSON values, as bytes."""


@cache
def _decoder(cls: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cls)


def decode(body: bytes, cls: type[T], *, closed: bool = False) -> T:
    """Read *body* as a *cls*.

    Args:
        body: JSON text.
        cls: An attrs class, or a generic such as `list[Result]`.
        closed: Refuse members that *cls* does not have.

    Raises:
        InvalidMessage: with the path of every problem.
    """
    try:
        value = typing.cast("T", _decoder(cls).decode(body))  # type: ignore[arg-type]  # types hash
        if not closed or _knows_all_of(cls, _decoder(Any).decode(body)):
            return value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raw = _decode_any(body)
    problems = _problems(raw, cls, "$", closed=closed)
    if problems:
        raise InvalidMessage(tuple(problems[:_MOST_PROBLEMS]))
    try:
        return msgspec.convert(raw, cls)
    except msgspec.ValidationError as exc:
        raise InvalidMessage((as_problem("$", exc),)) from None


def _knows_all_of(cls: Any, raw: Any) -> bool:
    """Whether *raw*, which is a *cls* as far as *cls* knows it, has no other members."""
    inner = _list_of(cls)
    if inner is not None and isinstance(raw, list):
        return all(_knows_all_of(inner, item) for item in raw)
    record = _record(cls)
    if record is None or not isinstance(raw, dict):
        return True
    return raw.keys() <= _hints(record).keys() and all(
        _knows_all_of(inner, raw[name]) for name, inner in _with_members(record) if name in raw
    )


@cache
def _with_members(record: Any) -> tuple[tuple[str, Any], ...]:
    """The members of *record* that may have members themselves, and their types."""
    return tuple(
        (name, cls)
        for name, cls in _hints(record).items()
        if _list_of(cls) is not None or _record(cls) is not None
    )


def decode_any(body: bytes) -> Any:
    """Read *body* as JSON of any shape.

    Raises:
        InvalidMessage: it is not JSON, or nested so deeply that it could be stored, but not
            be read again where there is less room on the stack.
    """
    value = _decode_any(body)
    if body.count(b"[") + body.count(b"{") > MOST_LEVELS and not is_shallow(value):
        text = f"this is nested too deeply: more than {MOST_LEVELS} levels"
        raise InvalidMessage((Problem("$", text),))
    return value


def is_shallow(value: Any) -> bool:
    """Whether *value* has no more than `MOST_LEVELS`; goes level by level, without recursion."""
    level = [value]
    for _ in range(MOST_LEVELS + 1):
        containers = [it for it in level if isinstance(it, dict | list)]
        if not containers:
            return True
        level = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
        ]
    return False


def _decode_any(body: bytes) -> Any:
    try:
        return _decoder(Any).decode(body)
    except msgspec.DecodeError as exc:
        raise InvalidMessage((Problem("$", f"this is not JSON: {exc}"),)) from None
    except UnicodeDecodeError:
        raise InvalidMessage((Problem("$", "this is not JSON: it is not UTF-8"),)) from None
    except RecursionError:
        raise InvalidMessage((Problem("$", "this is nested too deeply"),)) from None


def _problems(raw: Any, cls: Any, path: str, *, closed: bool) -> list[Problem]:
    inner = _list_of(cls)
    if inner is not None and isinstance(raw, list):
        return [
            problem
            for at, item in enumerate(raw)
            for problem in _problems(item, inner, f"{path}[{at}]", closed=closed)
        ]
    record = _record(cls)
    if record is None or not isinstance(raw, dict):
        return _convert_problem(raw, cls, path)
    problems: list[Problem] = []
    hints = _hints(record)
    for field in attrs.fields(record):
        at = f"{path}.{field.name}"
        if field.name in raw:
            problems += _problems(raw[field.name], hints[field.name], at, closed=closed)
        elif field.default is attrs.NOTHING:
            problems.append(Problem(at, "is missing"))
    if closed:
        known = ", ".join(field.name for field in attrs.fields(record))
        problems += [
            Problem(f"{path}.{name}", f"is not known here; the members are: {known}")
            for name in raw
            if name not in hints
        ]
    return problems


def _convert_problem(raw: Any, cls: Any, path: str) -> list[Problem]:
    try:
        msgspec.convert(raw, cls)
    except msgspec.ValidationError as exc:
        return _item_problems(raw, cls, path) or [as_problem(path, exc)]
    except RecursionError:
        return [Problem(path, "is nested too deeply")]
    return []


def _item_problems(raw: Any, cls: Any, path: str) -> list[Problem]:
    """The problems of single names and values of a mapping, each of which is named."""
    inner = _mapping_of(cls)
    if inner is None or not isinstance(raw, dict):
        return []
    problems: list[Problem] = []
    for name, value in raw.items():
        wrong_name = _convert_problem(name, inner[0], path)
        problems += [Problem(path, f"the name {name[:80]!r}: {it.message}") for it in wrong_name]
        problems += _convert_problem(value, inner[1], f"{path}.{name[:80]}")
    return problems


def as_problem(path: str, exc: msgspec.ValidationError) -> Problem:
    """What *exc* says of the value at *path*, and where below it."""
    text, _, inner = str(exc).partition(" - at `$")
    return Problem(path + inner.removesuffix("`"), text)


@cache
def _list_of(cls: Any) -> Any:
    """The items' type if *cls* is a list (or an optional one)."""
    for option in _options(cls):
        if typing.get_origin(option) is list:
            return typing.get_args(option)[0]
    return None


@cache
def _mapping_of(cls: Any) -> Any:
    """The types of names and values if *cls* is a dict (or an optional one)."""
    for option in _options(cls):
        plain = typing.get_args(option)[0] if hasattr(option, "__metadata__") else option
        if typing.get_origin(plain) is dict:
            return typing.get_args(plain)
    return None


@cache
def _record(cls: Any) -> Any:
    """The attrs class that *cls* is or may be."""
    for option in _options(cls):
        if isinstance(option, type) and attrs.has(option):
            return option
    return None


def _options(cls: Any) -> tuple[Any, ...]:
    if typing.get_origin(cls) in (Union, types.UnionType):
        return typing.get_args(cls)
    return (cls,)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)
