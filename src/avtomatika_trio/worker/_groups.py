"""What there is room for: limits of groups of skills, and skills that are vetoed.

A worker has slots; a group of skills may have fewer.  Skills share a group through their `type`.
As with slots, room in a group is taken before work is asked for:

* A request offers the skills that there is room for, and keeps that room until it is answered;
  an attempt keeps it until its handler has ended.
* A request tells how much it keeps (`room`, an extension).  Where that is not understood it asks
  for no more tasks than the group with the least room could take.
* A request that keeps no slots keeps no room either.  What it brings beyond goes back at once.

So no group ever has more attempts than its limit, whatever is answered when.
"""

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import attrs
import trio

from avtomatika_trio._core.arguments import did_you_mean
from avtomatika_trio.errors import ConfigError

logger = logging.getLogger(__name__)

CapacityChecker = Callable[[str], bool]
"""Whether there is room for a task of that skill now; it is asked in the loop, so it is quick."""

#: How soon a skill that was vetoed is asked for again.
_VETO_SECONDS = 3.0

#: A checker that takes longer is not quick: all else in the loop waits for it.
_SLOW_SECONDS = 0.5


@attrs.define(eq=False)
class Share:
    """What one request offers, and the room that it keeps for it."""

    skills: tuple[str, ...] = ()
    """What is asked for."""
    room: Mapping[str, int] = attrs.field(factory=dict)
    """The room that it tells of, by group; groups without a limit are not in it."""
    kept: Counter[str] = attrs.field(factory=Counter[str])
    """What it still keeps of that."""


