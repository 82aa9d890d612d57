"""Signatures of messages and tasks, as RXON has them: HMAC-SHA-256 of a canonical JSON text.

The text is that of the object as it travels, without nulls of objects, with whole floats as
integers, with sorted keys and without spaces.  Whoever checks does so on the object that was
received, so that members unknown to it are covered, too.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from avtomatika_trio._core.json_values import MAX_DEPTH
from avtomatika_trio.errors import InvalidMessage, Problem

#: Members that are outside of the signed text of a message.
_OUTSIDE_MESSAGES = frozenset({"security", "_signature"})

#: Events also collect, on their way, who has passed them on.
_OUTSIDE_EVENTS = _OUTSIDE_MESSAGES | {"bubbling_chain"}

#: And of a task; the last three are extensions, which workers of the original do not know.
_OUTSIDE_TASKS = _OUTSIDE_MESSAGES | {
    "sig",
    "orchestrator_signature",
    "attempt",
    "idempotency_key",
    "lease_seconds",
}

#: The original adds these when it hands a signed task out; nothing here goes by them.
_ADDED_LATER = frozenset({"skill_version", "skill_type"})

#: What is nested more deeply has no signature; our own messages are not.
_MOST_LEVELS = MAX_DEPTH + 16

_encode = msgspec.json.Encoder(order="sorted").encode


def canonical(value: Mapping[str, Any], outside: Collection[str] = ()) -> bytes:
    """The signed text of *value*, without its members *outside*.

    >>> canonical({"b": [None, 2.0], "a": {"x": None, "y": 1e-06}})
    b'{"a":{"y":1e-6},"b":[null,2]}'

    Raises:
        InvalidMessage: it is nested too deeply.
    """
    members = {
        name: _normal(it, 1) for name, it in value.items() if it is not None and name not in outside
    }
    return _encode(members)


def _normal(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if depth > _MOST_LEVELS:
        raise InvalidMessage((Problem("$", f"this is nested deeper than {_MOST_LEVELS} levels"),))
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(k): _normal(it, depth + 1) for k, it in value.items() if it is not None}
    if isinstance(value, list | tuple):
        return [_normal(it, depth + 1) for it in value]
    return value


def _number(value: float) -> Any:
    if value.is_integer():
        return int(value)
    return msgspec.Raw(_float_text(value).encode())


def _float_text(value: float) -> str:
    """Shortest digits; plain from 1e-5 on, else scientific with an exponent that is not padded.

    >>> [_float_text(it) for it in (0.00001, 1e-06, 2.5e-10, -0.5, 123.456)]
    ['0.00001', '1e-6', '2.5e-10', '-0.5', '123.456']
    """
    text = repr(value)
    if "e" not in text:
        return text
    digits, _, exponent = text.partition("e")
    if abs(value) >= 1e-5:
        return f"{value:.{len(digits.replace('.', '').replace('-', '')) - 1 - int(exponent)}f}"
    return f"{digits}e{int(exponent)}"


def _is_event(body: Mapping[str, Any]) -> bool:
    return "event_type" in body and "event_id" in body


def sign_message(body: Mapping[str, Any], key: bytes) -> str:
    """The signature of a worker's message."""
    return hmac.new(key, signed_text(body), hashlib.sha256).hexdigest()


def signed_text(body: Mapping[str, Any]) -> bytes:
    """What the signature of a worker's message covers."""
    return canonical(body, _OUTSIDE_EVENTS if _is_event(body) else _OUTSIDE_MESSAGES)


def check_message(body: Mapping[str, Any], signature: str, key: bytes) -> bool:
    """Whether *signature* is that of *body*; compared in constant time.

    Raises:
        InvalidMessage: *body* is nested too deeply.
    """
    return _is_same(sign_message(body, key), signature)


def signed(body: bytes, *, key: bytes, signer_id: str, timestamp: int) -> bytes:
    """A worker's message as it is sent: with the time, and signed.

    Args:
        body: The message, or a list of messages (each is signed): JSON text.
        key: The token that is shown with it.
        signer_id: The worker id.
        timestamp: Unix seconds.

    Raises:
        InvalidMessage: it is nested too deeply.
    """
    said = msgspec.json.decode(body)
    if isinstance(said, list):
        return _encode([_sign(it, key, signer_id, timestamp) for it in said])
    return _encode(_sign(said, key, signer_id, timestamp))


def _sign(said: dict[str, Any], key: bytes, signer_id: str, timestamp: int) -> dict[str, Any]:
    timed = {**said, "timestamp": timestamp}
    signature = sign_message(timed, key)
    return {**timed, "security": {"signature": signature, "signer_id": signer_id}}


def sign_task(payload: Mapping[str, Any], key: bytes) -> str:
    """The signature of a task; its extension members are outside of it."""
    return hmac.new(key, canonical(payload, _OUTSIDE_TASKS), hashlib.sha256).hexdigest()


def check_task(payload: Mapping[str, Any], key: bytes) -> bool:
    """Whether the member `sig` of a task, as it was received, is right.

    Raises:
        InvalidMessage: *payload* is nested too deeply.
    """
    signature = payload.get("sig")
    if not isinstance(signature, str):
        return False
    if _is_same(sign_task(payload, key), signature):
        return True
    kept = {name: it for name, it in payload.items() if name not in _ADDED_LATER}
    return len(kept) < len(payload) and _is_same(sign_task(kept, key), signature)


def _is_same(right: str, shown: str) -> bool:
    return hmac.compare_digest(right.encode(), shown.encode(errors="replace"))
