"""Skills that are played: handlers that do what a test says."""

import itertools
from collections.abc import Mapping
from typing import Any

from avtomatika_trio.errors import PermanentError
from avtomatika_trio.worker import SkillBlueprint, Worker


class Lost:
    """The outcome of an attempt whose worker vanishes; see `LOST`."""

    def __repr__(self) -> str:
        return "LOST"


LOST = Lost()
"""An outcome of a skill that is played: its worker dies in the middle, without a word."""


def played_by(skills: Mapping[str, Any]) -> Worker:
    """A worker that plays *skills*; see `cluster`.

    Raises:
        ConfigError: a name or a function cannot be that of a skill.
    """
    worker = Worker()
    for name, played in skills.items():
        is_handler = callable(played) and not is_error(played)
        worker.skill(name)(played if is_handler else _handler(name, played))
    return worker


def _handler(name: str, played: Any) -> Any:
    begun = itertools.count(1)

    async def handle(params: dict[str, Any]) -> Any:
        outcome = _outcome(name, played, next(begun)) if isinstance(played, list) else played
        if is_error(outcome):
            raise outcome
        return outcome(params) if callable(outcome) else outcome

    return handle


def _outcome(name: str, outcomes: list[Any], number: int) -> Any:
    if number > len(outcomes):
        raise PermanentError(
            f"this is attempt {number} at the skill {name!r}, and the test has outcomes for no"
            f" more than {len(outcomes)}; give more, or a function in place of the list"
        )
    return outcomes[number - 1]


def is_error(outcome: Any) -> bool:
    """Whether it is raised, and not returned."""
    kind = outcome if isinstance(outcome, type) else type(outcome)
    return issubclass(kind, BaseException)


def as_worker(given: Worker | SkillBlueprint) -> Worker:
    """A worker with the skills of what a test was given.

    Raises:
        TypeError: it is neither a worker nor a set of skills.
    """
    if isinstance(given, Worker):
        return given
    if not isinstance(given, SkillBlueprint):
        raise TypeError(
            f"{given!r} is no worker; give a Worker or a SkillBlueprint, and functions as"
            " skills={'name': function}"
        )
    worker = Worker()
    worker.include(given)
    return worker
