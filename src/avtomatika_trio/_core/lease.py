"""Leases: renewed by heartbeats, settled by reconciliation, ended by time.

A heartbeat of our own workers names everything that the process holds; whatever else it
was given comes back at once.  Workers without our extensions ("foreign") are judged by
patience instead.  The rules' names (H, L, O, R) are those of the docs' page on guarantees.

What a process says is noted in its home, first; then each partition in which it may hold
something settles that for itself.
"""

from typing import Any

import attrs

from avtomatika_trio._core import attempts
from avtomatika_trio._core.dispatch import lease_seconds, may_have_work
from avtomatika_trio._core.ledger import Instance, InstanceKind, Ledger, Service
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.settling import (
    NOT_HELD,
    Beat as Beat,  # noqa: PLC0414 - said to this module
    BeatAnswer as BeatAnswer,  # noqa: PLC0414
    settle,
)
from avtomatika_trio._core.task import Attempt

#: Why an attempt is lost whose lease has ended; the other reasons are told by somebody.
EXPIRED = "the worker was not heard of"


@attrs.frozen(kw_only=True)
class Registration:
    """A worker process says who it is."""

    worker_id: str
    instance: str
    kind: InstanceKind
    skills: tuple[str, ...]
    interval_seconds: float
    said: dict[str, Any]
    credential: str = ""
    """What it has shown, see `Instance.credential`."""


def register(ledger: Ledger, said: Registration, rules: Rules) -> Instance:
    """Take note of a worker process; doing it again changes what it said, not its leases."""
    now = ledger.now
    old = ledger.instance(said.instance)
    ours = said.kind is InstanceKind.OURS
    lease = lease_seconds(said.kind, said.interval_seconds, rules)
    instance = Instance(
        id=said.instance,
        worker_id=said.worker_id,
        kind=said.kind,
        registration=said.said,
        skills=said.skills,
        registered_at=now,
        seen_at=now,
        lease_until=now + lease if ours else now,
        due_at=now + lease,
        interval_seconds=said.interval_seconds,
        credential=said.credential,
        beat=0 if old is None else old.beat,
        last_poll=0 if old is None else old.last_poll,
        open_polls=() if old is None else old.open_polls,
        held=() if old is None else old.held,
        hot_skills=() if old is None else old.hot_skills,
    )
    ledger.put_instance(instance)
    return instance


def heartbeat(ledger: Ledger, beat: Beat, rules: Rules) -> BeatAnswer:
    """Note, in the home of the sender, what it says; renew and reconcile what it holds there."""
    old = ledger.instance(beat.instance)
    if old is None or old.worker_id != beat.worker_id:
        return BeatAnswer(known=False)
    if old.kind is InstanceKind.OURS and beat.number <= old.beat:
        return BeatAnswer(known=True, is_late=True)
    instance = _as_told(old, beat, ledger.now, rules)
    ledger.put_instance(instance)
    notes: list[str] = []
    if old.kind is InstanceKind.OURS and old.replaced_by is not None:
        notes.append(
            f"instance {old.id} of worker {old.worker_id} is alive, though {old.replaced_by}"
            " said that it had replaced it: is one spool or machine image used twice?"
        )
    is_first = old.kind is InstanceKind.OURS and old.beat == 0
    answer = settle(ledger, instance, beat, rules, notes)
    return attrs.evolve(answer, is_first=is_first, sender=instance)


def reconcile(ledger: Ledger, beat: Beat, rules: Rules) -> BeatAnswer:
    """Renew and reconcile what the sender holds in a partition that is not its home.

    To be called after `heartbeat`; nothing is done if the home has heard a newer one.
    """
    old = ledger.instance(beat.instance)
    if old is None or old.worker_id != beat.worker_id:
        return BeatAnswer(known=False)
    if old.kind is InstanceKind.OURS and beat.number < old.beat:
        return BeatAnswer(known=True, is_late=True)
    return settle(ledger, _as_told(old, beat, ledger.now, rules), beat, rules, [])


def _as_told(old: Instance, beat: Beat, now: float, rules: Rules) -> Instance:
    """The record of an instance after *beat*."""
    ours = old.kind is InstanceKind.OURS
    until = now + lease_seconds(old.kind, old.interval_seconds, rules)
    held = (beat.current_tasks if beat.held is None else beat.held) or ()
    told = attrs.evolve(
        old,
        seen_at=now,
        lease_until=until if ours or beat.current_tasks is None else old.lease_until,
        due_at=until,
        gone=beat.leaving,
        current_tasks=len(held),
        status=beat.status,
        skills=old.skills if beat.skills is None else beat.skills,
        hot_skills=old.hot_skills if beat.hot_skills is None else beat.hot_skills,
    )
    if not ours:
        return told
    blocked = beat.blocked_seconds >= old.interval_seconds
    return attrs.evolve(
        told,
        beat=beat.number,
        last_poll=max(old.last_poll, beat.last_poll),
        open_polls=beat.open_polls,
        blocked_since=now - beat.blocked_seconds if blocked else None,
        replaced_by=None,
        held=held,
    )


