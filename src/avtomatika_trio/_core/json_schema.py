"""Whether a JSON value fits a schema, of those that `schema_faults` finds nothing wrong with.

A schema may come from a stranger, so holding a value against one is bounded, and so are messages.
"""

import json
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import islice
from typing import Any

import attrs

#: How deep schemas and values are looked into.
MOST_LEVELS = 50
#: Steps that one value may take: schemas that it is held against, and values compared.
_MOST_STEPS = 10_000

#: Characters of a text, and of a place, that a message shows.
_MOST_SHOWN, MOST_PLACE = 80, 500
#: Choices, and names, that a message shows.
_MOST_CHOICES = 20
#: Characters of a message.
_MOST_MESSAGE = 2_000

_Schema = Mapping[str, Any]


def is_number(value: Any) -> bool:
    """Whether it is a number of JSON, which true is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda it: it is None,
    "boolean": lambda it: isinstance(it, bool),
    "integer": lambda it: is_number(it) and int(it) == it,
    "number": is_number,
    "string": lambda it: isinstance(it, str),
    "array": lambda it: isinstance(it, list),
    "object": lambda it: isinstance(it, dict),
}

DEFINITIONS = ("$defs", "definitions")
_REFERENCE = re.compile(r"#(?:/(\$defs|definitions)/([^/]+))?")

COUNTS = frozenset(
    {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}
)
LIMITS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})


class _TooLarge(Exception):
    """There is more to look at than is looked at."""


@attrs.define(eq=False)
class Effort:
    """What may go into looking at several values together; it takes a second or two to use up."""

    steps: int = 100 * _MOST_STEPS
    """Those that are left."""


def misfit(
    value: Any, schema: Any, path: str, *, with_patterns: bool, effort: Effort | None = None
) -> str | None:
    """Why *value* does not fit *schema*, with the place; None if it does.

    Args:
        value: JSON.
        schema: One without faults.
        path: How to call the value.
        with_patterns: Whether to look at `pattern`, which takes as long as its author likes.
        effort: What is left for it and others; None = it is looked at alone.
    """
    check = _Check(schema, effort or Effort(), with_patterns=with_patterns)
    try:
        found = check.misfit(value, schema, path, 0)
    except _TooLarge as exc:
        return f"{path}: {exc}"
    return None if found is None else cut(found, _MOST_MESSAGE)


class _Check:
    """Holds one value against one schema."""

    def __init__(self, root: Any, effort: Effort, *, with_patterns: bool) -> None:
        self.root = root
        self._with_patterns = with_patterns
        self._left = _MOST_STEPS
        self._effort = effort

    def spend(self, steps: int) -> None:
        self._left -= steps
        self._effort.steps -= steps
        if self._left < 0 or self._effort.steps < 0:
            raise _TooLarge("is too much to be held against its schema")

    def misfit(self, value: Any, schema: Any, path: str, level: int) -> str | None:
        self.spend(1 if level <= MOST_LEVELS else _MOST_STEPS)
        if isinstance(schema, bool):
            return None if schema else f"{path}: nothing is allowed here"
        path = cut(path, MOST_PLACE)
        for keyword in schema:
            if keyword in _PLAIN and (keyword != "pattern" or self._with_patterns):
                fault = _PLAIN[keyword](self, value, schema)
                if fault is not None:
                    return f"{path}: {fault}"
        for keyword in schema:
            if keyword in _NESTED:
                found = _NESTED[keyword](self, value, schema, path, level + 1)
                if found is not None:
                    return found
        return None


def _type(_: _Check, value: Any, schema: _Schema) -> str | None:
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if any(TYPES[name](value) for name in names):
        return None
    return f"{_shown(value)} is no {' or '.join(names)}"


def _enum(check: _Check, value: Any, schema: _Schema) -> str | None:
    if any(_is_same(check, value, it) for it in schema["enum"]):
        return None
    choices = ", ".join(_shown(it) for it in schema["enum"][:_MOST_CHOICES])
    return f"{_shown(value)} is none of {choices}"


def _const(check: _Check, value: Any, schema: _Schema) -> str | None:
    said = schema["const"]
    return None if _is_same(check, value, said) else f"{_shown(value)} is not {_shown(said)}"


def _limits(_: _Check, value: Any, schema: _Schema) -> str | None:
    if not is_number(value):
        return None
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if value < schema.get("minimum", value) or (above is not None and value <= above):
        return f"{_shown(value)} is too small"
    if value > schema.get("maximum", value) or (below is not None and value >= below):
        return f"{_shown(value)} is too large"
    return None


def _multiple(check: _Check, value: Any, schema: _Schema) -> str | None:
    step = schema["multipleOf"]
    if not is_number(value):
        return None
    check.spend(20)  # fractions are slow
    if Fraction(repr(value)) % Fraction(repr(step)) == 0:
        return None
    return f"{_shown(value)} is no multiple of {step}"


def _sizes(_: _Check, value: Any, schema: _Schema) -> str | None:
    match value:
        case str():
            suffix = "Length"
        case list():
            suffix = "Items"
        case dict():
            suffix = "Properties"
        case _:
            return None
    size = len(value)
    if size < schema.get(f"min{suffix}", 0):
        return f"is too short, it has {size}"
    if size > schema.get(f"max{suffix}", size):
        return f"is too long, it has {size}"
    return None


def _pattern(_: _Check, value: Any, schema: _Schema) -> str | None:
    pattern = schema["pattern"]
    if not isinstance(value, str) or re.search(pattern, value):
        return None
    return f"{_shown(value)} does not match {pattern!r}"


def _unique(check: _Check, value: Any, schema: _Schema) -> str | None:
    if not schema["uniqueItems"] or not isinstance(value, list):
        return None
    different: set[str] = set()
    for item in value:
        text = json.dumps(item, sort_keys=True)
        check.spend(1 + len(text) // 8)
        if text in different:
            return "has an item twice"
        different.add(text)
    return None


def _required(check: _Check, value: Any, schema: _Schema) -> str | None:
    if not isinstance(value, dict):
        return None
    check.spend(len(schema["required"]))
    missing = next((it for it in schema["required"] if it not in value), None)
    return None if missing is None else f"{_shown(missing)} is missing"


_PLAIN: Mapping[str, Callable[[_Check, Any, _Schema], str | None]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    **dict.fromkeys(sorted(LIMITS), _limits),
    "multipleOf": _multiple,
    **dict.fromkeys(sorted(COUNTS), _sizes),
    "pattern": _pattern,
    "uniqueItems": _unique,
    "required": _required,
}
"""What is looked at for a keyword that is about the value itself."""


def _ref(check: _Check, value: Any, schema: _Schema, path: str, level: int) -> str | None:
    return check.misfit(value, target(schema["$ref"], check.root), path, level)


def _members(check: _Check, value: Any, schema: _Schema, path: str, level: int) -> str | None:
    if not isinstance(value, dict):
        return None
    named, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, item in value.items():
        if name not in named and others is False:
            known = ", ".join(cut(it, _MOST_SHOWN) for it in islice(named, _MOST_CHOICES))
            return f"{path}.{name}: is not known; there are {known or 'none'}"
        found = check.misfit(item, named.get(name, others), f"{path}.{name}", level)
        if found is None and "propertyNames" in schema:
            found = check.misfit(name, schema["propertyNames"], f"{path} (a name)", level)
        if found is not None:
            return found
    return None


def _items(check: _Check, value: Any, schema: _Schema, path: str, level: int) -> str | None:
    if not isinstance(value, list):
        return None
    first, others = schema.get("prefixItems", ()), schema.get("items", True)
    for at, item in enumerate(value):
        fitting = first[at] if at < len(first) else others
        found = check.misfit(item, fitting, f"{path}[{at}]", level)
        if found is not None:
            return found
    return None


def _all_of(check: _Check, value: Any, schema: _Schema, path: str, level: int) -> str | None:
    found = (check.misfit(value, it, path, level) for it in schema["allOf"])
    return next((it for it in found if it is not None), None)


def _any_of(check: _Check, value: Any, schema: _Schema, path: str, level: int) -> str | None:
    found: list[str] = []
    for choice in schema["anyOf"]:
        fault = check.misfit(value, choice, path, level)
        if fault is None:
            return None
        found.append(cut(fault, _MOST_MESSAGE))
    return f"{path}: fits none of the choices ({'; '.join(found[:5])})"


def _one_of(check: _Check, value: Any, schema: _Schema, path: str, level: int) -> str | None:
    fits = [check.misfit(value, it, path, level) for it in schema["oneOf"]].count(None)
    return None if fits == 1 else f"{path}: fits {fits} of the choices, not one"


def _not(check: _Check, value: Any, schema: _Schema, path: str, level: int) -> str | None:
    fits = check.misfit(value, schema["not"], path, level) is None
    return f"{path}: {_shown(value)} is what it must not be" if fits else None


_NESTED: Mapping[str, Callable[[_Check, Any, _Schema, str, int], str | None]] = {
    "$ref": _ref,
    **dict.fromkeys(("properties", "additionalProperties", "propertyNames"), _members),
    **dict.fromkeys(("prefixItems", "items"), _items),
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
}
"""Likewise, of one that holds what is in the value against other schemas."""


def target(reference: str, root: Any) -> Any:
    """The schema that `$ref` means: the whole one, or a definition of it; None = there is none."""
    found = _REFERENCE.fullmatch(reference)
    if found is None or not isinstance(root, dict):
        return None
    group, name = found.groups()
    if group is None:
        return root
    group = root.get(group)
    return group.get(name) if isinstance(group, dict) else None


def _is_same(check: _Check, one: Any, other: Any) -> bool:
    """Whether they are the same JSON: 1 and 1.0 are, 1 and true are not."""
    check.spend(1)
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_is_same(check, *pair) for pair in pairs)
    if isinstance(one, dict) and isinstance(other, dict):
        check.spend(len(one))
        same_names = one.keys() == other.keys()
        return same_names and all(_is_same(check, one[it], other[it]) for it in one)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        value = cut(value, _MOST_SHOWN)
    return json.dumps(value, ensure_ascii=False)


def cut(text: str, most: int) -> str:
    """*text*, or as much of it as a message shows."""
    return text if len(text) <= most else text[:most] + "…"
