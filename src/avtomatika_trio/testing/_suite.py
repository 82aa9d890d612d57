"""What the suites of promises share."""

from collections.abc import Callable
from typing import NoReturn

import attrs
import trio.testing

from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.storage._base import Storage
from avtomatika_trio.testing._samples import START


@attrs.define
class SetClock:
    """A clock that only its owner moves; hand it to the storage as `now`."""

    time: float = START

    def __call__(self) -> float:
        return self.time


class Broken(Exception):
    """Raised by an operation of a test, on purpose."""


def and_break(operation: Callable[[Ledger], object]) -> Callable[[Ledger], NoReturn]:
    """*operation*, which then raises `Broken`."""

    def broken(ledger: Ledger) -> NoReturn:
        operation(ledger)
        raise Broken

    return broken


async def broken(
    storage: Storage, operation: Callable[[Ledger], object], partition: str | None = None
) -> None:
    """Commit *operation*, which must raise `Broken`."""
    try:
        await storage.commit(operation, partition)
    except Broken:
        return
    raise AssertionError("the operation's own error did not come out of commit")


async def settled(storage: Storage) -> None:
    """Return when every task waits, also if it was waiting for a thread of the storage."""
    for _ in range(6):
        await trio.testing.wait_all_tasks_blocked()
        await storage.commit(lambda _: None)
        await storage.job("nobody's")
    await trio.testing.wait_all_tasks_blocked()
