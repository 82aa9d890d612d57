"""The long poll: waiting for tasks, and not losing those that nobody came for.

A poll registers for news, looks, and then parks (rule H1).  Between the commit that hands
tasks out and the first byte of the answer it is asked once more whether anyone is there;
if not, the tasks go back (rules H3, H4).  After the first byte only the worker's heartbeat
knows what arrived.
"""

from collections.abc import Awaitable, Callable

import attrs
import trio

from avtomatika_trio._core import dispatch
from avtomatika_trio._core.dispatch import HandOut, Offer
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.orchestrator._context import Context
from avtomatika_trio.orchestrator._exchange import ClientGone
from avtomatika_trio.orchestrator._hand_outs import give_back, take
from avtomatika_trio.orchestrator._http import Receive


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
            with (
                waiting,
                context.metrics.offered(offer.most),
                context.storage.queue_news(offer.skills) as news,
            ):
                if context.storage.partitions_with(offer.skills):
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
        # This look at the home comes after the commits.  Where they were in other partitions,
        # the home's record was read without a check, and a heartbeat, a goodbye or a burial may
        # have been committed there meanwhile: what it could not find yet goes back here.
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
