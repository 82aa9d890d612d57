"""The source text of handlers, read from their files, and the blueprint that knows it.

The core looks at text that it is given; this is the one place that reads it.
"""

import inspect
import linecache
from collections.abc import Callable
from typing import Any

from avtomatika_trio._core import blueprint as core
from avtomatika_trio._core.analysis import HandlerSource


def read_source(function: Callable[..., Any]) -> HandlerSource | None:
    """The text of the file in which *function* is written.

    Decorators made with `functools.wraps` are looked through.

    Returns:
        None when there is no such text: a builtin, a `functools.partial`, an object with
        `__call__`, a function made by `exec`, a file that is gone.
    """
    inner = inspect.unwrap(function)
    code = getattr(inner, "__code__", None)
    if code is None:
        return None
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, getattr(inner, "__globals__", None))
    if not lines:
        return None
    return HandlerSource(
        file=code.co_filename,
        text="".join(lines),
        first_line=code.co_firstlineno,
        name=code.co_name,
    )


class Blueprint(core.Blueprint):
    __doc__ = core.Blueprint.__doc__

    def read_source(self, function: Callable[..., Any]) -> HandlerSource | None:
        """The text in which *function* is written, read from its file."""
        return read_source(function)


class StateMachineBlueprint(Blueprint):
    """The old name of `Blueprint`, with the old names of its decorators."""

    handler_for = core.Blueprint.handler
    aggregator_for = core.Blueprint.aggregator
