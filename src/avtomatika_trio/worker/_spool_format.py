r"""The bytes of a spool's log.  Pure: bytes in, records out.

A log is a row of records, each

    RS crc SP length SP payload LF

with RS the byte 0x1E, *length* the number of payload bytes in decimal, *crc* the CRC-32 of
`length SP payload` in eight hexadecimal digits, and the payload one JSON object:

    {"entry": {...}}        a result was added
    {"acknowledged": [7]}   these entries are settled
    {"next_id": 9}          ids start here; the first record of a rewritten log

It is text, so that a person with a pager can see what is waiting, and it is framed like the
JSON text sequences of RFC 7464: JSON escapes every control character, so the byte RS stands
in front of a record and nowhere else.  After damage the reader looks for the next RS and has
lost the damaged record only.  Length and CRC tell a whole record from a torn or changed one;
a bare JSON line could lose a digit and still be JSON.
"""

import re
import zlib
from collections.abc import Sequence

import attrs
import msgspec

from avtomatika_trio.worker._spool_entry import SpoolEntry

_RECORD_SEPARATOR = b"\x1e"
_HEAD = re.compile(rb"\x1e([0-9a-f]{8}) ([0-9]{1,12}) ")
_HEAD_BEGUN = re.compile(rb"\x1e([0-9a-f]{0,7}|[0-9a-f]{8}( [0-9]{0,12})?)")


@attrs.frozen(kw_only=True)
class _Record:
    entry: SpoolEntry | None = None
    acknowledged: tuple[int, ...] = ()
    next_id: int | None = None


_decoder = msgspec.json.Decoder(_Record)


@attrs.frozen(kw_only=True)
class Damage:
    """Bytes of a log that are not a record, or one that this version cannot read."""

    offset: int
    data: bytes


@attrs.frozen(kw_only=True)
class LogContents:
    """What a log says."""

    entries: tuple[SpoolEntry, ...]
    """The entries that are not settled, in the order of their ids."""
    next_id: int
    """An id that no record of the log has mentioned, nor any above it."""
    damages: tuple[Damage, ...]
    is_compact: bool
    """Whether rewriting the log would leave nothing out."""


def encode_entry(entry: SpoolEntry) -> bytes:
    """The record that adds *entry*."""
    return _frame(msgspec.json.encode({"entry": entry}))


def encode_acknowledged(ids: Sequence[int]) -> bytes:
    """The record that settles the entries *ids*."""
    return _frame(msgspec.json.encode({"acknowledged": ids}))


def encode_next_id(next_id: int) -> bytes:
    """The record that begins a rewritten log."""
    return _frame(msgspec.json.encode({"next_id": next_id}))


def read_log(data: bytes) -> LogContents:
    """Read a log, whatever has happened to it.

    Every record that is whole counts, also behind damaged ones.  Never raises.
    """
    entries: dict[int, SpoolEntry] = {}
    damages: list[Damage] = []
    settled: set[int] = set()
    next_id = 1
    for offset, stop, payload in _frames(data):
        record = _decode(payload)
        if record is None:
            damages.append(Damage(offset=offset, data=data[offset:stop]))
            continue
        if record.entry is not None:
            entries[record.entry.id] = record.entry
            next_id = max(next_id, record.entry.id + 1)
        settled.update(record.acknowledged)
        next_id = max(next_id, record.next_id or 0)
    next_id = max(next_id, max(settled, default=0) + 1)
    return LogContents(
        entries=tuple(entries[i] for i in sorted(entries.keys() - settled)),
        next_id=next_id,
        damages=tuple(damages),
        is_compact=not damages and not settled,
    )


def split_unfinished(
    damages: Sequence[Damage], size: int
) -> tuple[tuple[Damage, ...], Damage | None]:
    """Tell *damages* of a log of *size* bytes from the beginning of a record at its end.

    Whoever reads while another process appends may find such a one; it is no damage then.
    """
    if not damages or damages[-1].offset + len(damages[-1].data) < size:
        return tuple(damages), None
    *others, last = damages
    begin = max(0, last.data.rfind(_RECORD_SEPARATOR))
    tail = Damage(offset=last.offset + begin, data=last.data[begin:])
    if not _is_begun(tail.data):
        return tuple(damages), None
    if begin:
        others.append(Damage(offset=last.offset, data=last.data[:begin]))
    return tuple(others), tail


def _is_begun(data: bytes) -> bool:
    """Whether *data* may be the beginning of a record, and not all of it."""
    head = _HEAD.match(data)
    if head is None:
        return _HEAD_BEGUN.fullmatch(data) is not None
    return head.end() + int(head[2]) > len(data)


def _frame(payload: bytes) -> bytes:
    checked = b"%d %b" % (len(payload), payload)
    return b"\x1e%08x %b\n" % (zlib.crc32(checked), checked)


def _frames(data: bytes) -> list[tuple[int, int, bytes | None]]:
    """Cut *data* into records and, with None as payload, the damaged bytes between them."""
    found: list[tuple[int, int, bytes | None]] = []
    read_to = at = 0
    while at < len(data):
        whole = _frame_at(data, at)
        if whole is None:
            following = data.find(_RECORD_SEPARATOR, at + 1)
            at = len(data) if following < 0 else following
            continue
        if read_to < at:
            found.append((read_to, at, None))
        stop, payload = whole
        found.append((at, stop, payload))
        read_to = at = stop
    if read_to < len(data):
        found.append((read_to, len(data), None))
    return found


def _frame_at(data: bytes, at: int) -> tuple[int, bytes] | None:
    """The record at *at*: where it ends and its payload."""
    head = _HEAD.match(data, at)
    if head is None:
        return None
    stop = head.end() + int(head[2])
    if stop > len(data) or zlib.crc32(data[head.start(2) : stop]) != int(head[1], 16):
        return None
    # The line feed is for the eyes: a record that lacks nothing else is whole.
    line_end = stop + 1 if data[stop : stop + 1] == b"\n" else stop
    return line_end, data[head.end() : stop]


def _decode(payload: bytes | None) -> _Record | None:
    if payload is None:
        return None
    try:
        record = _decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return None if record == _Record() else record