def take_back(
    ledger: Ledger,
    worker_id: str,
    wire_ids: tuple[str, ...],
    unstarted: frozenset[str],
    rules: Rules,
    noise: float,
) -> int:
    """A worker returns attempts that it will not do (rule H6); returns how many were its own."""
    count = 0
    for wire_id in wire_ids:
        attempt = ledger.attempt(wire_id)
        if attempt is None or attempt.worker_id != worker_id:
            continue
        if attempts.holder_of(ledger, attempt) is None:
            continue
        started = wire_id not in unstarted
        reason = "stopped by the worker" if started else "no room for it"
        attempts.give_back(ledger, attempt, rules, reason, noise, started=started)
        count += 1
    return count


def unhand(ledger: Ledger, wire_ids: tuple[str, ...], reason: str) -> None:
    """Nobody was there to read an answer: what it would have handed out is queued again."""
    for wire_id in wire_ids:
        attempt = ledger.attempt(wire_id)
        if attempt is not None:
            attempts.unclaim(ledger, attempt, reason)


def last_served(ledger: Ledger) -> float | None:
    """When somebody last noted that the storage is served; None = never."""
    service = ledger.service()
    return None if service is None else service.served_at


def begin_serving(ledger: Ledger, seen: float | None) -> None:
    """A process starts: leases get their full time again, unless another one serves (rule O1).

    Args:
        ledger: Where.
        seen: What `last_served` has told a while ago; another time now shows that somebody
            else serves.
    """
    if last_served(ledger) == seen:
        ledger.put_service(Service(served_at=ledger.now, serving_since=ledger.now))


def end_leases(ledger: Ledger, rules: Rules, *, most: int) -> int:
    """Note that the storage is served, and end the leases whose time has passed.

    Instances that are long gone and hold nothing are forgotten.

    Only a process whose server accepts requests may call this (rule O1): the time in which
    no worker could renew is not held against any of them.

    Returns:
        How many instances were looked at; with *most*, call again.
    """
    since = _note_service(ledger, rules)
    looked_at = 0
    for instance in ledger.due_instances(most=most):
        lease = lease_seconds(instance.kind, instance.interval_seconds, rules)
        _look_at(ledger, instance, since + lease, rules)
        looked_at += 1
    return looked_at


def _note_service(ledger: Ledger, rules: Rules) -> float:
    """Note, once a second, that the storage is served; returns since when it has been."""
    now = ledger.now
    service = ledger.service()
    if service is None or now - service.served_at > rules.outage_seconds:
        service = Service(served_at=now, serving_since=now)
        ledger.put_service(service)
    elif now - service.served_at >= 1.0:
        ledger.put_service(attrs.evolve(service, served_at=now))
    return service.serving_since


def _look_at(ledger: Ledger, instance: Instance, not_before: float, rules: Rules) -> None:
    now = ledger.now
    if now < not_before:
        ledger.put_instance(attrs.evolve(instance, due_at=not_before))
        return
    still: list[float] = []
    for attempt in ledger.leased(instance.id):
        until = max(attempt.lease_until, instance.lease_until)
        if until <= now:
            attempts.lose(ledger, attempt, rules, EXPIRED)
        elif _was_never_held(instance, attempt, now):
            attempts.unclaim(ledger, attempt, NOT_HELD)
        else:
            still.append(until)
    if ledger.is_home_of(instance.id):
        _keep_or_forget(ledger, instance, still, rules)
    elif still:
        ledger.put_instance(attrs.evolve(instance, due_at=min(still)))
    else:
        ledger.drop_instance(instance.id)


def _was_never_held(instance: Instance, attempt: Attempt, now: float) -> bool:
    """Whether a process that lives has told, wherever that was noted, that it has no *attempt*.

    So what an answer that was lost has brought comes back also where no heartbeat looks for it.
    Of one that is replaced or silent nobody knows what it held since: that is lost in time.
    """
    return (
        instance.kind is InstanceKind.OURS
        and instance.replaced_by is None
        and instance.lease_until > now
        and attempt.wire_id not in instance.held
        and not may_have_work(instance, attempt.poll)
    )


def _keep_or_forget(ledger: Ledger, instance: Instance, still: list[float], rules: Rules) -> None:
    """Its time is over: nothing is given to it until it is heard again."""
    forget_at = instance.seen_at + rules.forget_seconds
    if not still and instance.gone and forget_at <= ledger.now:
        ledger.drop_instance(instance.id)
    else:
        due_at = min(still, default=max(forget_at, ledger.now))
        ledger.put_instance(attrs.evolve(instance, gone=True, due_at=due_at))
