"""What an event of a worker may be: its type, its payload, and what its skill declares.

The worker and the orchestrator go by the same rules: the one tells the author of a handler,
the other trusts nobody.
"""

import json
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from avtomatika_trio._core.arguments import did_you_mean
from avtomatika_trio._core.json_schema import Effort, misfit
from avtomatika_trio._core.schema_faults import schema_faults

#: What `send_progress` sends; it is noted, and no event of the history.
PROGRESS = "progress"

#: Events of one attempt that the history keeps.
MOST_EVENTS = 1_000

#: Of one event, as compact JSON.
MOST_PAYLOAD_BYTES = 8 * 1024

#: Types that a stranger has declared which are compared with one that he has not, and what it
#: takes to compare two names, in steps of `Effort`.
_MOST_NAMES, _STEPS_OF_A_NAME = 20, 500

EVENT_TYPE = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


def shape_fault(event_type: Any, payload: Any) -> str | None:
    """What is wrong with an event, whatever its skill declares; None if nothing is.

    Args:
        event_type: Its type.
        payload: JSON.
    """
    if not isinstance(event_type, str) or EVENT_TYPE.fullmatch(event_type) is None:
        return (
            "event_type: is 1 to 128 letters, digits, '_', '.', ':' or '-', not"
            f" {event_type!r:.200}"
        )
    if not isinstance(payload, dict):
        return f"payload: is an object, not {type(payload).__name__}; wrap it: {{'value': ...}}"
    size = payload_bytes(payload)
    if size > MOST_PAYLOAD_BYTES:
        return (
            f"payload: has {size:,} bytes as JSON, more than {MOST_PAYLOAD_BYTES:,}; send less,"
            " or keep it in a file and send the file's URI"
        )
    return None


def declared_faults(schemas: Any) -> list[str]:
    """What is wrong with the `events_schema` of a skill, each fault with its place."""
    if not isinstance(schemas, dict):
        return [f"events_schema: is a dict of schemas by event type, not {schemas!r:.80}"]
    found: list[str] = []
    for event_type, schema in schemas.items():
        fault = shape_fault(event_type, {})
        if fault is not None:
            found.append(f"events_schema: {fault}")
        else:
            path = f"events_schema.{event_type}"
            found += schema_faults(schema, path, with_patterns=True)
    return found


def payload_bytes(payload: Mapping[str, Any]) -> int:
    """How long it is as compact JSON, in UTF-8."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return len(text.encode(errors="replace"))


def contract_fault(
    event_type: str,
    payload: Mapping[str, Any],
    schemas: Mapping[str, Any],
    *,
    strict: bool,
    effort: Effort | None,
) -> str | None:
    """How an event breaks what its skill declares; None if it does not.

    Args:
        event_type: Its type.
        payload: JSON.
        schemas: The skill's `events_schema`.  One that cannot be used is not looked at: its
            author was told where it was declared.
        strict: Whether types that are not declared are refused.
        effort: What may go into it and what a stranger has sent beside it: then no pattern of
            his is run, and few of his names are looked at.  None = all of it is the caller's own.
    """
    is_own = effort is None
    if event_type not in schemas:
        if not strict:
            return None
        return (
            f"event_type: {event_type!r} is not declared by the skill"
            f"{_near(event_type, schemas, effort)}; declare it,"
            f" events_schema={{{event_type!r}: {{...}}}}, or set STRICT_EVENT_VALIDATION=false"
        )
    schema = schemas[event_type]
    if schema_faults(schema, "schema", with_patterns=is_own):
        return None
    found = misfit(payload, schema, "payload", with_patterns=is_own, effort=effort)
    return None if found is None else f"{found} (events_schema of {event_type!r})"


def _near(event_type: str, schemas: Mapping[str, Any], effort: Effort | None) -> str:
    """Which of *schemas* may have been meant."""
    names = list(islice(schemas, None if effort is None else _MOST_NAMES))
    if effort is not None:
        effort.steps -= len(names) * _STEPS_OF_A_NAME
    if not names or (effort is not None and effort.steps < 0):
        return ""
    return f" ({did_you_mean(event_type, names)})"
