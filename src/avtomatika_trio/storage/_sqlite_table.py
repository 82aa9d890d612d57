"""One table of records: a cache in front of it, and writes that wait for their turn."""

import sqlite3
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

R = TypeVar("R")

#: Records that each cache holds at most; the oldest go first.
_MOST_CACHED = 10_000

#: Longer records are not cached: bounds the memory of the caches, whatever clients send.
_LONGEST_CACHED_BYTES = 16_384

encode = msgspec.json.Encoder().encode


class Table(Generic[R]):
    """One table of records by key: a cache in front, and writes that wait."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        cls: type[R],
        *,
        select: str,
        upsert: str,
        row: Callable[[R], tuple[Any, ...]],
    ) -> None:
        self._connection = connection
        self._decode = msgspec.json.Decoder(cls).decode
        self._select = select
        self._upsert = upsert
        self._row = row
        self._cache: dict[Any, R] = {}
        self._dirty: dict[Any, R] = {}

    def get(self, *key: Any) -> R | None:
        found = self._cache.get(key)
        if found is not None:
            return found
        row = self._connection.execute(self._select, key).fetchone()
        if row is None:
            return None
        record = self._decode(row[0])
        if len(row[0]) <= _LONGEST_CACHED_BYTES:
            self._cache[key] = record
        return record

    def put(self, record: R, *key: Any) -> None:
        self._cache[key] = record
        self._dirty[key] = record

    def flush(self) -> None:
        """Write what waits."""
        if self._dirty:
            rows = [self._row(record) for record in self._dirty.values()]
            self._connection.executemany(self._upsert, rows)
            for key, row in zip(self._dirty, rows, strict=True):
                if len(row[-1]) > _LONGEST_CACHED_BYTES:
                    self.uncache(*key)
            self._dirty.clear()

    def uncache(self, *key: Any) -> None:
        """Have the record read again when it is next asked for."""
        self._cache.pop(key, None)

    def uncache_all(self, keys: Iterable[tuple[Any, ...]]) -> None:
        """Likewise of several."""
        for key in keys:
            self.uncache(*key)

    def trim(self) -> None:
        """Forget the oldest records of a cache that has grown too long."""
        surplus = len(self._cache) - _MOST_CACHED
        if surplus > 0:
            for key in list(islice(self._cache, surplus)):
                del self._cache[key]

    def forget(self) -> None:
        """The transaction was rolled back: nothing that is remembered holds."""
        self._cache.clear()
        self._dirty.clear()


def upsert(table: str, key: str, columns: str) -> str:
    """The statement that inserts a row, or replaces *columns* of the one with the same *key*."""
    names = [*key.split(), *columns.split()]
    sets = ", ".join(f"{name}=excluded.{name}" for name in columns.split())
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608
        f" ON CONFLICT ({', '.join(key.split())}) DO UPDATE SET {sets}"
    )
