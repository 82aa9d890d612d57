"""Whether a worker's message is what it has signed, and not one that was sent before.

The format is RXON's.  A message is let through a second time if it says the same: whoever did
not get an answer asks again, and every message of a worker may be repeated without effect.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import attrs

from avtomatika_trio._wire.signing import canonical, check_message
from avtomatika_trio.orchestrator._http import HttpProblem

#: By how much the clocks of a worker and of this host may differ, in seconds; RXON's.
_WINDOW_SECONDS = 60.0

#: Messages that are remembered; the oldest are forgotten first.
_MOST_SEEN = 100_000

#: Members that name a message; without one its signature does.
_NONCES = ("event_id", "nonce", "message_id")


@attrs.frozen
class _Seen:
    """A message that was let through."""

    signature: str
    content: bytes
    """What it says, but for the time."""


class Signatures:
    """Checks the signed messages of one orchestrator's workers.

    Args:
        policy: `required`, `optional` (what is signed must be signed well) or `off`.
        now: Unix seconds.
    """

    def __init__(self, policy: str, now: Callable[[], float]) -> None:
        self.policy = policy
        self._now = now
        self._seen: OrderedDict[tuple[str, str], _Seen] = OrderedDict()

    def concern(self, body: bytes) -> bool:
        """Whether *body*, as it was received, must be looked at by `check`."""
        if self.policy == "optional":
            return b'"security"' in body
        return self.policy == "required"

    def check(self, worker_id: str, body: Any, keys: Iterable[bytes]) -> None:
        """Let *body*, a message as it was received, through.

        Args:
            worker_id: Who has sent it, as was found out already.
            body: Decoded; anything but an object is left to others to refuse.
            keys: What it may be signed with.

        Raises:
            HttpProblem: 403, in RXON's words.
        """
        if not isinstance(body, dict):
            return
        security = body.get("security")
        signature = security.get("signature") if isinstance(security, dict) else None
        if not signature:
            if self.policy == "required":
                what = "cryptographic signature" if security else "security context"
                raise _refused(f"Missing required {what} (WORKER_SIGNING=required)")
            return
        assert isinstance(security, dict)
        signer = security.get("signer_id", worker_id)
        if signer != worker_id:
            shown = str(signer)[:128]
            raise _refused(f"Message signer ID '{shown}' does not match worker ID '{worker_id}'")
        if not isinstance(signature, str) or not any(
            check_message(body, signature, key) for key in keys
        ):
            raise _refused("Invalid cryptographic signature")
        self._check_repetition(worker_id, body, signature)

    def _check_repetition(self, worker_id: str, body: dict[str, Any], signature: str) -> None:
        named = next((body[it] for it in _NONCES if isinstance(body.get(it), str)), signature)
        content = _content(body)
        seen = self._seen.get((worker_id, named))
        if seen is not None and seen.content != content:
            raise _refused("Duplicate message detected (replay attack)")
        if seen is None or seen.signature != signature:
            self._check_time(body)
        self._seen[worker_id, named] = _Seen(signature, content)
        self._seen.move_to_end((worker_id, named))
        while len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)

    def _check_time(self, body: Mapping[str, Any]) -> None:
        timestamp = body.get("timestamp")
        if isinstance(timestamp, bool) or not isinstance(timestamp, int):
            raise _refused("Missing required timestamp for replay protection")
        if not -_WINDOW_SECONDS <= self._now() - timestamp <= _WINDOW_SECONDS:
            raise _refused("Message timestamp expired (replay protection)")


def _content(body: Mapping[str, Any]) -> bytes:
    kept = {name: it for name, it in body.items() if name not in ("security", "timestamp")}
    return hashlib.sha256(canonical(kept)).digest()


def _refused(detail: str) -> HttpProblem:
    return HttpProblem(HTTPStatus.FORBIDDEN, "signature_refused", detail)
