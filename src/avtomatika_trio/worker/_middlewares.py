"""Middlewares: what is done around every handler, and what handlers are given by it."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from avtomatika_trio.errors import ConfigError, PermanentError

logger = logging.getLogger(__name__)

Middleware = Callable[..., Awaitable[Any]]
"""`async def middleware(context, call_next)`."""


@attrs.define(kw_only=True, eq=False)
class TaskContext:
    """What a middleware is told of the attempt, and how it gives the handler something."""

    skill: str
    params: dict[str, Any]
    """As the task has them, with paths in the place of the URIs of files; not yet made into
    what the handler's annotation says.  What is put here is what the handler gets."""
    job_id: str
    task_id: str
    """The id of this attempt."""
    attempt: int
    """Its number, from 1."""
    idempotency_key: str
    """The task's id, the same for every attempt."""
    tracing_context: Mapping[str, str]
    _provides: frozenset[str] = attrs.field(default=frozenset(), alias="provides")
    _provided: dict[str, Any] = attrs.field(factory=dict, init=False)

    def provide(self, name: str, value: Any) -> None:
        """Give handlers that have a parameter *name* this *value*; before `call_next`.

        Raises:
            PermanentError: no middleware was added with *name* in `provides`.
        """
        if name not in self._provides:
            raise PermanentError(
                f"a middleware provides {name!r} but does not say so;"
                f" add it with provides=({name!r},)"
            )
        self._provided[name] = value

    def for_handler(
        self, needed: Collection[str], optional: Collection[str], *, everything: bool
    ) -> dict[str, Any]:
        """What the handler gets of it.

        Raises:
            PermanentError: something that it needs was not provided.
        """
        if missing := sorted(set(needed) - self._provided.keys()):
            raise PermanentError(
                f"nothing has provided the parameter {missing[0]!r};"
                f" its middleware calls context.provide({missing[0]!r}, ...) before call_next"
            )
        wanted = {*needed, *optional}
        return {name: it for name, it in self._provided.items() if everything or name in wanted}


@attrs.define(eq=False)
class Middlewares:
    """Those of one worker, outermost first."""

    functions: list[Middleware] = attrs.field(factory=list)
    provides: set[str] = attrs.field(factory=set)

    def add(self, function: Middleware, provides: Collection[str], taken: Sequence[str]) -> None:
        """Put *function* inside those that are there.

        Raises:
            ConfigError: it cannot be one, or provides what is not to be replaced, *taken*.
        """
        called = function if inspect.isroutine(function) else type(function).__call__
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
        if not (is_async and _takes_two(function)):
            raise ConfigError(
                (f"a middleware is an `async def` of (context, call_next), not {function!r}",)
            )
        if isinstance(provides, str):
            raise ConfigError((f"provides is a tuple of names; write ({provides!r},)",))
        for name in provides:
            if not str(name).isidentifier():
                raise ConfigError((f"provides: {name!r} cannot be the name of a parameter",))
            if name in taken:
                raise ConfigError(
                    (f"provides: every handler is given {name!r} already; choose another name",)
                )
        self.functions.append(function)
        self.provides.update(provides)


def _takes_two(function: Middleware) -> bool:
    """Whether it can be called with a context and what is further in."""
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    return True


async def call_through(
    functions: Sequence[Middleware],
    context: TaskContext,
    handle: Callable[[], Awaitable[Any]],
) -> Any:
    """Call *handle* inside *functions*; returns what the outermost of them returns."""
    if not functions:
        return await handle()
    outermost, *inner = functions
    given: Any = None

    async def call_next(_context: TaskContext | None = None) -> Any:
        """What is further in; the context may be handed on, and is the same anyway."""
        nonlocal given
        given = await call_through(inner, context, handle)
        return given

    returned = await outermost(context, call_next)
    if returned is None and given is not None:
        logger.warning(
            "the middleware %r returns None in the place of what the handler of %s returned;"
            " end it with `return await call_next()`",
            getattr(outermost, "__name__", outermost),
            context.skill,
        )
    return returned
