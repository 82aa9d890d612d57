"""Doing something in several partitions of the storage, each in a commit of its own."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import trio

from avtomatika_trio._core.ledger import Ledger
from avtomatika_trio.errors import StorageUnavailable
from avtomatika_trio.storage._base import Storage

logger = logging.getLogger(__name__)

T = TypeVar("T")


def by_partition(storage: Storage, ids: Iterable[str]) -> dict[str, list[str]]:
    """The *ids* of jobs, tasks or attempts that are in each partition, in their order."""
    found: dict[str, list[str]] = {}
    for one in ids:
        found.setdefault(storage.partition_of(one), []).append(one)
    return found


async def commit_in_each(
    storage: Storage, operations: Mapping[str, Callable[[Ledger], T]]
) -> tuple[dict[str, T], StorageUnavailable | None]:
    """Commit the operation for each partition, all at the same time.

    Returns:
        The answers, and of those partitions that were not available the last one's error.
    """
    answers: dict[str, T] = {}
    errors: list[StorageUnavailable] = []

    async def commit(partition: str, operation: Callable[[Ledger], T]) -> None:
        try:
            answers[partition] = await storage.commit(operation, partition)
        except StorageUnavailable as exc:
            logger.warning("partition %s: %s", partition, exc)
            errors.append(exc)

    if len(operations) == 1:
        [(partition, operation)] = operations.items()
        await commit(partition, operation)
    else:
        async with trio.open_nursery() as nursery:
            for partition, operation in operations.items():
                nursery.start_soon(commit, partition, operation)
    return answers, errors[-1] if errors else None


async def commit_in_all(
    storage: Storage, operations: Mapping[str, Callable[[Ledger], T]]
) -> dict[str, T]:
    """As `commit_in_each`, where all of the answers are needed.

    Raises:
        StorageUnavailable: one of the partitions was not available; the others are done.
    """
    answers, error = await commit_in_each(storage, operations)
    if error is not None:
        raise error
    return answers
