"""Skills that are declared before, or without, the worker that will have them."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from avtomatika_trio._core.arguments import unknown_names
from avtomatika_trio.errors import ConfigError
from avtomatika_trio.worker._skills import Handler

H = TypeVar("H", bound=Handler)

#: What `Worker.skill` takes by name.
_NAMED = (
    *("type", "description", "version"),
    *("input_schema", "output_schema", "events_schema", "output_statuses"),
)


class SkillBlueprint:
    """Collects skills for `Worker.include`.

        images = SkillBlueprint()

        @images.skill("resize")
        async def resize(params): ...

        worker.include(images)

    Skills are checked when a worker includes them.
    """

    def __init__(self) -> None:
        self._declared: list[tuple[Handler, dict[str, Any]]] = []

    @overload
    def skill(self, name: H) -> H: ...

    @overload
    def skill(self, name: str | None = None, **named: Any) -> Callable[[H], H]: ...

    def skill(self, name: Any = None, **named: Any) -> Any:
        """Declare the handler of a skill; all arguments are those of `Worker.skill`.

        Raises:
            ConfigError: there is no argument of that name.
        """
        if callable(name):
            return self.skill()(name)
        if unknown := [it for it in named if it not in _NAMED]:
            raise ConfigError((unknown_names("skill", unknown, _NAMED),))

        def declare(function: H) -> H:
            self._declared.append((function, {"name": name, **named}))
            return function

        return declare

    @overload
    def task(self, name: H) -> H: ...

    @overload
    def task(
        self, name: str | None = None, *, task_type: str | None = None, **named: Any
    ) -> Callable[[H], H]: ...

    def task(self, name: Any = None, *, task_type: str | None = None, **named: Any) -> Any:
        """The older name of `skill`; *task_type* is its `type`."""
        if callable(name):
            return self.skill(name)
        return self.skill(name, type=task_type, **named)

    def __iter__(self) -> Iterator[tuple[Handler, dict[str, Any]]]:
        """The handlers, each with the arguments of `Worker.skill`."""
        return iter(tuple(self._declared))

    def __len__(self) -> int:
        return len(self._declared)
