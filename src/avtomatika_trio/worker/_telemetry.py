"""How busy the machine is, as heartbeats tell it: if it has changed, or was not told for long.

What cannot be measured is not told: no zeros in its place.
"""

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from avtomatika_trio._core.json_values import copy_json

logger = logging.getLogger(__name__)

UsageChecker = Callable[[], Mapping[str, Any] | None]
"""Measures: `cpu_load_percent`, `ram_used_gb` and whatever else is JSON; None = cannot now."""

_GIB = 1024**3


class Usage:
    """The measuring, for all links.  Called by the threads of heartbeats, so it is to be quick."""

    def __init__(self) -> None:
        self.checker: UsageChecker | None = None
        """Of the author; without one psutil measures, where it is installed."""
        self._psutil: Any = None
        self._fault: str | None = None

    def open(self, *, is_real: bool = True) -> None:
        """Get ready to measure; the load is that since the last time it was asked for.

        Args:
            is_real: Whether the worker is on this machine, and not on one that is played.
        """
        if is_real and self.checker is None and importlib.util.find_spec("psutil") is not None:
            self._psutil = importlib.import_module("psutil")
            self._psutil.cpu_percent(interval=None)

    def measure(self) -> Mapping[str, Any] | None:
        """The usage now; None if it cannot be told."""
        try:
            if self.checker is not None:
                return _checked(self.checker())
            if self._psutil is None:
                return None
            used = self._psutil.virtual_memory().used / _GIB
            load = self._psutil.cpu_percent(interval=None)
        except Exception as exc:  # the border to foreign code: of the author, or of psutil
            fault = f"{type(exc).__name__}: {exc}"
            if fault != self._fault:
                logger.warning("the usage cannot be measured", exc_info=exc)
            self._fault = fault
            return None
        return {"cpu_load_percent": load, "ram_used_gb": round(used, 2)}


def _checked(said: Any) -> Mapping[str, Any] | None:
    """What a checker has *said*, as it can be sent.

    Raises:
        TypeError: it is no mapping.
        NotJson: it has what cannot be sent.
    """
    if said is None:
        return None
    if not isinstance(said, Mapping):
        raise TypeError(f"the usage checker returns a dict or None, not {type(said).__name__}")
    copied: dict[str, Any] = copy_json(said, "usage")
    return copied


class Telemetry:
    """What one orchestrator was told, and is due to be told.

    Args:
        usage: Measures.
        deadband: By how much a value must change, in points of a hundred.
        force_seconds: After how long it is told without a change.
        clock: In seconds; for any thread.
    """

    def __init__(
        self, usage: Usage, deadband: float, force_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._usage = usage
        self._deadband = deadband
        self._force_seconds = force_seconds
        self._clock = clock
        self._told: dict[str, float] | None = None
        self._told_at = 0.0

    def members(self) -> dict[str, Any]:
        """What the next heartbeat tells: `usage`, or nothing."""
        usage = self._usage.measure()
        if usage is None:
            return {}
        now, values = self._clock(), dict(_numbers(usage))
        if abs(now - self._told_at) < self._force_seconds and not self._has_changed(values):
            return {}
        self._told, self._told_at = values, now
        return {"usage": dict(usage)}

    def _has_changed(self, values: dict[str, float]) -> bool:
        told = self._told
        if told is None or told.keys() != values.keys():
            return True
        return any(
            _points(path, told[path], value) > self._deadband for path, value in values.items()
        )


def _points(path: str, before: float, after: float) -> float:
    """By how much a value has changed: in points of a hundred, or else in percent of itself."""
    change = abs(after - before)
    if path.endswith("_percent"):
        return change
    return change / abs(before) * 100 if before else (100.0 if change else 0.0)


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, member in value.items():
            yield from _numbers(member, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield from _numbers(item, f"{path}/{position}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number beyond all measuring
            yield path, float(value)
