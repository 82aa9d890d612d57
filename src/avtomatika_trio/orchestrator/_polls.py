"""The long poll: waiting for tasks, and not losing those that nobody came for.

A poll registers for news, looks, and then parks (rule H1).  Between the commit that hands
tasks out and the first byte of the answer it is asked once more whether anyone is there;
if not, the tasks go back (rules H3, H4).  After the first byte only the worker's heartbeat
knows what arrived.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import attrs
import trio

from avtomatika_trio._core import dispatch, lease
from avtomatika_trio._core.dispatch import HandOut, Offer
from avtomatika_trio._wire.messages import MOST_PER_REQUEST
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._exchange import ClientGone
from avtomatika_trio.orchestrator._http import Receive

logger = logging.getLogger(__name__)

#: How long giving back may take when the request itself is being cancelled.
_GIVE_BACK_SECONDS = 5.0


@attrs.define
class Presence:
    """Whether the client of a request is still there."""

    gone: bool = False
    waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Of the request while it is parked; cancelled, it is answered at once."""

    async def watch(self, receive: Receive) -> None:
        """End the waiting when the client goes away."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self.waiting.cancel()


async def wait_for_tasks(
    context: Context, offer: Offer, receive: Receive, presence: Presence, hold_seconds: float
) -> tuple[HandOut, ...]:
    """Lease tasks to *offer*, waiting for them for up to *hold_seconds*.

    Returns:
        What was handed out, committed; empty when the time is over, the client has gone or
        the orchestrator stops.

    Raises:
        StorageUnavailable: as it is, not in a group.
    """
    got: tuple[HandOut, ...] = ()
    away: StorageUnavailable | None = None
    waiting = presence.waiting
    waiting.deadline = trio.current_time() + hold_seconds
    async with trio.open_nursery() as watchers:
        watchers.start_soon(presence.watch, receive)
        watchers.start_soon(context.end_when_draining, waiting)
        try:
            with waiting, context.storage.queue_news(offer.skills) as news:
                if context.storage.may_have_queued(offer.skills):
                    got = await take(context, offer)
                while not got:
                    await news.wait()
                    got = await take(context, offer)
        except StorageUnavailable as exc:
            away = exc
        watchers.cancel_scope.cancel()
    if away is not None:
        raise away
    return got


async def take(context: Context, offer: Offer) -> tuple[HandOut, ...]:
    """Lease what there is now."""
    if not offer.skills or offer.most < 1:
        return ()
    wire_ids = fresh_wire_ids(context, offer.most)
    operation = partial(
        dispatch.hand_out,
        offer=offer,
        wire_ids=wire_ids,
        rules=context.rules,
    )
    got: tuple[HandOut, ...] = ()
    # A commit under way is known of, whoever left.
    with trio.CancelScope(shield=True), context.unsure.unless_known(wire_ids):
        got = await context.storage.commit(operation)
    return got  # noqa: RET504 - to mypy a scope may swallow what is raised in it


def fresh_wire_ids(context: Context, most: int) -> Sequence[str]:
    """Ids for up to *most* attempts."""
    return [context.chance.wire_id() for _ in range(min(most, MOST_PER_REQUEST))]


async def hand_over(
    context: Context,
    offer: Offer,
    got: tuple[HandOut, ...],
    presence: Presence,
    answer: Callable[[tuple[HandOut, ...]], Awaitable[None]],
) -> None:
    """Send *got* with *answer*, or give it back if nobody is there to read it.

    If the worker may have nothing (any more), the answer is sent without tasks.
    """
    kept = got
    try:
        instance = await context.storage.instance(offer.instance) if got else None
        if presence.gone:
            return
        if not dispatch.may_have_work(instance, offer.poll):
            await give_back(context, got, "the worker does not listen any more")
            kept = ()
        sending, kept = kept, ()  # from the first byte on, only the worker can tell
        try:
            await answer(sending)
        except ClientGone:
            kept = sending  # not all of it was sent, so none of it can have been begun
            raise
    finally:
        await give_back(context, kept, "the worker went away before it was answered")


async def give_back(context: Context, unread: tuple[HandOut, ...], reason: str) -> None:
    """Queue again what was handed out and will not be sent."""
    if not unread:
        return
    wire_ids = tuple(hand_out.attempt.wire_id for hand_out in unread)
    with trio.move_on_after(_GIVE_BACK_SECONDS, shield=True):
        try:
            await context.storage.commit(partial(lease.unhand, wire_ids=wire_ids, reason=reason))
        except StorageUnavailable as exc:
            logger.warning("%d tasks could not be given back at once: %s", len(wire_ids), exc)
        else:
            return
    context.unsure.remember(wire_ids)
