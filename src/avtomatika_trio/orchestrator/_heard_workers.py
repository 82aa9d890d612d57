"""What heartbeats tell that is not worth a commit: how busy machines are, and slots in use.

Each orchestrator remembers what it was told itself, for as long as the leases last that came
with it.  Nothing of this decides anything.
"""

from typing import Any

import attrs

from avtomatika_trio._core.ledger import Instance
from avtomatika_trio._wire.codec import decode_any, encode, is_shallow

#: Processes that are remembered, at most: more than one orchestrator hears of.
MOST_PROCESSES = 20_000

#: What a process tells of its usage is kept up to so many bytes of JSON.
MOST_BYTES = 4096


@attrs.frozen
class _Heard:
    until: float
    slots: int
    used: int
    usage: bytes | None
    """As JSON: objects would take twenty times the room."""


@attrs.frozen
class SlotCounts:
    """The slots of several processes."""

    used: int = 0
    free: int = 0


def _kept(usage: Any) -> bytes | None:
    """*usage* as JSON, if it is small and can be written wherever it is shown."""
    if usage is None or not is_shallow(usage):
        return None
    text = encode(usage)
    return text if len(text) <= MOST_BYTES else None


class HeardWorkers:
    """See the head of the module; times are of any one clock, in seconds."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}
        """By instance, the one longest not heard first."""

    def note(self, instance: Instance, *, usage: Any, until: float, now: float) -> None:
        """A heartbeat has come.

        Args:
            instance: Its sender, as it is now.
            usage: What it tells of its machine; None = as it was.
            until: When it is forgotten if no other one comes.
            now: The time.
        """
        before = self._heard.pop(instance.id, None)
        if instance.gone:
            return
        kept = _kept(usage)
        if usage is None and before is not None and before.until > now:
            kept = before.usage
        slots = instance.registration.get("slots") or 0  # those who speak no extension have none
        used = min(slots, instance.current_tasks)
        self._heard[instance.id] = _Heard(until, slots, used, kept)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Those that are over, as far as they come first, and those that are too many."""
        while self._heard:
            first = next(iter(self._heard))
            if self._heard[first].until > now and len(self._heard) <= MOST_PROCESSES:
                return
            del self._heard[first]

    def usage(self, instance_id: str, now: float) -> Any:
        """What a process has told last of its machine; None if that is not known."""
        heard = self._heard.get(instance_id)
        if heard is None or heard.until <= now or heard.usage is None:
            return None
        return decode_any(heard.usage)

    def slots(self, now: float) -> SlotCounts:
        """Those of all processes, as of their newest heartbeats."""
        heard = [it for it in self._heard.values() if it.until > now]
        used = sum(it.used for it in heard)
        return SlotCounts(used, sum(it.slots for it in heard) - used)
