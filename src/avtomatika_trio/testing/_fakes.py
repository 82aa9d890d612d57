"""Skills that are played: handlers that do what a test says."""

from collections.abc import Mapping
from typing import Any

import attrs

from avtomatika_trio.errors import PermanentError
from avtomatika_trio.worker import SkillBlueprint, Worker


class Lost:
    """The outcome of an attempt whose worker vanishes; see `LOST`."""

    def __repr__(self) -> str:
        return "LOST"


LOST = Lost()
"""An outcome of a skill that is played: its worker dies in the middle, without a word."""


@attrs.define(eq=False)
class Fakes:
    """The skills of a test that are played; see `cluster`."""

    skills: Mapping[str, Any]
    _taken: dict[str, int] = attrs.field(factory=dict, init=False)

    def worker(self) -> Worker:
        """One more worker with these skills; all of them share the lists of outcomes.

        Raises:
            ConfigError: a name or a function cannot be that of a skill.
        """
        worker = Worker()
        for name, played in self.skills.items():
            is_handler = callable(played) and not is_error(played)
            worker.skill(name)(played if is_handler else self._handler(name, played))
        return worker

    def _handler(self, name: str, played: Any) -> Any:
        async def handle(params: dict[str, Any]) -> Any:
            outcome = self._next(name, played) if isinstance(played, list) else played
            if is_error(outcome):
                raise outcome
            return outcome(params) if callable(outcome) else outcome

        return handle

    def _next(self, name: str, outcomes: list[Any]) -> Any:
        number = self._taken.get(name, 0)
        self._taken[name] = number + 1
        if number >= len(outcomes):
            raise PermanentError(
                f"this is attempt {number + 1} at the skill {name!r}, and the test has only"
                f" {len(outcomes)} outcomes for it"
            )
        return outcomes[number]


def is_error(outcome: Any) -> bool:
    """Whether it is raised, and not returned."""
    kind = outcome if isinstance(outcome, type) else type(outcome)
    return issubclass(kind, BaseException)


def as_worker(given: Worker | SkillBlueprint) -> Worker:
    """A worker with the skills of what a test was given."""
    if isinstance(given, Worker):
        return given
    worker = Worker()
    worker.include(given)
    return worker
