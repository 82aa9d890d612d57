"""Is it JSON?  A strict walk over a value, which names the path of everything that is not.

What a blueprint's author hands over crosses processes and disks; it is checked where it is
handed over, while the line that wrote it is still in the traceback.  The walk makes a copy:
the author may go on changing the original.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

#: Deeper values cannot be encoded within Python's default recursion limit of 1,000 frames
#: with room left for the callers; a value that contains itself is found the same way.
MAX_DEPTH = 200

#: About 4,200 decimal digits: Python itself refuses to read more than 4,300 from a text.
_MOST_INT_BITS = 14_000

#: A list of faults is for reading: more of the same does not help.
_MOST_FAULTS = 5

#: Every value is asked for these: what is quick to ask for comes first.
_SCALARS = (str, int, float)
_CONTAINERS = (dict, list, tuple, Mapping)

_REMEDIES = {
    "bytes": "encode it, for example with base64, or pass a file",
    "bytearray": "encode it, for example with base64, or pass a file",
    "set": "use a list: sorted(...)",
    "frozenset": "use a list: sorted(...)",
    "datetime": "use .isoformat() or .timestamp()",
    "date": "use .isoformat()",
    "timedelta": "use .total_seconds()",
    "Decimal": "use str(...) or float(...)",
    "UUID": "use str(...)",
    "PosixPath": "use str(...)",
    "generator": "use list(...)",
}


#: Where a value is: what the whole is called, or a place and a key there.  It is written out
#: only where there is a fault, since most values have none.
_Place: TypeAlias = "str | tuple[_Place, str | int]"


class NotJson(ValueError):
    """A value is not JSON; `faults` names the path, the fault and the remedy of each place."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        shown = "; ".join(faults[:_MOST_FAULTS])
        more = len(faults) - _MOST_FAULTS
        super().__init__(f"{shown}; and {more} more" if more > 0 else shown)


def copy_json(value: Any, path: str) -> Any:
    """A copy of *value* made of dict, list, str, int, float, bool and None alone.

    Mappings become dicts, tuples become lists, members of a `StrEnum` or `IntEnum` their
    values.  Nothing else is converted, and nothing is dropped.

    Args:
        value: What the author wrote.
        path: How to call it in a message, such as `params`.

    Raises:
        NotJson: somewhere in it is what JSON cannot say: NaN, a set, bytes, a key that is not
            a string, text with half a surrogate pair, a cycle.
    """
    faults: list[str] = []
    copied = _copy(value, path, 0, faults)
    if faults:
        raise NotJson(faults)
    return copied


def _copy(value: Any, place: _Place, depth: int, faults: list[str]) -> Any:
    if value is None or value is True or value is False:
        return value
    if not isinstance(value, _SCALARS) and isinstance(value, _CONTAINERS):
        if depth >= MAX_DEPTH:
            path = _path_of(place)[:80]
            faults.append(f"{path}…: nested deeper than {MAX_DEPTH} levels, or contains itself")
            return None
        if isinstance(value, Mapping):
            return _copy_items(value, place, depth, faults)
        return [_copy(item, (place, n), depth + 1, faults) for n, item in enumerate(value)]
    plain, fault = _scalar(value)
    if fault is not None:
        faults.append(f"{_path_of(place)}: {fault}")
    return plain


def _copy_items(
    value: Mapping[Any, Any], place: _Place, depth: int, faults: list[str]
) -> dict[str, Any]:
    copied: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            path = _path_of(place)
            faults.append(f"{path}: the key {key!r} is not a string; write {str(key)!r}")
            continue
        plain, fault = _scalar(key)
        inner = (place, plain)
        if fault is not None:
            faults.append(f"{_path_of(inner)}: {fault}")
        copied[plain] = _copy(item, inner, depth + 1, faults)
    return copied


def _path_of(place: _Place) -> str:
    """As in `params.frames[3].name`."""
    keys: list[str] = []
    while isinstance(place, tuple):
        place, key = place
        if isinstance(key, int):
            keys.append(f"[{key}]")
        else:
            keys.append(f".{key}" if key.isidentifier() else f"[{key!r}]")
    return place + "".join(reversed(keys))


def _scalar(value: Any) -> tuple[Any, str | None]:
    """The plain value and None, or anything and what is wrong with *value*."""
    fault = None
    match value:
        case str():
            value = str.__str__(value)
            if not _is_unicode(value):
                fault = f"{value!r} is not valid Unicode; use .encode(errors='replace').decode()"
        case int():
            value = int(value)
            if value.bit_length() > _MOST_INT_BITS:
                fault = "an integer of more than 4,200 digits cannot be read back; use a string"
        case float():
            value = float(value)
            if not math.isfinite(value):
                fault = f"{value} is not a JSON number; use None or a string"
        case _:
            kind = type(value).__name__
            remedy = _REMEDIES.get(kind, "use dict, list, str, int, float, bool or None")
            fault = f"a {kind} is not JSON; {remedy}"
    return value, fault


def _is_unicode(text: str) -> bool:
    """Whether *text* can be written as UTF-8: half a surrogate pair cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
