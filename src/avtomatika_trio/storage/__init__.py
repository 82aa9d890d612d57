"""Where jobs are kept: in memory, or in a SQLite file."""

import importlib.util
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


def open_storage(url: str, *, now: Clock = time.time) -> AbstractAsyncContextManager[Storage]:
    """Open the storage that *url* names.

    Args:
        url: `memory:`, or `sqlite:` and the path of a file.
        now: The host's time, as Unix seconds.

    Raises:
        ConfigError: there is no such kind of storage (here).
        StorageUnavailable: on entering, if it cannot be used.
    """
    scheme, colon, rest = url.partition(":")
    match scheme:
        case "memory" if colon and not rest:
            return nullcontext(MemoryStorage(now))
        case "sqlite" if rest:
            from avtomatika_trio.storage._sqlite import open_sqlite  # noqa: PLC0415 - on demand

            return open_sqlite(Path(rest), now)
        case "redis" | "rediss":
            fault = "redis: is not supported by this version yet; use sqlite:PATH"
            if importlib.util.find_spec("redis") is None:
                fault += ' (it will need: pip install "avtomatika-trio[redis]")'
        case _:
            fault = f"{url!r} is not a storage; the choices are memory: and sqlite:PATH"
    raise ConfigError((f"STORAGE_URL: {fault}",))
