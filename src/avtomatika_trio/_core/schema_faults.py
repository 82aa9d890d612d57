"""Whether a schema of JSON values can be used: what `json_schema` knows is all that it may say.

That is what annotations of Python types come to, and what people write by hand.  A schema that
says more is refused where it is declared, since half a check would pass for a whole one.

A schema may come from a stranger, so looking at one is bounded.
"""

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from avtomatika_trio._core.json_schema import (
    COUNTS,
    DEFINITIONS,
    LIMITS,
    MOST_LEVELS,
    MOST_PLACE,
    TYPES,
    cut,
    is_number,
    target,
)

#: Schemas within one schema, and keywords and names in them.
_MOST_SCHEMAS, _MOST_WORDS = 1_000, 10_000

#: Faults of one schema that are told.
_MOST_FAULTS = 20

#: What a schema may say besides: it is for people and for other programs.
_ANNOTATIONS = frozenset(
    {
        *("$schema", "$id", "$comment", "title", "description", "default", "examples"),
        *("deprecated", "readOnly", "writeOnly", "format", "discriminator"),
    }
)

_ONE = frozenset({"additionalProperties", "propertyNames", "items", "not"})
_LISTS = frozenset({"prefixItems", "allOf", "anyOf", "oneOf"})
_MAPS = frozenset({"properties", *DEFINITIONS})


class _TooLarge(Exception):
    """There is more to look at than is looked at."""


def schema_faults(schema: Any, path: str, *, with_patterns: bool) -> list[str]:
    """What keeps *schema* from being used, each fault with its place; nothing if it can be.

    Args:
        schema: Perhaps a schema.
        path: How to call it.
        with_patterns: Whether to look at `pattern`, as of `misfit`.
    """
    reader = _Reader(schema, with_patterns=with_patterns)
    try:
        return list(islice(reader.faults(schema, path, 0), _MOST_FAULTS))
    except _TooLarge as exc:
        return [f"{path}: {exc}"]


class _Reader:
    """Looks at one schema."""

    def __init__(self, root: Any, *, with_patterns: bool) -> None:
        self._root = root
        self._with_patterns = with_patterns
        self._left = _MOST_SCHEMAS
        self._words_left = _MOST_WORDS

    def _read_words(self, count: int) -> None:
        self._words_left -= count
        if self._words_left < 0:
            raise _TooLarge(f"has more than {_MOST_WORDS} keywords and names")

    def faults(self, schema: Any, path: str, level: int) -> Iterator[str]:
        self._left -= 1
        if self._left < 0 or level > MOST_LEVELS:
            raise _TooLarge(f"has more than {_MOST_SCHEMAS} schemas or {MOST_LEVELS} levels")
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            yield f"{path}: a schema is an object, or true or false, not {reprlib.repr(schema)}"
            return
        self._read_words(len(schema) + _length(schema, "required"))
        for keyword, said in schema.items():
            at = cut(f"{path}.{keyword}", MOST_PLACE)
            if keyword in _ONE:
                yield from self.faults(said, at, level + 1)
            elif keyword in _LISTS | _MAPS:
                yield from self._inner(keyword, said, at, level)
            elif keyword not in _ANNOTATIONS:
                fault = self._fault(keyword, said)
                if fault is not None:
                    yield f"{at}: {fault}"

    def _inner(self, keyword: str, said: Any, at: str, level: int) -> Iterator[str]:
        wanted = list if keyword in _LISTS else dict
        if not isinstance(said, wanted) or (not said and keyword in _LISTS):
            yield f"{at}: is {'a list' if wanted is list else 'an object'} of schemas"
            return
        inner = enumerate(said) if isinstance(said, list) else said.items()
        for name, schema in inner:
            yield from self.faults(schema, f"{at}.{name}", level + 1)

    def _fault(self, keyword: str, said: Any) -> str | None:
        match keyword:
            case "$ref":
                found = isinstance(said, str) and target(said, self._root) is not None
                return None if found else "leads to nothing; write '#/$defs/Name' and define it"
            case "pattern":
                return self._pattern_fault(said)
        known = _VALUES.get(keyword)
        if known is None:
            return f"is not known here; leave it out, or say it with {', '.join(_KNOWN)}"
        is_right, what = known
        return None if is_right(said) else f"is {what}"

    def _pattern_fault(self, said: Any) -> str | None:
        if not isinstance(said, str):
            return "is a regular expression"
        if self._with_patterns:
            try:
                re.compile(said)
            except re.error as exc:
                return f"{reprlib.repr(said)} is no regular expression of Python: {exc}"
        return None


def _length(schema: Mapping[str, Any], keyword: str) -> int:
    said = schema.get(keyword)
    return len(said) if isinstance(said, list) else 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(it, str) for it in value)


def _are_types(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    is_list = 0 < len(names) <= len(TYPES) and _are_texts(names)
    return is_list and set(names) <= TYPES.keys()


#: What those keywords say that hold no schema.
_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_are_types, f"one or some of {', '.join(TYPES)}"),
    "enum": (lambda it: isinstance(it, list) and bool(it), "a list of values"),
    "const": (lambda _: True, "any value"),
    "required": (_are_texts, "a list of names"),
    "uniqueItems": (lambda it: isinstance(it, bool), "true or false"),
    "multipleOf": (lambda it: is_number(it) and it > 0, "a number above 0"),
    **dict.fromkeys(sorted(COUNTS), (_is_count, "a whole number from 0")),
    **dict.fromkeys(sorted(LIMITS), (is_number, "a number")),
}

_KNOWN = sorted({*_VALUES, *_ONE, *_LISTS, *_MAPS, "$ref", "pattern"})