class Groups:
    """The room of all groups.  Belongs to the loop, save `has_room`.

    Args:
        groups: The group of each skill.
        limits: How many attempts a group may have at a time; the others have no limit.
        checker: May veto a skill.

    Raises:
        ConfigError: a limit is not a whole number from 1, or no skill is in its group, or the
            checker is no plain function.
    """

    def __init__(
        self,
        groups: Mapping[str, str],
        limits: Mapping[str, int] | None = None,
        checker: CapacityChecker | None = None,
    ) -> None:
        self._groups = dict(groups)
        self._limits = dict(limits or {})
        self._checker = checker
        _check(self._groups, self._limits, checker)
        self._running = Counter[str]()
        self._kept = Counter[str]()
        self._vetoed: frozenset[str] = frozenset()
        self._faults: dict[str, str] = {}
        self._is_slow = False
        self._changed = trio.lowlevel.ParkingLot()
        self.on_change: list[Callable[[], None]] = []
        """Called when a veto has been lifted, or a request has given back what it kept."""

    @property
    def are_limited(self) -> bool:
        """Whether there may ever be no room for a skill while slots are free."""
        return bool(self._limits) or self._checker is not None

    def look(self) -> None:
        """Ask the capacity checker about every skill."""
        if self._checker is None:
            return
        vetoed = frozenset(skill for skill in self._groups if not self._is_able(skill))
        lifted = self._vetoed - vetoed
        self._vetoed = vetoed
        if lifted:
            self._tell()

    def available(self) -> tuple[str, ...]:
        """The skills that there is room for now, as far as no request keeps it."""
        return tuple(
            skill
            for skill, group in self._groups.items()
            if skill not in self._vetoed and self._free(group) != 0
        )

    def has_room(self) -> bool:
        """Whether another attempt of some skill may run; for any thread."""
        vetoed = self._vetoed
        return not self.are_limited or any(
            skill not in vetoed
            and (group not in self._limits or self._running[group] < self._limits[group])
            for skill, group in self._groups.items()
        )

    def are_available(self) -> bool:
        """Whether there is room for some skill, after another look."""
        self.look()
        return self.are_free()

    async def until_available(self) -> None:
        """Return when there is room for some skill; it may be gone when this is noticed."""
        while not self.are_available():
            await self._changed.park()

    async def run(self) -> NoReturn:
        """Ask again about what is vetoed, until cancelled."""
        if self._checker is None:
            await trio.sleep_forever()
        while True:
            await trio.sleep(_VETO_SECONDS)
            if self._vetoed:
                self.look()

    def share(self, most: int, *, keeps: bool, within: Sequence[str] | None = None) -> Share:
        """What a request for *most* tasks offers.

        Args:
            most: How many it asks for.
            keeps: Whether it keeps the room that it tells of.
            within: The only skills that it may offer; None = any.
        """
        skills = tuple(it for it in self.available() if within is None or it in within)
        groups = dict.fromkeys(self._groups[it] for it in skills)
        room = {it: min(self._free(it), most) for it in groups if it in self._limits}
        kept = Counter(room if keeps else {})
        self._kept += kept
        return Share(skills, room, kept)

    def begin(self, skill: str, share: Share) -> bool:
        """Take room for an attempt at *skill*: what *share* keeps, or what is free."""
        group = self._groups.get(skill, skill)
        if group not in self._limits:
            return True
        if share.kept[group]:
            share.kept[group] -= 1
            self._kept[group] -= 1
        elif self._free(group) < 1:
            return False
        self._running[group] += 1
        return True

    def end(self, skill: str) -> None:
        """Give back the room of an attempt at *skill*."""
        group = self._groups.get(skill, skill)
        if group in self._limits:
            assert self._running[group], "the room of an attempt was given back twice"
            self._running[group] -= 1
            self._changed.unpark_all()

    def release(self, share: Share) -> None:
        """Give back what *share* still keeps."""
        kept, share.kept = share.kept, Counter()
        self._kept -= kept
        if kept.total():
            self._tell()

    def room_for(self, skills: Sequence[str], most: int) -> int:
        """How many tasks of *skills*, taken together, there is room for; not over *most*."""
        free = [self._free(it) for it in {self._groups[skill] for skill in skills}]
        return most if -1 in free else min(most, sum(free))

    def room_of(self, share: Share) -> tuple[tuple[tuple[str, ...], int], ...]:
        """What *share* tells of: skills of a group, and how many tasks of these."""
        return tuple(
            (tuple(it for it in share.skills if self._groups[it] == group), most)
            for group, most in share.room.items()
        )

    def are_free(self) -> bool:
        """Whether there is room for some skill, as of the last look."""
        return not self.are_limited or bool(self.available())

    def _free(self, group: str) -> int:
        """How much room is left; -1 = as much as there are slots."""
        if group not in self._limits:
            return -1
        return self._limits[group] - self._running[group] - self._kept[group]

    def _is_able(self, skill: str) -> bool:
        assert self._checker is not None
        began_at = trio.current_time()
        try:
            able = bool(self._checker(skill))
        except Exception as exc:  # the border to foreign code: a checker that fails is a veto
            fault = f"{type(exc).__name__}: {exc}"
            if self._faults.get(skill) != fault:
                logger.warning(
                    "the capacity checker failed for %s, which is not offered now",
                    skill,
                    exc_info=exc,
                )
            self._faults[skill] = fault
            return False
        self._faults.pop(skill, None)
        took_seconds = trio.current_time() - began_at
        if took_seconds >= _SLOW_SECONDS and not self._is_slow:
            self._is_slow = True
            logger.warning(
                "the capacity checker took %.1f s for %s, while the worker stood still;"
                " measure in a thread of your own, and have it answer with what that has found",
                took_seconds,
                skill,
            )
        return able

    def _tell(self) -> None:
        self._changed.unpark_all()
        for react in self.on_change:
            react()


def _is_plain(checker: object) -> bool:
    """Whether it can be called, and answers at once."""
    if not callable(checker):
        return False
    return not any(map(inspect.iscoroutinefunction, (checker, type(checker).__call__)))


def _check(groups: Mapping[str, str], limits: Mapping[Any, Any], checker: object) -> None:
    problems: list[str] = []
    # The answer of an `async def` is true, whatever it would come to.
    if checker is not None and not _is_plain(checker):
        problems.append(
            "capacity_checker: it is called in the loop with the name of a skill and answers at"
            f" once; give a `def` (skill), not {checker!r}"
        )
    for name, limit in limits.items():
        if name not in groups.values():
            problems.append(
                f"skill_type_limits: no skill has the type {name!r};"
                f" {did_you_mean(str(name), sorted(set(groups.values())))}"
            )
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            problems.append(
                f"skill_type_limits: the limit of {name!r} is {limit!r}; give a whole number from 1"
            )
    if problems:
        raise ConfigError(tuple(problems))
