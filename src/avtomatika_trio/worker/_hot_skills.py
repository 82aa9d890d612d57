"""Hot skills: those whose models and data are loaded already, so that a task begins at once."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from avtomatika_trio._core.arguments import did_you_mean
from avtomatika_trio.errors import ConfigError


class HotSkills:
    """What is hot, as handlers mark it; every method may be called by any thread.

    Args:
        dependencies: The resources of each skill, where it has some: it is hot as long as all
            of these are marked.  The others are hot as long as they are marked themselves.
        skills: Tells the names of all skills.

    Raises:
        ConfigError: resources are one text, of which each letter would be one.
    """

    def __init__(
        self, dependencies: Mapping[str, Sequence[str]], skills: Callable[[], Sequence[str]]
    ) -> None:
        for skill, needed in dependencies.items():
            if isinstance(needed, str):
                problem = f"skill_dependencies: {skill!r} has {needed!r}; write [{needed!r}]"
                raise ConfigError((problem,))
        self._needs = {skill: frozenset(needed) for skill, needed in dependencies.items()}
        self._skills = skills
        self._marked: frozenset[str] = frozenset()
        self._changing = threading.Lock()
        self._tell: Callable[[], None] = lambda: None

    def check(self) -> None:
        """Raise `ConfigError` if there are dependencies of a skill that does not exist."""
        skills = self._skills()
        problems = tuple(
            f"skill_dependencies: there is no skill {it!r}; {did_you_mean(it, skills)}"
            for it in self._needs
            if it not in skills
        )
        if problems:
            raise ConfigError(problems)

    def add(self, name: str) -> None:
        """Mark a skill or a resource as hot.

        Raises:
            ConfigError: there is neither a skill nor a resource of that name.
        """
        self._checked(name)
        self._change(lambda marked: marked | {name})

    def remove(self, name: str) -> None:
        """Mark a skill or a resource as not hot any more.

        Raises:
            ConfigError: as `add`.
        """
        self._checked(name)
        self._change(lambda marked: marked - {name})

    def names(self) -> list[str]:
        """The skills that are hot now."""
        marked = self._marked
        return [
            skill
            for skill in self._skills()
            if skill in marked or ((needed := self._needs.get(skill)) and needed <= marked)
        ]

    def members(self) -> dict[str, Any]:
        """What heartbeats tell of it."""
        return {"hot_skills": self.names()}

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call *tell*, in the loop that runs now, soon after each change."""
        token = trio.lowlevel.current_trio_token()
        self._tell = lambda: token.run_sync_soon(tell, idempotent=True)
        try:
            yield
        finally:
            self._tell = lambda: None

    def _checked(self, name: str) -> None:
        known = [*self._skills(), *sorted({it for needed in self._needs.values() for it in needed})]
        if name not in known:
            raise ConfigError(
                (f"there is no skill or resource {name!r} to be hot; {did_you_mean(name, known)}",)
            )

    def _change(self, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
        with self._changing:
            before, self._marked = self._marked, change(self._marked)
            is_new = self._marked != before
        if is_new:
            self._tell()
