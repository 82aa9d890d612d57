"""What a storage holds, record by record, as it goes out of one and into another.

On a line each is `[kind, record]`, in JSON.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import attrs
import msgspec

from avtomatika_trio._core.access import AccessSet, AuditRow, IssuedToken, Usage
from avtomatika_trio._core.job import Job
from avtomatika_trio._core.ledger import (
    FanOut,
    HistoryRow,
    Instance,
    Progress,
    Service,
    Timer,
)
from avtomatika_trio._core.submission import Submission
from avtomatika_trio._core.task import Attempt, Task
from avtomatika_trio._wire.codec import decode
from avtomatika_trio.errors import InvalidMessage, Problem

R = TypeVar("R")

#: How many records an export hands out at a time, at most.
MOST_PER_BATCH = 500


@attrs.frozen(kw_only=True)
class NumberedRow:
    """A history row and its place in the order of commits; no two of a storage share one."""

    number: int
    row: HistoryRow


@attrs.frozen(kw_only=True)
class NumberedAuditRow:
    """A row of the audit and its place in the order of commits."""

    number: int
    row: AuditRow


@attrs.frozen(kw_only=True)
class StorageFacts:
    """What is true of a storage as a whole."""

    cluster_id: str
    latest: float
    """Its time (Unix seconds): nothing in it is later, but for what is due."""
    schema: int
    """Of the storage that it was exported from, each kind counting for itself; one that it is
    restored into keeps its own."""


StoredRecord = (
    StorageFacts
    | Job
    | Task
    | Attempt
    | FanOut
    | Instance
    | Timer
    | NumberedRow
    | Progress
    | Service
    | AccessSet
    | Usage
    | IssuedToken
    | Submission
    | NumberedAuditRow
)

#: What stands before a record on its line.
KINDS: dict[str, type[StoredRecord]] = {
    "facts": StorageFacts,
    "job": Job,
    "task": Task,
    "attempt": Attempt,
    "fan_out": FanOut,
    "instance": Instance,
    "timer": Timer,
    "history": NumberedRow,
    "progress": Progress,
    "service": Service,
    "access": AccessSet,
    "usage": Usage,
    "issued_token": IssuedToken,
    "submission": Submission,
    "audit": NumberedAuditRow,
}

_NAMES = {cls: name for name, cls in KINDS.items()}

_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(tuple[str, msgspec.Raw]).decode
_decoders = {name: msgspec.json.Decoder(cls).decode for name, cls in KINDS.items()}


def kind_of(record: StoredRecord) -> str:
    """The name of its kind, one of `KINDS`."""
    return _NAMES[type(record)]


def encode_record(record: StoredRecord) -> bytes:
    """*record* on one line, without its end."""
    return _encode((kind_of(record), record))


def decode_record(line: bytes, number: int) -> StoredRecord:
    """The record on *line*, which says nothing that the record does not hold.

    Raises:
        InvalidMessage: it is malformed, or of an unknown kind; *number* tells which line.
    """
    try:
        kind, raw = _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _invalid(number, f"is not a record: {exc}") from None
    if kind not in KINDS:
        raise _invalid(number, f"there are no records of kind {kind!r}")
    try:
        record = _decoders[kind](raw)
        if _encode(record) == raw:
            return record
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # looked at again, to tell all that is wrong
    try:
        return decode(bytes(raw), KINDS[kind], closed=True)
    except InvalidMessage as exc:
        problems = [Problem(f"line {number}, {it.path}", it.message) for it in exc.problems]
        raise InvalidMessage(tuple(problems)) from None


def _invalid(number: int, text: str) -> InvalidMessage:
    return InvalidMessage((Problem(f"line {number}", text),))


def in_batches(records: Iterable[R]) -> Iterator[Sequence[R]]:
    """*records*, at most `MOST_PER_BATCH` at a time."""
    rest = iter(records)
    while batch := list(islice(rest, MOST_PER_BATCH)):
        yield batch


def facts_of(records: Iterable[StoredRecord]) -> StorageFacts | None:
    """The facts among *records*, if they are."""
    return next((it for it in records if isinstance(it, StorageFacts)), None)
