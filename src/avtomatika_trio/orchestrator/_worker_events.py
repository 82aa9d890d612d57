"""What workers say while they work: progress, and events for the history; by partition."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from avtomatika_trio._core import events
from avtomatika_trio._core.event_rules import PROGRESS
from avtomatika_trio._core.fencing import Answer, ignored
from avtomatika_trio._core.json_schema import Effort
from avtomatika_trio._core.ledger import Ledger, Progress
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._wire import messages
from avtomatika_trio._wire.codec import decode, decode_any
from avtomatika_trio.errors import InvalidMessage, Problem
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._partitions import commit_in_all
from avtomatika_trio.orchestrator._rxon import as_event, as_share, foreign_id

#: Characters of a progress message that are kept.
_LONGEST_MESSAGE = 1000

_ACCEPTED: Answer = {"status": "event_accepted"}
_NO_TASK = ignored("no_task", "Event ignored: it names no task; say whose it is in target_task_id")


def read_events(body: bytes) -> tuple[list[messages.WorkerEvent], bool]:
    """The events of a post, and whether they came as a list.

    Raises:
        InvalidMessage: one of them is malformed, or they are too many.
    """
    if not isinstance(decode_any(body), list):
        return [decode(body, messages.WorkerEvent)], False
    said = decode(body, list[messages.WorkerEvent])
    if len(said) > messages.MOST_EVENTS_PER_REQUEST:
        problem = Problem("$", f"at most {messages.MOST_EVENTS_PER_REQUEST} events in one post")
        raise InvalidMessage((problem,))
    return said, True


async def note_events(
    context: Context, sender: str, said: Sequence[messages.WorkerEvent]
) -> list[Answer]:
    """Note what *sender* says of its attempts: those of a partition in one commit, in order.

    Raises:
        HttpProblem: one of them is another worker's; nothing is noted.
        StorageUnavailable: some may have been noted; sent again, they are answered as they
            would have been.
    """
    for one in said:
        if one.worker_id != sender:
            raise foreign_id(sender, one.worker_id)
    storage = context.storage
    wire_ids = [it.target_task_id or it.origin_task_id for it in said]
    where: dict[str, list[int]] = {}
    for place, wire_id in enumerate(wire_ids):
        if wire_id:
            where.setdefault(storage.partition_of(wire_id), []).append(place)
    operations: dict[str, Callable[[Ledger], list[Answer]]] = {
        partition: partial(_note, said=[said[it] for it in places], rules=context.rules)
        for partition, places in where.items()
    }
    told = await commit_in_all(storage, operations) if operations else {}
    answers = [_NO_TASK] * len(said)
    for partition, places in where.items():
        for place, answer in zip(places, told[partition], strict=True):
            answers[place] = answer
    return answers


def _note(ledger: Ledger, said: Sequence[messages.WorkerEvent], rules: Rules) -> list[Answer]:
    effort = Effort()  # a new one for each run
    return [_note_one(ledger, one, rules, effort) for one in said]


def _note_one(ledger: Ledger, said: messages.WorkerEvent, rules: Rules, effort: Effort) -> Answer:
    wire_id = said.target_task_id or said.origin_task_id or ""
    if said.event_type == PROGRESS:
        _note_progress(ledger, said.worker_id, wire_id, said.payload)
        return _ACCEPTED
    report = events.EventReport(
        worker_id=said.worker_id,
        wire_id=wire_id,
        job_id=said.target_job_id or "",
        event=as_event(said),
    )
    return events.note(ledger, report, rules, effort)


def _note_progress(ledger: Ledger, sender: str, wire_id: str, payload: dict[str, Any]) -> None:
    attempt = ledger.attempt(wire_id)
    if attempt is None or attempt.worker_id != sender or attempt.status != "leased":
        return
    ledger.put_progress(
        Progress(
            job_id=attempt.job_id,
            task_id=attempt.task_id,
            attempt=attempt.number,
            at=ledger.now,
            progress=as_share(payload.get("progress")),
            message=str(payload.get("message", ""))[:_LONGEST_MESSAGE],
        )
    )
