"""Handing tasks to the workers that ask for them.

Workers pull: an `Offer` says who asks and for what there is room.  Hand-out is one commit
that records worker, instance, poll number and the fresh wire id of each attempt, before
the first byte of the answer is sent (rule H2).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import attrs

from avtomatika_trio._core import task as tasks
from avtomatika_trio._core.ledger import (
    HistoryRow,
    Instance,
    InstanceKind,
    Ledger,
    Timer,
    TimerKind,
    by_queue_order,
)
from avtomatika_trio._core.rules import Rules
from avtomatika_trio._core.task import Attempt, Lane, Task

#: How far past the wanted number a queue is looked through for tasks that this worker may
#: have: bounds the cost of tasks that it should leave to others for a while (rule L9).
_LOOK_PAST = 16


@attrs.frozen(kw_only=True)
class HandOut:
    """A task and the attempt at it that a worker was given."""

    task: Task
    attempt: Attempt
    lease_seconds: float


@attrs.frozen(kw_only=True)
class Room:
    """How many tasks of some skills, taken together, a worker has room for."""

    skills: tuple[str, ...]
    most: int

    def after(self, handed_out: Sequence[str]) -> "Room":
        """What is left of it when tasks of the skills *handed_out* were."""
        return attrs.evolve(self, most=self.most - sum(it in self.skills for it in handed_out))


@attrs.frozen(kw_only=True)
class Offer:
    """What a worker says when it asks for work."""

    instance: str
    poll: int
    """Number of the poll; every request that can carry tasks has a new one."""
    skills: tuple[str, ...]
    most: int
    """How many tasks it has room for."""
    room: tuple[Room, ...] = ()
    """For how many of some of the skills, where that may be less; no skill is in two of them."""

    def after(self, got: Sequence[HandOut]) -> "Offer":
        """What is left of it when *got* was handed out; a skill without room is not in it."""
        room = tuple(it.after([one.task.skill for one in got]) for it in self.room)
        full = {skill for it in room if it.most < 1 for skill in it.skills}
        skills = tuple(skill for skill in self.skills if skill not in full)
        return attrs.evolve(self, skills=skills, most=self.most - len(got), room=room)

    def most_of(self, skill: str) -> int:
        """How many tasks of *skill* it has room for."""
        return min([self.most, *(it.most for it in self.room if skill in it.skills)])


def may_have_work(instance: Instance | None, poll: int) -> bool:
    """Whether tasks may (still) be given to this poll of this instance.

    Not if the process is gone or replaced, if its event loop stands still, or if it has
    said that it does not listen to this poll any more (rules H3, L5, L6).
    """
    return (
        instance is not None
        and not instance.gone
        and instance.blocked_since is None
        and (poll > instance.last_poll or poll in instance.open_polls)
    )


def lease_seconds(kind: InstanceKind, interval_seconds: float, rules: Rules) -> float:
    """How long a worker may be silent."""
    if kind is InstanceKind.OURS:
        return rules.lease_for(interval_seconds)
    return rules.foreign_lease_seconds


def hand_out(
    ledger: Ledger,
    offer: Offer,
    wire_ids: Sequence[str],
    rules: Rules,
    *,
    may_take_suspect: bool = True,
) -> tuple[HandOut, ...]:
    """Lease up to `offer.most` queued tasks to a worker.

    Args:
        ledger: Where.
        offer: Who asks, and for what.
        wire_ids: Fresh random ids, at least `offer.most` of them.
        rules: For the lease.
        may_take_suspect: Whether it holds no suspect in any other partition (rule L8).
    """
    instance = ledger.instance(offer.instance)
    if instance is None or not may_have_work(instance, offer.poll):
        return ()
    chosen = _choose(ledger, instance, offer, may_take_suspect=may_take_suspect)
    return tuple(
        _lease(ledger, task, instance, offer.poll, wire_id, rules)
        for task, wire_id in zip(chosen, wire_ids, strict=False)
    )


def holds_suspect(ledger: Ledger, instance_id: str) -> bool:
    """Whether a suspect of this partition is leased to that process (rule L8)."""
    return any(attempt.suspect for attempt in ledger.leased(instance_id))


def has_suspect(ledger: Ledger, offer: Offer) -> bool:
    """Whether there is a suspect that *offer* may be given if it holds no other."""
    instance = ledger.instance(offer.instance)
    if instance is None or not may_have_work(instance, offer.poll):
        return False
    return bool(_suspects(ledger, instance, offer)) and not holds_suspect(ledger, instance.id)


def _suspects(ledger: Ledger, instance: Instance, offer: Offer) -> list[Task]:
    found: list[Task] = []
    for skill in dict.fromkeys(offer.skills):
        found += ledger.queued(skill, Lane.SUSPECT, most=1 + _LOOK_PAST)
    return [task for task in found if _may_take(ledger, instance, task)]


def _choose(
    ledger: Ledger, instance: Instance, offer: Offer, *, may_take_suspect: bool
) -> list[Task]:
    """The tasks to hand out: the best of all lanes, and at most one suspect (rule L8)."""
    found: list[Task] = []
    for skill in dict.fromkeys(offer.skills):  # a skill named twice has no tasks twice
        found += ledger.queued(skill, Lane.NORMAL, most=offer.most_of(skill) + _LOOK_PAST)
    suspects = _suspects(ledger, instance, offer) if may_take_suspect else []
    if suspects and not holds_suspect(ledger, instance.id):
        found.append(by_queue_order(suspects)[0])
    ordered = by_queue_order(t for t in found if _may_take(ledger, instance, t))
    return list(_with_room(ordered, offer))[: offer.most]


def _with_room(ordered: Iterable[Task], offer: Offer) -> Iterator[Task]:
    """Those of *ordered* that there is room for, when they are taken one after the other."""
    taken = Counter[int]()
    which = {skill: number for number, it in enumerate(offer.room) for skill in it.skills}
    for task in ordered:
        number = which.get(task.skill)
        if number is None:
            yield task
        elif taken[number] < offer.room[number].most:
            taken[number] += 1
            yield task


def _may_take(ledger: Ledger, instance: Instance, task: Task) -> bool:
    return task.avoid != instance.worker_id or ledger.now >= task.avoid_until


def _lease(
    ledger: Ledger, task: Task, instance: Instance, poll: int, wire_id: str, rules: Rules
) -> HandOut:
    now = ledger.now
    lease = lease_seconds(instance.kind, instance.interval_seconds, rules)
    ours = instance.kind is InstanceKind.OURS
    if task.dispatch_timeout is not None:
        ledger.drop_timer(TimerKind.DISPATCH_TIMEOUT, task.id)
    leased = tasks.step(task, tasks.HandedOut(wire_id=wire_id))
    ledger.put_task(leased)
    attempt = Attempt(
        wire_id=wire_id,
        task_id=task.id,
        job_id=task.job_id,
        number=leased.attempt,
        worker_id=instance.worker_id,
        instance=instance.id,
        poll=poll,
        leased_at=now,
        # A worker of ours is alive if it beats, not if it polls: what it was given does not
        # outlive its last heartbeat's lease.
        lease_until=instance.lease_until if ours else now + lease,
        suspect=task.lane is Lane.SUSPECT,
    )
    ledger.put_attempt(attempt)
    if task.timeout_seconds is not None:
        due_at = now + task.timeout_seconds
        ledger.put_timer(Timer(kind=TimerKind.ATTEMPT_TIMEOUT, subject=wire_id, due_at=due_at))
    ledger.record(
        HistoryRow(
            job_id=task.job_id,
            type="attempt_leased",
            at=now,
            revision=task.dispatch,
            state=task.state,
            task_id=task.id,
            attempt=leased.attempt,
            worker_id=instance.worker_id,
        )
    )
    return HandOut(task=leased, attempt=attempt, lease_seconds=lease)
