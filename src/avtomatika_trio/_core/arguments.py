"""Checks of what an author wrote: each returns the clean value, or says where the fault is.

All take the value and its *path*, which is how the message calls it, such as
`dispatch_parallel: tasks[3].priority`; all raise `BadArgument`.
"""

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

#: Skills travel in URLs, headers and metrics: no character that any of these would quote.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)

_MOST_CHARACTERS = 128


class BadArgument(Exception):
    """An argument is not what it has to be; who knows the state makes it an `ActionError`.

    Not a `ValueError`: the author's own, raised by a generator of tasks, must stay what it is.
    """


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """The end of a message: the nearest of *choices*, or all of them.

    >>> did_you_mean("rezise", ["resize", "done"])
    "did you mean 'resize'?"
    >>> did_you_mean("x", ["resize", "done"])
    "there are 'resize', 'done'"
    """
    known = list(choices)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {', '.join(map(repr, known))}" if known else "there is none yet"


def skill_name(value: object, path: str) -> str:
    """A skill: letters, digits, `_`, `.` and `-`, at most 128."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise BadArgument(
            f"{path} is a skill's name, 1 to 128 letters, digits, '_', '.' or '-', not {value!r}"
        )
    return str.__str__(value)


def label(value: object, path: str) -> str:
    """A state, a status or a key: 1 to 128 printable characters."""
    if not isinstance(value, str):
        raise BadArgument(f"{path} is a string, not {_shown(value)}")
    if not 1 <= len(value) <= _MOST_CHARACTERS or not value.isprintable():
        raise BadArgument(f"{path} has 1 to 128 printable characters, not {_shown(value)}")
    return str.__str__(value)


def number(value: object, path: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadArgument(f"{path} is a finite number, not {_shown(value)}")
    return float(value)


def seconds(value: object, path: str) -> float | None:
    """A length of time above 0, or None."""
    if value is None:
        return None
    length = number(value, path)
    if length <= 0:
        raise BadArgument(f"{path} is a number of seconds above 0, or None, not {_shown(value)}")
    return length


def count(value: object, path: str) -> int | None:
    """A whole number from 1, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadArgument(f"{path} is a whole number from 1, or None, not {_shown(value)}")
    return int(value)


def transitions(value: object, path: str) -> dict[str, str]:
    """Status -> state; None = an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadArgument(
            f"{path} is a dict of status and next state, such as"
            f" {{'success': 'done'}}, not {_shown(value)}"
        )
    return {
        label(status, f"{path}: the status"): label(state, f"{path}[{status!r}]")
        for status, state in value.items()
    }


def one_of_two_names(written: Mapping[str, Any], name: str, path: str) -> Any:
    """The value under *name* or under its older name, `<name>_seconds`."""
    value, older = written.get(name), written.get(f"{name}_seconds")
    if value is not None and older is not None:
        raise BadArgument(f"{path}{name} and {name}_seconds are the same; write one of them")
    return older if value is None else value


def unknown_names(owner: str, unknown: Iterable[str], choices: Iterable[str]) -> str:
    """A message for the first argument or key that does not exist."""
    first = next(iter(unknown))
    known = list(choices)
    near = difflib.get_close_matches(str(first), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{owner} takes no {first!r}{hint}; it takes {', '.join(known)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
