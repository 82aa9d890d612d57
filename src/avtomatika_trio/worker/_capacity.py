"""What the author of a worker says about its capacity, besides settings."""

from collections.abc import Mapping

import attrs

from avtomatika_trio.worker._groups import CapacityChecker, Groups
from avtomatika_trio.worker._hot_skills import HotSkills
from avtomatika_trio.worker._skills import Skill


@attrs.frozen(kw_only=True, eq=False)
class Capacity:
    """What the author says; by default nothing."""

    limits: Mapping[str, int] = attrs.field(factory=dict)
    """How many attempts at a time the skills of a type may have, together."""
    checker: CapacityChecker | None = None
    """May veto a skill."""
    hot: HotSkills = attrs.field(factory=lambda: HotSkills({}, tuple))
    """What handlers mark as hot."""

    def groups(self, skills: Mapping[str, Skill]) -> Groups:
        """The room that there is for *skills*.

        Raises:
            ConfigError: a limit makes no sense.
        """
        types = {name: skill.info.type or name for name, skill in skills.items()}
        return Groups(types, self.limits, self.checker)


NO_LIMITS = Capacity()
"""Nothing but the slots."""
