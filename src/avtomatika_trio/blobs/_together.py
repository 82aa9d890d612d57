"""Several things at the same time, where the first failure ends the rest and is told as it is."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

T = TypeVar("T")


async def together(*calls: Callable[[], Awaitable[object]]) -> None:
    """Await all of *calls*; if one raises, the others are cancelled and that is raised.

    It is raised itself, not a group of one: callers tell errors of files apart.
    """
    failures: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def run(call: Callable[[], Awaitable[object]]) -> None:
            try:
                await call()
            except Exception as exc:  # noqa: BLE001 - as it is, not in the nursery's group
                failures.append(exc)
                nursery.cancel_scope.cancel()

        for call in calls:
            nursery.start_soon(run, call)
    if failures:
        raise failures[0]


def in_turns(
    work: Iterable[T], do: Callable[[T], Awaitable[object]], *, at_a_time: int
) -> list[Callable[[], Awaitable[None]]]:
    """What `together` has to be given to *do* each of *work*, so many at a time, in order."""
    left = iter(work)

    async def take() -> None:
        for one in left:
            await do(one)

    return [take] * at_a_time
