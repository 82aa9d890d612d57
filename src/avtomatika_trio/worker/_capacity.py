"""What the author of a worker says about its capacity, besides settings."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio.worker._groups import CapacityChecker, Groups
from avtomatika_trio.worker._hot_skills import HotSkills
from avtomatika_trio.worker._skills import Skill
from avtomatika_trio.worker._telemetry import Telemetry, Usage


@attrs.frozen(kw_only=True, eq=False)
class Capacity:
    """What the author says; by default nothing."""

    limits: Mapping[str, int] = attrs.field(factory=dict)
    """How many attempts at a time the skills of a type may have, together."""
    checker: CapacityChecker | None = None
    """May veto a skill."""
    hot: HotSkills = attrs.field(factory=lambda: HotSkills({}, tuple))
    """What handlers mark as hot."""

    usage: Usage = attrs.field(factory=Usage)
    """How busy the machine is."""

    def telling(
        self, settings: WorkerSettings, clock: Callable[[], float]
    ) -> Callable[[], dict[str, Any]]:
        """What the heartbeats to one orchestrator tell of it, by *clock*; for any thread."""
        band, force_seconds = settings.telemetry_deadband, settings.telemetry_force_seconds
        telemetry = Telemetry(self.usage, band, force_seconds, clock)
        return lambda: {**self.hot.members(), **telemetry.members()}

    def groups(self, skills: Mapping[str, Skill]) -> Groups:
        """The room that there is for *skills*.

        Raises:
            ConfigError: a limit makes no sense.
        """
        types = {name: skill.info.type or name for name, skill in skills.items()}
        return Groups(types, self.limits, self.checker)


NO_LIMITS = Capacity()
"""Nothing but the slots."""
