"""Events that workers send of their attempts, each one row of the job's history.

A worker of ours numbers the events of an attempt and sends them in order, so an event whose
number is not above the last is one that was sent before (rule E1).  Which numbers were noted is
a part of the attempt's record: there is nothing to look through, however many there are.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from avtomatika_trio._core.attempts import record_attempt
from avtomatika_trio._core.event_rules import MOST_EVENTS, contract_fault, shape_fault
from avtomatika_trio._core.fencing import Answer, ignored, mismatch, refusal, stale, unknown
from avtomatika_trio._core.json_schema import Effort
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Attempt, NotedEvents, Task

#: Ids of events without numbers that are remembered, of one attempt.
_MOST_IDS = 16

_WHAT = "Event"
_ACCEPTED: Answer = {"status": "event_accepted"}
_TOO_MUCH: Answer = {
    "status": "error",
    "message": "Invalid event payload: so much came at once that it was not looked at; send fewer",
}


@attrs.frozen(kw_only=True)
class SaidEvent:
    """One event as it came over the wire."""

    id: str
    number: int | None
    """Its place among those of the attempt, from 1; None: of a foreign worker."""
    type: str
    payload: dict[str, Any]


@attrs.frozen(kw_only=True)
class EventReport:
    """An event, and whose it is."""

    worker_id: str
    wire_id: str
    job_id: str
    event: SaidEvent


def note(ledger: Ledger, said: EventReport, rules: Rules, effort: Effort | None = None) -> Answer:
    """Add an event to the history, once.

    Args:
        ledger: Where.
        said: The event.
        rules: Whether undeclared ones are refused.
        effort: What may go into it and those that have come with it; None = it came alone.

    Returns:
        What to answer; `status` is `event_accepted`, `error` (it is malformed or breaks the
        contract of its skill) or `ignored` (with a `reason`).
    """
    attempt = ledger.attempt(said.wire_id)
    if attempt is None:
        return unknown(ledger, _WHAT, said.wire_id, said.job_id)
    if attempt.worker_id != said.worker_id:
        return mismatch(attempt)
    if _is_noted(attempt.events or NotedEvents(), said.event):
        return _ACCEPTED
    if attempt.answer is not None:  # its result was before it
        return stale(_WHAT, said.wire_id, attempt.job_id)
    refused = refusal(ledger, _WHAT, attempt)
    if refused is not None:
        return refused
    return _note(ledger, attempt, said.event, rules, effort or Effort())


def carried(
    ledger: Ledger,
    wire_id: str,
    events: Sequence[SaidEvent],
    lost: int,
    rules: Rules,
    effort: Effort,
) -> None:
    """Note what comes with a result that counts, and is not applied yet (rule E3).

    What is wrong with an event is no reason to refuse the result; it is counted as lost.

    Args:
        ledger: Where.
        wire_id: Of the attempt.
        events: In order.
        lost: How many more there were.
        rules: Whether undeclared ones are refused.
        effort: What may go into them.
    """
    for event in events:
        attempt = ledger.attempt(wire_id)
        assert attempt is not None
        if _is_noted(attempt.events or NotedEvents(), event):
            continue
        answer = _note(ledger, attempt, event, rules, effort)
        if answer["status"] == "error":
            lost += 1
    if lost:
        attempt = ledger.attempt(wire_id)
        assert attempt is not None
        record_attempt(
            ledger, _task_of(ledger, attempt), attempt, "worker_events_lost", {"count": lost}
        )


def _is_noted(noted: NotedEvents, event: SaidEvent) -> bool:
    if event.number is None:
        return event.id in noted.ids
    return event.number <= noted.last


def _note(
    ledger: Ledger, attempt: Attempt, event: SaidEvent, rules: Rules, effort: Effort
) -> Answer:
    task = _task_of(ledger, attempt)
    fault = shape_fault(event.type, event.payload)
    if fault is not None:
        return {"status": "error", "message": f"Invalid event payload: {fault}"}
    schemas = _schemas(ledger, attempt, task, effort)
    if effort.steps < 0:
        return _TOO_MUCH
    if schemas is not None:
        fault = contract_fault(
            event.type, event.payload, schemas, strict=rules.strict_events, effort=effort
        )
        if fault is not None:
            return {"status": "error", "code": "CONTRACT_VIOLATION_ERROR", "message": fault}
    noted = attempt.events or NotedEvents()
    if noted.count >= MOST_EVENTS:
        return _one_too_many(ledger, attempt, task, noted)
    noted = attrs.evolve(noted, count=noted.count + 1)
    if event.number is None:
        noted = attrs.evolve(noted, ids=(*noted.ids, event.id)[-_MOST_IDS:])
    else:
        noted = attrs.evolve(noted, last=event.number)
    ledger.put_attempt(attrs.evolve(attempt, events=noted))
    details = {"type": event.type, "payload": event.payload}
    record_attempt(ledger, task, attempt, "worker_event", details)
    return _ACCEPTED


def _one_too_many(ledger: Ledger, attempt: Attempt, task: Task, noted: NotedEvents) -> Answer:
    """The history tells once that there were more."""
    if not noted.is_full:
        ledger.put_attempt(attrs.evolve(attempt, events=attrs.evolve(noted, is_full=True)))
        record_attempt(ledger, task, attempt, "worker_events_full", {"most": MOST_EVENTS})
    return ignored(
        "too_many_events",
        f"Event ignored: the history keeps {MOST_EVENTS:,} events of an attempt; send fewer, such"
        " as one for many steps",
    )


def _schemas(ledger: Ledger, attempt: Attempt, task: Task, effort: Effort) -> dict[str, Any] | None:
    """What the skill declares where the attempt runs; None if that was forgotten."""
    instance = ledger.instance(attempt.instance)
    if instance is None:
        return None
    skills = instance.registration.get("supported_skills", [])
    effort.steps -= len(skills)
    mine = (it.get("events_schema") for it in skills if it.get("name") == task.skill)
    declared: Any = next(mine, None)
    return declared if isinstance(declared, dict) else {}


def _task_of(ledger: Ledger, attempt: Attempt) -> Task:
    task = ledger.task(attempt.task_id)
    assert task is not None
    return task
