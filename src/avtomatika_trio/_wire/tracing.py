"""The trace that a request is part of, as W3C Trace Context has it in headers."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: What a longer one would cost is not worth it: the specification asks for 512 characters.
_MOST_TRACESTATE_CHARACTERS = 512
_MOST_TRACESTATE_MEMBERS = 32
#: With the spaces and empty members that may be in it; in a message it may be of any length.
_MOST_READ_CHARACTERS = 16_384

_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"(?P<more>-[ -~]*)?",
    re.ASCII,
)
_MOST_TRACEPARENT_CHARACTERS = 128

_SAMPLED = 0x01
#: That it is sampled, and that its id is random; of others nobody knows what they would promise.
_KNOWN_FLAGS = 0x03

_MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]", re.ASCII)


def read_tracing(traceparent: Sequence[str], tracestate: Sequence[str]) -> dict[str, str]:
    """The tracing context of a request with these headers, each as often as it was sent.

    What is malformed is ignored, as the specification asks for: nobody's job fails because of
    the trace that it would be part of.

    Returns:
        `traceparent`, and `tracestate` if there is one; or nothing.
    """
    if len(traceparent) != 1:
        return {}
    parent = traceparent[0].strip()
    found = _TRACEPARENT.fullmatch(parent)
    if found is None or len(parent) > _MOST_TRACEPARENT_CHARACTERS:
        return {}
    if found["version"] == "00" and found["more"] is not None:
        return {}  # a later version may have more, this one has not
    state = _read_state(",".join(tracestate))
    return {"traceparent": parent, **({"tracestate": state} if state else {})}


def kept_tracing(context: Any) -> dict[str, str]:
    """What `read_tracing` makes of a *context* that has come in a message, or from a storage."""
    if not isinstance(context, Mapping):
        return {}
    parent, state = context.get("traceparent"), context.get("tracestate")
    if not isinstance(parent, str):
        return {}
    return read_tracing([parent], [state] if isinstance(state, str) else ())


def span_of(context: Mapping[str, Any], name: str) -> dict[str, str]:
    """The same trace, with a span for what *name* names: the parent of what that asks of others.

    The same *name* gets the same span again, in whichever process; a random name a random one.

    Returns:
        As `read_tracing`; nothing, if *context* has no trace.
    """
    known = kept_tracing(context)
    if not known:
        return {}
    _, trace_id, _, flags, *_ = known["traceparent"].split("-")
    span_id = hashlib.sha256(f"{trace_id} {name}".encode()).hexdigest()[:16]
    passed_on = int(flags, 16) & _KNOWN_FLAGS
    return {**known, "traceparent": f"00-{trace_id}-{span_id}-{passed_on:02x}"}


def is_sampled(context: Mapping[str, Any]) -> bool:
    """Whether whoever began the trace asks that it be recorded."""
    known = kept_tracing(context)
    return bool(known) and int(known["traceparent"].split("-")[3], 16) & _SAMPLED != 0


def _read_state(text: str) -> str:
    """The list in *text*, without empty members; empty if one of them is malformed."""
    if len(text) > _MOST_READ_CHARACTERS:
        return ""
    members = [member for it in text.split(",") if (member := it.strip(" \t"))]
    state = ",".join(members)
    if len(members) > _MOST_TRACESTATE_MEMBERS or len(state) > _MOST_TRACESTATE_CHARACTERS:
        return ""
    names = {member.partition("=")[0] for member in members}
    is_right = all(_MEMBER.fullmatch(member) for member in members) and len(names) == len(members)
    return state if is_right else ""
