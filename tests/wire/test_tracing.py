"""What is taken of the headers of W3C Trace Context, and what is ignored."""

import time

import pytest

from avtomatika_trio._task_logs import trace_fields
from avtomatika_trio._wire.tracing import is_sampled, kept_tracing, read_tracing, span_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def test_both_headers_are_taken() -> None:
    tracing = read_tracing([PARENT], ["congo=t61rcWkgMzE, rojo=00f0", "a@b=1"])
    assert tracing == {"traceparent": PARENT, "tracestate": "congo=t61rcWkgMzE,rojo=00f0,a@b=1"}
    assert trace_fields(tracing)["trace_id"] == TRACE


def test_a_later_version_may_say_more() -> None:
    later = f"cc-{TRACE}-00f067aa0ba902b7-01-what-will-be"
    assert read_tracing([later], []) == {"traceparent": later}


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "x",
        PARENT.upper(),
        PARENT + "-more",
        PARENT + "0",
        PARENT.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"cc-{TRACE}-00f067aa0ba902b7-01.more",
        f"cc-{TRACE}-00f067aa0ba902b7-01-" + "x" * 128,
        PARENT + "\n01",
    ],
)
def test_what_is_malformed_is_ignored_with_its_state(traceparent: str) -> None:
    assert read_tracing([traceparent], ["a=1"]) == {}


def test_two_parents_are_none() -> None:
    assert read_tracing([PARENT, PARENT], []) == {}
    assert read_tracing([], ["a=1"]) == {}
    assert trace_fields({}) == {}


@pytest.mark.parametrize(
    "tracestate", ["a", "a=", "A=1", "a=1,a=2", "a=\x7f", "a=b=c", "a=" + "x" * 600, " , "]
)
def test_a_malformed_state_is_ignored_alone(tracestate: str) -> None:
    assert read_tracing([PARENT], [tracestate]) == {"traceparent": PARENT}


def test_more_members_than_allowed_are_ignored() -> None:
    members = ",".join(f"k{n}=1" for n in range(33))
    assert read_tracing([PARENT], [members]) == {"traceparent": PARENT}


def test_a_state_of_a_megabyte_is_not_looked_through() -> None:
    began = time.process_time()
    for _ in range(20):
        for tracestate in ("a=b," * 300_000, "," * 1_000_000):
            assert read_tracing([PARENT], [tracestate]) == {"traceparent": PARENT}
    assert time.process_time() - began < 0.5


def test_what_a_message_says_is_read_as_headers_are() -> None:
    assert kept_tracing({"traceparent": PARENT, "tracestate": "a=1", "more": 1}) == {
        "traceparent": PARENT,
        "tracestate": "a=1",
    }
    nothings: list[object] = [None, [], "x", {}, {"traceparent": 7}, {"tracestate": "a=1"}]
    for malformed in nothings:
        assert kept_tracing(malformed) == {}
    assert kept_tracing({"traceparent": PARENT, "tracestate": 7}) == {"traceparent": PARENT}


def test_a_span_is_of_the_same_trace_and_has_an_id_of_its_own() -> None:
    context = {"traceparent": PARENT, "tracestate": "a=1"}
    first, again, second = (span_of(context, name) for name in ("t1", "t1", "t2"))
    assert first == again
    spans = [read_tracing([it["traceparent"]], [it["tracestate"]]) for it in (first, second)]
    assert spans == [first, second]
    assert {trace_fields(it)["trace_id"] for it in spans} == {TRACE}
    assert len({trace_fields(it)["span_id"] for it in (context, *spans)}) == 3
    assert {it["tracestate"] for it in spans} == {"a=1"}
    assert span_of({}, "t1") == span_of({"traceparent": "x"}, "t1") == {}


@pytest.mark.parametrize(
    ("flags", "passed_on", "sampled"),
    [("00", "00", False), ("01", "01", True), ("03", "03", True), ("fe", "02", False)],
)
def test_flags_that_are_known_are_passed_on(flags: str, passed_on: str, sampled: bool) -> None:
    context = {"traceparent": f"cc-{TRACE}-00f067aa0ba902b7-{flags}-later"}
    assert is_sampled(context) is sampled
    child = span_of(context, "t1")["traceparent"]
    assert child.startswith(f"00-{TRACE}-")
    assert child.endswith(f"-{passed_on}")
    assert is_sampled({}) is False
