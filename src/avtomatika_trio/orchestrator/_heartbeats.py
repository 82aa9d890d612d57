"""A heartbeat, in every partition that it concerns: the home of its sender first, as a rule.

Where a partition is not available the others are settled all the same; what is due there comes
with the next heartbeat, or with the janitor's next look.
"""

from collections.abc import Iterable
from functools import partial

import attrs

from avtomatika_trio._core import lease
from avtomatika_trio._core.lease import Beat, BeatAnswer
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._partitions import by_partition, commit_in_each
from avtomatika_trio.storage._base import Storage


async def note_heartbeat(context: Context, beat: Beat) -> BeatAnswer:
    """Note what a worker process says, wherever it may hold something.

    Returns:
        The answers of all partitions as one.  `replaced` is told once everything is settled:
        until then the worker repeats it.

    Raises:
        StorageUnavailable: its home is not available; nothing was done.
    """
    storage = context.storage
    home = storage.home_of(beat.instance)
    named = by_partition(storage, beat.current_tasks or ())
    answers: dict[str, BeatAnswer] = {}
    complete = True
    if await _was_silent(storage, beat):
        # It is handed nothing until its home has heard it: what it still holds is its own again
        # before it could be handed that anew (rule R2).
        elsewhere = [it for it in named if it != home]
        complete = await _reconcile(context, beat, named, elsewhere, answers)
    operation = partial(lease.heartbeat, beat=_told_in(home, beat, named), rules=context.rules)
    answer = await storage.commit(operation, home)
    if not answer.known or answer.is_late or len(storage.partitions) == 1:
        return answer
    # Nobody is handed anything in the name of the dead once their homes know of it, so that
    # what is settled in the other partitions afterwards stays so.
    graves = [it for it in map(storage.home_of, beat.replaces) if it != home]
    answers[home] = answer
    graves = [it for it in graves if it not in answers]
    complete &= await _reconcile(context, beat, named, graves, answers)
    try:
        held = await _held_by(storage, beat)
    except StorageUnavailable:
        held, complete = [], False
    elsewhere = [*named, *held]
    rest = [it for it in elsewhere if it not in answers]
    complete &= await _reconcile(context, beat, named, rest, answers)
    return _merged(answer, answers, is_complete=complete)


async def _was_silent(storage: Storage, beat: Beat) -> bool:
    """Whether the sender was believed lost, and may hold something beside its home."""
    if len(storage.partitions) == 1:
        return False
    instance = await storage.instance(beat.instance)
    return instance is not None and instance.gone


def _told_in(partition: str, beat: Beat, named: dict[str, list[str]]) -> Beat:
    """What *beat* says to *partition*."""
    if beat.current_tasks is None:
        return beat
    here = tuple(named.get(partition, ()))
    return attrs.evolve(beat, current_tasks=here, held=beat.current_tasks)


async def _held_by(storage: Storage, beat: Beat) -> list[str]:
    """Where the sender, and those that it replaces, may hold something."""
    found: list[str] = []
    for instance in (beat.instance, *beat.replaces):
        found += await storage.holdings(instance)
    return found


async def _reconcile(
    context: Context,
    beat: Beat,
    named: dict[str, list[str]],
    where: Iterable[str],
    answers: dict[str, BeatAnswer],
) -> bool:
    """Have *beat* settled in those partitions; whether all of them were there."""
    operations = {
        it: partial(lease.reconcile, beat=_told_in(it, beat, named), rules=context.rules)
        for it in where
    }
    if not operations:
        return True
    told, error = await commit_in_each(context.storage, operations)
    answers.update(told)
    for partition, answer in told.items():
        if answer.known and not answer.is_late:
            if not answer.holds:
                context.storage.drop_holding(beat.instance, partition)
            for dead in answer.replaced:
                context.storage.drop_holding(dead, partition)
    return error is None


def _merged(first: BeatAnswer, answers: dict[str, BeatAnswer], *, is_complete: bool) -> BeatAnswer:
    settled = is_complete and not any(it.is_late or not it.known for it in answers.values())
    return attrs.evolve(
        first,
        cancel=tuple(wire_id for it in answers.values() for wire_id in it.cancel),
        notes=tuple(note for it in answers.values() for note in it.notes),
        replaced=first.replaced if settled else (),
    )
