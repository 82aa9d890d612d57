"""What a process knows of the records in Redis: a cache that every commit checks.

What stands here may be out of date, or be *expected*: written by a commit whose answer has not
come yet.  Neither does harm, since a commit names the versions that it has read, and is refused
where they are not those that are stored; then the entries concerned are corrected.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import attrs

#: Of the version token that each record begins with; `commit.lua` knows it, too.
TOKEN_BYTES = 20

#: The token of what is not there.
ABSENT = b""

#: How many records are kept at most; the oldest go first.
_MOST_KEPT = 20_000

#: Longer records are not kept: bounds the memory, whatever clients send.
_LONGEST_KEPT_BYTES = 16_384


@attrs.define(eq=False)
class Entry:
    """A record, as far as it is known."""

    token: bytes
    body: bytes | None
    """JSON that was not decoded yet."""
    record: Any = None
    writer: object = None
    """The commit under way that is expected to write it; None = it is stored like this."""
    seen_at: int = 0
    """Number of the request that has shown it; those are carried out in their order."""
    is_long: bool = False


class Known:
    """The records and sets that a process knows, by their keys."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._sets: dict[str, dict[str, None]] = {}

    def entry(self, key: str) -> Entry | None:
        """What is known of a record; None = nothing, not even whether it is there."""
        return self._entries.get(key)

    def members(self, key: str) -> dict[str, None] | None:
        """The members of a set."""
        return self._sets.get(key)

    def learn(self, key: str, value: bytes | None, seen_at: int) -> None:
        """A record was read; what is expected of it is newer than that."""
        entry = self._entries.get(key)
        if entry is None or (entry.writer is None and entry.seen_at < seen_at):
            self._entries[key] = _entry(value, seen_at)

    def learn_members(self, key: str, members: list[str]) -> None:
        """A set was read."""
        self._sets.setdefault(key, dict.fromkeys(members))

    def expect(self, key: str, token: bytes, record: Any, writer: object) -> None:
        """The commit *writer*, which is under way, writes *record* (None drops it)."""
        self._entries.pop(key, None)  # so that it is among the newest
        self._entries[key] = Entry(ABSENT if record is None else token, None, record, writer)

    def expect_members(self, key: str, changes: dict[str, bool]) -> None:
        """A commit that is under way changes a set."""
        members = self._sets.get(key)
        if members is None:
            return
        for member, present in changes.items():
            if present:
                members[member] = None
            else:
                members.pop(member, None)

    def confirm(self, key: str, writer: object, seen_at: int) -> None:
        """The commit *writer* has happened."""
        entry = self._entries.get(key)
        if entry is not None and entry.writer is writer:
            entry.writer = None
            entry.seen_at = seen_at

    def drop(self, key: str) -> None:
        """What is known of a record is too old."""
        self._entries.pop(key, None)

    def forget_stored(self, key: str) -> None:
        """A record was deleted: it is not worth its place."""
        entry = self._entries.get(key)
        if entry is not None and entry.writer is None:
            del self._entries[key]

    def doubt(self, key: str, writer: object) -> None:
        """The commit *writer* did not happen, or may not have."""
        entry = self._entries.get(key)
        if entry is not None and entry.writer is writer:
            del self._entries[key]

    def doubt_members(self, key: str) -> None:
        """Likewise of a set."""
        self._sets.pop(key, None)

    def correct(self, key: str, believed: bytes, value: bytes | None, seen_at: int) -> None:
        """A record was found to be *value*, where a commit had *believed* another version."""
        entry = self._entries.get(key)
        if entry is None or (entry.token == believed and entry.writer is None):
            self._entries[key] = _entry(value, seen_at)

    def trim(self, key: str, length: int) -> None:
        """A record of that many bytes was written: keep within bounds."""
        if length > _LONGEST_KEPT_BYTES:
            self._entries.pop(key, None)
        for kept in (self._entries, self._sets):
            surplus = len(kept) - _MOST_KEPT
            if surplus > _MOST_KEPT // 10:
                for old in list(islice(kept, surplus)):
                    del kept[old]

    def let_go(self, keys: Iterable[str]) -> None:
        """Who has read these records needs them no more: long ones are not kept."""
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and entry.is_long and entry.writer is None:
                del self._entries[key]


def _entry(value: bytes | None, seen_at: int) -> Entry:
    if not value:
        return Entry(ABSENT, None, seen_at=seen_at)
    is_long = len(value) > _LONGEST_KEPT_BYTES
    body = value[TOKEN_BYTES:]
    return Entry(value[:TOKEN_BYTES], body, seen_at=seen_at, is_long=is_long)
