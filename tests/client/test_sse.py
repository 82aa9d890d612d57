"""Streams of events are read the same however they are cut."""

import time

import pytest

from avtomatika_trio.client import _sse
from avtomatika_trio.client._sse import EventParser, ServerEvent

STREAM = (
    "\ufeff: heartbeat\n\n"
    "retry: 1500\n"
    'id: 7\r\nevent: state_entered\r\ndata: {"a": "ü"}\r\n\r\n'
    "event: progress\rdata:one\rdata: two\r\r"
    "event: forgotten\n\n"
    "id\ndata\n\n"
    "data: cut off"
).encode()

EVENTS = [
    ServerEvent(type="state_entered", data='{"a": "ü"}', id="7"),
    ServerEvent(type="progress", data="one\ntwo", id="7"),
    ServerEvent(type="message", data="", id=""),
]


def test_every_cut_in_two_and_byte_by_byte() -> None:
    for cut in range(len(STREAM) + 1):
        parser = EventParser()
        assert parser.feed(STREAM[:cut]) + parser.feed(STREAM[cut:]) == EVENTS, cut
    parser = EventParser()
    found = [event for byte in STREAM for event in parser.feed(bytes([byte]))]
    assert found == EVENTS
    assert parser.retry_seconds == 1.5


def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sse, "MOST_BYTES", 100)
    parser = EventParser()
    parser.feed(b"data: " + b"x" * 60 + b"\n")
    with pytest.raises(ValueError, match="more than 100 bytes"):
        parser.feed(b"data: " + b"x" * 60 + b"\n")


def test_a_long_event_in_many_chunks_takes_time_in_proportion_to_its_length() -> None:
    whole = b"event: end\ndata: " + b"x" * (4 << 20) + b"\r\n\r\n"
    parser, events = EventParser(), 0
    began = time.process_time()
    for at in range(0, len(whole), 1024):
        events += len(parser.feed(whole[at : at + 1024]))
    assert events == 1
    assert time.process_time() - began < 1.0  # ten times as much if it is searched anew
