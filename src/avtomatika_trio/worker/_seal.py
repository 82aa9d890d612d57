"""Whether a task was really given by the orchestrator: its signature."""

from collections.abc import Sequence
from typing import Any

import attrs

from avtomatika_trio._config import WorkerSettings
from avtomatika_trio._wire.codec import decode_any
from avtomatika_trio._wire.messages import TaskPayload
from avtomatika_trio._wire.signing import check_task
from avtomatika_trio.errors import InvalidMessage
from avtomatika_trio.worker._api import Reply

_WRONG = "its signature is wrong: it was not given by this orchestrator, or changed on its way"
_MISSING = "it has no signature, and REQUIRE_TASK_SIGNATURE is on"


@attrs.frozen(kw_only=True)
class RefusedTask(TaskPayload):
    """A task that this worker will not do, and says so in its result."""

    refusal: str


@attrs.frozen
class Seal:
    """What tasks are looked at with; without a key, they are not."""

    key: bytes | None = attrs.field(default=None, repr=False)
    is_required: bool = True
    """Whether a task without a signature is refused."""

    @classmethod
    def of(cls, settings: WorkerSettings) -> "Seal":
        """As *settings* want it (`ORCHESTRATOR_SECRET_KEY`, `REQUIRE_TASK_SIGNATURE`)."""
        key = settings.secret_key
        return cls(None if key is None else key.reveal().encode(), settings.require_task_signature)

    def sort(
        self, reply: Reply, tasks: Sequence[TaskPayload], *, listed: bool
    ) -> list[TaskPayload]:
        """*tasks* of *reply*, those that are not let through as `RefusedTask`.

        It is the text that was received that is signed, with members that are unknown here.

        Args:
            reply: The answer, which was read as *tasks* already.
            tasks: What it brings.
            listed: Whether they are in its member `tasks`; else it is itself the one task.
        """
        if self.key is None or not tasks:
            return list(tasks)
        said = decode_any(reply.body)
        faults = [self._fault(raw) for raw in (said["tasks"] if listed else [said])]
        return [
            task if fault is None else _refused(task, fault)
            for task, fault in zip(tasks, faults, strict=True)
        ]

    def _fault(self, raw: dict[str, Any]) -> str | None:
        assert self.key is not None
        if raw.get("sig") is None:
            return _MISSING if self.is_required else None
        try:
            return None if check_task(raw, self.key) else _WRONG
        except InvalidMessage as exc:
            return str(exc)


def _refused(task: TaskPayload, refusal: str) -> RefusedTask:
    fields = {field.name: getattr(task, field.name) for field in attrs.fields(TaskPayload)}
    return RefusedTask(**fields, refusal=refusal)
