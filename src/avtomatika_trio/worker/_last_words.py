"""What a worker still does when no handler of it runs any more."""

import logging
from collections.abc import Sequence

import trio

from avtomatika_trio.worker._attempts import Attempts
from avtomatika_trio.worker._delivery import Delivery
from avtomatika_trio.worker._home import Home
from avtomatika_trio.worker._predecessors import Predecessors
from avtomatika_trio.worker._renewal import Renewal
from avtomatika_trio.worker._snapshot import Holdings
from avtomatika_trio.worker._spool import Spool

logger = logging.getLogger(__name__)

#: How long results that are still on their way may take at the end; what does not get
#: through stays in the spool.
_LAST_RESULTS_SECONDS = 5.0
#: And then the returns of threads, and the goodbyes, each.
_LAST_WORD_SECONDS = 2.0


async def say_last_words(
    *,
    homes: Sequence[Home],
    renewals: Sequence[Renewal],
    delivery: Delivery,
    attempts: Attempts,
    spool: Spool,
    holdings: Holdings,
    predecessors: Predecessors,
    instance: str,
) -> None:
    """Deliver, give back, and say goodbye, in this order; each for a limited time.

    Args:
        homes: The orchestrators.
        renewals: Of the leases, for each of them.
        delivery: Of results.
        attempts: None of them runs, but threads may.
        spool: Where results wait.
        holdings: What leases are renewed for.
        predecessors: Where dead processes are noted.
        instance: Of this run.
    """
    with trio.move_on_after(_LAST_RESULTS_SECONDS):
        await delivery.all_delivered()
        await _all_given_back(homes)
    undelivered = len(spool.pending())
    if undelivered:
        logger.warning("%d results stay in the spool for the next run", undelivered)
    if delivery.unwritten:
        logger.error(
            "%d results are lost, since the disk takes none: %s; their tasks will be done again",
            delivery.unwritten,
            delivery.disk_fault or "it has taken too long",
        )
    async with trio.open_nursery() as ending:  # a thread may wait for an answer just now
        for renewal in renewals:
            ending.start_soon(renewal.end)
    attempts.give_back_threads()
    with trio.move_on_after(_LAST_WORD_SECONDS):
        await _all_given_back(homes)
    # Also what could not be given back is not held by anybody now.
    holdings.keep_only(entry.task_id for entry in spool.pending())
    told: list[bool] = []
    with trio.move_on_after(_LAST_WORD_SECONDS):
        async with trio.open_nursery() as goodbyes:
            for renewal in renewals:
                goodbyes.start_soon(_say_goodbye, renewal, told)
    if len(told) == len(renewals) and all(told) and not spool.pending():
        # Nobody has to be told by the next process that this one is dead.
        await predecessors.forget([instance])


async def _all_given_back(homes: Sequence[Home]) -> None:
    for home in homes:
        await home.returns.all_given_back()


async def _say_goodbye(renewal: Renewal, told: list[bool]) -> None:
    told.append(await renewal.say_goodbye())
