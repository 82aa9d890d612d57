"""Where jobs are kept: in memory, in a SQLite file, or in Redis."""

import time
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from avtomatika_trio.errors import ConfigError
from avtomatika_trio.storage._base import (
    JobQuery as JobQuery,
    NumberedRow as NumberedRow,
    Storage as Storage,
    Waiter as Waiter,
)
from avtomatika_trio.storage._clock import Clock
from avtomatika_trio.storage._memory import MemoryStorage as MemoryStorage

__all__ = ["JobQuery", "MemoryStorage", "NumberedRow", "Storage", "Waiter", "open_storage"]

#: How many partitions a new storage in Redis gets unless somebody says otherwise.
DEFAULT_PARTITIONS = 64


def open_storage(
    url: str, *, now: Clock | None = None, partitions: int = DEFAULT_PARTITIONS
) -> AbstractAsyncContextManager[Storage]:
    """Open the storage that *url* names.

    Args:
        url: `memory:`, `sqlite:` and the path of a file, or `redis://` and more (see
            `_redis_url`).
        partitions: How many a new storage in Redis gets.
        now: A clock to go by, as Unix seconds, instead of the host's or the server's own.

    Raises:
        ConfigError: there is no such kind of storage (here).
        StorageUnavailable: on entering, if it cannot be used.
    """
    scheme, colon, rest = url.partition(":")
    match scheme:
        case "memory" if colon and not rest:
            return nullcontext(MemoryStorage(now or time.time))
        case "sqlite" if rest:
            from avtomatika_trio.storage._sqlite import open_sqlite  # noqa: PLC0415 - on demand

            return open_sqlite(Path(rest), now or time.time)
        case _ if scheme.split("+")[0] in ("redis", "rediss"):
            from avtomatika_trio.storage._redis import open_redis  # noqa: PLC0415 - on demand
            from avtomatika_trio.storage._redis_url import parse  # noqa: PLC0415

            return open_redis(parse(url), now, partitions)
        case _:
            fault = (
                f"{url!r} is not a storage; the choices are memory:, sqlite:PATH and"
                " redis://HOST:PORT"
            )
    raise ConfigError((f"STORAGE_URL: {fault}",))
