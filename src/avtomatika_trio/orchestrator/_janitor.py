"""Acts on time passing: leases that end, timers that are due.

Runs only while the server accepts requests, so that no worker's lease ends while it has
nobody to renew it with (rule O1).
"""

import logging
from functools import partial
from typing import NoReturn

import trio

from avtomatika_trio._core import lease, retention, timing
from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context

logger = logging.getLogger(__name__)

#: How late a timer may fire.  A tick without anything due writes nothing but the proof of
#: service, once a second.
TICK_SECONDS = 0.2

#: How much one commit does at most; the rest follows in the next one, at once.
_MOST_PER_COMMIT = 200


#: How many jobs one commit forgets at most; leases and timers are looked at before the next ones.
_MOST_FORGOTTEN = 20


#: Whoever serves a storage notes it once a second: longer than this without a note, and
#: nobody does.
OBSERVE_SECONDS = 2.5


#: Why a task is queued again whose worker was never told of it.
_UNSURE = "the storage was away when it was handed out, and no answer was sent"


async def run_janitor(context: Context) -> NoReturn:
    """Tick until cancelled; survives an outage of the storage, and nothing else.

    Each partition is looked after on its own: one that is not available, or slow, keeps no
    other waiting.
    """
    async with trio.open_nursery() as nursery:
        busy = set(context.storage.partitions)
        for partition in context.storage.partitions:
            nursery.start_soon(_begin, context, partition, busy)
        while True:
            try:
                due = await context.storage.due_partitions()
            except StorageUnavailable as exc:
                logger.warning("leases and timers must wait: %s", exc)
                due = ()
            for partition in due:
                if partition not in busy:
                    busy.add(partition)
                    nursery.start_soon(_look_after, context, partition, busy)
            next_tick = trio.current_time() + TICK_SECONDS
            await context.pause(TICK_SECONDS)
            context.metrics.loop.woke(due=next_tick, now=trio.current_time())
    raise AssertionError  # the loop above does not end


async def _begin(context: Context, partition: str, busy: set[str]) -> None:
    """Give every lease its full time again, unless another orchestrator serves (rule O1)."""
    storage = context.storage
    while True:
        try:
            seen = await storage.commit(lease.last_served, partition)
            if storage.is_shared:
                await trio.sleep(OBSERVE_SECONDS)
            await storage.commit(partial(lease.begin_serving, seen=seen), partition)
        except StorageUnavailable as exc:
            logger.warning("leases and timers must wait: %s", exc)
            await trio.sleep(TICK_SECONDS)
        else:
            break
    await _look_after(context, partition, busy)


async def _look_after(context: Context, partition: str, busy: set[str]) -> None:
    try:
        await tick(context, partition)
    except StorageUnavailable as exc:
        logger.warning("leases and timers must wait: %s", exc)
    busy.discard(partition)


async def tick(context: Context, partition: str) -> None:
    """Do everything that is due now."""
    is_here = partial(_is_in, context, partition)
    while wire_ids := context.unsure.some(is_here):
        operation = partial(lease.unhand, wire_ids=wire_ids, reason=_UNSURE)
        await context.storage.commit(operation, partition)
        context.unsure.forget(wire_ids)
    more = True
    while more:
        noise = context.chance.noise()
        try:
            ticking = partial(_tick, context=context, noise=noise)
            more = await context.storage.commit(ticking, partition)
        except StorageUnavailable:
            # It may be the home of a worker that is away: timers do not wait for that.
            firing = partial(_fire, context=context, noise=noise)
            await context.storage.commit(firing, partition)
            raise


def _is_in(context: Context, partition: str, wire_id: str) -> bool:
    return context.storage.partition_of(wire_id) == partition


def _tick(ledger: Ledger, context: Context, noise: float) -> bool:
    looked_at = lease.end_leases(ledger, context.rules, most=_MOST_PER_COMMIT)
    return _fire(ledger, context, noise) or looked_at == _MOST_PER_COMMIT


def _fire(ledger: Ledger, context: Context, noise: float) -> bool:
    fired = timing.fire_due(ledger, context.rules, noise, most=_MOST_PER_COMMIT)
    more = retention.forget_due(ledger, context.rules, most=_MOST_FORGOTTEN)
    return more or fired == _MOST_PER_COMMIT
