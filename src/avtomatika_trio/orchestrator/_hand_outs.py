"""Leasing tasks to a worker, from whichever partition has some, and taking them back.

A commit under way is known of, whoever left: all of it is shielded.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import attrs
import trio

from avtomatika_trio._core import dispatch, lease
from avtomatika_trio._core.dispatch import HandOut, Offer
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio._wire.messages import MOST_PER_REQUEST
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._partitions import by_partition, commit_in_all, commit_in_each

logger = logging.getLogger(__name__)

#: How long giving back may take when the request itself is being cancelled.
_GIVE_BACK_SECONDS = 5.0


async def take(context: Context, offer: Offer) -> tuple[HandOut, ...]:
    """Lease what there is now.

    Raises:
        StorageUnavailable: nothing is leased, as far as is known.
    """
    if not offer.skills or offer.most < 1:
        return ()
    got: tuple[HandOut, ...] = ()
    error: StorageUnavailable | None = None
    with trio.CancelScope(shield=True):
        for partition in context.chance.in_any_order(context.storage.partitions_with(offer.skills)):
            try:
                got += await _take_in(context, offer.after(got), partition)
            except StorageUnavailable as exc:
                logger.warning("partition %s has no tasks now: %s", partition, exc)
                error = exc
            if len(got) >= offer.most:
                break
    if error is not None and not got:
        raise error
    return got


def note_holding(context: Context, offer: Offer, partition: str) -> None:
    """To be called before something of *partition* is leased to *offer*."""
    if partition != context.storage.home_of(offer.instance):
        context.storage.note_holding(offer.instance, partition)


def fresh_wire_ids(context: Context, most: int, partition: str) -> Sequence[str]:
    """Ids for up to *most* attempts."""
    return context.chance.wire_ids(partition, min(most, MOST_PER_REQUEST))


async def _take_in(context: Context, offer: Offer, partition: str) -> tuple[HandOut, ...]:
    note_holding(context, offer, partition)
    wire_ids = fresh_wire_ids(context, offer.most, partition)
    hand_out = partial(dispatch.hand_out, offer=offer, wire_ids=wire_ids, rules=context.rules)
    innocent = partial(_hand_out_innocent, hand_out=hand_out, offer=offer)
    with context.unsure.unless_known(wire_ids):
        if len(context.storage.partitions) == 1:
            return await context.storage.commit(hand_out, partition)
        got, is_suspect_left = await context.storage.commit(innocent, partition)
    rest = offer.after(got)
    if not is_suspect_left or rest.most < 1:
        return got
    try:
        return got + await _take_suspect(context, rest, partition)
    except StorageUnavailable as exc:
        logger.warning("partition %s: no suspect is handed out now: %s", partition, exc)
        return got


def _hand_out_innocent(
    ledger: Ledger, hand_out: "partial[tuple[HandOut, ...]]", offer: Offer
) -> tuple[tuple[HandOut, ...], bool]:
    """What is handed out besides suspects, and whether there is one of those."""
    got = hand_out(ledger, may_take_suspect=False)
    return got, dispatch.has_suspect(ledger, offer)


async def _take_suspect(context: Context, offer: Offer, partition: str) -> tuple[HandOut, ...]:
    """Lease a suspect, unless the process holds one in another partition (rule L8).

    Two partitions can't be asked in one moment, so it is asked again afterwards: of two that
    do this at the same time, at least one sees the other, and gives back.
    """
    if await _holds_suspect_beside(context, offer, partition):
        return ()
    wire_ids = fresh_wire_ids(context, 1, partition)
    hand_out = partial(
        dispatch.hand_out,
        offer=attrs.evolve(offer, most=1),
        wire_ids=wire_ids,
        rules=context.rules,
    )
    got: tuple[HandOut, ...] = ()
    with context.unsure.unless_known(wire_ids):
        got = await context.storage.commit(hand_out, partition)
    suspects = tuple(it for it in got if it.attempt.suspect)
    if suspects:
        try:
            is_second = await _holds_suspect_beside(context, offer, partition)
        except StorageUnavailable:
            is_second = True
        if is_second:
            await give_back(context, suspects, "the worker has another suspect")
            got = tuple(it for it in got if it not in suspects)
    return got


async def _holds_suspect_beside(context: Context, offer: Offer, partition: str) -> bool:
    storage = context.storage
    instance = await storage.instance(offer.instance)
    held = () if instance is None else instance.held
    where = {
        storage.home_of(offer.instance),
        *by_partition(storage, held),
        *await storage.holdings(offer.instance),
    } - {partition}
    look = partial(dispatch.holds_suspect, instance_id=offer.instance)
    return any((await commit_in_all(storage, dict.fromkeys(sorted(where), look))).values())


async def give_back(context: Context, unread: Iterable[HandOut], reason: str) -> None:
    """Queue again what was handed out and will not be sent."""
    wire_ids = [hand_out.attempt.wire_id for hand_out in unread]
    if not wire_ids:
        return
    operations = {
        partition: partial(lease.unhand, wire_ids=tuple(some), reason=reason)
        for partition, some in by_partition(context.storage, wire_ids).items()
    }
    done: Mapping[str, None] = {}
    with trio.move_on_after(_GIVE_BACK_SECONDS, shield=True):
        done, error = await commit_in_each(context.storage, operations)
        if error is not None:
            logger.warning("%d tasks could not be given back at once: %s", len(wire_ids), error)
    partition_of = context.storage.partition_of
    context.unsure.remember([it for it in wire_ids if partition_of(it) not in done])
