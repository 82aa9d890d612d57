"""What a heartbeat changes of the leases of one partition: renewed, ended, moved, taken again."""

import attrs

from avtomatika_trio._core import attempts
from avtomatika_trio._core.dispatch import lease_seconds, may_have_work
from avtomatika_trio._core.ledger import Instance, InstanceKind, Ledger
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Attempt, AttemptStatus

NOT_HELD = "the worker does not hold it"


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
    """Wire ids held, of the partition that is asked; None = says nothing of them (foreign,
    empty body)."""
    held: tuple[str, ...] | None = None
    """Those of all partitions; None = the same."""
    replaces: tuple[str, ...] = ()
    """Earlier instances of this worker, found in its spool, that are dead (rule L6)."""
    blocked_seconds: float = 0.0
    leaving: bool = False
    """The process is about to end and has given back what it held."""
    status: str = "idle"
    skills: tuple[str, ...] | None = None
    hot_skills: tuple[str, ...] | None = None


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
    is_late: bool = False
    """Whether a newer one has told more already: nothing was done."""
    holds: bool = False
    """Whether something of this partition is still leased to it."""
    sender: Instance | None = None
    """What is known of its sender after it; None = nothing, or nothing was done."""


def settle(
    ledger: Ledger, instance: Instance, beat: Beat, rules: Rules, notes: list[str]
) -> BeatAnswer:
    """Settle the leases of a partition by what *instance* has just told in *beat*."""
    ours = instance.kind is InstanceKind.OURS
    named = frozenset(beat.current_tasks or ())
    lost_in_thought = ours and beat.blocked_seconds >= rules.blocked_loop_seconds
    replaced: tuple[str, ...] = ()
    if ours:
        replaced = _replace(ledger, instance, beat.replaces, named, rules)
        _end_unnamed(ledger, instance, named, rules, lost_in_thought=lost_in_thought)
    elif beat.current_tasks is not None:
        _renew_foreign(ledger, instance, named, rules)
    cancel: list[str] = []
    if not lost_in_thought:
        until = ledger.now + lease_seconds(instance.kind, instance.interval_seconds, rules)
        cancel = _retake_or_cancel(ledger, instance, beat, until, notes)
    return BeatAnswer(
        known=True,
        cancel=tuple(cancel),
        replaced=replaced,
        notes=tuple(notes),
        holds=bool(ledger.leased(instance.id)),
    )


def _end_unnamed(
    ledger: Ledger,
    instance: Instance,
    named: frozenset[str],
    rules: Rules,
    *,
    lost_in_thought: bool,
) -> None:
    for attempt in ledger.leased(instance.id):
        if lost_in_thought:
            attempts.lose(ledger, attempt, rules, "the worker's event loop stands still")
        elif attempt.wire_id not in named and not may_have_work(instance, attempt.poll):
            attempts.unclaim(ledger, attempt, NOT_HELD)


def _replace(
    ledger: Ledger,
    instance: Instance,
    replaces: tuple[str, ...],
    named: frozenset[str],
    rules: Rules,
) -> tuple[str, ...]:
    """Bury earlier instances of the same worker: what they held and nobody names is lost.

    That is noted in their record where it is; in each partition their leases are settled.
    """
    for dead_id in replaces:
        is_home = ledger.is_home_of(dead_id)
        dead = ledger.instance(dead_id) if is_home else None
        if dead_id == instance.id or (is_home and _is_none_of(dead, instance.worker_id)):
            continue  # never heard of here (another cluster's): nothing to bury, acknowledged
        for attempt in ledger.leased(dead_id):
            if attempt.worker_id != instance.worker_id:
                continue  # who says so may say anything
            if attempts.holder_of(ledger, attempt) is None:
                continue  # its job has ended with one that was lost before it
            if attempt.wire_id in named:
                poll = attempts.poll_of(attempt, instance.id)
                moved = attrs.evolve(attempt, instance=instance.id, poll=poll)
                ledger.put_attempt(moved)
            else:
                attempts.lose(ledger, attempt, rules, "the worker process died")
        if dead is not None:
            forget_at = ledger.now + rules.forget_seconds
            buried = attrs.evolve(dead, gone=True, replaced_by=instance.id, due_at=forget_at)
            ledger.put_instance(buried)
        else:
            ledger.drop_instance(dead_id)
    return replaces


def _is_none_of(instance: Instance | None, worker_id: str) -> bool:
    return instance is None or instance.worker_id != worker_id


def _retake_or_cancel(
    ledger: Ledger, instance: Instance, beat: Beat, until: float, notes: list[str]
) -> list[str]:
    """Settle named attempts that are not leased to the sender; returns those to cancel."""
    cancel: list[str] = []
    for wire_id in sorted(set(beat.current_tasks or ())):
        attempt = ledger.attempt(wire_id)
        if attempt is None:
            continue  # another cluster's
        mine = _is_or_inherited(ledger, attempt, instance, beat)
        if mine and attempt.status is AttemptStatus.LEASED:
            continue
        if mine and attempts.may_retake(ledger, attempt):
            attempts.retake(ledger, attempt, instance.id, until)
            notes.append(f"attempt {wire_id} was believed lost and is held by {instance.id}")
        else:
            cancel.append(wire_id)
    return cancel


def _is_or_inherited(ledger: Ledger, attempt: Attempt, instance: Instance, beat: Beat) -> bool:
    if attempt.instance == instance.id:
        return True
    if attempt.instance in beat.replaces:  # in whose home that may not be noted yet
        return attempt.worker_id == instance.worker_id
    holder = ledger.instance(attempt.instance)
    return holder is not None and holder.replaced_by == instance.id


def _renew_foreign(ledger: Ledger, instance: Instance, named: frozenset[str], rules: Rules) -> None:
    """A foreign worker has named what it holds: that alone is renewed (rule L4)."""
    now = ledger.now
    until = now + rules.foreign_lease_seconds
    for attempt in ledger.leased(instance.id):
        if attempts.holder_of(ledger, attempt) is None:
            continue  # its job has ended with one that was lost before it
        if attempt.wire_id in named:
            ledger.put_attempt(attrs.evolve(attempt, lease_until=until, missed_at=None))
        elif attempt.missed_at is None:
            ledger.put_attempt(attrs.evolve(attempt, missed_at=now))
        elif now - attempt.missed_at >= 2 * instance.interval_seconds:
            attempts.lose(ledger, attempt, rules, "the worker does not name it any more")
