"""Leases: renewed by heartbeats, settled by reconciliation, ended by time.

A heartbeat of our own workers names everything that the process holds; whatever else it
was given comes back at once.  Workers without our extensions ("foreign") are judged by
patience instead.  The rules' names (H, L, O, R) are those of the docs' page on guarantees.
"""

from typing import Any

import attrs

from avtomatika_trio._core import attempts
from avtomatika_trio._core.dispatch import lease_seconds, may_have_work
from avtomatika_trio._core.ledger import Instance, InstanceKind, Ledger, Service
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Attempt, AttemptStatus


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


@attrs.frozen(kw_only=True)
class Beat:
    """A heartbeat."""

    worker_id: str
    instance: str
    number: int = 0
    """Grows by one with each heartbeat of the instance; 0 = not numbered (foreign)."""
    last_poll: int = 0
    open_polls: tuple[int, ...] = ()
    current_tasks: tuple[str, ...] | None = None
    """Wire ids held; None = says nothing of them (foreign, empty body)."""
    replaces: tuple[str, ...] = ()
    """Earlier instances of this worker, found in its spool, that are dead (rule L6)."""
    blocked_seconds: float = 0.0
    leaving: bool = False
    """The process is about to end and has given back what it held."""
    status: str = "idle"
    skills: tuple[str, ...] | None = None


@attrs.frozen(kw_only=True)
class BeatAnswer:
    """What a heartbeat is answered, and what deserves a line in the log."""

    known: bool
    is_first: bool = False
    """Whether it is the first one of its instance."""
    cancel: tuple[str, ...] = ()
    """Named wire ids that the worker should stop working on."""
    replaced: tuple[str, ...] = ()
    """Instances that are now known to be dead; need not be announced again."""
    notes: tuple[str, ...] = ()


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
    )
    ledger.put_instance(instance)
    return instance


def heartbeat(ledger: Ledger, beat: Beat, rules: Rules) -> BeatAnswer:
    """Renew and reconcile what the sender holds."""
    instance = ledger.instance(beat.instance)
    if instance is None or instance.worker_id != beat.worker_id:
        return BeatAnswer(known=False)
    if instance.kind is InstanceKind.FOREIGN:
        return _foreign_heartbeat(ledger, instance, beat, rules)
    if beat.number <= instance.beat:
        return BeatAnswer(known=True)  # a late one: a newer one has already told more
    return _our_heartbeat(ledger, instance, beat, rules)


def _our_heartbeat(ledger: Ledger, old: Instance, beat: Beat, rules: Rules) -> BeatAnswer:
    now = ledger.now
    until = now + rules.lease_for(old.interval_seconds)
    notes: list[str] = []
    if old.replaced_by is not None:
        notes.append(
            f"instance {old.id} of worker {old.worker_id} is alive, though {old.replaced_by}"
            " said that it had replaced it: is one spool or machine image used twice?"
        )
    blocked = beat.blocked_seconds >= old.interval_seconds
    lost_in_thought = beat.blocked_seconds >= rules.blocked_loop_seconds
    instance = attrs.evolve(
        old,
        seen_at=now,
        lease_until=until,
        due_at=until,
        beat=beat.number,
        last_poll=max(old.last_poll, beat.last_poll),
        open_polls=beat.open_polls,
        blocked_since=now - beat.blocked_seconds if blocked else None,
        replaced_by=None,
        gone=beat.leaving,
        current_tasks=len(beat.current_tasks or ()),
        status=beat.status,
        skills=old.skills if beat.skills is None else beat.skills,
    )
    ledger.put_instance(instance)
    named = frozenset(beat.current_tasks or ())
    replaced = _replace(ledger, instance, beat.replaces, named, rules)
    for attempt in ledger.leased(instance.id):
        if lost_in_thought:
            attempts.lose(ledger, attempt, rules, "the worker's event loop stands still")
        elif attempt.wire_id not in named and not may_have_work(instance, attempt.poll):
            attempts.unclaim(ledger, attempt, "the worker does not hold it")
    cancel = [] if lost_in_thought else _retake_or_cancel(ledger, instance, named, until, notes)
    return BeatAnswer(
        known=True,
        is_first=old.beat == 0,
        cancel=tuple(cancel),
        replaced=replaced,
        notes=tuple(notes),
    )


