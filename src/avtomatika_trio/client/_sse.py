"""Server-sent events, from bytes that may be cut anywhere: a pure parser."""

import attrs

#: No event of a job is as long as this; more is not an orchestrator.
MOST_BYTES = 64 * 1024 * 1024


@attrs.frozen(kw_only=True)
class ServerEvent:
    """One event."""

    type: str
    data: str
    id: str
    """The latest that was said, with this event or an earlier one."""


class EventParser:
    """Bytes in, events out, as the HTML standard reads them."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_seconds: float | None = None
        self._rest = bytearray()
        self._searched = 0
        self._type = ""
        self._data: list[str] = []
        self._size = 0
        self._begun = False
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that *chunk* completes.

        Raises:
            ValueError: an event is longer than `MOST_BYTES`.
        """
        self._rest += chunk
        events: list[ServerEvent] = []
        start = 0
        while (cut := self._line(max(start, self._searched))) is not None:
            end, following = cut
            line = self._rest[start:end].decode("utf-8", "replace")
            start = following
            if not self._begun:
                self._begun = True
                line = line.removeprefix("\ufeff")
            if event := self._take(line):
                events.append(event)
        del self._rest[:start]
        # A long line comes in many chunks: nothing is searched twice but what may end it.
        self._searched = len(self._rest) - self._rest.endswith(b"\r")
        if self._size + len(self._rest) > MOST_BYTES:
            raise ValueError(f"an event of more than {MOST_BYTES} bytes")
        return events

    def _line(self, start: int) -> tuple[int, int] | None:
        """Where the line from *start* ends and where the next begins; None = not yet there."""
        rest = self._rest
        found = [at for at in (rest.find(b"\n", start), rest.find(b"\r", start)) if at >= 0]
        if not found:
            return None
        end = min(found)
        if rest[end : end + 1] == b"\n":
            return end, end + 1
        if end + 1 == len(rest):
            return None  # a line feed may follow, which belongs to it
        return end, end + (2 if rest[end + 1 : end + 2] == b"\n" else 1)

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
                self._size += len(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdecimal():
                self.retry_seconds = int(value) / 1000
        return None

    def _dispatch(self) -> ServerEvent | None:
        kind, data = self._type or "message", self._data
        self._type, self._data, self._size = "", [], 0
        self.last_id = self._id
        return ServerEvent(type=kind, data="\n".join(data), id=self.last_id) if data else None