def _replace(
    ledger: Ledger,
    instance: Instance,
    replaces: tuple[str, ...],
    named: frozenset[str],
    rules: Rules,
) -> tuple[str, ...]:
    """Bury earlier instances of the same worker: what they held and nobody names is lost."""
    for dead_id in replaces:
        dead = ledger.instance(dead_id)
        if dead is None or dead.worker_id != instance.worker_id or dead_id == instance.id:
            continue  # never heard of here (another cluster's): nothing to bury, acknowledged
        for attempt in ledger.leased(dead_id):
            if attempts.holder_of(ledger, attempt) is None:
                continue  # its job has ended with one that was lost before it
            if attempt.wire_id in named:
                poll = attempts.poll_of(attempt, instance.id)
                moved = attrs.evolve(attempt, instance=instance.id, poll=poll)
                ledger.put_attempt(moved)
            else:
                attempts.lose(ledger, attempt, rules, "the worker process died")
        forget_at = ledger.now + rules.forget_seconds
        buried = attrs.evolve(dead, gone=True, replaced_by=instance.id, due_at=forget_at)
        ledger.put_instance(buried)
    return replaces


def _retake_or_cancel(
    ledger: Ledger, instance: Instance, named: frozenset[str], until: float, notes: list[str]
) -> list[str]:
    """Settle named attempts that are not leased to the sender; returns those to cancel."""
    cancel: list[str] = []
    for wire_id in sorted(named):
        attempt = ledger.attempt(wire_id)
        if attempt is None:
            continue  # another cluster's
        mine = _is_or_inherited(ledger, attempt, instance)
        if mine and attempt.status is AttemptStatus.LEASED:
            continue
        if mine and attempts.may_retake(ledger, attempt):
            attempts.retake(ledger, attempt, instance.id, until)
            notes.append(f"attempt {wire_id} was believed lost and is held by {instance.id}")
        else:
            cancel.append(wire_id)
    return cancel


def _is_or_inherited(ledger: Ledger, attempt: Attempt, instance: Instance) -> bool:
    if attempt.instance == instance.id:
        return True
    holder = ledger.instance(attempt.instance)
    return holder is not None and holder.replaced_by == instance.id


def _foreign_heartbeat(ledger: Ledger, old: Instance, beat: Beat, rules: Rules) -> BeatAnswer:
    now = ledger.now
    until = now + rules.foreign_lease_seconds
    says_nothing = beat.current_tasks is None
    ledger.put_instance(
        attrs.evolve(
            old,
            seen_at=now,
            lease_until=until if says_nothing else old.lease_until,
            due_at=until,
            gone=beat.leaving,
            current_tasks=len(beat.current_tasks or ()),
            status=beat.status,
            skills=old.skills if beat.skills is None else beat.skills,
        )
    )
    if says_nothing:
        return BeatAnswer(known=True)
    named = frozenset(beat.current_tasks or ())
    for attempt in ledger.leased(old.id):
        if attempts.holder_of(ledger, attempt) is None:
            continue  # its job has ended with one that was lost before it
        if attempt.wire_id in named:
            ledger.put_attempt(attrs.evolve(attempt, lease_until=until, missed_at=None))
        elif attempt.missed_at is None:
            ledger.put_attempt(attrs.evolve(attempt, missed_at=now))
        elif now - attempt.missed_at >= 2 * old.interval_seconds:
            attempts.lose(ledger, attempt, rules, "the worker does not name it any more")
    notes: list[str] = []
    cancel = _retake_or_cancel(ledger, old, named, until, notes)
    return BeatAnswer(known=True, cancel=tuple(cancel), notes=tuple(notes))


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
            attempts.lose(ledger, attempt, rules, "the worker was not heard of")
        else:
            still.append(until)
    forget_at = instance.seen_at + rules.forget_seconds
    if not still and instance.gone and forget_at <= now:
        ledger.drop_instance(instance.id)
    else:
        due_at = min(still, default=max(forget_at, now))
        ledger.put_instance(attrs.evolve(instance, gone=True, due_at=due_at))
